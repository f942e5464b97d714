/* The objection in the 2012 thread on linux-mm: anonymous memory that children inherit is mapped by all of them. Pages
 * are moved from the parent, a child or a sibling while the other processes fork, exit, mremap, split and write. */
#include <stdlib.h>

#include "driven.h"
#include "driven_report.h"
#include "family.h"
#include "layout.h"
#include "mover.h"
#include "view.h"

static void settle(struct process *process)
{
    const struct memory *memory;

    driven.settle(process);
    memory = &process->drive->memory;
    if (memory->bytes / QUARTER_COUNT < memory->unit_bytes)
        fail_usage("--size leaves less than a page of %zu bytes for each quarter", memory->unit_bytes);
}

/* The rest of the life of the process whose threads move; they and the root share the gate. */
static _Noreturn void live_as_mover(struct process *process, struct handshake *handshake)
{
    struct family *family = process->family;

    handshake_await_children(handshake);
    runner_start_threads(process, true);
    handshake_await(handshake, process->gate.arrived_fd);
    handshake_ready(handshake);
    handshake_await_go(handshake);
    family_await_stop(family, handshake);
    family_await_end(handshake);
    runner_join_threads(process, true);
    family_end(family, handshake);
}

static void open_family(struct process *process)
{
    const struct memory *memory = &process->drive->memory;

    process->family = calloc(1, sizeof(*process->family));
    if (!process->family)
        abort();
    *process->family = (struct family){
        .drive = process->drive,
        .options = process->options.family,
        .seed = process->options.seed,
        .memory = memory->base,
        .bytes = memory->bytes,
        .unit_bytes = memory->unit_bytes,
    };
    family_open(process->family);
}

/* The runner's process lies in memory that all share: each has a handshake of its own. */
static void fork_family(struct process *process)
{
    struct family *family = process->family;
    struct handshake handshake = process->handshake;

    family_fork(family, &handshake);
    if (family->self && family->self == family_mover(family))
        live_as_mover(process, &handshake);
    if (family->self)
        family_live(family, &handshake);
    process->handshake = handshake;
    handshake_await_children(&process->handshake);
}

static void map_touch_and_fork(struct process *process)
{
    driven.map_and_touch(process);
    open_family(process);
    fork_family(process);
    print_family(process->family);
}

static void lay_out(struct process *process)
{
    driven.lay_out(process);
    for (unsigned i = 0; i < process->thread_count; i++)
        process->threads[i].is_outside = process->options.family.mover_at != MOVER_AT_PARENT;
}

/* Only after GO have all processes been forked for certain. */
static void run_mover(struct thread *thread)
{
    const struct family *family = thread->process->family;
    unsigned target = family_target(family);

    thread->mover->pid = target == family->self ? 0 : family_pid(family, target);
    driven.run(thread);
}

static void quiesce(const struct process *process)
{
    family_quiesce(process->family, &process->handshake);
}

static void print_results(const struct process *process)
{
    process->family->wrong_printed = process->drive->wrong_count;
    driven.print_results(process);
    print_churn(process->family);
}

static void check(struct process *process)
{
    int status;

    family_check_root(process->family);
    status = handshake_join(&process->handshake);
    if (status)
        exit(status);
    print_wrong_words(process, process->family->wrong_printed);
    report_check(process->family);
    free(process->family);
    driven_release(process);
}

int main(int argc, char **argv)
{
    struct work work = driven;
    struct workload forktree = {
        .name = "forktree",
        .is_driven = true,
        .has_family = true,
        .processes = 1,
        .size_bytes = 64ULL << 20,
        .loops = 20,
        .threads = every_cpu,
        .slices = SLICE_PER_THREAD,
        .toucher = TOUCHED_BY_MAIN,
        .work = &work,
    };

    work.settle = settle;
    work.lay_out = lay_out;
    work.map_and_touch = map_touch_and_fork;
    work.run = run_mover;
    work.quiesce = quiesce;
    work.print_results = print_results;
    work.check = check;
    return run_workload(&forktree, argc, argv);
}
