#define _GNU_SOURCE
#include "driven.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "driven_report.h"
#include "integrity.h"
#include "interleave.h"
#include "lines.h"
#include "mover.h"
#include "obstacles.h"
#include "outside.h"
#include "report.h"
#include "spots.h"
#include "stamp.h"
#include "victim.h"

enum { USUAL_BATCH = 512 };

/* The node, or all of them, where threads of a kind run. */
static const struct locality *where(const struct drive *drive, struct spot_option option, const char *name)
{
    const struct topology *topology = drive->topology;
    const struct locality *node;
    int index;

    switch (option.spot) {
    case SPOT_ALL:
        return &topology->all;
    case SPOT_SOURCE:
        node = &topology->nodes[drive->source];
        break;
    case SPOT_TARGET:
        node = &topology->nodes[drive_ring(drive, 1)];
        break;
    default:
        index = topology_index(topology, option.node);
        if (index < 0)
            fail_usage("--%s %d is not one of the run's nodes", name, option.node);
        node = &topology->nodes[index];
    }
    require_cpus(node, name);
    return node;
}

/* Its memory is there and not allowed. */
static bool is_outside_cpuset(const struct topology *topology, unsigned index)
{
    return !topology->nodes[index].memory_bytes && numa_node_size64(topology->ids[index], NULL) > 0;
}

static void count_targets(struct drive *drive)
{
    const struct topology *topology = drive->topology;

    for (unsigned index = 0; index < topology->count; index++) {
        drive->target_count += topology->nodes[index].memory_bytes > 0;
        if (is_outside_cpuset(topology, index))
            fail_cannot_run("node %d is outside of the cpuset: see Mems_allowed_list in /proc/self/status",
                            topology->ids[index]);
    }
    if (drive->target_count < 2 && drive->options->driver != DRIVER_NULL)
        fail_cannot_run("source and target are one node, %d, where a move succeeds without a copy: a driver needs 2 "
                        "nodes with memory (only --driver null runs on one)",
                        drive->topology->ids[drive->source]);
}

static void settle_source(struct process *process, struct drive *drive)
{
    struct options *options = &process->options;

    drive->source = 0;
    while (options->start_node == ABSENT && !drive->topology->nodes[drive->source].memory_bytes)
        drive->source++;
    if (options->start_node != ABSENT)
        drive->source = (unsigned)topology_index(drive->topology, options->start_node);
    options->start_node = drive->topology->ids[drive->source];
    require_memory(&drive->topology->nodes[drive->source], 1, "--start-node");
}

static void settle_movers(struct process *process, struct drive *drive)
{
    unsigned threads = process->options.threads;

    if (drive->options->driver == DRIVER_AUTONUMA)
        return;
    if (drive->driver->reach == REACH_PROCESS && threads > 1)
        fail_usage("--driver %s moves a whole process in one call: it takes one mover, not --threads %u",
                   driver_name(drive->options->driver), threads);
    drive->mover_count = threads;
    if (!threads)
        drive->mover_count =
            drive->driver->reach == REACH_PROCESS ? 1 : process->workload->threads(process->topology.all.cpu_count);
}

static void settle_victims(struct drive *drive)
{
    unsigned cpus;

    drive->victim_count = drive->options->victims == ABSENT ? 0 : (unsigned)drive->options->victims;
    if (drive->options->victims != ABSENT || drive->options->driver != DRIVER_AUTONUMA)
        return;
    cpus = where(drive, drive->options->victim_on, "victim-on")->cpu_count;
    drive->victim_count = cpus < MAX_VICTIMS ? cpus : MAX_VICTIMS;
}

static void settle_memory(struct process *process, struct drive *drive)
{
    struct memory *memory = &drive->memory;
    size_t alignment;

    memory->page_bytes = (size_t)numa_pagesize();
    memory->unit_bytes = pages_unit_bytes(drive->options->pages);
    memory->unit_shift = (unsigned)__builtin_ctzll(memory->unit_bytes);
    memory->slice_bytes = process->options.size_bytes / process->slice_count;
    memory->slice_bytes -= memory->slice_bytes % memory->unit_bytes;
    if (!memory->slice_bytes)
        fail_usage("--size leaves less than a page of %zu bytes for each of %u slices", memory->unit_bytes,
                   process->slice_count);
    memory->bytes = memory->slice_bytes * process->slice_count;
    memory->pages = memory->bytes / memory->page_bytes;
    memory->slice_pages = memory->slice_bytes / memory->page_bytes;
    if (process->options.mapping == MAPPING_PER_THREAD) {
        alignment = memory->unit_bytes > BUFFER_ALIGNMENT ? memory->unit_bytes : BUFFER_ALIGNMENT;
        memory->gap_bytes = alignment + (alignment - memory->slice_bytes % alignment) % alignment;
    }
    process->options.size_bytes = memory->bytes;
    require_memory(&drive->topology->nodes[drive->source], memory->bytes, "--start-node");
}

/* A call goes to units of one slice: more than it has cannot be asked for at once. */
static void settle_batch(struct process *process, const struct drive *drive)
{
    struct driven_options *options = &process->options.driven;
    size_t units = drive->memory.slice_bytes / drive->memory.unit_bytes;

    if (options->batch > units)
        fail_usage("--batch %u is more than the %zu pages of %zu bytes that each of %u slices has", options->batch,
                   units, drive->memory.unit_bytes, process->slice_count);
    if (!options->batch)
        options->batch = options->pages == PAGES_THP ? 1 : USUAL_BATCH;
    if (options->batch > units || drive->driver->reach == REACH_PROCESS)
        options->batch = units < UINT_MAX ? (unsigned)units : UINT_MAX;
}

static void settle_others(struct drive *drive)
{
    drive->others = numa_allocate_nodemask();
    for (unsigned index = 0; index < drive->topology->count; index++)
        if (index != drive->source && drive->topology->nodes[index].memory_bytes)
            numa_bitmask_setbit(drive->others, (unsigned)drive->topology->ids[index]);
}

static void settle(struct process *process)
{
    struct drive *drive = runner_memory(process->workload, sizeof(*drive));

    process->drive = drive;
    drive->driver = find_driver(process->options.driven.driver);
    drive->options = &process->options.driven;
    drive->topology = &process->topology;
    settle_source(process, drive);
    count_targets(drive);
    settle_movers(process, drive);
    settle_victims(drive);
    process->thread_count = drive->mover_count + drive->victim_count;
    process->slice_count = drive->mover_count ? drive->mover_count : 1;
    settle_memory(process, drive);
    settle_batch(process, drive);
    drive->obstacle_pages = obstacles_count(drive->options);
    settle_others(drive);
    if (drive->options->pages == PAGES_HUGETLB)
        for (unsigned step = 0; step < drive->target_count; step++)
            pages_require_reserved(&drive->topology->nodes[drive_ring(drive, step)], drive->memory.bytes,
                                   drive->memory.unit_bytes);
    drive->driver->require(drive);
}

/* Of driver autonuma victims may use all CPUs of their node; elsewhere each thread has one. */
static void place_threads(struct process *process)
{
    struct drive *drive = process->drive;
    const struct driven_options *options = drive->options;
    const struct locality *movers = drive->mover_count ? where(drive, options->mover_on, "mover-on") : NULL;
    const struct locality *victims = drive->victim_count ? where(drive, options->victim_on, "victim-on") : NULL;
    bool is_free = options->driver == DRIVER_AUTONUMA;

    if (!is_free)
        spots_hand_out(drive, movers, victims);
    for (unsigned i = 0; i < process->thread_count; i++)
        process->threads[i].runs_at =
            (struct place){.cpus = is_free ? victims : &drive->spots[i], .policy = POLICY_DEFAULT};
}

/* The thread that reports sleeps where the first mover works: on a CPU of its own it would add that one to those which
 * the kernel asks to flush their TLBs with each page (mm_cpumask), at some percent of the time of a move. A family is
 * forked from it and runs where it does: on all CPUs. */
static void place_main(struct process *process)
{
    struct drive *drive = process->drive;
    const struct driven_options *options = drive->options;
    bool has_spot = drive->mover_count && options->mover == MOVER_INSIDE && !process->workload->has_family;

    process->main_runs_at =
        (struct place){.cpus = has_spot ? &drive->spots[0] : &drive->topology->all, .policy = POLICY_DEFAULT};
}

static void lay_out_mover(struct process *process, unsigned number)
{
    struct drive *drive = process->drive;
    struct thread *thread = &process->threads[number];

    thread->role = "mover";
    thread->mover = &drive->movers[number];
    thread->is_outside = drive->options->mover == MOVER_OUTSIDE;
    thread->slice = &process->slices[number];
    thread->loop_bytes = thread->slice->bytes;
    mover_init(thread->mover, drive, thread);
}

static void lay_out_victim(struct process *process, unsigned number)
{
    struct drive *drive = process->drive;
    struct thread *thread = &process->threads[drive->mover_count + number];

    thread->role = "victim";
    thread->victim = &drive->victims[number];
    thread->slice = &process->slices[0];
    thread->loop_bytes = drive->memory.pages * LINE_BYTES;
    victim_init(thread->victim, drive, thread);
}

static void lay_out(struct process *process)
{
    struct drive *drive = process->drive;
    const struct locality *source = &drive->topology->nodes[drive->source];
    struct place touched_at = {.cpus = source->cpu_count ? source : NULL, .policy = POLICY_BIND, .memory = source};

    drive->movers = runner_memory(process->workload, drive->mover_count * sizeof(*drive->movers));
    drive->victims = runner_memory(process->workload, drive->victim_count * sizeof(*drive->victims));
    drive->spots = runner_memory(process->workload, process->thread_count * sizeof(*drive->spots));
    for (unsigned i = 0; i < process->slice_count; i++)
        process->slices[i] = (struct slice){.bytes = drive->memory.slice_bytes,
                                            .number = i,
                                            .first_thread = drive->mover_count,
                                            .thread_count = drive->victim_count,
                                            .touched_at = touched_at};
    for (unsigned i = 0; i < process->thread_count; i++) {
        process->threads[i].process = process;
        process->threads[i].number = i;
        process->threads[i].role_number = i < drive->mover_count ? i : i - drive->mover_count;
    }
    place_threads(process);
    place_main(process);
    for (unsigned i = 0; i < drive->mover_count; i++)
        lay_out_mover(process, i);
    for (unsigned i = 0; i < drive->victim_count; i++)
        lay_out_victim(process, i);
    atomic_store(&drive->movers_running, drive->mover_count);
}

static void map_memory(struct process *process)
{
    struct drive *drive = process->drive;
    struct memory *memory = &drive->memory;
    size_t obstacle_bytes = drive->obstacle_pages * memory->page_bytes;
    size_t bytes = memory->bytes + (process->slice_count - 1) * memory->gap_bytes + obstacle_bytes;
    char *mapped = pages_map(drive->options, bytes, memory->unit_bytes);

    drive->obstacles = obstacle_bytes ? mapped : NULL;
    memory->base = mapped + obstacle_bytes;
    for (unsigned i = 0; i < process->slice_count; i++) {
        process->slices[i].address = memory_slice(memory, i);
        if (i && memory->gap_bytes)
            pages_unmap_gap(process->slices[i].address - memory->gap_bytes, memory->gap_bytes);
    }
}

static void touch_memory(struct process *process)
{
    struct drive *drive = process->drive;
    const struct memory *memory = &drive->memory;
    struct units_seen seen;

    must_place_self(&process->slices[0].touched_at);
    if (drive->obstacles)
        obstacles_make(drive->options, drive->obstacles, memory->page_bytes);
    for (unsigned i = 0; i < process->slice_count; i++)
        stamp_fill(process->slices[i].address, memory->slice_bytes, i * (memory->slice_bytes / LINE_BYTES));
    if (drive->options->order == ORDER_INTERLEAVED && drive->target_count > 1)
        interleave_units(drive);
    seen = pages_verify(drive->options, memory);
    must_place_self(&process->main_runs_at);
    if (drive->options->pages != PAGES_BASE)
        print_pages(drive, "begin", &seen);
}

static void map_and_touch(struct process *process)
{
    if (process->drive->options->mover == MOVER_OUTSIDE)
        outside_fork(process);
    must_place_self(&process->main_runs_at);
    print_phase("map", "begin");
    map_memory(process);
    print_phase("map", "end");
    print_slices(process);
    print_phase("first_touch", "begin");
    touch_memory(process);
    print_phase("first_touch", "end");
}

/* Its notes lie where it runs. */
static void prepare(struct thread *thread)
{
    must_place_self(&thread->runs_at);
    if (thread->mover)
        mover_prepare(thread->mover);
    else
        victim_prepare(thread->victim);
}

static void run(struct thread *thread)
{
    if (thread->mover)
        mover_run(thread->mover);
    else
        victim_run(thread->victim);
}

void driven_release(struct process *process)
{
    struct drive *drive = process->drive;

    for (unsigned i = 0; i < process->thread_count; i++)
        if (drive->spots[i].cpus)
            numa_bitmask_free(drive->spots[i].cpus);
    numa_bitmask_free(drive->others);
}

static void check(struct process *process)
{
    integrity_check(process);
    driven_release(process);
}

const struct work driven = {
    .settle = settle,
    .lay_out = lay_out,
    .line_start = line_drive,
    .map_and_touch = map_and_touch,
    .prepare = prepare,
    .run = run,
    .print_results = print_drive_results,
    .check = check,
};
