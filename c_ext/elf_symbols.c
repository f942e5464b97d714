#include "elf_symbols.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

enum { NO_SIZE_RANK = 4, WEAK_RANK = 2, NOT_GLOBAL_RANK = 1 };

struct function {
    uint64_t start;
    uint64_t size;
    uint32_t name;
    uint32_t rank;
};

/* Functions that are defined; those written in assembler may be global labels alone: _start. */
static int read_function(const struct elf_table *table, size_t number, struct function *function)
{
    unsigned type, binding;
    Elf64_Sym symbol;

    memcpy(&symbol, table->symbols + number * sizeof(symbol), sizeof(symbol));
    type = ELF64_ST_TYPE(symbol.st_info);
    binding = ELF64_ST_BIND(symbol.st_info);
    if (type == STT_NOTYPE && (binding != STB_GLOBAL || symbol.st_shndx >= SHN_LORESERVE))
        return 0;
    if (type != STT_NOTYPE && type != STT_FUNC && type != STT_GNU_IFUNC)
        return 0;
    if (symbol.st_shndx == SHN_UNDEF || !symbol.st_name || symbol.st_name >= table->string_bytes)
        return 0;
    *function = (struct function){symbol.st_value, symbol.st_size, symbol.st_name, 0};
    function->rank = (symbol.st_size ? 0 : NO_SIZE_RANK) + (binding == STB_WEAK ? WEAK_RANK : 0) +
                     (binding == STB_GLOBAL ? 0 : NOT_GLOBAL_RANK);
    return 1;
}

/* The first of the addresses that is not below a value. */
static size_t first_from(const uint64_t *addresses, size_t count, uint64_t value)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (addresses[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t elf_name_bytes(const struct elf_table *table, uint64_t name)
{
    const char *text = table->strings + name, *end = memchr(text, 0, table->string_bytes - name);

    return end ? (size_t)(end - text) : table->string_bytes - name;
}

static size_t underscores(const struct elf_table *table, uint64_t name)
{
    size_t count = 0;

    while (name + count < table->string_bytes && table->strings[name + count] == '_')
        count++;
    return count;
}

static int is_better(const struct elf_table *table, const struct function *function, uint64_t name, uint32_t rank)
{
    size_t own, other;

    if (name == ELF_NONE || function->rank != rank)
        return name == ELF_NONE || function->rank < rank;
    own = underscores(table, function->name);
    other = underscores(table, name);
    if (own != other)
        return own < other;
    return elf_name_bytes(table, function->name) > elf_name_bytes(table, name);
}

/* starts[i] becomes 1 + the nearest start of a function that is not above addresses[i], 0 where there is none. */
static void find_starts(const struct elf_table *table, const uint64_t *addresses, size_t count, uint64_t *starts)
{
    struct function function;

    for (size_t number = 0; number < table->symbol_bytes / sizeof(Elf64_Sym); number++) {
        size_t at;

        if (!read_function(table, number, &function) || function.start == UINT64_MAX)
            continue;
        at = first_from(addresses, count, function.start);
        if (at < count && starts[at] < function.start + 1)
            starts[at] = function.start + 1;
    }
    for (size_t i = 1; i < count; i++) {
        if (starts[i] < starts[i - 1])
            starts[i] = starts[i - 1];
    }
}

int elf_functions(const struct elf_table *table, const uint64_t *addresses, size_t count, uint64_t *names)
{
    uint64_t *starts = calloc(count + 1, sizeof(*starts));
    uint32_t *ranks = calloc(count + 1, sizeof(*ranks));
    struct function function;

    for (size_t i = 0; i < count; i++)
        names[i] = ELF_NONE;
    if (!starts || !ranks) {
        free(starts);
        free(ranks);
        return -1;
    }
    find_starts(table, addresses, count, starts);
    for (size_t number = 0; number < table->symbol_bytes / sizeof(Elf64_Sym); number++) {
        if (!read_function(table, number, &function))
            continue;
        /* One without a size reaches up to the next function: to all addresses that it is the nearest of. */
        for (size_t at = first_from(addresses, count, function.start); at < count && starts[at] == function.start + 1;
             at++) {
            if (function.size ? addresses[at] - function.start >= function.size : addresses[at] == UINT64_MAX)
                break;
            if (is_better(table, &function, names[at], ranks[at])) {
                names[at] = function.name;
                ranks[at] = function.rank;
            }
        }
    }
    free(starts);
    free(ranks);
    return 0;
}
