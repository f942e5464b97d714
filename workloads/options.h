/* The command line, which is the same for every workload. */
#ifndef NUMABENCH_OPTIONS_H
#define NUMABENCH_OPTIONS_H

#include <stdint.h>

#include "driven_options.h"

enum placement { PLACEMENT_DEFAULT, PLACEMENT_HARD, PLACEMENT_INVERSE, PLACEMENT_INVERSE_COMPAT };
enum thp { THP_DEFAULT, THP_ALWAYS, THP_NEVER };
enum mapping { MAPPING_ONE, MAPPING_PER_THREAD };

enum { ABSENT = -1 };

struct options {
    const char *nodes; /* NULL: all */
    enum placement placement;
    uint64_t size_bytes;  /* of each process */
    unsigned threads;     /* of each process; 0: the workload's rule */
    uint64_t loops;       /* of each thread; 0: until the duration ends */
    uint64_t duration_ms; /* 0: no limit */
    int start_node;       /* or ABSENT */
    enum thp thp;
    enum mapping mapping;
    uint64_t interval_ms;
    uint64_t seed;
    int ready_fd;                 /* or ABSENT */
    int go_fd;                    /* or ABSENT */
    struct driven_options driven; /* of driven workloads */
};

struct workload;

/* Ends the process with a usage error where the words cannot be meant. */
void options_parse(struct options *options, const struct workload *workload, int argc, char **argv);

/* strtoull() without its leniency: blanks, signs and wrapped negatives are not numbers. A usage error of `--name`. */
uint64_t option_number(const char *name, const char *text, uint64_t low, uint64_t high);
/* The index of `text` among the names, which NULL ends. */
unsigned option_choice(const char *name, const char *text, const char *const *names);

const char *placement_name(enum placement placement);
const char *thp_name(enum thp thp);
const char *mapping_name(enum mapping mapping);

#endif
