#include "layout.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

enum {
    READ_TIME_ENABLED = 1 << 0,
    READ_TIME_RUNNING = 1 << 1,
    READ_ID = 1 << 2,
    READ_GROUP = 1 << 3,
    READ_LOST = 1 << 4,
};

struct id_event {
    uint64_t id;
    uint32_t event;
};

void events_free(struct events *events)
{
    for (uint32_t i = 0; i < events->items.count; i++) {
        free(event_at(events, i)->rows.items);
        free(event_at(events, i)->raw.items);
    }
    free(events->items.items);
    free(events->ids.items);
    free(events->index.slots);
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

int64_t events_add(struct events *events, const struct perfdata_layout *layout)
{
    struct event *event = growing_room(&events->items, 1, sizeof(*event));
    uint8_t id_word, id_from_end;

    if (!event || events->items.count > UINT16_MAX)
        return -1;
    memset(event, 0, sizeof(*event));
    event->layout = *layout;
    lay_out(event, &id_word, &id_from_end);
    if (!events->items.count) {
        events->id_word = id_word;
        events->id_from_end = id_from_end;
    } else if (events->id_word != id_word || id_word == NO_WORD) {
        events->ids_differ = 1;
    } else if (events->id_from_end != id_from_end) {
        events->id_from_end = 0;
    }
    return (int64_t)events->items.count++;
}

int64_t events_find(struct events *events, uint64_t id)
{
    uint64_t hash = hash_mix(events->seed, id);

    if (!events->index.slots)
        return -1;
    for (size_t at = (hash >> 32) & events->index.mask; events->index.slots[at]; at = (at + 1) & events->index.mask) {
        const struct id_event *found =
            (const struct id_event *)(const void *)events->ids.items + ((uint32_t)events->index.slots[at] - 1);

        if (found->id == id) {
            events->recent_id = id;
            events->recent = found->event;
            return found->event;
        }
    }
    return -1;
}

int events_add_id(struct events *events, uint64_t id, uint32_t event)
{
    struct id_event *room;

    if (event >= events->items.count || events_find(events, id) >= 0)
        return 0;
    room = growing_room(&events->ids, 1, sizeof(*room));
    if (!room || slots_reserve(&events->index) < 0)
        return -1;
    *room = (struct id_event){id, event};
    slots_put(&events->index, hash_mix(events->seed, id), (uint32_t)events->ids.count);
    events->ids.count++;
    return 0;
}

size_t layout_read_words(uint64_t format, const uint64_t *words, size_t left)
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
