#include "stacks.h"

#include <stdlib.h>
#include <string.h>

#include "intern.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

static const uint8_t unknown[] = "[unknown]";
static const uint8_t bare_kernel[] = "[kernel]";

enum { UNKNOWN_BYTES = sizeof(unknown) - 1, KERNEL_BYTES = sizeof(bare_kernel) - 1 };

struct place_at {
    uint64_t file;
    uint64_t address;
    uint32_t place;
};

struct stacks {
    struct perfdata *data;
    uint64_t seed;
    struct sequences names;
    uint32_t *kernel; /* the name of every word of the kernel chains */
    uint32_t *places; /* of every place */
    uint32_t *comms;  /* of every text */
    struct growing shown;
    struct place_at *order; /* the places by file and address */
    uint64_t place_count;
    uint64_t file_begin, file_end; /* of the file at hand, in that order */
};

struct stacks *stacks_new(struct perfdata *data, uint64_t seed)
{
    struct stacks *stacks = calloc(1, sizeof(*stacks));

    if (!stacks)
        return NULL;
    stacks->data = data;
    stacks->seed = seed;
    if (sequences_init(&stacks->names) < 0) {
        stacks_free(stacks);
        return NULL;
    }
    return stacks;
}

void stacks_free(struct stacks *stacks)
{
    if (!stacks)
        return;
    sequences_free(&stacks->names);
    free(stacks->kernel);
    free(stacks->places);
    free(stacks->comms);
    free(stacks->shown.items);
    free(stacks->order);
    free(stacks);
}

static int64_t name_of(struct stacks *stacks, const void *text, size_t size)
{
    return sequences_text(&stacks->names, stacks->seed, text, size);
}

/* The number of a kernel symbol's name, or -1. */
static int64_t name_symbol(struct stacks *stacks, const struct kallsyms *symbols, uint32_t symbol, int modules)
{
    struct kallsyms_words words = kallsyms_words(symbols, symbol);
    const char *text = kallsyms_text(symbols);
    size_t size = words.name_bytes + 1 + words.module_bytes;
    int64_t name;
    uint8_t *joined;

    if (!modules)
        return name_of(stacks, text + words.name, words.name_bytes);
    joined = malloc(size);
    if (!joined)
        return -1;
    memcpy(joined, text + words.name, words.name_bytes);
    joined[words.name_bytes] = 0;
    memcpy(joined + words.name_bytes + 1, text + words.module, words.module_bytes);
    name = name_of(stacks, joined, size);
    free(joined);
    return name;
}

int stacks_name_kernel(struct stacks *stacks, const struct kallsyms *symbols, int modules)
{
    struct perfdata_span chains = perfdata_kernel_chains(stacks->data);
    uint64_t count = chains.starts[chains.count];
    uint32_t *found = malloc((count + 1) * sizeof(*found));
    size_t symbol_count = symbols ? kallsyms_count(symbols) : 0;
    uint32_t *name_of_symbol = calloc(symbol_count + 1, sizeof(*name_of_symbol));
    int64_t other = -1;

    if (found && name_of_symbol)
        other = !symbols  ? name_of(stacks, bare_kernel, KERNEL_BYTES)
                : modules ? name_of(stacks, unknown, UNKNOWN_BYTES + 1) /* the NUL is the mark, too */
                          : name_of(stacks, unknown, UNKNOWN_BYTES);
    if (other >= 0 && symbols)
        kallsyms_resolve(symbols, chains.items, count, found);
    for (uint64_t i = 0; i < count && other >= 0; i++) {
        if (!symbols || found[i] == KALLSYMS_NONE) {
            found[i] = (uint32_t)other;
            continue;
        }
        if (!name_of_symbol[found[i]]) {
            int64_t name = name_symbol(stacks, symbols, found[i], modules);

            if (name < 0)
                other = -1;
            name_of_symbol[found[i]] = (uint32_t)name;
        }
        found[i] = name_of_symbol[found[i]];
    }
    free(name_of_symbol);
    if (other < 0) {
        free(found);
        return -1;
    }
    free(stacks->kernel);
    stacks->kernel = found;
    return 0;
}

int stacks_name_comms(struct stacks *stacks)
{
    struct perfdata_span texts = perfdata_texts(stacks->data);
    uint64_t count;
    const struct perfdata_group *groups = perfdata_groups(stacks->data, &count);

    free(stacks->comms);
    stacks->comms = calloc(texts.count, sizeof(*stacks->comms));
    if (!stacks->comms)
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t comm = groups[i].comm;
        uint64_t size = texts.starts[comm + 1] - texts.starts[comm];
        int64_t name;

        if (stacks->comms[comm])
            continue;
        name = size ? name_of(stacks, (const uint8_t *)texts.items + texts.starts[comm], size)
                    : name_of(stacks, unknown, UNKNOWN_BYTES);
        if (name < 0)
            return -1;
        stacks->comms[comm] = (uint32_t)name;
    }
    return 0;
}

static int by_file_and_address(const void *a, const void *b)
{
    const struct place_at *left = a, *right = b;

    if (left->file != right->file)
        return left->file < right->file ? -1 : 1;
    return left->address < right->address ? -1 : left->address > right->address;
}

static int sort_places(struct stacks *stacks)
{
    const struct perfdata_place *places = perfdata_places(stacks->data, &stacks->place_count);

    stacks->places = calloc(stacks->place_count + 1, sizeof(*stacks->places));
    stacks->order = malloc((stacks->place_count + 1) * sizeof(*stacks->order));
    if (!stacks->places || !stacks->order)
        return -1;
    for (uint64_t i = 0; i < stacks->place_count; i++)
        stacks->order[i] = (struct place_at){places[i].file, places[i].address, (uint32_t)i};
    qsort(stacks->order, stacks->place_count, sizeof(*stacks->order), by_file_and_address);
    return 0;
}

uint32_t stacks_next_file(struct stacks *stacks)
{
    uint64_t end;

    if (!stacks->order && sort_places(stacks) < 0)
        return STACKS_NONE;
    stacks->file_begin = end = stacks->file_end;
    if (end == stacks->place_count)
        return STACKS_NONE;
    while (end < stacks->place_count && stacks->order[end].file == stacks->order[stacks->file_begin].file)
        end++;
    stacks->file_end = end;
    return (uint32_t)stacks->order[stacks->file_begin].file;
}

/* Where an offset in a file is in its symbols' terms. */
static int to_address(const struct stacks_segment *segments, size_t count, uint64_t offset, uint64_t *address)
{
    for (size_t i = 0; i < count; i++) {
        if (offset >= segments[i].offset_bytes && offset - segments[i].offset_bytes < segments[i].size_bytes) {
            *address = offset - segments[i].offset_bytes + segments[i].address;
            return 1;
        }
    }
    return 0;
}

/* Replace the offsets of places that lie in a segment by addresses, and have those in front, sorted. Their number. */
static size_t place_addresses(struct place_at *places, size_t count, const struct stacks_segment *segments,
                              size_t segment_count)
{
    size_t mapped = 0;

    for (size_t i = 0; i < count; i++) {
        struct place_at place = places[i];

        if (!to_address(segments, segment_count, place.address, &place.address))
            continue;
        places[i] = places[mapped];
        places[mapped++] = place;
    }
    qsort(places, mapped, sizeof(*places), by_file_and_address);
    return mapped;
}

int stacks_name_file(struct stacks *stacks, const struct elf_table *table, const struct stacks_segment *segments,
                     size_t segment_count, const uint8_t *fallback, size_t fallback_bytes)
{
    struct place_at *places = stacks->order + stacks->file_begin;
    size_t count = (size_t)(stacks->file_end - stacks->file_begin), mapped = 0;
    int64_t other = name_of(stacks, fallback, fallback_bytes), name;
    uint64_t *addresses, *names;

    if (other < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        stacks->places[places[i].place] = (uint32_t)other;
    if (!table || !count)
        return 0;
    mapped = place_addresses(places, count, segments, segment_count);
    addresses = malloc((mapped + 1) * 2 * sizeof(*addresses));
    if (!addresses)
        return -1;
    names = addresses + mapped;
    for (size_t i = 0; i < mapped; i++)
        addresses[i] = places[i].address;
    if (elf_functions(table, addresses, mapped, names) < 0)
        mapped = 0, other = -1;
    for (size_t i = 0; i < mapped && other >= 0; i++) {
        size_t size = names[i] == ELF_NONE ? 0 : elf_name_bytes(table, names[i]);

        if (!size)
            continue;
        name = i && names[i] == names[i - 1] ? stacks->places[places[i - 1].place]
                                             : name_of(stacks, table->strings + names[i], size);
        if (name < 0)
            other = -1;
        stacks->places[places[i].place] = (uint32_t)name;
    }
    free(addresses);
    return other < 0 ? -1 : 0;
}

struct perfdata_span stacks_names(const struct stacks *stacks)
{
    return (struct perfdata_span){stacks->names.items.items, (const uint64_t *)(const void *)stacks->names.starts.items,
                                  stacks->names.count};
}

static int is_odd(const uint8_t *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] <= ' ' || text[i] > '~' || text[i] == ';')
            return 1;
    }
    return !size;
}

uint32_t stacks_odd_name(const struct stacks *stacks, uint32_t from)
{
    struct perfdata_span names = stacks_names(stacks);

    for (uint32_t i = from; i < names.count; i++) {
        if (is_odd((const uint8_t *)names.items + names.starts[i], (size_t)(names.starts[i + 1] - names.starts[i])))
            return i;
    }
    return STACKS_NONE;
}

int stacks_show(struct stacks *stacks, uint32_t name, const uint8_t *text, size_t size)
{
    int64_t other = name_of(stacks, text, size);
    uint32_t *shown;

    if (other < 0)
        return -1;
    while (stacks->shown.count < stacks->names.count) {
        shown = growing_room(&stacks->shown, 1, sizeof(*shown));
        if (!shown)
            return -1;
        *shown = (uint32_t)stacks->shown.count++;
    }
    shown = (uint32_t *)(void *)stacks->shown.items;
    shown[name] = (uint32_t)other;
    return 0;
}

static uint32_t shown_name(const struct stacks *stacks, uint32_t name)
{
    return name < stacks->shown.count ? ((const uint32_t *)(const void *)stacks->shown.items)[name] : name;
}

/* Nodes that chains were put below others at: (node, chain) and the node of the chain's leaf. */
struct known {
    struct pairs pairs;
    struct growing nodes;
};

static void known_free(struct known *known)
{
    pairs_free(&known->pairs);
    free(known->nodes.items);
}

/* The node of a chain's leaf, put below a node with its outermost frame first; -1 without memory. */
static int64_t put(struct stacks *stacks, struct calltree *tree, struct known *known, uint32_t node,
                   struct perfdata_span chains, uint32_t chain, int is_user)
{
    size_t before = known->pairs.items.count;
    int64_t number = pairs_number(&known->pairs, stacks->seed, node, chain), at = node;
    uint32_t *leaf;

    if (number < 0)
        return -1;
    if ((size_t)number < before)
        return ((const uint32_t *)(const void *)known->nodes.items)[number];
    for (uint64_t i = chains.starts[chain + 1]; i > chains.starts[chain]; i--) {
        uint32_t name = is_user ? stacks->places[((const uint32_t *)chains.items)[i - 1]] : stacks->kernel[i - 1];

        at = calltree_child(tree, (uint32_t)at, shown_name(stacks, name));
        if (at < 0)
            return -1;
    }
    leaf = growing_room(&known->nodes, 1, sizeof(*leaf));
    if (!leaf)
        return -1;
    *leaf = (uint32_t)at;
    known->nodes.count++;
    return at;
}

int stacks_build(struct stacks *stacks, struct calltree *tree, uint32_t event, uint32_t parts, const uint8_t *select)
{
    struct perfdata_span kernel = perfdata_kernel_chains(stacks->data), user = perfdata_user_chains(stacks->data);
    struct known known_user = {0}, known_kernel = {0};
    uint64_t count;
    const struct perfdata_group *groups = perfdata_groups(stacks->data, &count);
    int64_t node = 0;

    for (uint64_t i = 0; i < count && node >= 0; i++) {
        if ((event != STACKS_ALL_EVENTS && groups[i].event != event) || (select && !select[i]))
            continue;
        node = 0;
        if (parts & STACKS_COMM)
            node = calltree_child(tree, 0, shown_name(stacks, stacks->comms[groups[i].comm]));
        if (node >= 0 && parts & STACKS_USER && groups[i].user)
            node = put(stacks, tree, &known_user, (uint32_t)node, user, groups[i].user, 1);
        if (node >= 0 && groups[i].kernel)
            node = put(stacks, tree, &known_kernel, (uint32_t)node, kernel, groups[i].kernel, 0);
        if (node >= 0)
            calltree_add(tree, (uint32_t)node, groups[i].count, groups[i].period);
    }
    known_free(&known_user);
    known_free(&known_kernel);
    return node < 0 ? -1 : 0;
}
