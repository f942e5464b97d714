/* What the memory of one process of a family must show: what the root stored, but where the process itself wrote. */
#ifndef NUMABENCH_VIEW_H
#define NUMABENCH_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "family.h"

enum { VIEW_PAGE_BYTES = 4096, VIEW_WORD_BYTES = 8 };

/* The memory's quarters, in this order; units that four do not divide are of the last. */
enum quarter { QUARTER_WRITTEN, QUARTER_MOVED, QUARTER_SPLIT, QUARTER_KEPT, QUARTER_COUNT };

struct view {
    struct family *family;
    uint32_t *written; /* by page of the written quarter: how often this process wrote it; NULL: never any */
};

void view_open(struct view *view, struct family *family);

size_t quarter_bytes(const struct family *family);
char *quarter_address(const struct family *family, enum quarter quarter);

/* Writes the stamps of a page of the written quarter anew; what is between them stays as copy on write brought it. */
void view_write(struct view *view, uint64_t page);

/* Compares a page, which may lie elsewhere than it belongs; what is wrong is recorded. */
void view_look(const struct view *view, uint64_t page, const char *at);

/* Compares every byte of the memory, and counts them. */
void view_check(const struct view *view);

#endif
