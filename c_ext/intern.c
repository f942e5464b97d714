#include "intern.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

enum { FIRST_ROOM = 64, FIRST_SLOTS = 1024 };

void *growing_room(struct growing *array, size_t more, size_t item_bytes)
{
    size_t room = array->room ? array->room : FIRST_ROOM;
    uint8_t *items;

    if (more > SIZE_MAX / 4 / item_bytes - array->count)
        return NULL;
    while (room < array->count + more)
        room += room / 2;
    if (room != array->room) {
        items = realloc(array->items, room * item_bytes);
        if (!items)
            return NULL;
        array->items = items;
        array->room = room;
    }
    return array->items + array->count * item_bytes;
}

static void put(uint64_t *slots, size_t mask, uint64_t slot)
{
    size_t at = (slot >> 32) & mask;

    while (slots[at])
        at = (at + 1) & mask;
    slots[at] = slot;
}

int slots_reserve(struct slots *index)
{
    size_t old = index->slots ? index->mask + 1 : 0;
    size_t size = old ? old * 2 : FIRST_SLOTS;
    uint64_t *slots;

    if (index->used >= UINT32_MAX - 1)
        return -1;
    if (old && index->used + 1 <= old / 8 * 5)
        return 0;
    slots = calloc(size, sizeof(*slots));
    if (!slots)
        return -1;
    for (size_t i = 0; i < old; i++) {
        if (index->slots[i])
            put(slots, size - 1, index->slots[i]);
    }
    free(index->slots);
    index->slots = slots;
    index->mask = size - 1;
    return 0;
}

void slots_put(struct slots *index, uint64_t hash, uint32_t number)
{
    put(index->slots, index->mask, (hash >> 32 << 32) | ((uint64_t)number + 1));
    index->used++;
}

uint64_t hash_words(uint64_t seed, const uint64_t *words, size_t count)
{
    uint64_t even = seed, odd = ~seed;
    size_t i = 0;

    for (; i + 2 <= count; i += 2) {
        even = hash_mix(even, words[i]);
        odd = hash_mix(odd, words[i + 1]);
    }
    if (i < count)
        even = hash_mix(even, words[i]);
    return hash_mix(hash_mix(even, odd), count);
}

static uint64_t hash_text(uint64_t seed, const uint8_t *text, size_t size)
{
    uint64_t hash = seed, word;

    for (; size >= sizeof(word); size -= sizeof(word), text += sizeof(word)) {
        memcpy(&word, text, sizeof(word));
        hash = hash_mix(hash, word);
    }
    word = 0;
    memcpy(&word, text, size);
    return hash_mix(hash_mix(hash, word), size);
}

int sequences_init(struct sequences *table)
{
    uint64_t *starts = growing_room(&table->starts, 2, sizeof(*starts));

    if (!starts)
        return -1;
    starts[0] = starts[1] = 0;
    table->starts.count = 2;
    table->count = 1;
    return 0;
}

void sequences_free(struct sequences *table)
{
    free(table->items.items);
    free(table->starts.items);
    free(table->index.slots);
}

static int64_t find_or_add(struct sequences *table, uint64_t hash, const void *items, size_t count, size_t item_bytes)
{
    const uint64_t *starts = (const uint64_t *)table->starts.items;
    uint64_t *next;
    void *room;

    if (slots_reserve(&table->index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & table->index.mask; table->index.slots[at]; at = (at + 1) & table->index.mask) {
        uint64_t slot = table->index.slots[at];
        uint32_t number = (uint32_t)slot - 1;

        if (slot >> 32 == hash >> 32 && starts[number + 1] - starts[number] == count &&
            !memcmp(table->items.items + starts[number] * item_bytes, items, count * item_bytes))
            return number;
    }
    room = growing_room(&table->items, count, item_bytes);
    next = growing_room(&table->starts, 1, sizeof(*next));
    if (!room || !next)
        return -1;
    memcpy(room, items, count * item_bytes);
    table->items.count += count;
    *next = table->items.count;
    table->starts.count++;
    slots_put(&table->index, hash, table->count);
    return table->count++;
}

int64_t sequences_words(struct sequences *table, uint64_t seed, const uint64_t *words, size_t count)
{
    return count ? find_or_add(table, hash_words(seed, words, count), words, count, sizeof(*words)) : 0;
}

int64_t sequences_text(struct sequences *table, uint64_t seed, const uint8_t *text, size_t size)
{
    return size ? find_or_add(table, hash_text(seed, text, size), text, size, 1) : 0;
}

int64_t sequences_numbers(struct sequences *table, uint64_t seed, const uint32_t *numbers, size_t count)
{
    return count ? find_or_add(table, hash_text(seed, (const uint8_t *)numbers, count * sizeof(*numbers)), numbers,
                               count, sizeof(*numbers))
                 : 0;
}

void pairs_free(struct pairs *table)
{
    free(table->items.items);
    free(table->index.slots);
}

int64_t pairs_number(struct pairs *table, uint64_t seed, uint64_t a, uint64_t b)
{
    uint64_t hash = hash_mix(hash_mix(seed, a), b);
    struct pair *room;

    if (slots_reserve(&table->index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & table->index.mask; table->index.slots[at]; at = (at + 1) & table->index.mask) {
        uint64_t slot = table->index.slots[at];
        const struct pair *found = pairs_at(table, (uint32_t)slot - 1);

        if (slot >> 32 == hash >> 32 && found->a == a && found->b == b)
            return (uint32_t)slot - 1;
    }
    room = growing_room(&table->items, 1, sizeof(*room));
    if (!room)
        return -1;
    *room = (struct pair){a, b};
    slots_put(&table->index, hash, (uint32_t)table->items.count);
    return (int64_t)table->items.count++;
}
