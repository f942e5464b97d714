#include "context.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

void context_split(const uint64_t *words, size_t count, int parity, struct perfdata_stats *stats,
                   struct chain_part *kernel, struct chain_part *user)
{
    struct chain_part skipped = {NULL, 0};
    struct chain_part *part = user; /* what stands before the first context is the user's, as perf has it */
    size_t i = 0;

    while (i < count) {
        size_t from = i;

        while (i < count && !context_is_marker(words[i]))
            i++;
        if (part == &skipped)
            stats->skipped_words += i - from;
        else if (!part->count)
            *part = (struct chain_part){words + from, i - from};
        else
            stats->skipped_words += i - from;
        if (i == count)
            return;
        switch (words[i++]) {
        case CONTEXT_KERNEL:
            part = kernel;
            continue;
        case CONTEXT_USER:
            part = user;
            continue;
        case CONTEXT_HV:
            part = &skipped;
            continue;
        case CONTEXT_GUEST:
        case CONTEXT_GUEST_KERNEL:
        case CONTEXT_GUEST_USER:
            part = &skipped;
            break;
        case CONTEXT_USER_DEFERRED: /* a cookie follows; the user part comes in a record of its own */
            stats->deferred_chains++;
            return;
        default:
            stats->garbage_chains++;
            i = count;
        }
        if (parity) {
            kernel->count = user->count = 0;
            return;
        }
    }
}
