#define _GNU_SOURCE
#include "report.h"

#include <unistd.h>

#include "buffer.h"
#include "monotonic.h"

static void line_now(struct line *line)
{
    line_number(line, "pid", getpid());
    line_number(line, "t_ns", (int64_t)monotonic_ns());
}

static uint64_t stored_bytes(const struct thread *thread)
{
    return atomic_load_explicit(&thread->stored_bytes, memory_order_relaxed);
}

void print_start(const struct process *process)
{
    const struct workload *workload = process->workload;
    const struct options *options = &process->options;
    struct line line;

    line_begin(&line, "start");
    line_text(&line, "workload", workload->name);
    line_now(&line);
    fputs(",\"nodes\":[", line.stream);
    for (unsigned i = 0; i < process->topology.count; i++)
        fprintf(line.stream, i ? ",%d" : "%d", process->topology.ids[i]);
    fputc(']', line.stream);
    line_text(&line, "placement", placement_name(options->placement));
    line_number(&line, "processes", workload->processes);
    line_number(&line, "threads", process->thread_count);
    line_number(&line, "size_bytes", (int64_t)options->size_bytes);
    line_number(&line, "loops", (int64_t)options->loops);
    line_number(&line, "duration_ms", (int64_t)options->duration_ms);
    line_number(&line, "start_node", options->start_node);
    line_text(&line, "thp", thp_name(options->thp));
    line_text(&line, "mapping", mapping_name(options->mapping));
    line_number(&line, "seed", (int64_t)options->seed);
    line_number(&line, "page_bytes", numa_pagesize());
    fprintf(line.stream, ",\"published\":{\"size_bytes\":%llu,\"threads\":%u,\"loops\":%llu}",
            (unsigned long long)workload->size_bytes, workload->threads(process->topology.all.cpu_count),
            (unsigned long long)workload->loops);
    if (workload->work->line_start)
        workload->work->line_start(&line, process);
    line_end(&line);
}

void print_phase(const char *name, const char *edge)
{
    struct line line;

    line_begin(&line, "phase");
    line_text(&line, "name", name);
    line_text(&line, "edge", edge);
    line_now(&line);
    line_end(&line);
}

static void print_slice(const struct process *process, const struct slice *slice)
{
    struct line line;

    line_begin(&line, "slice");
    line_number(&line, "pid", getpid());
    line_number(&line, "addr", (int64_t)(uintptr_t)slice->address);
    line_number(&line, "bytes", (int64_t)slice->bytes);
    fputs(",\"threads\":[", line.stream);
    for (unsigned i = 0; i < slice->thread_count; i++)
        fprintf(line.stream, i ? ",%u" : "%u", process->threads[slice->first_thread + i].number);
    fputc(']', line.stream);
    line_end(&line);
}

void print_slices(const struct process *process)
{
    for (unsigned i = 0; i < process->slice_count; i++)
        print_slice(process, &process->slices[i]);
}

void print_thread(const struct thread *thread, const char *name)
{
    struct line line;

    line_begin(&line, "thread");
    line_number(&line, "pid", getpid());
    line_number(&line, "tid", gettid());
    line_number(&line, "thread", thread->number);
    line_text(&line, "name", name);
    if (thread->role)
        line_text(&line, "role", thread->role);
    line_place(&line);
    line_end(&line);
}

void print_first_touch(const struct process *process)
{
    struct residency residency;
    struct line line;

    residency_init(&residency);
    for (unsigned i = 0; i < process->slice_count; i++)
        residency_add(&residency, process->slices[i].address, process->slices[i].bytes);
    line_begin(&line, "first_touch");
    line_number(&line, "pid", getpid());
    line_residency(&line, &residency);
    line_end(&line);
}

void print_interval(const struct process *process)
{
    struct line line;
    uint64_t all_bytes = 0;

    line_begin(&line, "interval");
    line_now(&line);
    fputs(",\"loops\":[", line.stream);
    for (unsigned i = 0; i < process->thread_count; i++) {
        uint64_t bytes = stored_bytes(&process->threads[i]);

        fprintf(line.stream, i ? ",%llu" : "%llu", (unsigned long long)(bytes / process->threads[i].loop_bytes));
        all_bytes += bytes;
    }
    fputc(']', line.stream);
    line_number(&line, "bytes", (int64_t)all_bytes);
    line_end(&line);
}

void print_stop(const char *reason)
{
    struct line line;

    line_begin(&line, "stop");
    line_now(&line);
    line_text(&line, "reason", reason);
    line_end(&line);
}

void print_done(const struct process *process)
{
    for (unsigned i = 0; i < process->thread_count; i++) {
        const struct thread *thread = &process->threads[i];
        struct line line;

        line_begin(&line, "done");
        line_number(&line, "pid", thread->pid);
        line_number(&line, "thread", thread->number);
        line_number(&line, "loops", (int64_t)(stored_bytes(thread) / thread->loop_bytes));
        line_number(&line, "bytes", (int64_t)stored_bytes(thread));
        line_number(&line, "elapsed_ns", (int64_t)thread->elapsed_ns);
        line_number(&line, "cpu_ns", (int64_t)thread->cpu_ns);
        line_end(&line);
    }
}
