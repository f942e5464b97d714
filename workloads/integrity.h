/* Whether driven memory holds what its writers stored last. */
#ifndef NUMABENCH_INTEGRITY_H
#define NUMABENCH_INTEGRITY_H

#include "runner.h"

/* Reads every byte once no thread runs; prints `check`, and `wrong` for what it finds. Ends the process where that, or
 * a victim meanwhile, found a wrong word. */
void integrity_check(struct process *process);

#endif
