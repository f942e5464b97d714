/* /proc/kallsyms as a sorted table, and the symbols of many addresses. */
#ifndef NUMABENCH_KALLSYMS_H
#define NUMABENCH_KALLSYMS_H

#include <stddef.h>
#include <stdint.h>

#define KALLSYMS_NONE UINT32_MAX

struct kallsyms;

/* Where the name and the module ("" where none) of a symbol are in the text. */
struct kallsyms_words {
    size_t name;
    size_t name_bytes;
    size_t module;
    size_t module_bytes;
};

/*
 * Read text of at most UINT32_MAX bytes, which must stay where it is: a table sorted by address, with one symbol for
 * each, of aliases the last one, as perf has it, and like perf only the types T, W, D and B of either case. Lines that
 * are none are left out. NULL without memory.
 */
struct kallsyms *kallsyms_new(const char *text, size_t size);
/* The symbols that are in no module, with `delta` added to their addresses. */
struct kallsyms *kallsyms_moved(const struct kallsyms *from, uint64_t delta);
void kallsyms_free(struct kallsyms *table);

size_t kallsyms_count(const struct kallsyms *table);
/* The highest address of a symbol, 0 for none. */
uint64_t kallsyms_last(const struct kallsyms *table);
/* `number` is below the count. */
struct kallsyms_words kallsyms_words(const struct kallsyms *table, uint32_t number);
const char *kallsyms_text(const struct kallsyms *table);

/* found[i] becomes the number of the symbol that holds addresses[i], or KALLSYMS_NONE. */
void kallsyms_resolve(const struct kallsyms *table, const uint64_t *addresses, size_t count, uint32_t *found);

#endif
