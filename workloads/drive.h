/* What drivers, movers and victims of a run share. It lies in memory that forked processes share too. */
#ifndef NUMABENCH_DRIVE_H
#define NUMABENCH_DRIVE_H

#include "drivers.h"
#include "pages.h"
#include "runner.h"

enum { MAX_WRONG_WORDS = 64 };

/* What is known of the last call that covered a unit. */
enum call_known { CALL_NONE, CALL_KEPT, CALL_FORGOTTEN /* too many came after it */ };

/* A mover's call, as it was kept. `end_ns` 0: it was not over. */
struct call_copy {
    uint64_t begin_ns;
    uint64_t end_ns;
    int from;
    int to;
};

/* A word that does not hold what its only writer stored last. */
struct wrong_word {
    pid_t pid;  /* who found it; 0: the process that reports */
    int thread; /* or -1: one that is of no driver */
    uint64_t t_ns;
    size_t page;
    size_t offset;
    uint64_t expected;
    uint64_t found;
    enum call_known call_known;
    unsigned call_thread;
    struct call_copy call;
};

struct drive {
    const struct driver *driver;
    const struct driven_options *options;
    const struct topology *topology;
    struct memory memory;
    unsigned source;       /* index in the topology */
    unsigned target_count; /* nodes of the ring */
    unsigned mover_count;
    unsigned victim_count;
    struct mover *movers;
    struct victim *victims;
    struct locality *spots; /* single CPUs, one for each thread */
    char *obstacles;        /* in front of the first slice; NULL: none */
    size_t obstacle_pages;
    struct bitmask *others; /* all nodes with memory but the source */

    _Atomic unsigned movers_running;
    _Atomic unsigned wrong_count;
    struct wrong_word wrong[MAX_WRONG_WORDS];
};

/* The index of the node that pages are on after `steps` steps of the ring from the source: nodes with memory alone. */
unsigned drive_ring(const struct drive *drive, uint64_t steps);
/* Counts a wrong word; keeps it where there is room, with the mover's last call that covered it. */
void drive_add_wrong(struct drive *drive, const struct wrong_word *wrong);

#endif
