#define _GNU_SOURCE
#include "stale.h"

#ifdef NUMABENCH_TEST

#include <stdlib.h>
#include <string.h>

#include "monotonic.h"

enum { EVERY = 16 };

void stale_save(struct stale *stale, const struct mover *mover, char *address)
{
    stale->address = NULL;
    if (!getenv("NUMABENCH_TEST_STALE") || mover->thread->is_outside || mover->calls % EVERY)
        return;
    stale->address = address;
    memcpy(stale->saved, address, sizeof(stale->saved));
}

void stale_restore(const struct stale *stale)
{
    uint64_t end_ns = monotonic_ns() + NS_PER_S;

    if (!stale->address)
        return;
    while (memcmp(stale->saved, stale->address, sizeof(stale->saved)) == 0)
        if (monotonic_ns() > end_ns)
            return;
    memcpy(stale->address, stale->saved, sizeof(stale->saved));
}

#endif
