/* The call stacks of a recording with names for addresses. */
#ifndef NUMABENCH_STACKS_H
#define NUMABENCH_STACKS_H

#include "calltree.h"
#include "elf_symbols.h"
#include "kallsyms.h"
#include "perfdata.h"

#define STACKS_NONE UINT32_MAX
#define STACKS_ALL_EVENTS UINT32_MAX

/* A part of an ELF file that is mapped: PT_LOAD. */
struct stacks_segment {
    uint64_t offset_bytes;
    uint64_t address;
    uint64_t size_bytes;
};

struct stacks;

/* The recording must stay, and must have been read to its end. */
struct stacks *stacks_new(struct perfdata *data, uint64_t seed);
void stacks_free(struct stacks *stacks);

/*
 * Name the kernel's addresses, by `[kernel]` without symbols. With `modules` a name is followed by a NUL and the module
 * it is in. 0, or -1 without memory, as all of these.
 */
int stacks_name_kernel(struct stacks *stacks, const struct kallsyms *symbols, int modules);
int stacks_name_comms(struct stacks *stacks);
/* The first file, or the one after, that addresses of user chains are in; STACKS_NONE behind the last. */
uint32_t stacks_next_file(struct stacks *stacks);
/* Name the addresses in that file by their functions, those without one by `fallback`. */
int stacks_name_file(struct stacks *stacks, const struct elf_table *table, const struct stacks_segment *segments,
                     size_t segment_count, const uint8_t *fallback, size_t fallback_bytes);

/* All names; name 0 is the empty one. */
struct perfdata_span stacks_names(const struct stacks *stacks);
/* The first name from a number on that holds a blank, a semicolon or what is not printable ASCII, or is empty. */
uint32_t stacks_odd_name(const struct stacks *stacks, uint32_t from);
/* Have a name be shown as another text. */
int stacks_show(struct stacks *stacks, uint32_t name, const uint8_t *text, size_t size);

enum { STACKS_USER = 1, STACKS_COMM = 2 };

/*
 * Put the stacks of one event, or of all, into a tree; where `select` is given, those of groups that it is not 0 for.
 * What is put in must have been named before.
 */
int stacks_build(struct stacks *stacks, struct calltree *tree, uint32_t event, uint32_t parts, const uint8_t *select);

#endif
