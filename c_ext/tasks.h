/*
 * What every thread was called and what was mapped in every process, by time: built from the records about tasks, which
 * come in any order and are taken in by their times.
 */
#ifndef NUMABENCH_TASKS_H
#define NUMABENCH_TASKS_H

#include "intern.h"

/* vm.max_map_count as kernels are shipped; what lies deeper is not looked at. */
enum { TASKS_MAPPINGS_MAX = 65530, TASKS_MAPPINGS_FEW = 256, TASKS_PAGES = 1 << 14 };
/* A second or two of steps from mapping to mapping. */
#define TASKS_STEPS_MAX (UINT64_C(1) << 30)

/* A record about tasks and their memory. FORK has the parent's pid and tid in address and size_bytes. */
struct task_record {
    uint64_t time_ns;
    uint64_t address;
    uint64_t size_bytes;
    uint64_t offset_bytes;
    uint64_t arrival; /* records of one time keep their order */
    uint32_t pid;
    uint32_t tid;
    uint32_t name; /* text numbers */
    uint32_t build_id;
    uint32_t type;
    uint32_t is_exec;
};

enum { TASK_MMAP = 1, TASK_COMM = 3, TASK_EXIT = 4, TASK_FORK = 7, TASK_MMAP2 = 10 };

/* From a time on something was this. `jump` leads over many of those before, for a search in few steps. */
struct task_change {
    uint64_t time_ns;
    uint32_t value;
    uint32_t before; /* the number of the change before it, 0: none */
    uint32_t jump;
    uint32_t depth;
};

/* A space is the space it grew out of, which is below it, and one mapping on top. Space 0 is empty. */
struct task_space {
    uint64_t start;
    uint64_t end;
    uint64_t offset_bytes;
    uint32_t parent;
    uint32_t file;
};

struct task {
    uint32_t id;   /* a thread's, or that of a process, which is its first thread's */
    uint32_t comm; /* the numbers of the last changes */
    uint32_t space;
    uint32_t threads; /* of a process: those that were begun and have not ended */
    uint32_t has_ended;
    uint64_t ended_ns;
    /* What holds for samples from a time up to another, of one process, until more records are taken in. */
    uint32_t generation;
    uint32_t pid;
    uint32_t state;
    uint32_t bare_state;
    uint64_t from_ns;
    uint64_t until_ns;
};

/* Where the page of an address in a space was found to be. */
struct task_page {
    uint64_t page;
    uint32_t space;
    uint32_t found;
};

struct tasks {
    uint64_t seed;
    int by_thread, by_space;
    uint32_t generation;
    uint32_t recent;
    uint64_t arrivals;
    uint64_t steps, cut_lookups;
    size_t prune_at; /* how much there is when it is next worth while to forget some */
    uint64_t pruned_ns;
    struct growing pending;
    struct growing items;
    struct slots index;
    struct growing changes;
    struct growing spaces;
    struct pairs files;  /* (text number of the name, of the build id); file 0 is none */
    struct pairs states; /* (pid << 32 | tid, comm << 32 | space) */
    struct pairs places; /* (file, address in it), or (0, address) where nothing was mapped */
    struct task_page *pages;
};

/* `by_thread`, `by_space`: what states tell apart. `idle_name` is the text number of the name of the idle threads. */
int tasks_init(struct tasks *tasks, uint64_t seed, int by_thread, int by_space, uint32_t idle_name);
void tasks_free(struct tasks *tasks);

/* Note a record; it counts once tasks_settle() has reached its time. */
int tasks_note(struct tasks *tasks, const struct task_record *record);
/* Take in what was noted, up to a time: nothing earlier may be noted after this, or it will be thought to be later. */
int tasks_settle(struct tasks *tasks, uint64_t until_ns);

/* Whether so much has piled up that tasks_prune() is called for. */
int tasks_are_many(const struct tasks *tasks);
/*
 * Forget what no sample after a time can ask for: what things were before what they were then, and what had ended
 * when this was last done. Numbers of states and spaces are void after this. 0, or -1 without memory.
 */
int tasks_prune(struct tasks *tasks, uint64_t before_ns);

/*
 * The number of the state of a thread at a time, or -1 without memory; without `with_space` the one that says nothing
 * of what is mapped. What was so when recording began may be told a little later than the first samples: before its
 * first change, a thing is what that says.
 */
int64_t tasks_state(struct tasks *tasks, uint32_t pid, uint32_t tid, uint64_t time_ns, int with_space);

/* The number of the place that an address is in a space, or -1 without memory. */
int64_t tasks_place(struct tasks *tasks, uint32_t space, uint64_t address);

#endif
