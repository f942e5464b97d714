#define _GNU_SOURCE
#include "place.h"

#include <errno.h>
#include <numaif.h>
#include <string.h>

static const char *const mode_names[] = {"default",        "preferred",          "bind", "interleave", "local",
                                         "preferred-many", "weighted-interleave"};
enum {
    MODE_COUNT = sizeof(mode_names) / sizeof(*mode_names),
    MODE_FLAGS = 7 << 13, /* MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES, MPOL_F_NUMA_BALANCING */
};

static int set_policy(const struct place *place)
{
    long result = 0;

    if (place->policy == POLICY_BIND)
        result = set_mempolicy(MPOL_BIND, place->memory->memory->maskp, max_node(place->memory->memory));
    else if (place->policy == POLICY_DEFAULT)
        result = set_mempolicy(MPOL_DEFAULT, NULL, 0);
    return result < 0 ? -errno : 0;
}

int place_self(const struct place *place)
{
    if (place->cpus && numa_sched_setaffinity(0, place->cpus->cpus) < 0)
        return -errno;
    return set_policy(place);
}

void must_place_self(const struct place *place)
{
    int error = place_self(place);

    if (error == -EPERM || error == -ENOSYS)
        fail_cannot_run("a thread may not be placed: %s (a container's seccomp profile can forbid it)",
                        strerror(-error));
    if (error)
        fail("a thread cannot be placed: %s", strerror(-error));
}

void line_place(struct line *line)
{
    struct bitmask *cpus = numa_allocate_cpumask();
    struct bitmask *nodes = numa_allocate_nodemask();
    int mode = 0;

    if (numa_sched_getaffinity(0, cpus) < 0 || get_mempolicy(&mode, nodes->maskp, max_node(nodes), NULL, 0) < 0)
        fail("a thread's place cannot be read back: %s", strerror(errno));
    mode &= ~MODE_FLAGS;
    line_ids(line, "cpus", cpus);
    line_text(line, "policy", mode < MODE_COUNT ? mode_names[mode] : "unknown");
    line_ids(line, "policy_nodes", nodes);
    numa_bitmask_free(cpus);
    numa_bitmask_free(nodes);
}
