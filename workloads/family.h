/* The processes of forktree: generations of children that map the memory of the one that started them. */
#ifndef NUMABENCH_FAMILY_H
#define NUMABENCH_FAMILY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "drive.h"
#include "family_options.h"
#include "handshake.h"

/* One process. Its slot is written by that process alone. */
struct member {
    _Atomic pid_t pid;
    _Atomic uint64_t forks;
    _Atomic uint64_t mremaps;
    _Atomic uint64_t splits;
    _Atomic uint64_t writes; /* pages written */
    _Atomic uint64_t checked_bytes;
    _Atomic uint64_t wrong_bytes;
};

struct family {
    struct family_options options;
    uint64_t seed; /* of what is churned */
    unsigned processes;
    char *memory;
    size_t bytes;
    size_t unit_bytes;      /* of the pages that movers ask for: quarters begin on them */
    struct drive *drive;    /* takes the words that are wrong */
    struct member *members; /* in memory that all share */
    char *reserved;         /* room for a quarter that is mremap'd */
    int quiet_fd;           /* an eventfd: counts the processes that have stopped */
    /* Of this process: */
    unsigned wrong_printed; /* of the root: words that have a line */
    unsigned self;          /* 0: the root; the children of n are n * fanout + 1 and the next */
    unsigned generation;
};

/* Before the first fork: `family` has its options and its memory, which the root has stamped. */
void family_open(struct family *family);

/* Forks all generations: it returns in every process, `self` and `generation` set, a handshake with the parent and
 * the children in each. */
void family_fork(struct family *family, struct handshake *handshake);

/* The process that calls the driver's system call, and the one whose pid it names. */
unsigned family_mover(const struct family *family);
unsigned family_target(const struct family *family);
/* What this process does to its memory: the target of another's calls does not write, since a page that is copied on
 * write lies where the copy was made, as if it had been migrated. */
unsigned family_churn(const struct family *family);
/* Known once all processes are ready. */
pid_t family_pid(const struct family *family, unsigned member);

/* The whole life of a process that is neither the root nor the mover's: churns from GO to the word to stop, checks its
 * memory after the word to end. */
_Noreturn void family_live(struct family *family, struct handshake *handshake);

/* In the mover's process, which does not churn: waits for the word to stop, and passes on that it has. */
void family_await_stop(const struct family *family, struct handshake *handshake);
/* The word to end, and the end: checks its memory, and waits for its children's. */
void family_await_end(struct handshake *handshake);
_Noreturn void family_end(struct family *family, struct handshake *handshake);

/* In the root: asks all others to stop and waits until they have. */
void family_quiesce(const struct family *family, const struct handshake *handshake);
/* In the root, which does not churn either: compares every byte of its memory. */
void family_check_root(struct family *family);

/* Before churn: what the kernel's reverse map has to walk. */
void print_family(const struct family *family);
/* After it: what was done, summed over processes. */
void print_churn(const struct family *family);
/* What all processes have read back; ends the root where a word was wrong. */
void report_check(const struct family *family);

#endif
