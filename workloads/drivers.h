/* What migrates: one system call behind each name. */
#ifndef NUMABENCH_DRIVERS_H
#define NUMABENCH_DRIVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "driven_options.h"

struct drive;

enum reach {
    REACH_NOTHING,
    REACH_PAGES,   /* each address has its own target */
    REACH_RANGE,   /* addresses that follow each other, one target */
    REACH_PROCESS, /* all memory of a process */
};

/* What one call is to move. Nodes are indices in the topology. */
struct request {
    const struct drive *drive;
    pid_t pid; /* 0: the caller */
    void **addresses;
    const int *nodes; /* REACH_PAGES: the id of each address's target */
    int *status;      /* REACH_PAGES: where each address is, or -errno */
    size_t count;
    unsigned from;
    unsigned to;
};

struct driver {
    enum reach reach;
    bool spreads; /* the target is every node but the source, and back */
    /* Ends the process where this kernel, or this user, cannot. */
    void (*require)(const struct drive *drive);
    /* What the system call returned, or -errno. */
    long (*move)(const struct request *request);
};

const struct driver *find_driver(enum driver_id id);
/* Whether the kernel lets the caller move pages that other processes map, too. */
bool may_move_all(void);
/* Where the addresses are, into `status`: 0 or -errno. */
int query_pages(pid_t pid, void **addresses, size_t count, int *status);

#endif
