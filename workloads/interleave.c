#define _GNU_SOURCE
#include "interleave.h"

#include <errno.h>
#include <limits.h>
#include <numaif.h>
#include <string.h>

#include "lines.h"

enum { ASKED_UNITS = 512, TRIES = 10, NO_ANSWER = INT_MIN };

/* Units that are asked for in one call. */
struct asked {
    void *addresses[ASKED_UNITS];
    size_t count;
    int error; /* of the first that stayed when all were last asked for; 0: none is known */
};

/* After a positive return or an error nothing may be known of units that did move: where each is decides. */
static void keep_those_elsewhere(struct asked *asked, const int *status, int node)
{
    int where[ASKED_UNITS];
    size_t kept = 0;

    for (size_t i = 0; i < asked->count; i++)
        where[i] = NO_ANSWER;
    query_pages(0, asked->addresses, asked->count, where);
    for (size_t i = 0; i < asked->count; i++) {
        if (where[i] == node)
            continue;
        if (!asked->error && status[i] < 0 && status[i] != NO_ANSWER)
            asked->error = -status[i];
        asked->addresses[kept++] = asked->addresses[i];
    }
    asked->count = kept;
}

static void move(struct asked *asked, int node)
{
    int nodes[ASKED_UNITS], status[ASKED_UNITS];

    for (unsigned try = 0; asked->count && try < TRIES; try++) {
        for (size_t i = 0; i < asked->count; i++) {
            nodes[i] = node;
            status[i] = NO_ANSWER;
        }
        asked->error = 0;
        if (move_pages(0, asked->count, asked->addresses, nodes, status, MPOL_MF_MOVE) < 0)
            asked->error = errno;
        keep_those_elsewhere(asked, status, node);
    }
    if (asked->count)
        fail("of the odd units %zu cannot be put on node %d to begin with: %s", asked->count, node,
             strerror(asked->error ? asked->error : EBUSY));
}

void interleave_units(const struct drive *drive)
{
    const struct memory *memory = &drive->memory;
    size_t unit_pages = memory->unit_bytes / memory->page_bytes;
    int node = drive->topology->ids[drive_ring(drive, 1)];
    struct asked asked = {.count = 0};

    for (size_t page = unit_pages; page < memory->pages; page += 2 * unit_pages) {
        asked.addresses[asked.count++] = memory_page(memory, page);
        if (asked.count == ASKED_UNITS)
            move(&asked, node);
    }
    move(&asked, node);
}
