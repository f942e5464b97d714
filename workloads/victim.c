#define _GNU_SOURCE
#include "victim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "monotonic.h"
#include "random.h"
#include "stamp.h"

enum { CLOCK_READINGS = 1001 };

static int by_size(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

/* The median of what passes between two readings of the clock. */
static uint64_t clock_cost_ns(void)
{
    uint64_t costs[CLOCK_READINGS];

    for (unsigned i = 0; i < CLOCK_READINGS; i++) {
        uint64_t begin_ns = monotonic_ns();

        costs[i] = monotonic_ns() - begin_ns;
    }
    qsort(costs, CLOCK_READINGS, sizeof(*costs), by_size);
    return costs[CLOCK_READINGS / 2];
}

void victim_init(struct victim *victim, struct drive *drive, struct thread *thread)
{
    unsigned lines = (unsigned)(drive->memory.page_bytes / LINE_BYTES);

    victim->drive = drive;
    victim->thread = thread;
    victim->number = thread->role_number;
    victim->line_count = (lines - victim->number + drive->victim_count - 1) / drive->victim_count;
    victim->visits = runner_memory(thread->process->workload, drive->memory.pages * sizeof(*victim->visits));
    victim->random = thread->process->options.seed + (thread->role_number + 1) * 0xd1342543de82ef95;
}

/* Its notes are first touched where it runs. */
void victim_prepare(struct victim *victim)
{
    for (size_t page = 0; page < victim->drive->memory.pages; page++)
        victim->visits[page] = 0;
    memset(&victim->latency, 0, sizeof(victim->latency));
    memset(victim->longest, 0, sizeof(victim->longest));
    victim->clock_ns = clock_cost_ns();
}

static void add_wrong(struct victim *victim, size_t page, size_t line, uint64_t expected, uint64_t found)
{
    struct wrong_word wrong = {.thread = (int)victim->thread->number,
                               .t_ns = monotonic_ns(),
                               .page = page,
                               .offset = line * LINE_BYTES,
                               .expected = expected,
                               .found = found};

    victim->wrong++;
    drive_add_wrong(victim->drive, &wrong);
}

/* The victim's lines of a page are numbered from 0. */
static uint64_t *own_word(const struct victim *victim, size_t page, uint32_t own, uint64_t *number)
{
    const struct memory *memory = &victim->drive->memory;
    size_t line = victim->number + (size_t)own * victim->drive->victim_count;

    *number = page * (memory->page_bytes / LINE_BYTES) + line;
    return (uint64_t *)(memory_page(memory, page) + line * LINE_BYTES);
}

static void check_word(struct victim *victim, size_t page, uint64_t number, uint64_t expected, uint64_t found)
{
    victim->checked++;
    if (found != expected)
        add_wrong(victim, page, number % (victim->drive->memory.page_bytes / LINE_BYTES), expected, found);
}

/* What it wrote when it came by last, so that a lost write is found while the call around it is still the last one. */
static void check_last_write(struct victim *victim, size_t page, uint32_t visits)
{
    uint64_t number;
    uint64_t *word = own_word(victim, page, (visits - 1) % victim->line_count, &number);

    check_word(victim, page, number, stamp(visits, number), __atomic_load_n(word, __ATOMIC_RELAXED));
}

/* Goes to the next of the victim's lines in the page. Only this victim writes to them. */
static void access_page(struct victim *victim, size_t page, bool is_write, bool is_verifying)
{
    uint32_t visits = victim->visits[page];
    uint32_t own = visits % victim->line_count;
    uint64_t number;
    uint64_t *word = own_word(victim, page, own, &number);

    if (is_verifying && is_write && visits && victim->line_count > 1)
        check_last_write(victim, page, visits);
    if (is_verifying || !is_write) {
        uint64_t found = __atomic_load_n(word, __ATOMIC_RELAXED);

        if (is_verifying)
            check_word(victim, page, number, stamp(is_write ? victim_last_write(victim, visits, own) : 0, number),
                       found);
    }
    if (is_write)
        __atomic_store_n(word, stamp(visits + 1ULL, number), __ATOMIC_RELAXED);
    victim->visits[page] = visits + 1;
}

static void keep_longest(struct victim *victim, const struct access_time *time)
{
    unsigned at = victim->longest_count;

    if (at < LONGEST_ACCESSES)
        victim->longest_count++;
    else if (time->ns <= victim->longest[--at].ns)
        return;
    for (; at > 0 && victim->longest[at - 1].ns < time->ns; at--)
        victim->longest[at] = victim->longest[at - 1];
    victim->longest[at] = *time;
}

static size_t random_page(struct victim *victim)
{
    return (size_t)(((unsigned __int128)random_next(&victim->random) * victim->drive->memory.pages) >> 64);
}

/* Without movers the loops of the run are those of the victims. */
static uint64_t accesses_to_do(const struct victim *victim)
{
    uint64_t loops = victim->drive->mover_count ? 0 : victim->thread->process->options.loops;

    return loops ? loops * victim->drive->memory.pages : UINT64_MAX;
}

static uint64_t involuntary_switches(void)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_THREAD, &usage);
    return (uint64_t)usage.ru_nivcsw;
}

void victim_run(struct victim *victim)
{
    const struct driven_options *options = victim->drive->options;
    struct thread *thread = victim->thread;
    size_t pages = victim->drive->memory.pages;
    bool is_random = options->victim_pattern == PATTERN_RANDOM, is_write = options->victim_access == ACCESS_WRITE;
    uint64_t to_do = accesses_to_do(victim), switches = involuntary_switches();
    uint64_t end_ns = monotonic_ns();
    size_t next = pages / victim->drive->victim_count * victim->number;

    /* Once at least: movers may be done before it runs. */
    while (victim->accesses < to_do && (!victim->accesses || !is_stopping(thread->process))) {
        size_t page = is_random ? random_page(victim) : next;
        uint64_t begin_ns;

        next = next + 1 == pages ? 0 : next + 1;
        begin_ns = monotonic_ns();
        access_page(victim, page, is_write, options->is_verifying);
        end_ns = monotonic_ns();
        histogram_add(&victim->latency, end_ns - begin_ns);
        keep_longest(victim, &(struct access_time){.end_ns = end_ns, .ns = end_ns - begin_ns, .page = page});
        victim->accesses++;
        atomic_store_explicit(&thread->stored_bytes, victim->accesses * LINE_BYTES, memory_order_relaxed);
    }
    victim->preempted = involuntary_switches() - switches;
    victim->elapsed_ns = end_ns - thread->process->go_ns;
}
