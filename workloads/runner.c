#define _GNU_SOURCE
#include "runner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lines.h"
#include "monotonic.h"
#include "report.h"

enum { NAME_BYTES = 16 /* of the kernel's names of threads, with the final zero */ };

void *runner_memory(const struct workload *workload, size_t bytes)
{
    int sharing = workload->is_driven ? MAP_SHARED : MAP_PRIVATE;
    void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        fail_cannot_run("%zu bytes for what the run keeps cannot be mapped: %s", bytes, strerror(errno));
    return memory;
}

/* The workload's name and the thread's number: of names too long for the kernel the first is cut. */
static void name_thread(const struct thread *thread, char *name)
{
    char number[sizeof("-m4294967295")];
    unsigned shown = thread->role ? thread->role_number : thread->number;
    size_t digits = (size_t)snprintf(number, sizeof(number), "-%.1s%u", thread->role ? thread->role : "", shown);
    size_t kept = strnlen(thread->process->workload->name, NAME_BYTES - 1 - digits);

    memcpy(name, thread->process->workload->name, kept);
    memcpy(name + kept, number, digits + 1);
    prctl(PR_SET_NAME, name);
}

static void say_done(struct process *process)
{
    uint64_t one = 1;

    if (atomic_fetch_sub(&process->running, 1) == 1 && write(process->done_fd, &one, sizeof(one)) < 0)
        fail("eventfd: %s", strerror(errno));
}

#ifdef NUMABENCH_TEST
/* A process of movers that is gone before its first call: late enough for it to have said that it is ready. */
static void die_if_asked(const struct thread *thread)
{
    if (!thread->is_outside || !getenv("NUMABENCH_TEST_KILL"))
        return;
    nanosleep(&(struct timespec){.tv_nsec = 100 * NS_PER_MS}, NULL);
    kill(getpid(), SIGKILL);
}
#endif

static void *run_thread(void *argument)
{
    struct thread *thread = argument;
    struct process *process = thread->process;
    char name[NAME_BYTES];

    thread->pid = getpid();
    name_thread(thread, name);
#ifdef NUMABENCH_TEST
    die_if_asked(thread);
#endif
    process->workload->work->prepare(thread);
    must_place_self(&thread->runs_at);
    print_thread(thread, name);
    gate_arrive(&process->gate);
    gate_await(&process->gate, STAGE_GO);
    thread->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    process->workload->work->run(thread);
    thread->elapsed_ns = monotonic_ns() - process->go_ns;
    thread->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - thread->cpu_ns;
    say_done(process);
    gate_await(&process->gate, STAGE_END);
    return NULL;
}

static void settle_start_node(struct process *process)
{
    struct options *options = &process->options;

    if (options->start_node != ABSENT && topology_index(&process->topology, options->start_node) < 0)
        fail_usage("--start-node %d is not one of the run's nodes", options->start_node);
    if (options->start_node == ABSENT && options->placement == PLACEMENT_DEFAULT && process->workload->needs_start_node)
        options->start_node = process->topology.ids[topology_here(&process->topology)];
}

static void settle(struct process *process)
{
    const struct workload *workload = process->workload;

    settle_start_node(process);
    workload->work->settle(process);
    process->slices = runner_memory(workload, process->slice_count * sizeof(*process->slices));
    process->threads = runner_memory(workload, process->thread_count * sizeof(*process->threads));
    workload->work->lay_out(process);
}

/* Where threads stop, also those of processes that are forked later. */
static void build_gate(struct process *process)
{
    process->done_fd = eventfd(0, EFD_CLOEXEC);
    if (process->done_fd < 0)
        fail("eventfd: %s", strerror(errno));
    atomic_store(&process->running, process->thread_count);
    gate_init(&process->gate, process->thread_count);
}

void runner_start_threads(struct process *process, bool is_outside)
{
    for (unsigned i = 0; i < process->thread_count; i++) {
        struct thread *thread = &process->threads[i];
        int error = thread->is_outside == is_outside ? pthread_create(&thread->handle, NULL, run_thread, thread) : 0;

        if (error)
            fail("thread %u of %u cannot be started: %s", i + 1, process->thread_count, strerror(error));
    }
}

void runner_join_threads(struct process *process, bool is_outside)
{
    for (unsigned i = 0; i < process->thread_count; i++)
        if (process->threads[i].is_outside == is_outside)
            pthread_join(process->threads[i].handle, NULL);
}

static void start_threads(struct process *process)
{
    bool is_touching = process->workload->toucher == TOUCHED_BY_EACH_THREAD;

    if (is_touching)
        print_phase("first_touch", "begin");
    print_phase("threads", "begin");
    runner_start_threads(process, false);
    print_phase("threads", "end");
    handshake_await(&process->handshake, process->gate.arrived_fd);
    if (is_touching)
        print_phase("first_touch", "end");
    print_first_touch(process);
}

/* The reason in words once something says stop: the first that does. */
static void stop_threads(struct process *process, const char **reason, const char *why)
{
    if (!atomic_exchange(&process->is_stopping, true))
        *reason = why;
}

/* From GO until no thread runs. Whether the word to check and to end has come already. */
static bool supervise(struct process *process)
{
    uint64_t interval_ns = process->options.interval_ms * NS_PER_MS;
    uint64_t next_ns = process->go_ns + interval_ns;
    uint64_t end_ns = UINT64_MAX;
    const char *reason = "loops";
    bool is_released = false;

    if (process->options.duration_ms)
        end_ns = process->go_ns + process->options.duration_ms * NS_PER_MS;
    for (;;) {
        enum word word =
            handshake_await_word(&process->handshake, process->done_fd, next_ns < end_ns ? next_ns : end_ns);
        uint64_t now_ns = monotonic_ns();

        if (word == WORD_DONE && !atomic_load(&process->running))
            break;
        if (word == WORD_STOP || word == WORD_CLOSED)
            stop_threads(process, &reason, "asked");
        is_released |= word == WORD_EXIT;
        if (now_ns >= end_ns) {
            stop_threads(process, &reason, "duration");
            end_ns = UINT64_MAX;
        }
        if (now_ns >= next_ns) {
            print_interval(process);
            next_ns = now_ns + interval_ns - (now_ns - next_ns) % interval_ns;
        }
    }
    if (process->workload->work->quiesce)
        process->workload->work->quiesce(process);
    print_stop(reason);
    print_done(process);
    if (process->workload->work->print_results)
        process->workload->work->print_results(process);
    return is_released;
}

static void run(struct process *process)
{
    process->go_ns = monotonic_ns();
    line_stamp("go");
    gate_open(&process->gate, STAGE_GO);
    if (supervise(process))
        return;
    while (process->handshake.go_fd != ABSENT)
        if (handshake_await_word(&process->handshake, -1, UINT64_MAX) == WORD_EXIT)
            break;
}

static void end_threads(struct process *process)
{
    gate_open(&process->gate, STAGE_END);
    runner_join_threads(process, false);
}

static int finish(struct process *process)
{
    int status;

    handshake_release(&process->handshake);
    end_threads(process);
    process->workload->work->check(process);
    line_stamp("end");
    status = handshake_join(&process->handshake);
    topology_free(&process->topology);
    return status;
}

int run_workload(const struct workload *workload, int argc, char **argv)
{
    struct process *process = runner_memory(workload, sizeof(*process));

    process->workload = workload;
    lines_open();
    signal(SIGPIPE, SIG_IGN);
    options_parse(&process->options, workload, argc, argv);
    topology_read(&process->topology, process->options.nodes);
    settle(process);
    prctl(PR_SET_NAME, workload->name);
    print_start(process);
    process->handshake = (struct handshake){.ready_fd = process->options.ready_fd, .go_fd = process->options.go_fd};
    process->number = handshake_fork(&process->handshake, workload->processes);
    if (process->number)
        workload->work->lay_out(process);
    build_gate(process);
    workload->work->map_and_touch(process);
    gate_open(&process->gate, STAGE_TOUCHED);
    start_threads(process);
    handshake_await_children(&process->handshake);
    handshake_ready(&process->handshake);
    handshake_await_go(&process->handshake);
    run(process);
    return finish(process);
}
