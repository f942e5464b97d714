#include "spaces.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

static uint32_t resolve(const struct spaces_space *table, uint32_t space, uint64_t address)
{
    for (int depth = 0; space && depth < SPACES_MAPPINGS_MAX; depth++) {
        if (address >= table[space].start && address < table[space].end)
            return space;
        space = table[space].parent;
    }
    return 0;
}

void spaces_resolve(const struct spaces_space *table, const uint32_t *spaces, const uint64_t *addresses, size_t count,
                    uint32_t *found)
{
    for (size_t i = 0; i < count; i++)
        found[i] = resolve(table, spaces[i], addresses[i]);
}
