#define _GNU_SOURCE
#include "runner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "buffer.h"
#include "check.h"
#include "lines.h"
#include "monotonic.h"
#include "report.h"

enum {
    PIECE_BYTES = 2 << 20, /* stored between two looks at the flag that says stop */
    NAME_BYTES = 16,       /* of the kernel's names of threads, with the final zero */
};

/* The workload's name and the thread's number: of names too long for the kernel the first is cut. */
static void name_thread(const struct thread *thread, char *name)
{
    char number[sizeof("-4294967295")];
    size_t digits = (size_t)snprintf(number, sizeof(number), "-%u", thread->number);
    size_t kept = strnlen(thread->process->workload->name, NAME_BYTES - 1 - digits);

    memcpy(name, thread->process->workload->name, kept);
    memcpy(name + kept, number, digits + 1);
    prctl(PR_SET_NAME, name);
}

static void touch_slices(struct process *process)
{
    for (unsigned i = 0; i < process->slice_count; i++) {
        struct slice *slice = &process->slices[i];

        must_place_self(&slice->touched_at);
        memset(slice->address, stored_value(slice, 0), slice->bytes);
    }
}

static void store_loop(struct thread *thread, uint64_t loop)
{
    const struct slice *slice = thread->slice;
    unsigned char value = stored_value(slice, loop);
    uint64_t stored_bytes = atomic_load_explicit(&thread->stored_bytes, memory_order_relaxed);

    for (size_t offset = 0; offset < slice->bytes; offset += PIECE_BYTES) {
        size_t left = slice->bytes - offset;
        size_t piece = left < PIECE_BYTES ? left : PIECE_BYTES;

        if (atomic_load_explicit(&thread->process->is_stopping, memory_order_relaxed))
            return;
        memset(slice->address + offset, value, piece);
        /* Nobody reads between two loops: without this a compiler might keep the last one alone. */
        __asm__ volatile("" : : : "memory");
        stored_bytes += piece;
        atomic_store_explicit(&thread->stored_bytes, stored_bytes, memory_order_relaxed);
    }
}

static void store_loops(struct thread *thread)
{
    const struct process *process = thread->process;
    uint64_t loops = process->options.loops;

    for (uint64_t loop = 1; !loops || loop <= loops; loop++) {
        if (atomic_load_explicit(&process->is_stopping, memory_order_relaxed))
            return;
        store_loop(thread, loop);
    }
}

static void say_done(struct process *process)
{
    uint64_t one = 1;

    if (atomic_fetch_sub(&process->running, 1) == 1 && write(process->done_fd, &one, sizeof(one)) < 0)
        fail("eventfd: %s", strerror(errno));
}

static void *run_thread(void *argument)
{
    struct thread *thread = argument;
    struct process *process = thread->process;
    char name[NAME_BYTES];

    name_thread(thread, name);
    if (process->workload->toucher == TOUCHED_BY_EACH_THREAD)
        touch_slices(process);
    must_place_self(&thread->runs_at);
    print_thread(thread, name);
    pthread_barrier_wait(&process->barrier);
    pthread_barrier_wait(&process->barrier);
    thread->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    store_loops(thread);
    thread->elapsed_ns = monotonic_ns() - process->go_ns;
    thread->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - thread->cpu_ns;
    say_done(process);
    pthread_barrier_wait(&process->barrier);
    return NULL;
}

static void cut_slices(struct process *process)
{
    size_t page_bytes = (size_t)numa_pagesize();
    uint64_t pages = process->options.size_bytes / page_bytes;

    for (unsigned i = 0; i < process->slice_count; i++) {
        uint64_t first_page = pages * i / process->slice_count;
        uint64_t end_page = pages * (i + 1) / process->slice_count;

        process->slices[i] = (struct slice){
            .bytes = (end_page - first_page) * page_bytes,
            .number = process->number * process->slice_count + i,
            .first_thread = i,
            .thread_count = process->slice_count == 1 ? process->thread_count : 1,
        };
    }
}

static void assign_threads(struct process *process)
{
    for (unsigned i = 0; i < process->thread_count; i++) {
        struct thread *thread = &process->threads[i];

        thread->process = process;
        thread->number = process->number * process->thread_count + i;
        thread->slice = &process->slices[process->slice_count == 1 ? 0 : i];
    }
}

/* What follows from the options and the machine alone: it is done again in every process, whose number differs. */
static void lay_out(struct process *process)
{
    cut_slices(process);
    assign_threads(process);
    process->workload->lay_out(process);
}

static void settle_start_node(struct process *process)
{
    struct options *options = &process->options;

    if (options->start_node != ABSENT && topology_index(&process->topology, options->start_node) < 0)
        fail_usage("--start-node %d is not one of the run's nodes", options->start_node);
    if (options->start_node == ABSENT && options->placement == PLACEMENT_DEFAULT && process->workload->needs_start_node)
        options->start_node = process->topology.ids[topology_here(&process->topology)];
}

static void settle_size(struct process *process)
{
    size_t page_bytes = (size_t)numa_pagesize();
    struct options *options = &process->options;

    options->size_bytes -= options->size_bytes % page_bytes;
    if (options->size_bytes / page_bytes < process->thread_count)
        fail_usage("--size leaves less than a page of %zu bytes for each of %u threads", page_bytes,
                   process->thread_count);
}

static void settle(struct process *process)
{
    const struct workload *workload = process->workload;

    process->thread_count = process->options.threads;
    if (!process->thread_count)
        process->thread_count = workload->threads(process->topology.all.cpu_count);
    process->slice_count = workload->slices == SLICE_SHARED ? 1 : process->thread_count;
    settle_size(process);
    settle_start_node(process);
    process->slices = calloc(process->slice_count, sizeof(*process->slices));
    process->threads = aligned_alloc(_Alignof(struct thread), process->thread_count * sizeof(*process->threads));
    if (!process->slices || !process->threads)
        abort();
    memset(process->threads, 0, process->thread_count * sizeof(*process->threads));
    lay_out(process);
}

static void map_slices(struct process *process)
{
    const struct options *options = &process->options;
    char *address = options->mapping == MAPPING_ONE ? buffer_map(options->size_bytes, options->thp) : NULL;

    for (unsigned i = 0; i < process->slice_count; i++) {
        struct slice *slice = &process->slices[i];

        slice->address = address ? address : buffer_map(slice->bytes, options->thp);
        address = address ? address + slice->bytes : NULL;
    }
}

static void map_and_touch(struct process *process)
{
    must_place_self(&process->main_runs_at);
    print_phase("map", "begin");
    map_slices(process);
    print_phase("map", "end");
    print_slices(process);
    if (process->workload->toucher != TOUCHED_BY_MAIN)
        return;
    print_phase("first_touch", "begin");
    touch_slices(process);
    must_place_self(&process->main_runs_at);
    print_phase("first_touch", "end");
}

static void start_threads(struct process *process)
{
    bool is_touching = process->workload->toucher == TOUCHED_BY_EACH_THREAD;

    process->done_fd = eventfd(0, EFD_CLOEXEC);
    if (process->done_fd < 0)
        fail("eventfd: %s", strerror(errno));
    atomic_store(&process->running, process->thread_count);
    pthread_barrier_init(&process->barrier, NULL, process->thread_count + 1);
    if (is_touching)
        print_phase("first_touch", "begin");
    print_phase("threads", "begin");
    for (unsigned i = 0; i < process->thread_count; i++) {
        int error = pthread_create(&process->threads[i].handle, NULL, run_thread, &process->threads[i]);

        if (error)
            fail("thread %u of %u cannot be started: %s", i + 1, process->thread_count, strerror(error));
    }
    print_phase("threads", "end");
    pthread_barrier_wait(&process->barrier);
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
    print_stop(reason);
    print_done(process);
    return is_released;
}

static void run(struct process *process)
{
    process->go_ns = monotonic_ns();
    line_stamp("go");
    pthread_barrier_wait(&process->barrier);
    if (supervise(process))
        return;
    while (process->handshake.go_fd != ABSENT)
        if (handshake_await_word(&process->handshake, -1, UINT64_MAX) == WORD_EXIT)
            break;
}

static void end_threads(struct process *process)
{
    pthread_barrier_wait(&process->barrier);
    for (unsigned i = 0; i < process->thread_count; i++)
        pthread_join(process->threads[i].handle, NULL);
    pthread_barrier_destroy(&process->barrier);
}

static int finish(struct process *process)
{
    uint64_t wrong;
    int status;

    handshake_release(&process->handshake);
    end_threads(process);
    wrong = check_data(process);
    if (wrong)
        fail("%llu bytes hold what no thread stored there", (unsigned long long)wrong);
    line_stamp("end");
    status = handshake_join(&process->handshake);
    free(process->threads);
    free(process->slices);
    topology_free(&process->topology);
    return status;
}

int run_workload(const struct workload *workload, int argc, char **argv)
{
    struct process process = {.workload = workload};

    lines_open();
    signal(SIGPIPE, SIG_IGN);
    options_parse(&process.options, workload, argc, argv);
    topology_read(&process.topology, process.options.nodes);
    settle(&process);
    prctl(PR_SET_NAME, workload->name);
    print_start(&process);
    process.handshake = (struct handshake){.ready_fd = process.options.ready_fd, .go_fd = process.options.go_fd};
    process.number = handshake_fork(&process.handshake, workload->processes);
    lay_out(&process);
    map_and_touch(&process);
    start_threads(&process);
    handshake_await_children(&process.handshake);
    handshake_ready(&process.handshake);
    handshake_await_go(&process.handshake);
    run(&process);
    return finish(&process);
}
