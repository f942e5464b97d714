/*
 * Samples counted by event, task and call chain. A sample that looks like an earlier one is counted in a table of fixed
 * size by what it looks like; only where it does not are its addresses looked at.
 */
#ifndef NUMABENCH_CHAINS_H
#define NUMABENCH_CHAINS_H

#include "perfdata.h"
#include "tasks.h"

enum { CHAIN_KEYS = 128 };

struct chain_part {
    const uint64_t *words;
    size_t count;
};

/* A sample's identity: two equal ones are equal, two different ones are not but for chance (see chains.c). */
struct chain_digest {
    uint64_t low;
    uint64_t high;
};

struct chain_seen {
    struct chain_digest digest;
    uint64_t period; /* sums and bounds since the entry was made */
    uint64_t first_ns;
    uint64_t last_ns;
    uint32_t count;
    uint32_t entry; /* the number of its group + 1; 0: none */
};

struct chains {
    uint64_t seed;
    uint64_t keys[CHAIN_KEYS + 2];
    struct chain_seen *seen;
    size_t seen_mask;
    size_t seen_count;
    struct growing groups;
    struct slots group_index;
    struct sequences kernel;
    struct sequences user; /* numbers of places */
    uint32_t *places;      /* of the chain at hand */
};

int chains_init(struct chains *chains, uint64_t seed);
void chains_free(struct chains *chains);

/* Count a sample. The number of its group, or -1 without memory. */
int64_t chains_count(struct chains *chains, struct tasks *tasks, uint32_t event, uint32_t state,
                     struct chain_part kernel, struct chain_part user, uint64_t time_ns, uint64_t period);
/* Bring the groups up to date. */
void chains_flush(struct chains *chains);
/* After a flush: let go of memory that no sample needs any more. */
void chains_shrink(struct chains *chains);

#endif
