#define _GNU_SOURCE
#include "integrity.h"

#include <stdlib.h>

#include "driven_report.h"
#include "lines.h"
#include "monotonic.h"
#include "options.h"
#include "stamp.h"
#include "victim.h"
#include "wrong.h"

struct findings {
    uint64_t bytes;
    uint64_t wrong; /* bytes */
    struct wrong_word first;
};

/* The only writer of a line; NULL: nobody writes. */
static const struct victim *owner(const struct drive *drive, size_t line)
{
    if (!drive->victim_count || drive->options->victim_access == ACCESS_READ)
        return NULL;
    return &drive->victims[line % drive->victim_count];
}

static uint64_t last_write(const struct drive *drive, size_t page, size_t line)
{
    const struct victim *victim = owner(drive, line);

    if (!victim)
        return 0;
    return victim_last_write(victim, victim->visits[page], (uint32_t)(line / drive->victim_count));
}

static void add_word(struct drive *drive, struct findings *findings, size_t page, size_t offset, const uint64_t *found,
                     uint64_t expected)
{
    const struct victim *victim = owner(drive, offset / LINE_BYTES);
    struct wrong_word wrong = {.thread = victim ? (int)victim->thread->number : ABSENT,
                               .t_ns = monotonic_ns(),
                               .page = page,
                               .offset = offset,
                               .expected = expected,
                               .found = *found};

    if (!findings->wrong)
        findings->first = wrong;
    findings->wrong += bytes_that_differ(expected, wrong.found);
    drive_add_wrong(drive, &wrong);
}

static void check_page(struct drive *drive, struct findings *findings, size_t page)
{
    size_t lines = drive->memory.page_bytes / LINE_BYTES;
    const char *address = memory_page(&drive->memory, page);

    for (size_t line = 0; line < lines; line++) {
        const uint64_t *words = (const uint64_t *)(address + line * LINE_BYTES);
        uint64_t number = page * lines + line;

        for (unsigned word = 0; word < LINE_WORDS; word++) {
            uint64_t expected = word ? stamp_filler(number, word) : stamp(last_write(drive, page, line), number);

            if (words[word] != expected)
                add_word(drive, findings, page, line * LINE_BYTES + word * sizeof(*words), &words[word], expected);
        }
    }
    findings->bytes += drive->memory.page_bytes;
}

#ifdef NUMABENCH_TEST
static void corrupt_one_byte(const struct process *process)
{
    if (getenv("NUMABENCH_TEST_CORRUPT"))
        process->slices[0].address[process->slices[0].bytes / 2] ^= 1;
}
#endif

void integrity_check(struct process *process)
{
    struct drive *drive = process->drive;
    struct findings findings = {0};
    unsigned found_by_victims = drive->wrong_count;

#ifdef NUMABENCH_TEST
    corrupt_one_byte(process);
#endif
    for (size_t page = 0; page < drive->memory.pages; page++)
        check_page(drive, &findings, page);
    print_wrong_words(process, found_by_victims);
    print_drive_check(drive, findings.bytes, findings.wrong, &findings.first);
    if (drive->wrong_count)
        fail("%u words are not what their only writer stored there last: the first is at byte %zu of page %zu",
             drive->wrong_count, drive->wrong[0].offset, drive->wrong[0].page);
}
