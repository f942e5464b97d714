#include "layout.h"

unsigned every_cpu(unsigned cpus)
{
    return cpus;
}

unsigned half_the_cpus(unsigned cpus)
{
    return cpus < 2 ? 1 : cpus / 2;
}

static void place_threads(struct process *process, struct place touched_at, struct place runs_at)
{
    for (unsigned i = 0; i < process->slice_count; i++)
        process->slices[i].touched_at = touched_at;
    for (unsigned i = 0; i < process->thread_count; i++)
        process->threads[i].runs_at = runs_at;
}

/* Everything starts on one node, or where the main thread happens to run, and is free from then on. */
static void lay_out_free(struct process *process, bool main_moves)
{
    const struct topology *topology = &process->topology;
    const struct locality *start;
    struct place touched_at = {.policy = POLICY_KEPT};

    process->main_runs_at = (struct place){.cpus = &topology->all, .policy = POLICY_KEPT};
    if (process->options.start_node == ABSENT) {
        place_threads(process, touched_at, touched_at);
        return;
    }
    start = &topology->nodes[topology_index(topology, process->options.start_node)];
    require_memory(start, process->options.size_bytes * process->workload->processes, "--start-node");
    touched_at = (struct place){.policy = POLICY_BIND, .memory = start};
    if (main_moves && start->cpu_count)
        touched_at.cpus = start;
    process->main_runs_at.policy = POLICY_DEFAULT;
    place_threads(process, touched_at, process->main_runs_at);
}

/* The subject of an error. */
static const char *what_places(enum placement placement)
{
    static const char *const subjects[] = {"placement default", "placement hard", "placement inverse",
                                           "placement inverse-compat"};

    return subjects[placement];
}

static void require_halves(const struct process *process)
{
    const char *name = placement_name(process->options.placement);
    const char *what = what_places(process->options.placement);
    const struct topology *topology = &process->topology;
    bool is_compat = process->options.placement == PLACEMENT_INVERSE_COMPAT;

    if (topology->count % 2)
        fail_cannot_run("placement %s of %s halves the nodes and needs an even number, not %u", name,
                        process->workload->name, topology->count);
    for (unsigned half = 0; half < 2; half++) {
        require_cpus(&topology->halves[half], what);
        if (half == 1 || !is_compat)
            require_memory(&topology->halves[half], process->options.size_bytes * (is_compat ? 2 : 1), what);
    }
}

static unsigned memory_half(const struct process *process)
{
    switch (process->options.placement) {
    case PLACEMENT_INVERSE:
        return 1 - process->number;
    case PLACEMENT_INVERSE_COMPAT:
        return 1;
    default:
        return process->number;
    }
}

void lay_out_by_process(struct process *process)
{
    if (process->options.placement == PLACEMENT_DEFAULT) {
        lay_out_free(process, false);
        return;
    }
    require_halves(process);
    process->main_runs_at = (struct place){.cpus = &process->topology.halves[process->number],
                                           .policy = POLICY_BIND,
                                           .memory = &process->topology.halves[memory_half(process)]};
    place_threads(process, process->main_runs_at, process->main_runs_at);
}

static void require_nodes(const struct process *process)
{
    const struct topology *topology = &process->topology;
    const char *name = placement_name(process->options.placement);
    const char *what = what_places(process->options.placement);

    if (process->options.placement != PLACEMENT_HARD && topology->count < 2)
        fail_cannot_run("placement %s needs 2 nodes, the run has 1", name);
    if (process->thread_count < topology->count && process->options.threads)
        fail_usage("placement %s needs a thread for each node: %u nodes, --threads %u", name, topology->count,
                   process->thread_count);
    if (process->thread_count < topology->count)
        fail_cannot_run("placement %s needs a thread for each node: %u nodes, but the workload's rule gives %u "
                        "(pass --threads)",
                        name, topology->count, process->thread_count);
    for (unsigned i = 0; i < topology->count; i++) {
        require_cpus(&topology->nodes[i], what);
        require_memory(&topology->nodes[i], process->options.size_bytes / topology->count, what);
    }
}

static struct place on_node(const struct topology *topology, unsigned index)
{
    const struct locality *node = &topology->nodes[index];

    return (struct place){.cpus = node, .policy = POLICY_BIND, .memory = node};
}

void lay_out_by_thread(struct process *process)
{
    const struct topology *topology = &process->topology;
    bool is_hard = process->options.placement == PLACEMENT_HARD;

    if (process->options.placement == PLACEMENT_DEFAULT) {
        lay_out_free(process, true);
        return;
    }
    require_nodes(process);
    process->main_runs_at = (struct place){.cpus = &topology->all, .policy = POLICY_BIND, .memory = &topology->all};
    for (unsigned i = 0; i < process->thread_count; i++) {
        unsigned index = (unsigned)((uint64_t)i * topology->count / process->thread_count);

        process->slices[i].touched_at = on_node(topology, index);
        process->threads[i].runs_at = on_node(topology, is_hard ? index : topology->count - 1 - index);
    }
}
