/* Times of CLOCK_MONOTONIC, the clock of perf's and the harness's stamps. */
#ifndef NUMABENCH_MONOTONIC_H
#define NUMABENCH_MONOTONIC_H

#include <stdint.h>
#include <time.h>

enum { NS_PER_MS = 1000000 };
static const uint64_t NS_PER_S = 1000000000;

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static inline uint64_t monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

#endif
