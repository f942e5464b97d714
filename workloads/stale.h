/* Of test builds: data lost on purpose, so that it can be seen that a lost write is found. */
#ifndef NUMABENCH_STALE_H
#define NUMABENCH_STALE_H

#include "mover.h"

#ifdef NUMABENCH_TEST
struct stale {
    char *address; /* NULL: nothing is to be lost in this call */
    char saved[4096];
};

/* With NUMABENCH_TEST_STALE set: every 16th call keeps the first page that it moves. */
void stale_save(struct stale *stale, const struct mover *mover, char *address);
/* Waits for a victim to write to it, and stores what was kept over it. */
void stale_restore(const struct stale *stale);
#else
struct stale {};

static inline void stale_save(struct stale *stale, const struct mover *mover, char *address)
{
    (void)stale, (void)mover, (void)address;
}

static inline void stale_restore(const struct stale *stale)
{
    (void)stale;
}
#endif

#endif
