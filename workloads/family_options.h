/* The options of forktree that pingpong has not: docs/workload-protocol.md. */
#ifndef NUMABENCH_FAMILY_OPTIONS_H
#define NUMABENCH_FAMILY_OPTIONS_H

#include <getopt.h>
#include <stdint.h>

#include "lines.h"

enum { MAX_FAMILY = 512 }; /* processes, the root with them */

enum mover_at { MOVER_AT_PARENT, MOVER_AT_CHILD, MOVER_AT_SIBLING };

/* What a process does to its memory meanwhile: bits. */
enum churn { CHURN_FORK = 1, CHURN_MREMAP = 2, CHURN_SPLIT = 4, CHURN_WRITE = 8 };

struct family_options {
    unsigned depth;  /* generations of children */
    unsigned fanout; /* children of each process that is not of the last generation */
    enum mover_at mover_at;
    unsigned churn; /* enum churn */
};

struct options;

enum { FAMILY_OPTION_FIRST = 200 };
/* Ended by a row of zeros; `val` begins at FAMILY_OPTION_FIRST. */
extern const struct option family_words[];

void family_options_init(struct family_options *options);
/* Both end the process with a usage error where the words cannot be meant. */
void family_options_set(struct family_options *options, int id, const char *text);
void family_options_check(const struct options *all);

/* The number of processes that depth and fan-out make, the root with them. */
unsigned family_processes(const struct family_options *options);

/* Adds depth, fanout, mover_at and churn to the object `driver` of the `start` line. */
void line_family_options(struct line *line, const struct family_options *options);

#endif
