/* Whether memory holds what the threads stored. */
#ifndef NUMABENCH_CHECK_H
#define NUMABENCH_CHECK_H

#include "runner.h"

/* Reads every byte of every slice once the threads have stopped, and prints the `check` line. A byte is right if it is
 * what some thread that uses the slice stored there last: known by the loops and the offset that each has reached.
 * The number of bytes that are not. */
uint64_t check_data(const struct process *process);

#endif
