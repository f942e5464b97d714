#define _GNU_SOURCE
#include "driven_report.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mover.h"
#include "stamp.h"
#include "victim.h"

void line_drive(struct line *line, const struct process *process)
{
    const struct drive *drive = process->drive;

    line_driven_options(line, drive->options, drive->memory.unit_bytes, drive->victim_count);
    if (process->workload->has_family)
        line_family_options(line, &process->options.family);
    fputc('}', line->stream);
}

void print_pages(const struct drive *drive, const char *edge, const struct units_seen *seen)
{
    struct line line;

    line_begin(&line, "pages");
    line_text(&line, "edge", edge);
    line_number(&line, "pid", getpid());
    line_text(&line, "pages", page_type_name(drive->options->pages));
    line_number(&line, "units", (int64_t)(drive->memory.bytes / drive->memory.unit_bytes));
    line_number(&line, "split", (int64_t)seen->split);
    line_number(&line, "verified", seen->is_seen);
    line_end(&line);
}

static void line_statuses(struct line *line, const struct mover *mover)
{
    const char *comma = line_errors(line, "status", &mover->status_errors);

    if (mover->elsewhere) {
        fprintf(line->stream, "%s\"node\":%llu", comma, (unsigned long long)mover->elsewhere);
        comma = ",";
    }
    fprintf(line->stream, "%s\"unset\":%llu}", comma, (unsigned long long)mover->unset);
}

static void line_directions(struct line *line, const struct mover *mover)
{
    fputs(",\"directions\":[", line->stream);
    for (unsigned i = 0; i < mover->direction_count; i++) {
        const struct direction *direction = &mover->directions[i];

        fprintf(line->stream, "%s{\"from\":%d,\"to\":%d", i ? "," : "", direction->from, direction->to);
        line_number(line, "pages", (int64_t)direction->pages);
        line_number(line, "calls", (int64_t)direction->calls);
        line_number(line, "busy_ns", (int64_t)direction->busy_ns);
        line_histogram(line, "latency", &direction->latency);
        fputc('}', line->stream);
    }
    fputc(']', line->stream);
}

/* Calls of which nobody can say how long they took for one direction. */
static void line_mixed(struct line *line, const struct direction *mixed)
{
    if (!mixed->calls) {
        fputs(",\"mixed\":null", line->stream);
        return;
    }
    fprintf(line->stream, ",\"mixed\":{\"calls\":%llu", (unsigned long long)mixed->calls);
    line_number(line, "busy_ns", (int64_t)mixed->busy_ns);
    line_histogram(line, "latency", &mixed->latency);
    fputc('}', line->stream);
}

static void print_mover(const struct thread *thread)
{
    const struct mover *mover = thread->mover;
    struct line line;

    line_begin(&line, "mover");
    line_number(&line, "pid", thread->pid);
    line_number(&line, "thread", thread->number);
    line_number(&line, "passes", (int64_t)mover->passes);
    line_number(&line, "calls", (int64_t)mover->calls);
    line_errors(&line, "call_errors", &mover->call_errors);
    fputc('}', line.stream);
    line_number(&line, "positive", (int64_t)mover->positive);
    line_number(&line, "requested", (int64_t)mover->requested);
    line_number(&line, "confirmed", (int64_t)mover->confirmed);
    line_number(&line, "already", (int64_t)mover->already);
    line_number(&line, "retried", (int64_t)mover->retried);
    line_number(&line, "left", (int64_t)mover->left);
    line_statuses(&line, mover);
    line_number(&line, "asked_again", (int64_t)mover->asked_again);
    line_number(&line, "query_ns", (int64_t)mover->query_ns);
    line_number(&line, "elapsed_ns", (int64_t)mover->elapsed_ns);
    line_number(&line, "cpu_ns", (int64_t)thread->cpu_ns);
    line_directions(&line, mover);
    line_mixed(&line, mover->mixed);
    line_end(&line);
}

static void print_victim(const struct thread *thread)
{
    const struct victim *victim = thread->victim;
    struct line line;

    line_begin(&line, "victim");
    line_number(&line, "pid", thread->pid);
    line_number(&line, "thread", thread->number);
    line_number(&line, "accesses", (int64_t)victim->accesses);
    line_number(&line, "elapsed_ns", (int64_t)victim->elapsed_ns);
    line_number(&line, "cpu_ns", (int64_t)thread->cpu_ns);
    line_number(&line, "preempted", (int64_t)victim->preempted);
    line_number(&line, "clock_ns", (int64_t)victim->clock_ns);
    line_histogram(&line, "latency", &victim->latency);
    fputs(",\"longest\":[", line.stream);
    for (unsigned i = 0; i < victim->longest_count; i++)
        fprintf(line.stream, "%s{\"t_ns\":%llu,\"ns\":%llu,\"page\":%zu,\"write\":%d}", i ? "," : "",
                (unsigned long long)victim->longest[i].end_ns, (unsigned long long)victim->longest[i].ns,
                victim->longest[i].page, victim->drive->options->victim_access == ACCESS_WRITE);
    fputc(']', line.stream);
    line_number(&line, "checked", (int64_t)victim->checked);
    line_number(&line, "wrong", (int64_t)victim->wrong);
    line_end(&line);
}

/* The last call that covered a page, as it was kept when the word was found wrong; null: none, or forgotten. */
static void line_call(struct line *line, const struct wrong_word *wrong)
{
    line_number(line, "forgotten", wrong->call_known == CALL_FORGOTTEN);
    if (wrong->call_known != CALL_KEPT) {
        fputs(",\"call\":null", line->stream);
        return;
    }
    fprintf(line->stream, ",\"call\":{\"thread\":%u,\"begin_ns\":%llu,\"end_ns\":%llu,\"from\":%d,\"to\":%d}",
            wrong->call_thread, (unsigned long long)wrong->call.begin_ns, (unsigned long long)wrong->call.end_ns,
            wrong->call.from, wrong->call.to);
}

static void print_wrong(const struct process *process, const struct wrong_word *wrong)
{
    struct line line;

    line_begin(&line, "wrong");
    line_number(&line, "pid", wrong->pid ? wrong->pid : getpid());
    line_number(&line, "thread", wrong->thread);
    line_number(&line, "t_ns", (int64_t)wrong->t_ns);
    line_number(&line, "addr", (int64_t)(uintptr_t)(memory_page(&process->drive->memory, wrong->page) + wrong->offset));
    line_number(&line, "page", (int64_t)wrong->page);
    line_number(&line, "offset", (int64_t)wrong->offset);
    fprintf(line.stream, ",\"expected\":%llu,\"found\":%llu", (unsigned long long)wrong->expected,
            (unsigned long long)wrong->found);
    line_text(&line, "kind", stamp_kind_name(stamp_kind(wrong->found, wrong->expected)));
    line_call(&line, wrong);
    line_end(&line);
}

void print_wrong_words(const struct process *process, unsigned first)
{
    for (unsigned i = first; i < process->drive->wrong_count && i < MAX_WRONG_WORDS; i++)
        print_wrong(process, &process->drive->wrong[i]);
}

#ifdef NUMABENCH_TEST
/* The first one is no longer mapped by one entry. */
static void split_one_unit(const struct memory *memory)
{
    char *last = memory->base + memory->unit_bytes - memory->page_bytes;

    if (getenv("NUMABENCH_TEST_SPLIT") && (mprotect(last, memory->page_bytes, PROT_READ) < 0 ||
                                           mprotect(last, memory->page_bytes, PROT_READ | PROT_WRITE) < 0))
        fail("mprotect");
}
#endif

/* A unit that the kernel split is still moved by its first base page alone, and counted whole. */
static void print_pages_again(const struct drive *drive)
{
    struct units_seen seen;

    if (drive->options->pages == PAGES_BASE)
        return;
#ifdef NUMABENCH_TEST
    split_one_unit(&drive->memory);
#endif
    seen = pages_look(drive->options, &drive->memory);
    print_pages(drive, "end", &seen);
}

void print_drive_results(const struct process *process)
{
    print_pages_again(process->drive);
    for (unsigned i = 0; i < process->thread_count; i++) {
        if (process->threads[i].mover)
            print_mover(&process->threads[i]);
        else
            print_victim(&process->threads[i]);
    }
    print_wrong_words(process, 0);
}
