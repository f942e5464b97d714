#include "kallsyms.h"

#include <stdlib.h>
#include <string.h>

#include "intern.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

enum { PAGE = 4096, CACHE_SLOTS = 8192, DIGITS = 16 };

struct symbol {
    uint64_t start;
    uint32_t name; /* where it is in the text */
};

struct kallsyms {
    const char *text;
    size_t size;
    struct growing symbols;
};

static struct symbol *symbols_of(const struct kallsyms *table)
{
    return (struct symbol *)(void *)table->symbols.items;
}

/* The value of each hexadecimal digit and 1 more, 0 for all else: to branch on what digits are costs more. */
static const uint8_t digit_values[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

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
static int parse_line(const char *text, const char *line, const char *end, struct symbol *symbol)
{
    const char *at = line;
    uint64_t address = 0;

    for (uint8_t value; at < end && (value = digit_values[(uint8_t)*at]); at++)
        address = address << 4 | (value - 1U);
    if (at == line || at - line > DIGITS || end - at < 4 || at[0] != ' ' || at[2] != ' ' || !is_kept(at[1]))
        return 0;
    if (at[3] == ' ' || at[3] == '\t')
        return 0;
    *symbol = (struct symbol){address, (uint32_t)(at + 3 - text)};
    return 1;
}

static int by_address(const void *a, const void *b)
{
    const struct symbol *left = a, *right = b;

    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return left->name < right->name ? -1 : left->name > right->name;
}

static void sort(struct symbol *symbols, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (symbols[i].start < symbols[i - 1].start) {
            qsort(symbols, count, sizeof(*symbols), by_address);
            return;
        }
    }
}

struct kallsyms *kallsyms_new(const char *text, size_t size)
{
    struct kallsyms *table = calloc(1, sizeof(*table));
    struct symbol *symbols;
    size_t kept = 0;

    if (!table)
        return NULL;
    table->text = text;
    table->size = size;
    for (const char *line = text, *end = text + size; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *line_end = newline ? newline : end;
        struct symbol *room = growing_room(&table->symbols, 1, sizeof(*room));

        if (!room) {
            kallsyms_free(table);
            return NULL;
        }
        table->symbols.count += (size_t)parse_line(text, line, line_end, room);
        line = line_end + 1;
    }
    symbols = symbols_of(table);
    sort(symbols, table->symbols.count);
    for (size_t i = 0; i < table->symbols.count; i++) {
        if (i + 1 == table->symbols.count || symbols[i + 1].start != symbols[i].start)
            symbols[kept++] = symbols[i];
    }
    table->symbols.count = kept;
    return table;
}

struct kallsyms *kallsyms_moved(const struct kallsyms *from, uint64_t delta)
{
    struct kallsyms *table = calloc(1, sizeof(*table));

    if (!table)
        return NULL;
    table->text = from->text;
    table->size = from->size;
    for (uint32_t i = 0; i < from->symbols.count; i++) {
        struct symbol *room = growing_room(&table->symbols, 1, sizeof(*room));

        if (!room) {
            kallsyms_free(table);
            return NULL;
        }
        if (kallsyms_words(from, i).module_bytes)
            continue;
        *room = (struct symbol){symbols_of(from)[i].start + delta, symbols_of(from)[i].name};
        table->symbols.count++;
    }
    return table;
}

void kallsyms_free(struct kallsyms *table)
{
    if (!table)
        return;
    free(table->symbols.items);
    free(table);
}

size_t kallsyms_count(const struct kallsyms *table)
{
    return table->symbols.count;
}

uint64_t kallsyms_last(const struct kallsyms *table)
{
    return table->symbols.count ? symbols_of(table)[table->symbols.count - 1].start : 0;
}

const char *kallsyms_text(const struct kallsyms *table)
{
    return table->text;
}

struct kallsyms_words kallsyms_words(const struct kallsyms *table, uint32_t number)
{
    const char *at = table->text + symbols_of(table)[number].name, *end = table->text + table->size;
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    const char *line_end = newline ? newline : end, *stop = word_end(at, line_end);
    struct kallsyms_words words = {.name = (size_t)(at - table->text), .name_bytes = (size_t)(stop - at)};

    while (stop < line_end && (*stop == ' ' || *stop == '\t'))
        stop++;
    if (line_end - stop > 2 && *stop == '[' && line_end[-1] == ']') {
        words.module = (size_t)(stop + 1 - table->text);
        words.module_bytes = (size_t)(line_end - stop - 2);
    }
    return words;
}

static int same_module(const struct kallsyms *table, uint32_t one, uint32_t other)
{
    struct kallsyms_words a = kallsyms_words(table, one), b = kallsyms_words(table, other);

    return a.module_bytes == b.module_bytes && !memcmp(table->text + a.module, table->text + b.module, a.module_bytes);
}

/* A symbol ends where the next one begins, but before another module within the page after its own. */
static uint64_t end_of(const struct kallsyms *table, uint32_t number)
{
    const struct symbol *symbol = symbols_of(table) + number;
    uint64_t page_end =
        symbol->start < UINT64_MAX - 2 * PAGE ? (symbol->start + 2 * PAGE - 1) / PAGE * PAGE : UINT64_MAX;

    if (number + 1 < table->symbols.count && (symbol[1].start < page_end || same_module(table, number, number + 1)))
        return symbol[1].start;
    return page_end;
}

static uint32_t find(const struct kallsyms *table, uint64_t address)
{
    const struct symbol *symbols = symbols_of(table);
    size_t low = 0, high = table->symbols.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (symbols[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low && address < end_of(table, (uint32_t)(low - 1)) ? (uint32_t)(low - 1) : KALLSYMS_NONE;
}

void kallsyms_resolve(const struct kallsyms *table, const uint64_t *addresses, size_t count, uint32_t *found)
{
    struct {
        uint64_t address;
        uint32_t symbol;
    } cache[CACHE_SLOTS];

    /* Address 0 hashes to slot 0, and is what the empty slots seem to hold. */
    memset(cache, 0, sizeof(cache));
    cache[0].symbol = find(table, 0);
    for (size_t i = 0; i < count; i++) {
        size_t slot = (addresses[i] * UINT64_C(0x9E3779B97F4A7C15)) >> 51;

        if (cache[slot].address != addresses[i]) {
            cache[slot].address = addresses[i];
            cache[slot].symbol = find(table, addresses[i]);
        }
        found[i] = cache[slot].symbol;
    }
}
