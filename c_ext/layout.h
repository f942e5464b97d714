/* How the samples of each event are laid out, and which event a record is of. */
#ifndef NUMABENCH_LAYOUT_H
#define NUMABENCH_LAYOUT_H

#include "intern.h"
#include "perfdata.h"

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

enum { NO_WORD = 255 };

/* Where an event's samples hold what, in words behind the header; NO_WORD for what they do not hold. */
struct event {
    struct perfdata_layout layout;
    uint8_t ip, tid, time, cpu, period;
    uint8_t fixed_words;
    uint8_t trailer_words; /* sample_id at the end of other records */
    uint8_t trailer_tid, trailer_time;
    uint64_t samples; /* taken so far */
    struct growing rows;
    struct growing raw;
};

struct events {
    uint64_t seed;
    struct growing items;
    struct growing ids;
    struct slots index;
    uint64_t recent_id; /* and its event: records of one event come in rows */
    int64_t recent;
    uint8_t id_word;     /* where a sample holds its event's id */
    uint8_t id_from_end; /* and other records, counted from their end; 0: they do not */
    uint8_t ids_differ;  /* events that cannot be told apart */
};

void events_free(struct events *events);
/* The new event's number, or -1 without memory. */
int64_t events_add(struct events *events, const struct perfdata_layout *layout);
int events_add_id(struct events *events, uint64_t id, uint32_t event);
/* The number of the event of an id, or -1. */
int64_t events_find(struct events *events, uint64_t id);

/* The words of PERF_SAMPLE_READ's struct read_format, or 0 where they do not fit in `left` words. */
size_t layout_read_words(uint64_t format, const uint64_t *words, size_t left);

static inline struct event *event_at(const struct events *events, uint32_t number)
{
    return (struct event *)(void *)events->items.items + number;
}

/* The event of a sample, or of another record; -1 where its id is no event's. */
static inline int64_t event_of(struct events *events, const uint64_t *words, size_t count, int is_sample)
{
    uint64_t id;
    int64_t found;

    if (events->items.count == 1)
        return 0;
    if (!events->items.count)
        return -1;
    if (is_sample && (events->ids_differ || events->id_word >= count))
        return -1;
    if (!is_sample && (!events->id_from_end || events->id_from_end > count))
        return 0;
    id = is_sample ? words[events->id_word] : words[count - events->id_from_end];
    found = id == events->recent_id && events->recent >= 0 ? events->recent : events_find(events, id);
    return found < 0 && !is_sample ? 0 : found; /* records that perf makes up itself have no id */
}

#endif
