/*
 * Samples counted by event, task and call chain. A sample that looks like an earlier one is counted in a table of fixed
 * size by what it looks like; only where it does not are its addresses looked at.
 */
#ifndef NUMABENCH_CHAINS_H
#define NUMABENCH_CHAINS_H

#include "perfdata.h"
#include "tasks.h"

enum { CHAIN_KEYS = 128, CHAIN_WAITING = 8, CHAIN_RECENT = 1 << 14 };

struct chain_part {
    const uint64_t *words;
    size_t count;
};

/* What a sample, or a part of a chain, is known by (see chains.c). */
struct chain_digest {
    uint64_t low;
    uint64_t high;
};

/* The number of a part of a chain that was seen not long ago, by digest, length and space. */
struct chain_recent {
    struct chain_digest digest;
    uint32_t count;
    uint32_t space;
    uint32_t number; /* 0: no entry */
};

struct chain_sample {
    struct chain_part kernel;
    struct chain_part user;
    uint64_t time_ns;
    uint64_t period;
    uint32_t event;
    uint32_t state;
    struct chain_digest kernel_digest;
    struct chain_digest user_digest;
    struct chain_digest digest;
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
    uint64_t keys[2 * CHAIN_KEYS + 2]; /* for the kernel's part, the user's, and the rest */
    struct chain_seen *seen;
    size_t seen_mask;
    size_t seen_count;
    struct growing groups;
    struct slots group_index;
    struct sequences kernel;
    struct sequences user; /* numbers of places */
    uint32_t *places;      /* of the chain at hand */
    struct chain_recent *recent_kernel;
    struct chain_recent *recent_user;
    struct chain_sample waiting[CHAIN_WAITING];
    uint32_t waiting_count;
};

int chains_init(struct chains *chains, uint64_t seed);
void chains_free(struct chains *chains);

/* Count a sample, of which the digests need not be set. The number of its group, or -1 without memory. */
int64_t chains_count(struct chains *chains, struct tasks *tasks, struct chain_sample *sample);
/* Count a sample a little later, when its entry has come from memory; its words must stay until chains_drain(). */
int chains_push(struct chains *chains, struct tasks *tasks, const struct chain_sample *sample);
int chains_drain(struct chains *chains, struct tasks *tasks);
/* Bring the groups up to date. */
void chains_flush(struct chains *chains);
/* The numbers of states and spaces are void: forget all that samples were known by. */
void chains_forget(struct chains *chains);
/* After a flush: let go of memory that no sample needs any more. */
void chains_shrink(struct chains *chains);

#endif
