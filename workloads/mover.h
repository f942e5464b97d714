/* Threads that ask the kernel to move the units of their slice, pass after pass, and count what became of each. */
#ifndef NUMABENCH_MOVER_H
#define NUMABENCH_MOVER_H

#include "drive.h"
#include "errors.h"
#include "histogram.h"

/* Calls are kept of two passes, and of this many at least: retries come on top of a pass. */
enum { KEPT_PASSES = 2, LEAST_KEPT_CALLS = 4096 };

/* From the node before to the node asked for. */
struct direction {
    int from;
    int to;
    uint64_t pages;
    uint64_t calls;
    uint64_t busy_ns;
    struct histogram latency;
};

/* One of the last calls, written by the mover while victims may read it. */
struct call {
    _Atomic uint64_t number; /* from 1; 0 while it is written */
    _Atomic uint64_t begin_ns;
    _Atomic uint64_t end_ns; /* 0: not over */
    _Atomic short from[2];   /* of even units, and of odd ones where the order is interleaved */
    _Atomic short to[2];
};

/* Entries of a batch of which the call said nothing: who they are, where they stand in the batch, and the answers. */
struct unanswered {
    void **addresses;
    size_t *places;
    int *status;
};

struct mover {
    struct drive *drive;
    struct thread *thread;
    pid_t pid; /* whose pages: 0, or that of the workload where the mover is outside */
    char *base;
    size_t unit_count; /* obstacles first */
    size_t first_unit; /* odd where the first of `base` counts as odd in the memory */
    size_t batch;
    bool has_strays; /* some units are not where the last pass was to put them */
    uint64_t random;

    /* Of the thread itself, made before READY. */
    void **addresses;
    void **again;
    int *again_nodes;
    int *status;
    int targets[2]; /* of this pass, of even and of odd units: nodes' ids */
    int *nodes;     /* targets of a batch: of even and odd units, and one more */
    struct unanswered unanswered;
    short *known;                /* by unit: the node it is on, or -1 */
    _Atomic uint32_t *last_call; /* by unit, where there are victims; in shared memory */
    struct call *calls_kept;
    uint32_t kept_count; /* 0: there is nobody who would ask for them */

    uint64_t passes;
    uint64_t calls;
    uint64_t positive;
    uint64_t requested;
    uint64_t confirmed;
    uint64_t already;
    uint64_t retried;
    uint64_t left;
    uint64_t elsewhere; /* statuses: on another node */
    uint64_t unset;     /* statuses: the sentinel, and no query could tell */
    uint64_t asked_again;
    uint64_t query_ns;
    uint64_t elapsed_ns;
    struct errors call_errors;
    struct errors status_errors;
    unsigned direction_count;
    struct direction *directions; /* nodes * nodes of them */
    struct direction *mixed;      /* of calls that went several ways at once: no `pages` */
};

/* Before any thread exists: the memory that the mover shares with the process that reports. */
void mover_init(struct mover *mover, struct drive *drive, struct thread *thread);
/* By its thread, once the memory is mapped and touched. */
void mover_prepare(struct mover *mover);
/* By its thread: all its passes. */
void mover_run(struct mover *mover);

/* The last call that covered an address; CALL_KEPT: it is in `copy`. */
enum call_known mover_last_call(const struct mover *mover, const char *address, struct call_copy *copy);

#endif
