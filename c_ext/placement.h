/* Which node each of many pages is on, asked by move_pages(2) with no target: nothing is moved. */
#ifndef NUMABENCH_PLACEMENT_H
#define NUMABENCH_PLACEMENT_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PLACEMENT_UNTOUCHED = INT_MIN,    /* a status that the kernel has not written */
    PLACEMENT_PROTNONE = INT_MIN + 1, /* present, waiting for its hint fault, and its node may not be seen */
    PLACEMENT_NODES = 1024,           /* the kernel's largest MAX_NUMNODES (NODES_SHIFT 10) */
    PLACEMENT_ERRNOS = 256,
};

struct placement_range {
    uint64_t address; /* of the first page */
    uint64_t pages;
    uint64_t draws; /* pages to draw for a sample, at most `pages` */
};

/* Page frames of a node. */
struct placement_span {
    uint64_t first_frame;
    uint64_t end_frame;
    int node;
};

/*
 * Another way to a page's node: /proc/PID/pagemap tells its frame. Linux 6.1 to 6.4 answer ENOENT for a page that
 * balancing has made inaccessible until its next hint fault, between commits 474098edac26 ("mm/gup: replace FOLL_NUMA
 * by gup_can_follow_protnone()") and d74943a2f3cd ("mm/gup: reintroduce FOLL_NUMA as FOLL_HONOR_NUMA_FAULT").
 */
struct placement_pagemap {
    int fd; /* -1: none */
    const struct placement_span *spans;
    size_t span_count;
};

/*
 * Ask for the status of every page of the ranges, one after the other, into status[sum of pages]. 0 or -errno;
 * what was not asked for stays PLACEMENT_UNTOUCHED.
 */
int placement_query(int pid, const struct placement_range *ranges, size_t range_count, size_t page_bytes,
                    const struct placement_pagemap *pagemap, int *status);

/*
 * Draw a stratified random sample: each range is cut into `draws` equal strata and one page is drawn from each.
 * addresses[] and status[] hold the sum of draws. *random_state is not 0 and moves on. 0 or -errno.
 */
int placement_sample(int pid, const struct placement_range *ranges, size_t range_count, size_t page_bytes,
                     const struct placement_pagemap *pagemap, uint64_t *random_state, uint64_t *addresses, int *status);

/*
 * Count a sample's statuses: counts[range_count][node_count + 1], the last column for every node that is not in
 * nodes[], and errors[PLACEMENT_ERRNOS] by errno, 0 for untouched and 1 (EPERM, which no page has) for protnone.
 */
void placement_tally(const struct placement_range *ranges, size_t range_count, const int *status, const int *nodes,
                     size_t node_count, uint64_t *counts, uint64_t *errors);

/* Count statuses by node, nodes[PLACEMENT_NODES], and by errno as above. */
void placement_census(const int *status, size_t count, uint64_t *nodes, uint64_t *errors);

/*
 * Count pages by where they were and are: pairs[node_limit][node_limit]. Returns how many were on no node below the
 * limit, before or after.
 */
uint64_t placement_pairs(const int *before, const int *after, size_t count, size_t node_limit, uint64_t *pairs);

#endif
