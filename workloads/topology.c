#define _GNU_SOURCE
#include "topology.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"

static void locality_init(struct locality *locality)
{
    locality->nodes = numa_allocate_nodemask();
    locality->memory = numa_allocate_nodemask();
    locality->cpus = numa_allocate_cpumask();
    locality->cpu_count = 0;
    locality->memory_bytes = 0;
}

static void locality_free(struct locality *locality)
{
    numa_bitmask_free(locality->nodes);
    numa_bitmask_free(locality->memory);
    numa_bitmask_free(locality->cpus);
}

static void mask_add(struct bitmask *into, const struct bitmask *from)
{
    for (unsigned bit = 0; bit < from->size; bit++)
        if (numa_bitmask_isbitset(from, bit))
            numa_bitmask_setbit(into, bit);
}

static void locality_add(struct locality *into, const struct locality *from)
{
    mask_add(into->nodes, from->nodes);
    mask_add(into->memory, from->memory);
    mask_add(into->cpus, from->cpus);
    into->cpu_count += from->cpu_count;
    into->memory_bytes += from->memory_bytes;
}

/* CPUs that are online and in the affinity mask: sched_getaffinity(2) leaves out the others. */
static void read_cpus(struct locality *node, int id, const struct bitmask *allowed)
{
    if (numa_node_to_cpus(id, node->cpus) < 0)
        fail_cannot_run("the CPUs of node %d cannot be read: %s", id, strerror(errno));
    for (unsigned cpu = 0; cpu < node->cpus->size; cpu++)
        if (!numa_bitmask_isbitset(allowed, cpu))
            numa_bitmask_clearbit(node->cpus, cpu);
    node->cpu_count = numa_bitmask_weight(node->cpus);
}

static void read_node(struct locality *node, int id, const struct bitmask *cpus, const struct bitmask *memory)
{
    long long size_bytes = numa_node_size64(id, NULL);

    locality_init(node);
    numa_bitmask_setbit(node->nodes, (unsigned)id);
    read_cpus(node, id, cpus);
    if (size_bytes > 0 && numa_bitmask_isbitset(memory, (unsigned)id)) {
        numa_bitmask_setbit(node->memory, (unsigned)id);
        node->memory_bytes = (uint64_t)size_bytes;
    }
}

static bool exists(long id)
{
    return numa_bitmask_isbitset(numa_nodes_ptr, (unsigned)id);
}

static void add_id(struct topology *topology, long id)
{
    if (id > MAX_NODE_ID)
        fail_usage("node %ld is out of range: ids end at %d", id, MAX_NODE_ID);
    if (topology_index(topology, (int)id) >= 0)
        fail_usage("node %ld is in --nodes twice", id);
    if (!exists(id)) {
        char *have = ids_text(numa_nodes_ptr);

        fail_cannot_run("node %ld does not exist, this machine has node %s", id, have);
    }
    topology->ids = realloc(topology->ids, (topology->count + 1) * sizeof(*topology->ids));
    if (!topology->ids)
        abort();
    topology->ids[topology->count++] = (int)id;
}

/* strtol() without its leniency: blanks and signs are not ids. */
static long parse_id(const char **at, const char *list)
{
    char *end;
    long id;

    errno = 0;
    id = strtol(*at, &end, 10);
    if (**at < '0' || **at > '9' || errno || id > MAX_NODE_ID)
        fail_usage("--nodes '%s' is not a list of node ids such as 0-3,8", list);
    *at = end;
    return id;
}

static void parse_ids(struct topology *topology, const char *list)
{
    const char *at = list;

    for (;;) {
        long first = parse_id(&at, list);
        long last = first;

        if (*at == '-') {
            at++;
            last = parse_id(&at, list);
        }
        if (last < first)
            fail_usage("--nodes '%s' has a range from high to low", list);
        for (long id = first; id <= last; id++)
            add_id(topology, id);
        if (!*at)
            return;
        if (*at++ != ',')
            fail_usage("--nodes '%s' is not a list of node ids such as 0-3,8", list);
    }
}

static void read_nodes(struct topology *topology, bool chosen)
{
    struct bitmask *cpus = numa_allocate_cpumask();
    struct bitmask *memory = numa_get_mems_allowed();
    unsigned kept = 0;

    if (numa_sched_getaffinity(0, cpus) < 0)
        fail_cannot_run("the allowed CPUs cannot be read: %s", strerror(errno));
    topology->nodes = calloc(topology->count, sizeof(*topology->nodes));
    if (!topology->nodes)
        abort();
    for (unsigned i = 0; i < topology->count; i++) {
        struct locality *node = &topology->nodes[kept];
        int id = topology->ids[i];

        read_node(node, id, cpus, memory);
        if (node->cpu_count || node->memory_bytes)
            topology->ids[kept++] = id;
        else if (chosen)
            fail_cannot_run("node %d has neither CPUs nor memory that this process may use", id);
        else
            locality_free(node);
    }
    topology->count = kept;
    numa_bitmask_free(cpus);
    numa_bitmask_free(memory);
}

void topology_read(struct topology *topology, const char *list)
{
    *topology = (struct topology){0};
    errno = 0;
    if (numa_available() < 0)
        fail_cannot_run("the NUMA system calls are not available: %s", strerror(errno));
    if (list)
        parse_ids(topology, list);
    for (int id = 0; !list && id <= numa_max_possible_node(); id++)
        if (exists(id))
            add_id(topology, id);
    read_nodes(topology, list != NULL);
    locality_init(&topology->all);
    locality_init(&topology->halves[0]);
    locality_init(&topology->halves[1]);
    for (unsigned i = 0; i < topology->count; i++) {
        locality_add(&topology->all, &topology->nodes[i]);
        locality_add(&topology->halves[i >= topology->count / 2], &topology->nodes[i]);
    }
    require_cpus(&topology->all, "a run");
    require_memory(&topology->all, 1, "a run");
}

void topology_free(struct topology *topology)
{
    for (unsigned i = 0; i < topology->count; i++)
        locality_free(&topology->nodes[i]);
    locality_free(&topology->all);
    locality_free(&topology->halves[0]);
    locality_free(&topology->halves[1]);
    free(topology->nodes);
    free(topology->ids);
}

int topology_index(const struct topology *topology, int id)
{
    for (unsigned i = 0; i < topology->count; i++)
        if (topology->ids[i] == id)
            return (int)i;
    return -1;
}

unsigned topology_here(const struct topology *topology)
{
    int cpu = sched_getcpu();
    unsigned first = 0;

    for (unsigned i = 0; cpu >= 0 && i < topology->count; i++)
        if (topology->nodes[i].memory_bytes && numa_bitmask_isbitset(topology->nodes[i].cpus, (unsigned)cpu))
            return i;
    while (!topology->nodes[first].memory_bytes)
        first++;
    return first;
}

void require_cpus(const struct locality *locality, const char *what)
{
    if (!locality->cpu_count)
        fail_cannot_run("%s needs CPUs on node %s, which has none that this process may use", what,
                        ids_text(locality->nodes));
}

void require_memory(const struct locality *locality, uint64_t bytes, const char *what)
{
    if (!locality->memory_bytes)
        fail_cannot_run("%s needs memory on node %s, which has none that this process may use", what,
                        ids_text(locality->nodes));
    if (locality->memory_bytes < bytes)
        fail_cannot_run("%s needs %llu bytes on node %s, which has %llu", what, (unsigned long long)bytes,
                        ids_text(locality->nodes), (unsigned long long)locality->memory_bytes);
}
