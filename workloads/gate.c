#define _GNU_SOURCE
#include "gate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lines.h"

void gate_init(struct gate *gate, unsigned threads)
{
    atomic_store(&gate->stage, STAGE_BEGUN);
    atomic_store(&gate->missing, threads);
    gate->arrived_fd = eventfd(threads ? 0 : 1, EFD_CLOEXEC);
    if (gate->arrived_fd < 0)
        fail("eventfd: %s", strerror(errno));
}

void gate_arrive(struct gate *gate)
{
    uint64_t one = 1;

    if (atomic_fetch_sub(&gate->missing, 1) == 1 && write(gate->arrived_fd, &one, sizeof(one)) < 0)
        fail("eventfd: %s", strerror(errno));
}

void gate_open(struct gate *gate, enum stage stage)
{
    atomic_store(&gate->stage, stage);
    syscall(SYS_futex, &gate->stage, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void gate_await(struct gate *gate, enum stage stage)
{
    uint32_t now;

    /* The call returns early where the stage is another one already, or a signal comes. */
    while ((now = atomic_load(&gate->stage)) < stage)
        syscall(SYS_futex, &gate->stage, FUTEX_WAIT, now, NULL, NULL, 0);
}
