#include "perfdata.h"

#include <stdlib.h>
#include <string.h>

#include "intern.h"

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
    RECORD_AUXTRACE = 71,
    RECORD_EVENT_UPDATE = 78,
    RECORD_HEADER_FEATURE = 80,
    RECORD_COMPRESSED = 81,
    RECORD_COMPRESSED2 = 83,
};

/* enum perf_event_sample_format, in the order in which a sample holds them up to RAW */
enum {
    SAMPLE_IP = 1 << 0,
    SAMPLE_TID = 1 << 1,
    SAMPLE_TIME = 1 << 2,
    SAMPLE_ADDR = 1 << 3,
    SAMPLE_READ = 1 << 4,
    SAMPLE_CALLCHAIN = 1 << 5,
    SAMPLE_ID = 1 << 6,
    SAMPLE_CPU = 1 << 7,
    SAMPLE_PERIOD = 1 << 8,
    SAMPLE_STREAM_ID = 1 << 9,
    SAMPLE_RAW = 1 << 10,
    SAMPLE_IDENTIFIER = 1 << 16,
};

enum {
    READ_TIME_ENABLED = 1 << 0,
    READ_TIME_RUNNING = 1 << 1,
    READ_ID = 1 << 2,
    READ_GROUP = 1 << 3,
    READ_LOST = 1 << 4,
};

/* enum perf_callchain_context */
#define CONTEXT_HV ((uint64_t)-32)
#define CONTEXT_KERNEL ((uint64_t)-128)
#define CONTEXT_USER ((uint64_t)-512)
#define CONTEXT_USER_DEFERRED ((uint64_t)-640)
#define CONTEXT_GUEST ((uint64_t)-2048)
#define CONTEXT_GUEST_KERNEL ((uint64_t)-2176)
#define CONTEXT_GUEST_USER ((uint64_t)-2560)
#define CONTEXT_MAX ((uint64_t)-4095)

enum { MISC_CPUMODE_MASK = 7, MISC_KERNEL = 1, MISC_USER = 2, MISC_MMAP_BUILD_ID = 1 << 14 };
enum { NO_WORD = 255, HEADER_BYTES = 8, EPOCH_NONE = 0 };

struct header {
    uint32_t type;
    uint16_t misc;
    uint16_t size;
};

/* Where an event's samples hold what, in words behind the header; NO_WORD for what they do not hold. */
struct event {
    struct perfdata_layout layout;
    uint8_t ip, tid, time, cpu, period;
    uint8_t fixed_words;
    uint8_t trailer_words; /* sample_id at the end of other records */
    uint8_t trailer_tid, trailer_time;
    struct growing rows;
    struct growing raw;
};

struct chain_part {
    const uint64_t *words;
    size_t count;
};

struct id_event {
    uint64_t id;
    uint32_t event;
};

struct perfdata {
    struct growing events;
    struct growing ids;
    struct slots id_index;
    struct growing groups;
    struct slots group_index;
    struct growing tasks;
    struct sequences kernel;
    struct sequences user;
    struct sequences texts;
    struct perfdata_stats stats;
    const struct perfdata_epoch *epochs;
    size_t epoch_count;
    uint64_t seed;
    int parity, keep_user, keep_threads;
    uint8_t id_word;     /* where a sample holds its event's id */
    uint8_t id_from_end; /* and other records, counted from their end; 0: they do not */
    uint8_t ids_differ;  /* events that cannot be told apart */
    uint64_t aligned[8192];
};

enum { TAKEN = 0, MALFORMED = 1, FOR_CALLER = 2, NO_MEMORY = -1 };

struct perfdata *perfdata_new(int parity, int user, int threads, uint64_t seed)
{
    struct perfdata *data = calloc(1, sizeof(*data));

    if (!data)
        return NULL;
    data->parity = parity;
    data->keep_user = user;
    data->keep_threads = threads;
    data->seed = seed;
    if (sequences_init(&data->kernel) < 0 || sequences_init(&data->user) < 0 || sequences_init(&data->texts) < 0) {
        perfdata_free(data);
        return NULL;
    }
    return data;
}

static struct event *event_at(const struct perfdata *data, uint32_t number)
{
    return (struct event *)data->events.items + number;
}

void perfdata_free(struct perfdata *data)
{
    if (!data)
        return;
    for (uint32_t i = 0; i < data->events.count; i++) {
        free(event_at(data, i)->rows.items);
        free(event_at(data, i)->raw.items);
    }
    sequences_free(&data->kernel);
    sequences_free(&data->user);
    sequences_free(&data->texts);
    free(data->events.items);
    free(data->ids.items);
    free(data->id_index.slots);
    free(data->groups.items);
    free(data->group_index.slots);
    free(data->tasks.items);
    free(data);
}

static uint8_t next_word(uint64_t sample_type, uint64_t bit, uint8_t *words)
{
    return sample_type & bit ? (*words)++ : NO_WORD;
}

/* The words of a sample up to READ, and of the sample_id behind other records, in the order of perf_event.h. */
static void lay_out(struct event *event, uint8_t *id_word, uint8_t *id_from_end)
{
    uint64_t type = event->layout.sample_type;
    uint8_t words = 0, tail = 0, identifier, id;

    identifier = next_word(type, SAMPLE_IDENTIFIER, &words);
    event->ip = next_word(type, SAMPLE_IP, &words);
    event->tid = next_word(type, SAMPLE_TID, &words);
    event->time = next_word(type, SAMPLE_TIME, &words);
    next_word(type, SAMPLE_ADDR, &words);
    id = next_word(type, SAMPLE_ID, &words);
    next_word(type, SAMPLE_STREAM_ID, &words);
    event->cpu = next_word(type, SAMPLE_CPU, &words);
    event->period = next_word(type, SAMPLE_PERIOD, &words);
    event->fixed_words = words;
    *id_word = identifier != NO_WORD ? identifier : id;

    event->trailer_tid = next_word(type, SAMPLE_TID, &tail);
    event->trailer_time = next_word(type, SAMPLE_TIME, &tail);
    id = next_word(type, SAMPLE_ID, &tail);
    next_word(type, SAMPLE_STREAM_ID, &tail);
    next_word(type, SAMPLE_CPU, &tail);
    identifier = next_word(type, SAMPLE_IDENTIFIER, &tail);
    event->trailer_words = event->layout.sample_id_all ? tail : 0;
    *id_from_end = 0;
    if (event->trailer_words && (identifier != NO_WORD || id != NO_WORD))
        *id_from_end = identifier != NO_WORD ? 1 : (uint8_t)(tail - id);
}

int perfdata_add_event(struct perfdata *data, const struct perfdata_layout *layout)
{
    struct event *event = growing_room(&data->events, 1, sizeof(*event));
    uint8_t id_word, id_from_end;

    if (!event || data->events.count > UINT16_MAX)
        return PERFDATA_NO_MEMORY;
    memset(event, 0, sizeof(*event));
    event->layout = *layout;
    lay_out(event, &id_word, &id_from_end);
    if (!data->events.count) {
        data->id_word = id_word;
        data->id_from_end = id_from_end;
    } else if (data->id_word != id_word || id_word == NO_WORD) {
        data->ids_differ = 1;
    } else if (data->id_from_end != id_from_end) {
        data->id_from_end = 0;
    }
    return (int)data->events.count++;
}

void perfdata_keep(struct perfdata *data, uint32_t event, uint32_t keep)
{
    if (event < data->events.count)
        event_at(data, event)->layout.keep = keep;
}

static const struct id_event *find_id(const struct perfdata *data, uint64_t id)
{
    uint64_t hash = hash_mix(data->seed, id);

    if (!data->id_index.slots)
        return NULL;
    for (size_t at = (hash >> 32) & data->id_index.mask; data->id_index.slots[at];
         at = (at + 1) & data->id_index.mask) {
        const struct id_event *found =
            (const struct id_event *)data->ids.items + ((uint32_t)data->id_index.slots[at] - 1);

        if (found->id == id)
            return found;
    }
    return NULL;
}

int perfdata_add_id(struct perfdata *data, uint64_t id, uint32_t event)
{
    struct id_event *room;

    if (event >= data->events.count || find_id(data, id))
        return 0;
    room = growing_room(&data->ids, 1, sizeof(*room));
    if (!room || slots_reserve(&data->id_index) < 0)
        return PERFDATA_NO_MEMORY;
    *room = (struct id_event){id, event};
    slots_put(&data->id_index, hash_mix(data->seed, id), (uint32_t)data->ids.count);
    data->ids.count++;
    return 0;
}

void perfdata_set_epochs(struct perfdata *data, const struct perfdata_epoch *epochs, size_t count)
{
    data->epochs = epochs;
    data->epoch_count = count;
}

/* One more than the number of the last epoch of this thread that begins at this time or before, or EPOCH_NONE. */
static uint32_t epoch_of(const struct perfdata *data, uint32_t tid, uint64_t time_ns)
{
    size_t low = 0, high = data->epoch_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct perfdata_epoch *epoch = &data->epochs[middle];

        if (epoch->tid < tid || (epoch->tid == tid && epoch->time_ns <= time_ns))
            low = middle + 1;
        else
            high = middle;
    }
    return low && data->epochs[low - 1].tid == tid ? (uint32_t)low : EPOCH_NONE;
}

static int is_marker(uint64_t word)
{
    return word >= CONTEXT_MAX;
}

/* The parts of a chain that are addresses of the kernel and of the thread's own program. */
static void split_chain(struct perfdata *data, const uint64_t *words, size_t count, struct chain_part *kernel,
                        struct chain_part *user)
{
    struct chain_part skipped = {NULL, 0};
    struct chain_part *part = user; /* what stands before the first context is the user's, as perf has it */
    size_t i = 0;

    while (i < count) {
        size_t from = i;

        while (i < count && !is_marker(words[i]))
            i++;
        if (part == &skipped)
            data->stats.skipped_words += i - from;
        else if (!part->count)
            *part = (struct chain_part){words + from, i - from};
        else
            data->stats.skipped_words += i - from;
        if (i == count)
            return;
        switch (words[i++]) {
        case CONTEXT_KERNEL:
            part = kernel;
            continue;
        case CONTEXT_USER:
            part = user;
            continue;
        case CONTEXT_HV:
            part = &skipped;
            continue;
        case CONTEXT_GUEST:
        case CONTEXT_GUEST_KERNEL:
        case CONTEXT_GUEST_USER:
            part = &skipped;
            break;
        case CONTEXT_USER_DEFERRED: /* a cookie follows; the user part comes in a record of its own */
            data->stats.deferred_chains++;
            return;
        default:
            data->stats.garbage_chains++;
            i = count;
        }
        if (data->parity) {
            kernel->count = user->count = 0;
            return;
        }
    }
}

/* The words of PERF_SAMPLE_READ's struct read_format, or 0 where they do not fit in `left` words. */
static size_t read_words(uint64_t format, const uint64_t *words, size_t left)
{
    size_t times = !!(format & READ_TIME_ENABLED) + !!(format & READ_TIME_RUNNING);
    size_t value = 1 + !!(format & READ_ID) + !!(format & READ_LOST);
    size_t total = times + value;

    if (format & READ_GROUP) {
        if (!left || words[0] > left)
            return 0;
        total = 1 + times + (size_t)words[0] * value;
    }
    return total <= left ? total : 0;
}

static int64_t find_or_add_group(struct perfdata *data, const struct perfdata_group *key)
{
    const uint64_t words[3] = {(uint64_t)key->event << 32 | key->pid, (uint64_t)key->tid << 32 | key->epoch,
                               (uint64_t)key->kernel << 32 | key->user};
    uint64_t hash = hash_words(data->seed, words, 3);
    struct perfdata_group *room;

    if (slots_reserve(&data->group_index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & data->group_index.mask; data->group_index.slots[at];
         at = (at + 1) & data->group_index.mask) {
        uint64_t slot = data->group_index.slots[at];
        const struct perfdata_group *found = (struct perfdata_group *)data->groups.items + ((uint32_t)slot - 1);

        if (slot >> 32 == hash >> 32 && found->kernel == key->kernel && found->user == key->user &&
            found->tid == key->tid && found->pid == key->pid && found->event == key->event &&
            found->epoch == key->epoch)
            return (uint32_t)slot - 1;
    }
    room = growing_room(&data->groups, 1, sizeof(*room));
    if (!room)
        return -1;
    *room = *key;
    slots_put(&data->group_index, hash, (uint32_t)data->groups.count);
    return (int64_t)data->groups.count++;
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

/* The event of a sample, or of another record; -1 where its id is no event's. */
static int64_t event_of(const struct perfdata *data, const uint64_t *words, size_t count, int is_sample)
{
    const struct id_event *found;

    if (!data->events.count)
        return -1;
    if (data->events.count == 1)
        return 0;
    if (is_sample && (data->ids_differ || data->id_word >= count))
        return -1;
    if (!is_sample && (!data->id_from_end || data->id_from_end > count))
        return 0;
    found = find_id(data, is_sample ? words[data->id_word] : words[count - data->id_from_end]);
    if (found)
        return found->event;
    return is_sample ? -1 : 0; /* records that perf makes up itself have no id */
}

static int take_sample(struct perfdata *data, const struct header *header, const uint64_t *words, size_t count)
{
    int64_t number = event_of(data, words, count, 1), kernel_chain, user_chain = 0, group;
    struct chain_part kernel = {NULL, 0}, user = {NULL, 0};
    struct perfdata_row row = {0};
    struct perfdata_group key = {0}, *found;
    const uint8_t *raw = NULL;
    struct event *event;
    uint64_t type;
    size_t at;

    if (number < 0) {
        data->stats.unknown_events++;
        return TAKEN;
    }
    event = event_at(data, (uint32_t)number);
    type = event->layout.sample_type;
    at = event->fixed_words;
    if (count < at)
        return MALFORMED;
    if (type & SAMPLE_READ) {
        size_t read = read_words(event->layout.read_format, words + at, count - at);

        if (!read)
            return MALFORMED;
        at += read;
    }
    if (type & SAMPLE_CALLCHAIN) {
        if (at >= count || words[at] > count - at - 1)
            return MALFORMED;
        split_chain(data, words + at + 1, (size_t)words[at], &kernel, &user);
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

    kernel_chain = sequences_words(&data->kernel, data->seed, kernel.words, kernel.count);
    if (data->keep_user)
        user_chain = sequences_words(&data->user, data->seed, user.words, user.count);
    if (kernel_chain < 0 || user_chain < 0)
        return NO_MEMORY;
    row.time_ns = event->time != NO_WORD ? words[event->time] : 0;
    row.period = event->period != NO_WORD ? words[event->period] : event->layout.period;
    key.event = (uint32_t)number;
    if (event->tid != NO_WORD && data->keep_threads) {
        key.pid = low_half(words[event->tid]);
        key.tid = (uint32_t)(words[event->tid] >> 32);
    }
    key.epoch = data->epoch_count ? epoch_of(data, key.tid, row.time_ns) : EPOCH_NONE;
    key.kernel = (uint32_t)kernel_chain;
    key.user = (uint32_t)user_chain;
    key.first_ns = UINT64_MAX;
    group = find_or_add_group(data, &key);
    if (group < 0)
        return NO_MEMORY;
    found = (struct perfdata_group *)data->groups.items + group;
    found->count++;
    found->period += row.period;
    if (row.time_ns < found->first_ns)
        found->first_ns = row.time_ns;
    if (row.time_ns > found->last_ns)
        found->last_ns = row.time_ns;
    data->stats.samples++;
    if (!(event->layout.keep & PERFDATA_ROWS))
        return TAKEN;
    row.group = (uint32_t)group;
    row.cpu = event->cpu != NO_WORD ? low_half(words[event->cpu]) : UINT32_MAX;
    return keep_row(event, &row, raw);
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
    switch (type) {
    case RECORD_COMM:
        return 1;
    case RECORD_MMAP:
        return 4;
    case RECORD_MMAP2:
        return 8;
    default:
        return 2; /* KSYMBOL */
    }
}

static int take_task(struct perfdata *data, const struct header *header, const uint64_t *words, size_t count)
{
    int64_t number = event_of(data, words, count, 0), name = 0, build_id = 0;
    const struct event *event = number < 0 ? NULL : event_at(data, (uint32_t)number);
    size_t trailer = event ? event->trailer_words : 0;
    size_t body = count > trailer ? count - trailer : 0;
    struct perfdata_task task = {.type = (uint16_t)header->type, .misc = header->misc}, *room;
    int is_fork = header->type == RECORD_FORK || header->type == RECORD_EXIT;

    if (body < (is_fork ? 3 : name_word(header->type)))
        return MALFORMED;
    if (trailer && event->trailer_time != NO_WORD)
        task.time_ns = words[body + event->trailer_time];
    if (is_fork) { /* { u32 pid, ppid, tid, ptid; u64 time; } */
        task.pid = low_half(words[0]);
        task.tid = low_half(words[1]);
        task.address = words[0] >> 32;
        task.size_bytes = words[1] >> 32;
        task.time_ns = words[2];
    } else {
        size_t at = name_word(header->type);

        if (header->type == RECORD_KSYMBOL) { /* { u64 addr; u32 len; u16 type, flags; char name[]; } */
            task.address = words[0];
            task.size_bytes = low_half(words[1]);
        } else {
            task.pid = low_half(words[0]);
            task.tid = (uint32_t)(words[0] >> 32);
        }
        if (header->type == RECORD_MMAP || header->type == RECORD_MMAP2) {
            task.address = words[1];
            task.size_bytes = words[2];
            task.offset_bytes = words[3];
        }
        if (header->type == RECORD_MMAP2 && header->misc & MISC_MMAP_BUILD_ID) {
            const uint8_t *id = (const uint8_t *)(words + 4); /* { u8 size, reserved[3], bytes[20]; } */

            if (id[0] <= 20)
                build_id = sequences_text(&data->texts, data->seed, id + 4, id[0]);
        }
        name = take_text(data, (const uint8_t *)(words + at), (body - at) * 8);
    }
    room = growing_room(&data->tasks, 1, sizeof(*room));
    if (name < 0 || build_id < 0 || !room)
        return NO_MEMORY;
    task.name = (uint32_t)name;
    task.build_id = (uint32_t)build_id;
    *room = task;
    data->tasks.count++;
    return TAKEN;
}

static int take_record(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size)
{
    const uint64_t *words = (const uint64_t *)(const void *)(bytes + HEADER_BYTES);
    size_t count = (size - HEADER_BYTES) / 8;
    struct header header;

    memcpy(&header, bytes, sizeof(header));
    if (header.type < PERFDATA_TYPES)
        data->stats.records[header.type]++;
    if ((uintptr_t)words % sizeof(*words)) {
        memcpy(data->aligned, words, count * 8);
        words = data->aligned;
    }
    switch (header.type) {
    case RECORD_SAMPLE:
        return take_sample(data, &header, words, count);
    case RECORD_MMAP:
    case RECORD_MMAP2:
    case RECORD_COMM:
    case RECORD_FORK:
    case RECORD_EXIT:
    case RECORD_KSYMBOL:
        return take_task(data, &header, words, count);
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
    case RECORD_AUXTRACE: /* { u64 size, ...; } and then size bytes */
        if (count < 1)
            return MALFORMED;
        lane->outside_bytes = words[0];
        return FOR_CALLER;
    case RECORD_TRACING_DATA: /* { u32 size; } and then size bytes */
        if (size < HEADER_BYTES + 4)
            return MALFORMED;
        memcpy(&header.type, bytes + HEADER_BYTES, sizeof(header.type));
        lane->outside_bytes = header.type;
        return FOR_CALLER;
    case RECORD_HEADER_ATTR:
    case RECORD_BUILD_ID:
    case RECORD_EVENT_UPDATE:
    case RECORD_HEADER_FEATURE:
    case RECORD_COMPRESSED:
    case RECORD_COMPRESSED2:
        return FOR_CALLER;
    default:
        if (!header.type || header.type >= PERFDATA_TOOL_TYPES ||
            (header.type >= PERFDATA_CORE_TYPES && header.type < PERFDATA_FIRST_TOOL_TYPE))
            data->stats.unknown_records++;
        return TAKEN;
    }
}

struct perfdata_lane *perfdata_lane_new(void)
{
    return calloc(1, sizeof(struct perfdata_lane));
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

int perfdata_feed(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size, size_t *used)
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
        lane->taken_bytes += size_of(record);
        taken = take_record(data, lane, record, size_of(record));
        if (taken == NO_MEMORY)
            return PERFDATA_NO_MEMORY;
        if (taken == MALFORMED)
            data->stats.malformed_records++;
        if (taken == FOR_CALLER) {
            lane->record = record;
            lane->record_bytes = size_of(record);
            return PERFDATA_RECORD;
        }
    }
    return PERFDATA_MORE;
}

const struct perfdata_stats *perfdata_stats(const struct perfdata *data)
{
    return &data->stats;
}

static struct perfdata_span span_of(const struct sequences *table)
{
    return (struct perfdata_span){table->items.items, (const uint64_t *)table->starts.items, table->count};
}

struct perfdata_span perfdata_kernel_chains(const struct perfdata *data)
{
    return span_of(&data->kernel);
}

struct perfdata_span perfdata_user_chains(const struct perfdata *data)
{
    return span_of(&data->user);
}

struct perfdata_span perfdata_texts(const struct perfdata *data)
{
    return span_of(&data->texts);
}

const struct perfdata_group *perfdata_groups(const struct perfdata *data, uint64_t *count)
{
    *count = data->groups.count;
    return (const struct perfdata_group *)data->groups.items;
}

const struct perfdata_task *perfdata_tasks(const struct perfdata *data, uint64_t *count)
{
    *count = data->tasks.count;
    return (const struct perfdata_task *)data->tasks.items;
}

const struct perfdata_row *perfdata_rows(const struct perfdata *data, uint32_t event, uint64_t *count)
{
    *count = event < data->events.count ? event_at(data, event)->rows.count : 0;
    return *count ? (const struct perfdata_row *)event_at(data, event)->rows.items : NULL;
}

const uint8_t *perfdata_raw(const struct perfdata *data, uint32_t event, uint64_t *size)
{
    *size = event < data->events.count ? event_at(data, event)->raw.count : 0;
    return *size ? event_at(data, event)->raw.items : NULL;
}
