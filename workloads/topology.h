/* The nodes of a run and their CPUs, as this process may use them. */
#ifndef NUMABENCH_TOPOLOGY_H
#define NUMABENCH_TOPOLOGY_H

#include <numa.h>
#include <stdint.h>

enum { MAX_NODE_ID = 65535 };

/* Some nodes as one place: those of their CPUs and of their memory that this process may use. */
struct locality {
    struct bitmask *nodes;
    struct bitmask *memory;
    struct bitmask *cpus;
    unsigned cpu_count;
    uint64_t memory_bytes;
};

struct topology {
    int *ids;
    struct locality *nodes; /* in the order of `ids`, which is the user's */
    unsigned count;
    struct locality halves[2]; /* the first count / 2 nodes and the rest */
    struct locality all;
};

/* `list` is the user's, or NULL for all nodes that have something to use. Ends the process where they cannot serve. */
void topology_read(struct topology *topology, const char *list);
void topology_free(struct topology *topology);

/* The index of node `id`, or -1. */
int topology_index(const struct topology *topology, int id);
/* The index of the node of the CPU that runs this; the first node with memory where that one is not of the run. */
unsigned topology_here(const struct topology *topology);

/* What system calls take as the number of a mask's bits: the kernel reads one less than it is told
 * (set_mempolicy(2)). */
static inline unsigned long max_node(const struct bitmask *nodes)
{
    return nodes->size + 1;
}

/* Each ends the process where the locality lacks what `what` needs. */
void require_cpus(const struct locality *locality, const char *what);
void require_memory(const struct locality *locality, uint64_t bytes, const char *what);

#endif
