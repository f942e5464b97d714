/* What the words of driven memory hold. A line of 64 bytes begins with a stamp, which its only writer renews; the words
 * behind it stay what the first touch stored. */
#ifndef NUMABENCH_STAMP_H
#define NUMABENCH_STAMP_H

#include <stddef.h>
#include <stdint.h>

enum { LINE_BYTES = 64, LINE_WORDS = LINE_BYTES / sizeof(uint64_t) };
static const uint64_t STAMP_WRITES = 1ULL << 23; /* a stamp's write is known modulo this, its line modulo 2^32 */

enum stamp_kind { STAMP_RIGHT, STAMP_STALE, STAMP_OTHER_PAGE, STAMP_ZERO, STAMP_GARBAGE };

/* Spread so that neither zero nor a word of another kind passes. */
static inline uint64_t stamp_guard(uint64_t body)
{
    return (body * 0x9e3779b97f4a7c15 >> 56) ^ 0xa5;
}

/* The stamp of the `write`th write (0: the first touch) to a line, which is numbered over the memory. Below 2^63, and
 * never zero. */
static inline uint64_t stamp(uint64_t write, uint64_t line)
{
    uint64_t body = write % STAMP_WRITES << 32 | (uint32_t)line;

    return body << 8 | stamp_guard(body);
}

/* What the other words of a line hold: `word` from 1. Below 2^63, and another at each place. */
static inline uint64_t stamp_filler(uint64_t line, unsigned word)
{
    return (line * LINE_WORDS + word) * 0x9e3779b97f4a7c15 >> 1;
}

/* Stores the first touch to lines from `line` on. */
void stamp_fill(void *address, size_t bytes, uint64_t line);
/* What `found` is where `expected` should be. A stamp of another line is of another page, or of another place in it. */
enum stamp_kind stamp_kind(uint64_t found, uint64_t expected);
const char *stamp_kind_name(enum stamp_kind kind);

#endif
