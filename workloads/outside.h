/* Movers in a process of their own, which has none of the memory that they move. */
#ifndef NUMABENCH_OUTSIDE_H
#define NUMABENCH_OUTSIDE_H

#include "runner.h"

/* Before any memory is mapped: the process whose threads are those that are `is_outside`. It starts them once the
 * memory is touched, and is one of the handshake's children. */
void outside_fork(struct process *process);

#endif
