/* Memory whose place can be told: mapped, aligned, and counted by node. */
#ifndef NUMABENCH_BUFFER_H
#define NUMABENCH_BUFFER_H

#include <stddef.h>

#include "lines.h"
#include "options.h"

/* The huge page of x86 and of 4 KiB-paged arm64, and what the harness reports migration by. */
enum { BUFFER_ALIGNMENT = 2 << 20 };

/* An anonymous private mapping of its own: inaccessible pages on both sides keep it from merging with another one, and
 * so from sharing its anon_vma. Ends the process where the kernel refuses. */
char *buffer_map(size_t bytes, enum thp thp);

/* Counts of sampled pages by where they are. */
struct residency {
    unsigned long *by_node;
    unsigned node_count;
    unsigned long by_error[8]; /* in the order of residency.c's errors; the last is all others */
};

void residency_init(struct residency *residency);
/* Asks for at most 4096 pages evenly over the range, through move_pages(2) with no target. */
void residency_add(struct residency *residency, const char *address, size_t bytes);
/* Adds `nodes` and `other` to a line, and frees what was held. */
void line_residency(struct line *line, struct residency *residency);

#endif
