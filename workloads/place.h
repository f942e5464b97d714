/* Where a thread runs, and where the pages come from that it is the first to touch. */
#ifndef NUMABENCH_PLACE_H
#define NUMABENCH_PLACE_H

#include "lines.h"
#include "topology.h"

/* Balancing migrates for threads whose policy is `default` alone: a bind without MPOL_F_NUMA_BALANCING keeps it off. */
enum policy { POLICY_KEPT, POLICY_DEFAULT, POLICY_BIND };

struct place {
    const struct locality *cpus; /* NULL: the affinity stays as it is */
    enum policy policy;
    const struct locality *memory; /* of POLICY_BIND */
};

/* Moves the calling thread: 0 or -errno. */
int place_self(const struct place *place);
/* The same, and the end of the process with the reason where the kernel refuses. */
void must_place_self(const struct place *place);

/* Adds the calling thread's affinity and policy to a line, read back from the kernel. */
void line_place(struct line *line);

#endif
