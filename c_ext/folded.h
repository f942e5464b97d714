/* A call tree as folded text: lines `outermost;...;leaf count`, sorted, as flame graph tools read them. */
#ifndef NUMABENCH_FOLDED_H
#define NUMABENCH_FOLDED_H

#include <stddef.h>
#include <stdint.h>

#include "calltree.h"
#include "perfdata.h"

struct folded;

/* The tree and the names that its nodes have numbers of must stay. Semicolons in names become colons. */
struct folded *folded_new(const struct calltree *tree, struct perfdata_span names);
void folded_free(struct folded *folded);

/*
 * Write the next whole lines into text[room]. How many bytes: 0 after the last line; more than `room` where the next
 * line alone needs so many, and nothing was written; -1 without memory.
 */
int64_t folded_next(struct folded *folded, char *text, size_t room);

#endif
