#define _GNU_SOURCE
#include "store.h"

#include <string.h>

#include "buffer.h"
#include "check.h"
#include "lines.h"
#include "report.h"

enum { PIECE_BYTES = 2 << 20 /* stored between two looks at the flag that says stop */ };

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

        if (is_stopping(thread->process))
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
        if (is_stopping(process))
            return;
        store_loop(thread, loop);
    }
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

static void settle_size(struct process *process)
{
    size_t page_bytes = (size_t)numa_pagesize();
    struct options *options = &process->options;

    options->size_bytes -= options->size_bytes % page_bytes;
    if (options->size_bytes / page_bytes < process->thread_count)
        fail_usage("--size leaves less than a page of %zu bytes for each of %u threads", page_bytes,
                   process->thread_count);
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
        thread->loop_bytes = thread->slice->bytes;
    }
}

static void settle(struct process *process)
{
    const struct workload *workload = process->workload;

    process->thread_count = process->options.threads;
    if (!process->thread_count)
        process->thread_count = workload->threads(process->topology.all.cpu_count);
    process->slice_count = workload->slices == SLICE_SHARED ? 1 : process->thread_count;
    settle_size(process);
}

static void lay_out(struct process *process)
{
    cut_slices(process);
    assign_threads(process);
    process->workload->lay_out(process);
}

static void prepare(struct thread *thread)
{
    if (thread->process->workload->toucher == TOUCHED_BY_EACH_THREAD)
        touch_slices(thread->process);
}

static void check(struct process *process)
{
    uint64_t wrong = check_data(process);

    if (wrong)
        fail("%llu bytes hold what no thread stored there", (unsigned long long)wrong);
}

const struct work storing = {
    .settle = settle,
    .lay_out = lay_out,
    .map_and_touch = map_and_touch,
    .prepare = prepare,
    .run = store_loops,
    .check = check,
};
