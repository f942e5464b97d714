#include "columns.h"

#include <stdlib.h>

#include "intern.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

static int64_t code_of(struct slots *index, uint64_t seed, uint64_t value, uint64_t *distinct)
{
    uint64_t hash = hash_mix(seed, value);
    uint32_t number;

    if (slots_reserve(index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & index->mask; index->slots[at]; at = (at + 1) & index->mask) {
        number = (uint32_t)index->slots[at] - 1;
        if (distinct[number] == value)
            return number;
    }
    number = (uint32_t)index->used;
    distinct[number] = value;
    slots_put(index, hash, number);
    return number;
}

int64_t columns_distinct(const uint64_t *values, size_t count, uint64_t seed, uint64_t *distinct, uint32_t *codes)
{
    struct slots index = {NULL, 0, 0};
    int64_t code = 0, found;

    for (size_t i = 0; i < count && code >= 0; i++) {
        if (i && values[i] == values[i - 1]) {
            codes[i] = codes[i - 1];
            continue;
        }
        code = code_of(&index, seed, values[i], distinct);
        codes[i] = (uint32_t)code;
    }
    found = code < 0 ? -1 : (int64_t)index.used;
    free(index.slots);
    return found;
}

void columns_group(const uint32_t *codes, const int64_t *values, size_t count, int64_t *totals, int64_t *most,
                   uint32_t *histogram)
{
    for (size_t i = 0; i < count; i++) {
        size_t group = codes[i];
        unsigned bin = values[i] > 1 ? 63U - (unsigned)__builtin_clzll((uint64_t)values[i]) : 0;

        totals[group] = (int64_t)((uint64_t)totals[group] + (uint64_t)values[i]);
        if (values[i] > most[group])
            most[group] = values[i];
        histogram[group * COLUMNS_BINS + bin]++;
    }
}
