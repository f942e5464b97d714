#include "drive.h"

#include "mover.h"

unsigned drive_ring(const struct drive *drive, uint64_t steps)
{
    const struct topology *topology = drive->topology;
    unsigned index = drive->source;

    if (drive->driver->spreads)
        steps %= 2;
    for (steps %= drive->target_count; steps; steps--)
        do
            index = (index + 1) % topology->count;
        while (!topology->nodes[index].memory_bytes);
    return index;
}

void drive_add_wrong(struct drive *drive, const struct wrong_word *wrong)
{
    unsigned number = atomic_fetch_add(&drive->wrong_count, 1);
    struct wrong_word *kept = &drive->wrong[number % MAX_WRONG_WORDS];

    if (number >= MAX_WRONG_WORDS)
        return;
    *kept = *wrong;
    for (unsigned i = 0; i < drive->mover_count && kept->call_known == CALL_NONE; i++) {
        kept->call_known = mover_last_call(&drive->movers[i], memory_page(&drive->memory, wrong->page), &kept->call);
        kept->call_thread = i;
    }
}
