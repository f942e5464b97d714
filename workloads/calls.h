/* A mover's calls of the kernel: each is timed, counted, and kept so that a victim can tell what was around it. */
#ifndef NUMABENCH_CALLS_H
#define NUMABENCH_CALLS_H

#include <limits.h>

#include "mover.h"

enum { UNSET = INT_MIN /* what a status is before the kernel writes to it */ };

/* The driver's system call. What it returned, or -errno. */
long mover_call(struct mover *mover, const struct request *request);
/* Asks where the addresses are, into `status`: 0 or -errno. */
int mover_query(struct mover *mover, void **addresses, size_t count, int *status);
/* Where what goes from one node to another is counted. */
struct direction *mover_direction(struct mover *mover, int from, int to);

static inline int node_id(const struct mover *mover, unsigned index)
{
    return mover->drive->topology->ids[index];
}

/* Of the interleaved order odd units go one node further. */
static inline bool is_odd(const struct mover *mover, size_t unit)
{
    return mover->drive->options->order == ORDER_INTERLEAVED && (unit + mover->first_unit) % 2;
}

static inline size_t unit_of(const struct mover *mover, const void *address)
{
    return (size_t)((const char *)address - mover->base) >> mover->drive->memory.unit_shift;
}

#endif
