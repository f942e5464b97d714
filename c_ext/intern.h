/* Growing arrays, and tables that hold every distinct key once and number it in the order of arrival. */
#ifndef NUMABENCH_INTERN_H
#define NUMABENCH_INTERN_H

#include <stddef.h>
#include <stdint.h>

struct growing {
    uint8_t *items;
    size_t count;
    size_t room;
};

/* Room for `more` items of `item_bytes` each behind the last one, or NULL. The count is the caller's to move. */
void *growing_room(struct growing *array, size_t more, size_t item_bytes);

/* An open-addressed index: a slot is 0, or the upper half of a hash and a number + 1. */
struct slots {
    uint64_t *slots;
    size_t mask;
    size_t used;
};

/* Have room for one more slot. 0, or -1 without memory or numbers. */
int slots_reserve(struct slots *index);
void slots_put(struct slots *index, uint64_t hash, uint32_t number);

static inline uint64_t hash_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

uint64_t hash_words(uint64_t seed, const uint64_t *words, size_t count);

/* Sequences of items (words or bytes), each distinct one once; number 0 is the empty one. */
struct sequences {
    struct growing items;
    struct growing starts;
    struct slots index;
    uint32_t count;
};

int sequences_init(struct sequences *table);
void sequences_free(struct sequences *table);
/* The number of words[count], which may be empty, or -1 without memory. */
int64_t sequences_words(struct sequences *table, uint64_t seed, const uint64_t *words, size_t count);
int64_t sequences_text(struct sequences *table, uint64_t seed, const uint8_t *text, size_t size);
int64_t sequences_numbers(struct sequences *table, uint64_t seed, const uint32_t *numbers, size_t count);

/* Pairs of words, each distinct one once. */
struct pair {
    uint64_t a;
    uint64_t b;
};

struct pairs {
    struct growing items;
    struct slots index;
};

void pairs_free(struct pairs *table);
/* The number of a pair, or -1 without memory. */
int64_t pairs_number(struct pairs *table, uint64_t seed, uint64_t a, uint64_t b);

static inline const struct pair *pairs_at(const struct pairs *table, uint32_t number)
{
    return (const struct pair *)(const void *)table->items.items + number;
}

#endif
