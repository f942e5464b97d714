/* The lines that tell what a process is and does: docs/workload-protocol.md. */
#ifndef NUMABENCH_REPORT_H
#define NUMABENCH_REPORT_H

#include "runner.h"

void print_start(const struct process *process);
void print_phase(const char *name, const char *edge);
void print_slices(const struct process *process);
/* By the thread itself: its affinity and policy are read back. */
void print_thread(const struct thread *thread, const char *name);
void print_first_touch(const struct process *process);
void print_interval(const struct process *process);
void print_stop(const char *reason);
void print_done(const struct process *process);

#endif
