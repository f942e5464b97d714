#define _GNU_SOURCE
#include "outside.h"

#include <unistd.h>

static _Noreturn void be_outside(struct process *process, struct handshake *handshake)
{
    gate_await(&process->gate, STAGE_TOUCHED);
    runner_start_threads(process, true);
    handshake_await(handshake, process->gate.arrived_fd);
    handshake_ready(handshake);
    runner_join_threads(process, true);
    _exit(0);
}

/* The runner's process lies in memory that both share: each has a handshake of its own. */
void outside_fork(struct process *process)
{
    struct handshake handshake = process->handshake;

    if (handshake_fork(&handshake, 2))
        be_outside(process, &handshake);
    process->handshake = handshake;
}
