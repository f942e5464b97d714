/* The lines of driven workloads: docs/workload-protocol.md. */
#ifndef NUMABENCH_DRIVEN_REPORT_H
#define NUMABENCH_DRIVEN_REPORT_H

#include "drive.h"

/* Adds the object `driver` to the `start` line. */
void line_drive(struct line *line, const struct process *process);
/* How many units are no page of the type asked for, at the `begin` or the `end` of the run. */
void print_pages(const struct drive *drive, const char *edge, const struct units_seen *seen);
/* `pages`, `mover`, `victim`, and the `wrong` words found while they ran. */
void print_drive_results(const struct process *process);
/* `wrong` lines from the `first`th on. */
void print_wrong_words(const struct process *process, unsigned first);

#endif
