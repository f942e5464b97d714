/* The lines of driven workloads: docs/workload-protocol.md. */
#ifndef NUMABENCH_DRIVEN_REPORT_H
#define NUMABENCH_DRIVEN_REPORT_H

#include "drive.h"

/* Adds the object `driver` to the `start` line. */
void line_drive(struct line *line, const struct process *process);
/* Whether it could be seen that every unit is a page of the type asked for. */
void print_pages(const struct drive *drive, bool is_verified);
/* `mover`, `victim`, and the `wrong` words found while they ran. */
void print_drive_results(const struct process *process);
/* `wrong` lines from the `first`th on. */
void print_wrong_words(const struct process *process, unsigned first);

#endif
