/* The functions at some addresses, out of the symbol table of an ELF file (elf(5)) of a 64-bit little-endian machine.
 */
#ifndef NUMABENCH_ELF_SYMBOLS_H
#define NUMABENCH_ELF_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

#define ELF_NONE UINT64_MAX

struct elf_table {
    const uint8_t *symbols; /* struct Elf64_Sym, one after the other */
    size_t symbol_bytes;
    const char *strings;
    size_t string_bytes;
};

/*
 * names[i] becomes where in the strings the name of the function at addresses[i] begins, or ELF_NONE. The addresses are
 * sorted. Of functions at one address it is perf's choice: sized, strong, global, with fewer underscores in front, then
 * the longer name. 0 or -1 without memory.
 */
int elf_functions(const struct elf_table *table, const uint64_t *addresses, size_t count, uint64_t *names);
/* The bytes of a name. */
size_t elf_name_bytes(const struct elf_table *table, uint64_t name);

#endif
