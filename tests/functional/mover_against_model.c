/* A mover against a model of do_pages_move() in mm/migrate.c, as Linux has it since 5.17, on nodes that are not there.
 *
 *     mover UNITS BATCH ORDER NODES PASSES RETRIES WHAT...
 *
 * WHAT: pinned:N, busy:N (for three tries), shared:N, absent:N, where N is a unit; obstacles:N, the first N units;
 * stopped; kept; place, which only has units put where they begin in the interleaved order. Prints the
 * lines of the workload, and of the model `truth`: moves by direction, and the node of each unit at the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "driven_report.h"
#include "interleave.h"
#include "monotonic.h"
#include "mover.h"

enum { UNIT_BYTES = 4096, MAX_UNITS = 1 << 16, MAX_NODES = 8, NO_NODE = -1 };
enum { PINNED = 1, SHARED = 2, ABSENT_PAGE = 4 };

static char *memory;
static int node_of[MAX_UNITS];
static unsigned kinds[MAX_UNITS], busy[MAX_UNITS];
static unsigned long calls;
static bool is_placing;
static unsigned long moved[MAX_NODES][MAX_NODES];

static size_t number_of(const void *address)
{
    return (size_t)((const char *)address - memory) / UNIT_BYTES;
}

/* Pages that were queued and could not be moved. */
static long move_queued(size_t *queue, size_t *count, int node)
{
    long failed = 0;

    for (size_t i = 0; i < *count; i++) {
        if (kinds[queue[i]] & PINNED || busy[queue[i]]) {
            busy[queue[i]] -= busy[queue[i]] > 0;
            failed++;
            continue;
        }
        moved[node_of[queue[i]]][node]++;
        node_of[queue[i]] = node;
    }
    *count = 0;
    return failed;
}

static long flush(size_t *queue, size_t *queued, int node, int *status, size_t start, size_t end, size_t count)
{
    long failed;

    if (!*queued)
        return 0;
    failed = move_queued(queue, queued, node);
    if (failed)
        return failed + (long)(count - end);
    for (size_t i = start; i < end; i++)
        status[i] = node;
    return 0;
}

/* 1: it was queued. */
static int add(size_t unit, int node, size_t *queue, size_t *queued)
{
    if (kinds[unit] & ABSENT_PAGE)
        return -ENOENT;
    if (node_of[unit] == node)
        return 0;
    if (kinds[unit] & SHARED)
        return -EACCES;
    queue[(*queued)++] = unit;
    return 1;
}

/* Stands before libnuma's. */
long move_pages(int pid, unsigned long count, void **pages, const int *nodes, int *status, int flags)
{
    static size_t queue[MAX_UNITS];
    size_t queued = 0, start = 0, i;
    int current = NO_NODE;
    long error;

    (void)pid, (void)flags;
    calls++;
    for (i = 0; !nodes && i < count; i++)
        status[i] = kinds[number_of(pages[i])] & ABSENT_PAGE ? -ENOENT : node_of[number_of(pages[i])];
    for (i = 0; nodes && i < count; i++) {
        if (current == NO_NODE) {
            current = nodes[i];
            start = i;
        } else if (nodes[i] != current) {
            error = flush(queue, &queued, current, status, start, i, count);
            if (error)
                return error;
            start = i;
            current = nodes[i];
        }
        error = add(number_of(pages[i]), current, queue, &queued);
        if (error > 0)
            continue;
        status[i] = error ? (int)error : current;
        error = flush(queue, &queued, current, status, start, i, count);
        if (error)
            return error - 1;
        current = NO_NODE;
    }
    return nodes ? flush(queue, &queued, current, status, start, i, count) : 0;
}

static void print_truth(size_t units, unsigned nodes)
{
    struct line line;
    const char *comma = "";

    line_begin(&line, "truth");
    fputs(",\"moved\":[", line.stream);
    for (unsigned from = 0; from < nodes; from++)
        for (unsigned to = 0; to < nodes; to++)
            if (moved[from][to]) {
                fprintf(line.stream, "%s[%u,%u,%lu]", comma, from, to, moved[from][to]);
                comma = ",";
            }
    fprintf(line.stream, "],\"calls\":%lu,\"nodes\":[", calls);
    for (size_t unit = 0; unit < units; unit++)
        fprintf(line.stream, "%s%d", unit ? "," : "", node_of[unit]);
    fputc(']', line.stream);
    line_end(&line);
}

static void line_numbers(struct line *line, const char *key, const long *numbers, size_t count)
{
    fprintf(line->stream, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++)
        fprintf(line->stream, "%s%ld", i ? "," : "", numbers[i]);
    fputc(']', line->stream);
}

/* What is known of the last call of each unit; `own`: it began and ended within the run. */
static void print_last_calls(const struct mover *mover, size_t units)
{
    static long known[MAX_UNITS], from[MAX_UNITS], to[MAX_UNITS], own[MAX_UNITS];
    uint64_t go_ns = mover->thread->process->go_ns;
    struct line line;

    for (size_t unit = 0; unit < units; unit++) {
        struct call_copy copy = {0};

        known[unit] = mover_last_call(mover, memory + unit * UNIT_BYTES, &copy);
        from[unit] = copy.from;
        to[unit] = copy.to;
        own[unit] = copy.begin_ns >= go_ns && copy.end_ns >= copy.begin_ns;
    }
    line_begin(&line, "last_calls");
    line_numbers(&line, "known", known, units);
    line_numbers(&line, "from", from, units);
    line_numbers(&line, "to", to, units);
    line_numbers(&line, "own", own, units);
    line_end(&line);
}

static void add_what(const char *word, struct process *process)
{
    const char *colon = strchr(word, ':');
    size_t number = colon ? strtoul(colon + 1, NULL, 10) : 0;

    if (strncmp(word, "pinned", 6) == 0)
        kinds[number] |= PINNED;
    else if (strncmp(word, "busy", 4) == 0)
        busy[number] = 3;
    else if (strcmp(word, "place") == 0)
        is_placing = true;
    else if (strncmp(word, "shared", 6) == 0)
        kinds[number] |= SHARED;
    else if (strncmp(word, "absent", 6) == 0)
        kinds[number] |= ABSENT_PAGE;
    else if (strncmp(word, "obstacles", 9) == 0)
        process->drive->obstacle_pages = number;
    else if (strcmp(word, "stopped") == 0)
        process->is_stopping = true;
    else if (strcmp(word, "kept") == 0)
        process->drive->victim_count = 1;
}

int main(int argc, char **argv)
{
    static struct workload workload = {.name = "model", .is_driven = true};
    static struct process process;
    static struct drive drive;
    static struct thread thread;
    static struct mover mover;
    static struct slice slice;
    size_t units = strtoul(argv[1], NULL, 10);
    unsigned nodes = (unsigned)strtoul(argv[4], NULL, 10);

    if (argc < 7 || units > MAX_UNITS || nodes > MAX_NODES)
        return EXIT_STATUS_USAGE;
    lines_open();
    memory = aligned_alloc(UNIT_BYTES, units * UNIT_BYTES);
    process = (struct process){.workload = &workload, .drive = &drive, .threads = &thread, .thread_count = 1};
    process.options.loops = strtoul(argv[5], NULL, 10);
    process.options.driven = (struct driven_options){
        .driver = DRIVER_MOVE_PAGES,
        .flags = FLAG_MOVE,
        .batch = (unsigned)strtoul(argv[2], NULL, 10),
        .order = strcmp(argv[3], "interleaved") == 0 ? ORDER_INTERLEAVED : ORDER_SEQUENTIAL,
        .retries = (unsigned)strtoul(argv[6], NULL, 10),
    };
    process.topology.count = drive.target_count = nodes;
    process.topology.ids = calloc(nodes, sizeof(int));
    process.topology.nodes = calloc(nodes, sizeof(struct locality));
    for (unsigned i = 0; i < nodes; i++) {
        process.topology.ids[i] = (int)i;
        process.topology.nodes[i].memory_bytes = 1;
    }
    drive.driver = find_driver(DRIVER_MOVE_PAGES);
    drive.options = &process.options.driven;
    drive.topology = &process.topology;
    drive.mover_count = 1;
    drive.movers_running = 1;
    drive.movers = &mover;
    for (int i = 7; i < argc; i++)
        add_what(argv[i], &process);
    drive.obstacles = drive.obstacle_pages ? memory : NULL;
    units -= drive.obstacle_pages;
    slice = (struct slice){.address = memory + drive.obstacle_pages * UNIT_BYTES, .bytes = units * UNIT_BYTES};
    drive.memory = (struct memory){.base = slice.address,
                                   .page_bytes = UNIT_BYTES,
                                   .unit_bytes = UNIT_BYTES,
                                   .unit_shift = 12,
                                   .bytes = slice.bytes,
                                   .slice_bytes = slice.bytes,
                                   .pages = units,
                                   .slice_pages = units};
    thread = (struct thread){.process = &process, .role = "mover", .mover = &mover, .slice = &slice};
    if (is_placing) {
        interleave_units(&drive);
        print_truth(units, nodes);
        return 0;
    }
    mover_init(&mover, &drive, &thread);
    units += drive.obstacle_pages;
    for (size_t i = 0; i < units; i++)
        node_of[i] = process.options.driven.order == ORDER_INTERLEAVED && (i + drive.obstacle_pages) % 2;
    mover_prepare(&mover);
    process.go_ns = monotonic_ns();
    mover_run(&mover);
    print_drive_results(&process);
    print_truth(units, nodes);
    print_last_calls(&mover, units);
    return 0;
}
