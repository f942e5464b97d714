/* The published workloads' threads: each stores to its slice, loop after loop. */
#ifndef NUMABENCH_STORE_H
#define NUMABENCH_STORE_H

#include "runner.h"

extern const struct work storing;

#endif
