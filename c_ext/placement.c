#include "placement.h"

#include <errno.h>
#include <numaif.h>
#include <unistd.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

enum { BATCH_PAGES = 1024, WINDOW_PAGES = 64 };

/* Documentation/admin-guide/mm/pagemap.rst; the frame is 0 without CAP_SYS_ADMIN. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)

static void mark_untouched(int *status, size_t count)
{
    for (size_t i = 0; i < count; i++)
        status[i] = PLACEMENT_UNTOUCHED;
}

static int node_of(const struct placement_pagemap *pagemap, uint64_t entry)
{
    uint64_t frame = entry & PAGEMAP_FRAME;

    if (!(entry & PAGEMAP_PRESENT))
        return -ENOENT;
    for (size_t s = 0; frame && s < pagemap->span_count; s++) {
        if (frame >= pagemap->spans[s].first_frame && frame < pagemap->spans[s].end_frame)
            return pagemap->spans[s].node;
    }
    return PLACEMENT_PROTNONE;
}

/* Look at pages that are said to be absent a second time. */
static void look_again(const struct placement_pagemap *pagemap, const uint64_t *addresses, size_t count,
                       size_t page_bytes, int *status)
{
    uint64_t window[WINDOW_PAGES];
    uint64_t first = 0, end = 0;

    for (size_t i = 0; i < count && pagemap->fd >= 0; i++) {
        uint64_t page = addresses[i] / page_bytes;

        if (status[i] != -ENOENT)
            continue;
        if (page < first || page >= end) {
            ssize_t got = pread(pagemap->fd, window, sizeof(window), (off_t)(page * sizeof(*window)));

            first = page;
            end = page + (got > 0 ? (size_t)got / sizeof(*window) : 0);
        }
        if (page < end)
            status[i] = node_of(pagemap, window[page - first]);
    }
}

static int ask(int pid, const uint64_t *addresses, size_t count, size_t page_bytes,
               const struct placement_pagemap *pagemap, int *status)
{
    void *pages[BATCH_PAGES];

    for (size_t i = 0; i < count; i++)
        pages[i] = (void *)(uintptr_t)addresses[i];
    if (move_pages(pid, count, pages, NULL, status, 0) < 0)
        return -errno;
    look_again(pagemap, addresses, count, page_bytes, status);
    return 0;
}

static int ask_range(int pid, const struct placement_range *range, size_t page_bytes,
                     const struct placement_pagemap *pagemap, int *status)
{
    uint64_t addresses[BATCH_PAGES];

    for (uint64_t done = 0; done < range->pages; done += BATCH_PAGES) {
        uint64_t left = range->pages - done;
        size_t batch = left < BATCH_PAGES ? (size_t)left : BATCH_PAGES;
        int error;

        for (size_t i = 0; i < batch; i++)
            addresses[i] = range->address + (done + i) * page_bytes;
        error = ask(pid, addresses, batch, page_bytes, pagemap, status + done);
        if (error)
            return error;
    }
    return 0;
}

int placement_query(int pid, const struct placement_range *ranges, size_t range_count, size_t page_bytes,
                    const struct placement_pagemap *pagemap, int *status)
{
    size_t count = 0;

    for (size_t r = 0; r < range_count; r++)
        count += ranges[r].pages;
    mark_untouched(status, count);
    for (size_t r = 0; r < range_count; r++) {
        int error = ask_range(pid, &ranges[r], page_bytes, pagemap, status);

        if (error)
            return error;
        status += ranges[r].pages;
    }
    return 0;
}

/* xorshift64*: S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016). */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

/* The first page of stratum k of n; written so that no product overflows. */
static uint64_t stratum(uint64_t pages, uint64_t k, uint64_t n)
{
    return pages / n * k + pages % n * k / n;
}

int placement_sample(int pid, const struct placement_range *ranges, size_t range_count, size_t page_bytes,
                     const struct placement_pagemap *pagemap, uint64_t *random_state, uint64_t *addresses, int *status)
{
    size_t count = 0;

    for (size_t r = 0; r < range_count; r++) {
        for (uint64_t k = 0; k < ranges[r].draws; k++) {
            uint64_t low = stratum(ranges[r].pages, k, ranges[r].draws);
            uint64_t high = stratum(ranges[r].pages, k + 1, ranges[r].draws);
            uint64_t page = low + next_random(random_state) % (high - low);

            addresses[count++] = ranges[r].address + page * page_bytes;
        }
    }
    mark_untouched(status, count);
    for (size_t done = 0; done < count; done += BATCH_PAGES) {
        size_t batch = count - done < BATCH_PAGES ? count - done : BATCH_PAGES;
        int error = ask(pid, addresses + done, batch, page_bytes, pagemap, status + done);

        if (error)
            return error;
    }
    return 0;
}

static void count_error(int status, uint64_t *errors)
{
    if (status == PLACEMENT_PROTNONE)
        errors[EPERM]++;
    else
        errors[status != PLACEMENT_UNTOUCHED && -status < PLACEMENT_ERRNOS ? -status : 0]++;
}

static size_t column(int node, const int *nodes, size_t node_count)
{
    size_t c = 0;

    while (c < node_count && nodes[c] != node)
        c++;
    return c;
}

void placement_tally(const struct placement_range *ranges, size_t range_count, const int *status, const int *nodes,
                     size_t node_count, uint64_t *counts, uint64_t *errors)
{
    for (size_t r = 0; r < range_count; r++, counts += node_count + 1) {
        for (uint64_t k = 0; k < ranges[r].draws; k++, status++) {
            if (*status < 0)
                count_error(*status, errors);
            else
                counts[column(*status, nodes, node_count)]++;
        }
    }
}

void placement_census(const int *status, size_t count, uint64_t *nodes, uint64_t *errors)
{
    for (size_t i = 0; i < count; i++) {
        if (status[i] >= 0 && status[i] < PLACEMENT_NODES)
            nodes[status[i]]++;
        else
            count_error(status[i] < 0 ? status[i] : PLACEMENT_UNTOUCHED, errors);
    }
}

static int is_below(int node, size_t node_limit)
{
    return node >= 0 && (size_t)node < node_limit;
}

uint64_t placement_pairs(const int *before, const int *after, size_t count, size_t node_limit, uint64_t *pairs)
{
    uint64_t unknown = 0;

    for (size_t i = 0; i < count; i++) {
        if (is_below(before[i], node_limit) && is_below(after[i], node_limit))
            pairs[(size_t)before[i] * node_limit + (size_t)after[i]]++;
        else
            unknown++;
    }
    return unknown;
}
