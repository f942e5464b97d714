/* The contexts that a call chain's words are in: marks among them say whose the next ones are. */
#ifndef NUMABENCH_CONTEXT_H
#define NUMABENCH_CONTEXT_H

#include "chains.h"
#include "perfdata.h"

/* enum perf_callchain_context */
#define CONTEXT_HV ((uint64_t)-32)
#define CONTEXT_KERNEL ((uint64_t)-128)
#define CONTEXT_USER ((uint64_t)-512)
#define CONTEXT_USER_DEFERRED ((uint64_t)-640)
#define CONTEXT_GUEST ((uint64_t)-2048)
#define CONTEXT_GUEST_KERNEL ((uint64_t)-2176)
#define CONTEXT_GUEST_USER ((uint64_t)-2560)
#define CONTEXT_MAX ((uint64_t)-4095)

static inline int context_is_marker(uint64_t word)
{
    return word >= CONTEXT_MAX;
}

/*
 * The parts of a chain that are addresses of the kernel and of the thread's own program. With `parity` both are empty
 * where a word is neither an address nor a context that is known; otherwise what stood before it is kept.
 */
void context_split(const uint64_t *words, size_t count, int parity, struct perfdata_stats *stats,
                   struct chain_part *kernel, struct chain_part *user);

/* Most chains are the kernel's part and then the user's: these are parted here, and the others there. */
static inline void context_part(const uint64_t *words, size_t count, int parity, struct perfdata_stats *stats,
                                struct chain_part *kernel, struct chain_part *user)
{
    size_t at = 0, from;

    if (count && words[0] == CONTEXT_KERNEL) {
        for (at = 1; at < count && !context_is_marker(words[at]);)
            at++;
        *kernel = (struct chain_part){words + 1, at - 1};
    }
    if (at == count)
        return;
    if (words[at] == CONTEXT_USER) {
        for (from = ++at; at < count && !context_is_marker(words[at]);)
            at++;
        *user = (struct chain_part){words + from, at - from};
        if (at == count)
            return;
    }
    *kernel = *user = (struct chain_part){NULL, 0};
    context_split(words, count, parity, stats, kernel, user);
}

#endif
