/* The published placements: who runs where and whose memory lies where. */
#ifndef NUMABENCH_LAYOUT_H
#define NUMABENCH_LAYOUT_H

#include "runner.h"

/* Rules for the threads of a process. */
unsigned every_cpu(unsigned cpus);
unsigned half_the_cpus(unsigned cpus);

/* numa01: each of two processes has half of the nodes. The published inverse tests the same half in both of its
 * branches, so that the memory of both processes ends on the second half: `inverse-compat`. */
void lay_out_by_process(struct process *process);
/* numa02: thread i of T has node i * N / T, its memory too; inverse, it runs on the mirrored node. The same as
 * published where N divides T, which elsewhere fails. */
void lay_out_by_thread(struct process *process);

#endif
