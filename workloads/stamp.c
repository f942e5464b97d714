#include "stamp.h"

void stamp_fill(void *address, size_t bytes, uint64_t line)
{
    uint64_t *words = address;

    for (size_t i = 0; i < bytes / LINE_BYTES; i++, line++, words += LINE_WORDS) {
        words[0] = stamp(0, line);
        for (unsigned word = 1; word < LINE_WORDS; word++)
            words[word] = stamp_filler(line, word);
    }
}

enum stamp_kind stamp_kind(uint64_t found, uint64_t expected)
{
    if (found == expected)
        return STAMP_RIGHT;
    if (!found)
        return STAMP_ZERO;
    if ((found & 0xff) != stamp_guard(found >> 8))
        return STAMP_GARBAGE;
    return (uint32_t)(found >> 8) == (uint32_t)(expected >> 8) ? STAMP_STALE : STAMP_OTHER_PAGE;
}

const char *stamp_kind_name(enum stamp_kind kind)
{
    static const char *const names[] = {"right", "stale", "other-page", "zero", "garbage"};

    return names[kind];
}
