#include "spots.h"

#include <limits.h>
#include <stdlib.h>

struct load {
    unsigned victims;
    unsigned movers;
};

/* The CPU with the fewest victims, of these with the fewest of what comes second; of equals the first. */
static unsigned least(const struct locality *from, const struct load *loads, const struct locality *avoided)
{
    unsigned found = 0;
    struct load best = {UINT_MAX, UINT_MAX};

    for (unsigned cpu = 0; cpu < from->cpus->size; cpu++) {
        struct load load = loads[cpu];

        if (!numa_bitmask_isbitset(from->cpus, cpu))
            continue;
        if (avoided)
            load.movers = numa_bitmask_isbitset(avoided->cpus, cpu) ? 1 : 0;
        if (load.victims < best.victims || (load.victims == best.victims && load.movers < best.movers)) {
            best = load;
            found = cpu;
        }
    }
    return found;
}

static void take(struct locality *spot, const struct locality *from, unsigned cpu)
{
    *spot = *from;
    spot->cpus = numa_allocate_cpumask();
    spot->cpu_count = 1;
    numa_bitmask_setbit(spot->cpus, cpu);
}

void spots_hand_out(struct drive *drive, const struct locality *movers, const struct locality *victims)
{
    struct load *loads = calloc(drive->topology->all.cpus->size, sizeof(*loads));

    if (!loads)
        abort();
    for (unsigned i = 0; i < drive->victim_count; i++) {
        unsigned cpu = least(victims, loads, movers);

        take(&drive->spots[drive->mover_count + i], victims, cpu);
        loads[cpu].victims++;
    }
    for (unsigned i = 0; i < drive->mover_count; i++) {
        unsigned cpu = least(movers, loads, NULL);

        take(&drive->spots[i], movers, cpu);
        loads[cpu].movers++;
    }
    free(loads);
}
