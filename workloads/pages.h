/* The memory that drivers move: its type of page, where each page is, and whether it is what was asked for. */
#ifndef NUMABENCH_PAGES_H
#define NUMABENCH_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "driven_options.h"
#include "lines.h"
#include "topology.h"

/* Slices of equal size, one after the other or with a gap between. Pages are the system's base pages. */
struct memory {
    char *base;
    size_t page_bytes;
    size_t unit_bytes;
    unsigned unit_shift; /* units are powers of two */
    size_t bytes;        /* of all slices */
    size_t slice_bytes;  /* of each */
    size_t gap_bytes;    /* between two */
    size_t pages;
    size_t slice_pages;
};

/* The bytes that the kernel moves as one page; ends the process where it has no such pages. */
size_t pages_unit_bytes(enum page_type type);
/* Maps `bytes`, aligned, between inaccessible pages; ends the process where the kernel refuses. */
char *pages_map(const struct driven_options *options, size_t bytes, size_t unit_bytes);
/* Makes what lies between two slices inaccessible, so that they do not merge. */
void pages_unmap_gap(char *address, size_t bytes);
/* Ends the process where too few huge pages are reserved on the node. */
void pages_require_reserved(const struct locality *node, size_t bytes, size_t unit_bytes);
/* Units that are no page of the type asked for, or not one any more. */
struct units_seen {
    size_t split;
    bool is_seen; /* whether the kernel told of each; else only those count whose ends are on two nodes */
};

struct units_seen pages_look(const struct driven_options *options, const struct memory *memory);
/* Once touched: ends the process where not every unit is a page of the type. */
struct units_seen pages_verify(const struct driven_options *options, const struct memory *memory);

static inline char *memory_slice(const struct memory *memory, size_t slice)
{
    return memory->base + slice * (memory->slice_bytes + memory->gap_bytes);
}

static inline char *memory_page(const struct memory *memory, size_t page)
{
    size_t gaps = memory->gap_bytes ? page / memory->slice_pages : 0;

    return memory->base + page * memory->page_bytes + gaps * memory->gap_bytes;
}

#endif
