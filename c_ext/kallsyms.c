#include "kallsyms.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

enum { PAGE = 4096, CACHE_SLOTS = 8192 };

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static int is_kept(char type)
{
    switch (type | ('a' ^ 'A')) {
    case 't':
    case 'w':
    case 'd':
    case 'b':
        return 1;
    default:
        return 0;
    }
}

static const char *word_end(const char *at, const char *end)
{
    while (at < end && *at != ' ' && *at != '\t')
        at++;
    return at;
}

/* "ffffffff81000000 T _text" or "ffffffffc0000000 t name\t[module]" */
static int parse_line(const char *text, const char *line, const char *end, struct kallsyms_symbol *symbol)
{
    const char *at = line, *stop;
    uint64_t address = 0;

    for (; at < end && hex_digit(*at) >= 0; at++)
        address = address << 4 | (uint64_t)hex_digit(*at);
    if (at == line || at - line > 16 || end - at < 4 || at[0] != ' ' || at[2] != ' ' || !is_kept(at[1]))
        return 0;
    at += 3;
    stop = word_end(at, end);
    if (stop == at || stop - at > UINT16_MAX)
        return 0;
    *symbol = (struct kallsyms_symbol){.start = address, .end = address};
    symbol->name = (uint32_t)(at - text);
    symbol->name_bytes = (uint16_t)(stop - at);
    while (stop < end && (*stop == ' ' || *stop == '\t'))
        stop++;
    if (end - stop > 2 && *stop == '[' && end[-1] == ']' && end - stop - 2 <= UINT16_MAX) {
        symbol->module = (uint32_t)(stop + 1 - text);
        symbol->module_bytes = (uint16_t)(end - stop - 2);
    }
    return 1;
}

static int by_address(const void *a, const void *b)
{
    const struct kallsyms_symbol *left = a, *right = b;

    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return left->name < right->name ? -1 : left->name > right->name;
}

static int is_sorted(const struct kallsyms_symbol *symbols, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (symbols[i].start < symbols[i - 1].start)
            return 0;
    }
    return 1;
}

static int same_module(const char *text, const struct kallsyms_symbol *a, const struct kallsyms_symbol *b)
{
    return a->module_bytes == b->module_bytes && !memcmp(text + a->module, text + b->module, a->module_bytes);
}

/* A symbol ends where the next one begins, but before another module within the page after its own. */
static uint64_t end_of(const char *text, const struct kallsyms_symbol *symbol, const struct kallsyms_symbol *next)
{
    uint64_t page_end =
        symbol->start < UINT64_MAX - 2 * PAGE ? (symbol->start + 2 * PAGE - 1) / PAGE * PAGE : UINT64_MAX;

    if (next && (same_module(text, symbol, next) || next->start < page_end))
        return next->start;
    return page_end;
}

size_t kallsyms_parse(const char *text, size_t size, struct kallsyms_symbol *symbols, size_t room)
{
    size_t count = 0, kept = 0;

    for (const char *line = text, *end = text + size; line < end && count < room;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *line_end = newline ? newline : end;

        count += (size_t)parse_line(text, line, line_end, &symbols[count]);
        line = line_end + 1;
    }
    if (!is_sorted(symbols, count))
        qsort(symbols, count, sizeof(*symbols), by_address);
    for (size_t i = 0; i < count; i++) {
        if (i + 1 < count && symbols[i + 1].start == symbols[i].start)
            continue;
        symbols[kept] = symbols[i];
        symbols[kept].end = end_of(text, &symbols[i], i + 1 < count ? &symbols[i + 1] : NULL);
        kept++;
    }
    return kept;
}

static uint32_t find(const struct kallsyms_symbol *symbols, size_t count, uint64_t address)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (symbols[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low && address < symbols[low - 1].end ? (uint32_t)(low - 1) : KALLSYMS_NONE;
}

void kallsyms_resolve(const struct kallsyms_symbol *symbols, size_t count, const uint64_t *addresses,
                      size_t address_count, uint32_t *found)
{
    struct {
        uint64_t address;
        uint32_t symbol;
    } cache[CACHE_SLOTS];

    /* Address 0 hashes to slot 0, and is what the empty slots seem to hold. */
    memset(cache, 0, sizeof(cache));
    cache[0].symbol = find(symbols, count, 0);
    for (size_t i = 0; i < address_count; i++) {
        size_t slot = (addresses[i] * UINT64_C(0x9E3779B97F4A7C15)) >> 51;

        if (cache[slot].address != addresses[i]) {
            cache[slot].address = addresses[i];
            cache[slot].symbol = find(symbols, count, addresses[i]);
        }
        found[i] = cache[slot].symbol;
    }
}
