/* Workloads whose memory a driver moves: movers, victims, and the memory between them. */
#ifndef NUMABENCH_DRIVEN_H
#define NUMABENCH_DRIVEN_H

#include "runner.h"

extern const struct work driven;

#endif
