/* Movers in a process of their own, which has none of the memory that they move. */
#ifndef NUMABENCH_OUTSIDE_H
#define NUMABENCH_OUTSIDE_H

#include "runner.h"

/* Before any memory is mapped: the process whose threads are those that are `is_outside`. */
void outside_fork(struct process *process);
/* Once the memory is touched: its threads may start. Nothing where there is no such process. */
void outside_start(void);
/* Waits for its end, once its threads have passed the last barrier. */
void outside_join(void);

#endif
