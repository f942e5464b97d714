/* /proc/kallsyms as a sorted table, and the symbols of many addresses. */
#ifndef NUMABENCH_KALLSYMS_H
#define NUMABENCH_KALLSYMS_H

#include <stddef.h>
#include <stdint.h>

#define KALLSYMS_NONE UINT32_MAX

/* A symbol and where its name and module ("" where none) are in the text. */
struct kallsyms_symbol {
    uint64_t start;
    uint64_t end;
    uint32_t name;
    uint32_t module;
    uint16_t name_bytes;
    uint16_t module_bytes;
    uint32_t reserved;
};

/*
 * Read text of at most UINT32_MAX bytes into symbols[room], sorted, one for each address: of aliases the last one, as
 * perf has it, and like perf only the types T, W, D and B of either case. Lines that are none are left out. Returns
 * the number of symbols.
 */
size_t kallsyms_parse(const char *text, size_t size, struct kallsyms_symbol *symbols, size_t room);

/* found[i] becomes the number of the symbol that holds addresses[i], or KALLSYMS_NONE. */
void kallsyms_resolve(const struct kallsyms_symbol *symbols, size_t count, const uint64_t *addresses,
                      size_t address_count, uint32_t *found);

#endif
