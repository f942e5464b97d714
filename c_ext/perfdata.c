#include "perfdata.h"

#include <stdlib.h>
#include <string.h>

#include "chains.h"
#include "context.h"
#include "layout.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

/* enum perf_event_type; from 64 on the perf tool's own, tools/lib/perf/include/perf/event.h */
enum {
    RECORD_MMAP = 1,
    RECORD_LOST = 2,
    RECORD_COMM = 3,
    RECORD_EXIT = 4,
    RECORD_FORK = 7,
    RECORD_SAMPLE = 9,
    RECORD_MMAP2 = 10,
    RECORD_LOST_SAMPLES = 13,
    RECORD_KSYMBOL = 17,
    RECORD_HEADER_ATTR = 64,
    RECORD_TRACING_DATA = 66,
    RECORD_BUILD_ID = 67,
    RECORD_FINISHED_ROUND = 68,
    RECORD_AUXTRACE = 71,
    RECORD_EVENT_UPDATE = 78,
    RECORD_HEADER_FEATURE = 80,
    RECORD_COMPRESSED = 81,
    RECORD_COMPRESSED2 = 83,
};

enum {
    MISC_CPUMODE_MASK = 7,
    MISC_KERNEL = 1,
    MISC_USER = 2,
    MISC_COMM_EXEC = 1 << 13,
    MISC_MMAP_BUILD_ID = 1 << 14,
};
enum { HEADER_BYTES = 8, LINE_BYTES = 64, AHEAD_BYTES = 4096 };

struct header {
    uint32_t type;
    uint16_t misc;
    uint16_t size;
};

struct perfdata {
    struct events events;
    struct tasks tasks;
    struct chains chains;
    struct sequences texts;
    struct perfdata_stats stats;
    uint64_t seed;
    uint64_t kernel_reference, kernel_bytes;
    uint64_t newest_ns;  /* of the records seen so far */
    uint64_t settled_ns; /* and up to the end of the last round, */
    uint64_t before_ns;  /* of the one before, */
    uint64_t taken_ns;   /* and before that: all samples up to it were taken */
    int parity, keep_user, keep_tasks;
    uint64_t aligned[8192];
};

enum { TAKEN = 0, MALFORMED = 1, FOR_CALLER = 2, NO_MEMORY = -1 };

void perfdata_free(struct perfdata *data)
{
    if (!data)
        return;
    events_free(&data->events);
    tasks_free(&data->tasks);
    chains_free(&data->chains);
    sequences_free(&data->texts);
    free(data);
}

struct perfdata *perfdata_new(int parity, int user, int threads, uint64_t seed)
{
    /* The idle threads, all of tid 0, have no COMM record; perf names them like this, too. */
    static const uint8_t idle[] = "swapper";
    struct perfdata *data = calloc(1, sizeof(*data));
    int64_t idle_name;

    if (!data)
        return NULL;
    data->parity = parity;
    data->keep_user = user;
    data->keep_tasks = user || threads;
    data->events.seed = data->seed = seed;
    data->events.recent = -1;
    idle_name = sequences_init(&data->texts) < 0 ? -1 : sequences_text(&data->texts, seed, idle, sizeof(idle) - 1);
    if (idle_name < 0 || chains_init(&data->chains, seed) < 0 ||
        tasks_init(&data->tasks, seed, threads, user, (uint32_t)idle_name) < 0) {
        perfdata_free(data);
        return NULL;
    }
    return data;
}

int perfdata_add_event(struct perfdata *data, const struct perfdata_layout *layout)
{
    int64_t number = events_add(&data->events, layout);

    return number < 0 ? PERFDATA_NO_MEMORY : (int)number;
}

int perfdata_add_id(struct perfdata *data, uint64_t id, uint32_t event)
{
    return events_add_id(&data->events, id, event) < 0 ? PERFDATA_NO_MEMORY : 0;
}

void perfdata_keep(struct perfdata *data, uint32_t event, uint32_t keep)
{
    if (event < data->events.items.count)
        event_at(&data->events, event)->layout.keep = keep;
}

int perfdata_round(struct perfdata *data)
{
    uint64_t until_ns = data->settled_ns, taken_ns = data->taken_ns;

    data->taken_ns = data->before_ns;
    data->before_ns = data->settled_ns;
    data->settled_ns = data->newest_ns;
    if (tasks_settle(&data->tasks, until_ns) < 0)
        return PERFDATA_NO_MEMORY;
    if (!tasks_are_many(&data->tasks))
        return 0;
    chains_forget(&data->chains);
    return tasks_prune(&data->tasks, taken_ns) < 0 ? PERFDATA_NO_MEMORY : 0;
}

int perfdata_settle(struct perfdata *data)
{
    return tasks_settle(&data->tasks, UINT64_MAX) < 0 ? PERFDATA_NO_MEMORY : 0;
}

static int keep_row(struct event *event, const struct perfdata_row *row, const uint8_t *raw)
{
    struct perfdata_row *room = growing_room(&event->rows, 1, sizeof(*room));
    uint8_t *bytes = growing_room(&event->raw, row->raw_bytes, 1);

    if (!room || !bytes)
        return NO_MEMORY;
    *room = *row;
    event->rows.count++;
    if (row->raw_bytes)
        memcpy(bytes, raw, row->raw_bytes);
    event->raw.count += row->raw_bytes;
    return TAKEN;
}

static uint32_t low_half(uint64_t word)
{
    return (uint32_t)word;
}

static int take_sample(struct perfdata *data, const struct header *header, const uint64_t *words, size_t count)
{
    int64_t number = event_of(&data->events, words, count, 1), state = 0, group;
    struct chain_part kernel = {NULL, 0}, user = {NULL, 0};
    struct chain_sample sample;
    struct perfdata_row row = {0};
    const uint8_t *raw = NULL;
    struct event *event;
    uint64_t type;
    size_t at;

    if (number < 0) {
        data->stats.unknown_events++;
        return TAKEN;
    }
    event = event_at(&data->events, (uint32_t)number);
    type = event->layout.sample_type;
    at = event->fixed_words;
    if (count < at)
        return MALFORMED;
    if (type & SAMPLE_READ) {
        size_t read = layout_read_words(event->layout.read_format, words + at, count - at);

        if (!read)
            return MALFORMED;
        at += read;
    }
    if (type & SAMPLE_CALLCHAIN) {
        if (at >= count || words[at] > count - at - 1)
            return MALFORMED;
        context_part(words + at + 1, (size_t)words[at], data->parity, &data->stats, &kernel, &user);
        at += 1 + (size_t)words[at];
    } else if (event->ip != NO_WORD) {
        unsigned mode = header->misc & MISC_CPUMODE_MASK;

        if (mode == MISC_KERNEL)
            kernel = (struct chain_part){words + event->ip, 1};
        else if (mode == MISC_USER)
            user = (struct chain_part){words + event->ip, 1};
    }
    if (type & SAMPLE_RAW && event->layout.keep & PERFDATA_RAW) {
        if (at >= count || low_half(words[at]) > (count - at) * 8 - 4)
            return MALFORMED;
        row.raw_bytes = low_half(words[at]);
        raw = (const uint8_t *)(words + at) + 4;
    }
    if (!data->keep_user)
        user.count = 0;
    row.time_ns = event->time != NO_WORD ? words[event->time] : 0;
    row.period = event->period != NO_WORD ? words[event->period] : event->layout.period;
    if (event->tid != NO_WORD) {
        row.pid = low_half(words[event->tid]);
        row.tid = (uint32_t)(words[event->tid] >> 32);
    }
    if (data->keep_tasks)
        state = tasks_state(&data->tasks, row.pid, row.tid, row.time_ns, user.count != 0);
    if (state < 0)
        return NO_MEMORY;
    sample = (struct chain_sample){kernel,          user,   row.time_ns, row.period, (uint32_t)number,
                                   (uint32_t)state, {0, 0}, {0, 0},      {0, 0}};
    data->stats.samples++;
    event->samples++;
    if (!(event->layout.keep & PERFDATA_ROWS))
        return chains_push(&data->chains, &data->tasks, &sample) < 0 ? NO_MEMORY : TAKEN;
    group = chains_count(&data->chains, &data->tasks, &sample);
    if (group < 0)
        return NO_MEMORY;
    row.group = (uint32_t)group;
    row.cpu = event->cpu != NO_WORD ? low_half(words[event->cpu]) : UINT32_MAX;
    return keep_row(event, &row, raw);
}

/* Note a sample's time, so that it is known when all that came before it has been seen. */
static inline void pass_sample(struct perfdata *data, const uint64_t *words, size_t count)
{
    int64_t number = event_of(&data->events, words, count, 1);
    const struct event *event = number < 0 ? NULL : event_at(&data->events, (uint32_t)number);

    if (event && event->time != NO_WORD && event->time < count && words[event->time] > data->newest_ns)
        data->newest_ns = words[event->time];
}

/* A text that may lack its final NUL. */
static int64_t take_text(struct perfdata *data, const uint8_t *bytes, size_t room)
{
    const uint8_t *end = room ? memchr(bytes, 0, room) : NULL;

    return sequences_text(&data->texts, data->seed, bytes, end ? (size_t)(end - bytes) : room);
}

/* What a record about tasks holds before its name, by type: the words, and where pid and tid are. */
static size_t name_word(uint32_t type)
{
    return type == RECORD_COMM ? 1 : type == RECORD_MMAP ? 4 : 8;
}

/* perf gives the address of _text or _stext as the offset at which the kernel is mapped. */
static void note_kernel(struct perfdata *data, const uint64_t *words, const uint8_t *name, size_t room)
{
    static const char kernel[] = "[kernel.kallsyms]";

    if (room < sizeof(kernel) - 1 || memcmp(name, kernel, sizeof(kernel) - 1))
        return;
    data->kernel_reference = words[3];
    data->kernel_bytes = words[2];
}

static int take_mapping(struct perfdata *data, const struct header *header, const uint64_t *words, size_t body,
                        struct task_record *task)
{
    size_t at = name_word(header->type);
    const uint8_t *id = (const uint8_t *)(words + 4); /* { u8 size, reserved[3], bytes[20]; } */
    int64_t name, build_id = 0;

    if ((header->misc & MISC_CPUMODE_MASK) == MISC_KERNEL) {
        note_kernel(data, words, (const uint8_t *)(words + at), (body - at) * 8);
        return FOR_CALLER;
    }
    if (!data->keep_user)
        return FOR_CALLER;
    if (header->type == RECORD_MMAP2 && header->misc & MISC_MMAP_BUILD_ID && id[0] <= 20)
        build_id = sequences_text(&data->texts, data->seed, id + 4, id[0]);
    name = take_text(data, (const uint8_t *)(words + at), (body - at) * 8);
    if (name < 0 || build_id < 0)
        return NO_MEMORY;
    task->address = words[1];
    task->size_bytes = words[2];
    task->offset_bytes = words[3];
    task->name = (uint32_t)name;
    task->build_id = (uint32_t)build_id;
    return TAKEN;
}

/* COMM, MMAP and MMAP2: { u32 pid, tid; ...; char name[]; }, FORK and EXIT: { u32 pid, ppid, tid, ptid; u64 time; } */
static int take_task(struct perfdata *data, const struct header *header, const uint64_t *words, size_t count)
{
    int64_t number = event_of(&data->events, words, count, 0), name;
    const struct event *event = number < 0 ? NULL : event_at(&data->events, (uint32_t)number);
    size_t trailer = event ? event->trailer_words : 0;
    size_t body = count > trailer ? count - trailer : 0;
    struct task_record task = {.type = header->type};
    int is_fork = header->type == RECORD_FORK || header->type == RECORD_EXIT;
    int taken = TAKEN;

    if (body < (is_fork ? 3 : name_word(header->type)))
        return MALFORMED;
    if (trailer && event->trailer_time != NO_WORD)
        task.time_ns = words[body + event->trailer_time];
    if (is_fork) {
        task.pid = low_half(words[0]);
        task.tid = low_half(words[1]);
        task.address = words[0] >> 32;
        task.size_bytes = words[1] >> 32;
        task.time_ns = words[2];
    } else {
        task.pid = low_half(words[0]);
        task.tid = (uint32_t)(words[0] >> 32);
    }
    if (task.time_ns > data->newest_ns)
        data->newest_ns = task.time_ns;
    if (header->type == RECORD_MMAP || header->type == RECORD_MMAP2) {
        taken = take_mapping(data, header, words, body, &task);
    } else if (!data->keep_tasks) {
        return TAKEN;
    } else if (header->type == RECORD_COMM) {
        name = take_text(data, (const uint8_t *)(words + 1), (body - 1) * 8);
        taken = name < 0 ? NO_MEMORY : TAKEN;
        task.name = (uint32_t)name;
        task.is_exec = !!(header->misc & MISC_COMM_EXEC);
    }
    if (taken != TAKEN)
        return taken == FOR_CALLER ? TAKEN : taken;
    return tasks_note(&data->tasks, &task) < 0 ? NO_MEMORY : TAKEN;
}

/* Bytes that follow a record and are part of none: behind AUXTRACE { u64 size; }, TRACING_DATA { u32 size; }. */
static int begin_outside(struct perfdata_lane *lane, const struct header *header, const uint64_t *words, size_t size)
{
    uint32_t half;

    if (size < HEADER_BYTES + (header->type == RECORD_AUXTRACE ? 8 : 4))
        return MALFORMED;
    memcpy(&half, words, sizeof(half));
    lane->outside_bytes = header->type == RECORD_AUXTRACE ? words[0] : half;
    return FOR_CALLER;
}

/* Take in a record of another kind than SAMPLE. */
static int take_other(struct perfdata *data, const struct header *header, const uint64_t *words, size_t count)
{
    switch (header->type) {
    case RECORD_MMAP:
    case RECORD_MMAP2:
    case RECORD_COMM:
    case RECORD_FORK:
    case RECORD_EXIT:
        return take_task(data, header, words, count);
    case RECORD_LOST: /* { u64 id, lost; } */
        if (count < 2)
            return MALFORMED;
        data->stats.lost_in_records += words[1];
        return TAKEN;
    case RECORD_LOST_SAMPLES:
        if (count < 1)
            return MALFORMED;
        data->stats.lost_samples += words[0];
        return TAKEN;
    case RECORD_FINISHED_ROUND:
    case RECORD_HEADER_ATTR:
    case RECORD_BUILD_ID:
    case RECORD_EVENT_UPDATE:
    case RECORD_HEADER_FEATURE:
        return FOR_CALLER;
    case RECORD_COMPRESSED:
    case RECORD_COMPRESSED2:
        return TAKEN;
    default:
        if (!header->type || header->type >= PERFDATA_TOOL_TYPES ||
            (header->type >= PERFDATA_CORE_TYPES && header->type < PERFDATA_FIRST_TOOL_TYPE))
            data->stats.unknown_records++;
        return TAKEN;
    }
}

static int take_record(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size)
{
    const uint64_t *words = (const uint64_t *)(const void *)(bytes + HEADER_BYTES);
    size_t count = (size - HEADER_BYTES) / 8;
    struct header header;

    memcpy(&header, bytes, sizeof(header));
    if (lane->takes & PERFDATA_SIDEBAND && header.type < PERFDATA_TYPES)
        data->stats.records[header.type]++;
    if ((header.type == RECORD_COMPRESSED || header.type == RECORD_COMPRESSED2) && lane->takes & PERFDATA_PACKED)
        return FOR_CALLER;
    if (header.type != RECORD_SAMPLE && header.type != RECORD_AUXTRACE && header.type != RECORD_TRACING_DATA &&
        !(lane->takes & PERFDATA_SIDEBAND))
        return TAKEN;
    if ((uintptr_t)words % sizeof(*words)) {
        memcpy(data->aligned, words, count * 8);
        words = data->aligned;
    }
    switch (header.type) {
    case RECORD_SAMPLE:
        if (lane->takes & PERFDATA_SAMPLES)
            return take_sample(data, &header, words, count);
        if (lane->takes & PERFDATA_SIDEBAND)
            pass_sample(data, words, count);
        return TAKEN;
    case RECORD_AUXTRACE:
    case RECORD_TRACING_DATA:
        return begin_outside(lane, &header, words, size);
    default:
        return take_other(data, &header, words, count);
    }
}

struct perfdata_lane *perfdata_lane_new(uint32_t takes)
{
    struct perfdata_lane *lane = calloc(1, sizeof(*lane));

    if (lane)
        lane->takes = takes;
    return lane;
}

void perfdata_lane_free(struct perfdata_lane *lane)
{
    free(lane);
}

/* Top up what is held of a record that earlier bytes ended in, to `wanted` bytes. Whether it is that long now. */
static int hold(struct perfdata_lane *lane, const uint8_t *bytes, size_t size, size_t *used, size_t wanted)
{
    size_t missing = wanted > lane->held_bytes ? wanted - lane->held_bytes : 0;
    size_t taken = missing < size - *used ? missing : size - *used;

    if (taken)
        memcpy((uint8_t *)lane->held + lane->held_bytes, bytes + *used, taken);
    lane->held_bytes += taken;
    *used += taken;
    return lane->held_bytes >= wanted;
}

static size_t size_of(const uint8_t *record)
{
    struct header header;

    memcpy(&header, record, sizeof(header));
    return header.size;
}

static uint32_t type_of(const uint8_t *record)
{
    struct header header;

    memcpy(&header, record, sizeof(header));
    return header.type;
}

/* The next whole record, or NULL where the bytes end before it does; *corrupt where it cannot be one. */
static const uint8_t *next_record(struct perfdata_lane *lane, const uint8_t *bytes, size_t size, size_t *used,
                                  int *corrupt)
{
    const uint8_t *held = (const uint8_t *)lane->held;
    const uint8_t *record = bytes + *used;

    if (!lane->held_bytes && size - *used >= HEADER_BYTES && size_of(record) >= HEADER_BYTES &&
        size_of(record) <= size - *used) {
        *used += size_of(record);
        return record;
    }
    if (!hold(lane, bytes, size, used, HEADER_BYTES))
        return NULL;
    if (size_of(held) < HEADER_BYTES) {
        *corrupt = 1;
        return NULL;
    }
    if (!hold(lane, bytes, size, used, size_of(held)))
        return NULL;
    lane->held_bytes = 0;
    return held;
}

/* Both lanes of a stream look at what announces bytes outside: only one of them counts it. */
static uint32_t counts_malformed(const struct perfdata_lane *lane, const uint8_t *record)
{
    return lane->takes & (type_of(record) == RECORD_SAMPLE ? PERFDATA_SAMPLES : PERFDATA_SIDEBAND);
}

static int pass_outside(struct perfdata_lane *lane, const uint8_t *bytes, size_t size, size_t *used)
{
    size_t left = size - *used;

    lane->record = bytes + *used;
    lane->record_bytes = lane->outside_bytes < left ? (size_t)lane->outside_bytes : left;
    lane->outside_bytes -= lane->record_bytes;
    lane->taken_bytes += lane->record_bytes;
    *used += lane->record_bytes;
    return PERFDATA_OUTSIDE;
}

/* Whether a record's words will not stay: it was in two parts, or began where no word can. */
static inline int is_copied(const struct perfdata_lane *lane, const uint8_t *record)
{
    return record == (const uint8_t *)lane->held || (uintptr_t)record % sizeof(uint64_t);
}

static int feed(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size, size_t *used)
{
    int corrupt = 0;

    *used = 0;
    lane->record = NULL;
    lane->record_bytes = 0;
    while (*used < size) {
        const uint8_t *record;
        int taken;

        if (lane->outside_bytes)
            return pass_outside(lane, bytes, size, used);
        record = next_record(lane, bytes, size, used, &corrupt);
        if (corrupt)
            return PERFDATA_CORRUPT;
        if (!record)
            return PERFDATA_MORE;
        for (size_t ahead = AHEAD_BYTES; ahead < AHEAD_BYTES + 4 * LINE_BYTES; ahead += LINE_BYTES)
            __builtin_prefetch(
                (const void *)((uintptr_t)record +
                               ahead)); /* pages are not in a row in memory: the CPU does not see it coming */
        lane->taken_bytes += size_of(record);
        taken = take_record(data, lane, record, size_of(record));
        if (is_copied(lane, record) && chains_drain(&data->chains, &data->tasks) < 0)
            return PERFDATA_NO_MEMORY;
        if (taken == NO_MEMORY)
            return PERFDATA_NO_MEMORY;
        if (taken == MALFORMED && counts_malformed(lane, record))
            data->stats.malformed_records++;
        if (taken == FOR_CALLER && lane->takes & (PERFDATA_SIDEBAND | PERFDATA_PACKED)) {
            lane->record = record;
            lane->record_bytes = size_of(record);
            return type_of(record) == RECORD_FINISHED_ROUND ? PERFDATA_ROUND : PERFDATA_RECORD;
        }
    }
    return PERFDATA_MORE;
}

const struct perfdata_stats *perfdata_stats(struct perfdata *data)
{
    data->stats.cut_lookups = data->tasks.cut_lookups;
    return &data->stats;
}

int perfdata_feed(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size, size_t *used)
{
    int status = feed(data, lane, bytes, size, used);

    return chains_drain(&data->chains, &data->tasks) < 0 ? PERFDATA_NO_MEMORY : status;
}

uint64_t perfdata_samples(const struct perfdata *data, uint32_t event)
{
    return event < data->events.items.count ? event_at(&data->events, event)->samples : 0;
}

uint64_t perfdata_kernel_reference(const struct perfdata *data)
{
    return data->kernel_reference;
}

uint64_t perfdata_kernel_bytes(const struct perfdata *data)
{
    return data->kernel_bytes;
}

static struct perfdata_span span_of(const struct sequences *table)
{
    return (struct perfdata_span){table->items.items, (const uint64_t *)(const void *)table->starts.items,
                                  table->count};
}

struct perfdata_span perfdata_kernel_chains(const struct perfdata *data)
{
    return span_of(&data->chains.kernel);
}

struct perfdata_span perfdata_user_chains(const struct perfdata *data)
{
    return span_of(&data->chains.user);
}

struct perfdata_span perfdata_texts(const struct perfdata *data)
{
    return span_of(&data->texts);
}

const struct perfdata_place *perfdata_places(const struct perfdata *data, uint64_t *count)
{
    *count = data->tasks.places.items.count;
    return (const struct perfdata_place *)(const void *)data->tasks.places.items.items;
}

const struct perfdata_file *perfdata_files(const struct perfdata *data, uint64_t *count)
{
    *count = data->tasks.files.items.count;
    return (const struct perfdata_file *)(const void *)data->tasks.files.items.items;
}

const struct perfdata_group *perfdata_groups(struct perfdata *data, uint64_t *count)
{
    chains_flush(&data->chains);
    chains_shrink(&data->chains);
    *count = data->chains.groups.count;
    return (const struct perfdata_group *)(const void *)data->chains.groups.items;
}

const struct perfdata_row *perfdata_rows(const struct perfdata *data, uint32_t event, uint64_t *count)
{
    *count = event < data->events.items.count ? event_at(&data->events, event)->rows.count : 0;
    return *count ? (const struct perfdata_row *)(const void *)event_at(&data->events, event)->rows.items : NULL;
}

const uint8_t *perfdata_raw(const struct perfdata *data, uint32_t event, uint64_t *size)
{
    *size = event < data->events.items.count ? event_at(&data->events, event)->raw.count : 0;
    return *size ? event_at(&data->events, event)->raw.items : NULL;
}
