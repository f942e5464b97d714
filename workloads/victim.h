/* Threads that touch the pages while they move, and note what each access cost. */
#ifndef NUMABENCH_VICTIM_H
#define NUMABENCH_VICTIM_H

#include "drive.h"
#include "histogram.h"

enum { LONGEST_ACCESSES = 16 };

struct access_time {
    uint64_t end_ns;
    uint64_t ns;
    size_t page;
};

struct victim {
    struct drive *drive;
    struct thread *thread;
    unsigned number;     /* among the victims: the first of its lines in each page */
    unsigned line_count; /* of each page */
    uint32_t *visits;    /* by page: its accesses, each to the next of its lines */
    uint64_t random;

    uint64_t accesses;
    uint64_t preempted; /* how often another thread was put on its CPU */
    uint64_t elapsed_ns;
    uint64_t clock_ns;
    uint64_t checked;
    uint64_t wrong;
    struct histogram latency;
    unsigned longest_count;
    struct access_time longest[LONGEST_ACCESSES];
};

void victim_init(struct victim *victim, struct drive *drive, struct thread *thread);
void victim_prepare(struct victim *victim);
void victim_run(struct victim *victim);

/* The number of the last write to the `own`th of a victim's lines, after `writes` to the page; 0: none. */
static inline uint64_t victim_last_write(const struct victim *victim, uint32_t writes, uint32_t own)
{
    return writes <= own ? 0 : writes - (writes - 1 - own) % victim->line_count;
}

#endif
