/* What a process of a family does to its memory while others move it. */
#ifndef NUMABENCH_CHURN_H
#define NUMABENCH_CHURN_H

#include "view.h"

/* One round of all kinds that the plan has, each counted in the process's slot; ends the process where the kernel
 * refuses one. `random` is the state of its random numbers. */
void churn_once(struct view *view, uint64_t *random);

#endif
