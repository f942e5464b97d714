/* What all workloads share: one process after the other is laid out, mapped, touched, threaded, released and checked.
 */
#ifndef NUMABENCH_RUNNER_H
#define NUMABENCH_RUNNER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gate.h"
#include "handshake.h"
#include "options.h"
#include "place.h"
#include "topology.h"

/* A macro, since clang takes no constant for an initializer. */
#define GIB (1ULL << 30)

struct process;
struct thread;
struct mover;
struct victim;
struct drive;
struct family;
struct line;

/* What the threads of a workload do with its memory. Everything else is the runner's. */
struct work {
    /* Sets thread_count and slice_count, and the options that were left open. */
    void (*settle)(struct process *process);
    /* Says where every thread and every slice belongs: done again in every process, whose number differs. */
    void (*lay_out)(struct process *process);
    /* Adds its own keys to the `start` line; may be NULL. */
    void (*line_start)(struct line *line, const struct process *process);
    void (*map_and_touch)(struct process *process);
    /* By each thread before it is placed, and so before READY. */
    void (*prepare)(struct thread *thread);
    /* By each thread from GO until it is done or the process is stopping. */
    void (*run)(struct thread *thread);
    /* Once no thread runs, before `stop`: ends what other processes do to the memory; may be NULL. */
    void (*quiesce)(const struct process *process);
    /* Lines after `done`; may be NULL. */
    void (*print_results)(const struct process *process);
    /* Reads every byte once no thread runs, prints `check`, and ends the process where something is wrong. */
    void (*check)(struct process *process);
};

enum slices { SLICE_SHARED, SLICE_PER_THREAD };
enum toucher { TOUCHED_BY_MAIN, TOUCHED_BY_EACH_THREAD };

/* A workload as its authors published it; one with `is_published` unset is numabench's own. */
struct workload {
    const char *name;
    bool is_published;
    bool has_mapping_per_thread;
    bool is_driven;  /* takes the options of driven_options.h; what it shares with forked processes is in `drive` */
    bool has_family; /* takes the options of family_options.h */
    bool needs_start_node; /* the main thread's node is the start node where none was asked for */
    unsigned processes;
    uint64_t size_bytes; /* of each process */
    uint64_t loops;      /* of each thread */
    unsigned (*threads)(unsigned cpus);
    enum slices slices;
    enum toucher toucher; /* who touches a process's memory first; each thread touches all of it */
    /* Of those that store: says where every thread and every slice belongs; ends the process where the machine lacks
     * it. */
    void (*lay_out)(struct process *process);
    const struct work *work;
};

/* Memory that is stored to by one thread or by all of a process. */
struct slice {
    char *address;
    size_t bytes;
    unsigned number;       /* over all processes */
    unsigned first_thread; /* index in the process */
    unsigned thread_count;
    struct place touched_at;
};

/* The counter is read by the main thread while it is written: it has cache lines of its own. */
struct thread {
    _Alignas(128) _Atomic uint64_t stored_bytes; /* since GO; of a mover: moved */
    _Alignas(128) struct process *process;
    pthread_t handle;
    pid_t pid;            /* of the process that it runs in */
    unsigned number;      /* over all processes */
    const char *role;     /* NULL: the worker of a workload without movers */
    unsigned role_number; /* among those of its role */
    struct mover *mover;
    struct victim *victim;
    bool is_outside; /* in a process that the workload forked for it */
    struct slice *slice;
    uint64_t loop_bytes; /* of a whole loop */
    struct place runs_at;
    uint64_t elapsed_ns; /* from GO to its last store */
    uint64_t cpu_ns;     /* since GO */
};

struct process {
    const struct workload *workload;
    struct options options;
    struct topology topology;
    struct handshake handshake;
    unsigned number;
    unsigned thread_count;
    unsigned slice_count;
    struct thread *threads;
    struct slice *slices;
    struct place main_runs_at;
    struct gate gate;
    _Atomic bool is_stopping;
    _Atomic unsigned running;
    int done_fd; /* readable when no thread runs any more */
    uint64_t go_ns;
    struct drive *drive;   /* of driven workloads */
    struct family *family; /* of forktree: in memory of each process's own */
};

/* The whole program. The exit status. */
int run_workload(const struct workload *workload, int argc, char **argv);

/* Zeroed memory for as long as the process lives. Of driven workloads it is shared with the processes forked later. */
void *runner_memory(const struct workload *workload, size_t bytes);
/* Starts threads that then wait at the gate: those that belong in this process. */
void runner_start_threads(struct process *process, bool is_outside);
void runner_join_threads(struct process *process, bool is_outside);

static inline bool is_stopping(const struct process *process)
{
    return atomic_load_explicit(&process->is_stopping, memory_order_relaxed);
}

/* What loop `loop` of the threads of a slice stores; loop 0 is the first touch. Never zero, and another with each loop:
 * a page that was lost, stale, or of another slice differs. */
static inline unsigned char stored_value(const struct slice *slice, uint64_t loop)
{
    return (unsigned char)(1 + (loop + 37ULL * slice->number) % 255);
}

#endif
