#include "folded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "intern.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

enum { COUNT_BYTES = 24 }; /* a blank, 20 digits, a newline */

/*
 * What is sorted among siblings: a node's own line, which ends with its name, and apart from it the lines of all below
 * it, which go on with a semicolon. Another name may come between the two: "a 1", "a.b 1", "a;c 1".
 */
struct item {
    uint32_t node;
    uint32_t is_below;
};

/* The siblings that are being gone through at a depth: items[begin..end), `next` is the next one. */
struct level {
    size_t begin, next, end;
    size_t path_bytes;
};

struct folded {
    const struct calltree_node *nodes;
    size_t node_count;
    struct perfdata_span names;
    uint32_t *first_child; /* where a node's children begin in `children`; one more than there are nodes */
    uint32_t *children;
    struct growing items;
    struct growing levels;
    struct growing path;
};

void folded_free(struct folded *folded)
{
    if (!folded)
        return;
    free(folded->first_child);
    free(folded->children);
    free(folded->items.items);
    free(folded->levels.items);
    free(folded->path.items);
    free(folded);
}

static const char *name_at(const struct folded *folded, uint32_t node, size_t *size)
{
    uint32_t name = folded->nodes[node].name;

    *size = (size_t)(folded->names.starts[name + 1] - folded->names.starts[name]);
    return (const char *)folded->names.items + folded->names.starts[name];
}

static int byte_of(const char *name, size_t size, size_t at, uint32_t is_below)
{
    if (at < size)
        return name[at] == ';' ? ':' : (unsigned char)name[at];
    return at == size && is_below ? ';' : -1;
}

static int compare(const struct folded *folded, struct item a, struct item b)
{
    size_t a_bytes, b_bytes, at = 0;
    const char *one = name_at(folded, a.node, &a_bytes), *other = name_at(folded, b.node, &b_bytes);

    for (;; at++) {
        int left = byte_of(one, a_bytes, at, a.is_below), right = byte_of(other, b_bytes, at, b.is_below);

        if (left != right)
            return left < right ? -1 : 1;
        if (left < 0 || (at >= a_bytes && at >= b_bytes))
            return a.node < b.node ? -1 : a.node > b.node;
    }
}

/* Siblings are few, or many: heap sort takes no memory and no quadratic time. */
static void sift(const struct folded *folded, struct item *items, size_t at, size_t count)
{
    struct item item = items[at];

    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && compare(folded, items[child], items[child + 1]) < 0)
            child++;
        if (compare(folded, item, items[child]) >= 0)
            break;
        items[at] = items[child];
    }
    items[at] = item;
}

static void sort(const struct folded *folded, struct item *items, size_t count)
{
    for (size_t at = count / 2; at-- > 0;)
        sift(folded, items, at, count);
    for (size_t end = count; end-- > 1;) {
        struct item last = items[end];

        items[end] = items[0];
        items[0] = last;
        sift(folded, items, 0, end);
    }
}

/* Begin with the children of a node, whose path is written. 0 or -1. */
static int descend(struct folded *folded, uint32_t node)
{
    uint32_t first = folded->first_child[node], last = folded->first_child[node + 1];
    struct item *items = growing_room(&folded->items, 2 * (size_t)(last - first), sizeof(*items));
    struct level *level = growing_room(&folded->levels, 1, sizeof(*level));
    size_t begin = folded->items.count, count = 0;

    if (!items || !level)
        return -1;
    for (uint32_t i = first; i < last; i++) {
        uint32_t child = folded->children[i];

        if (folded->nodes[child].count)
            items[count++] = (struct item){child, 0};
        if (folded->first_child[child] < folded->first_child[child + 1])
            items[count++] = (struct item){child, 1};
    }
    sort(folded, items, count);
    *level = (struct level){begin, begin, begin + count, folded->path.count};
    folded->items.count += count;
    folded->levels.count++;
    return 0;
}

struct folded *folded_new(const struct calltree *tree, struct perfdata_span names)
{
    struct folded *folded = calloc(1, sizeof(*folded));
    size_t count;

    if (!folded)
        return NULL;
    folded->nodes = calltree_nodes(tree, &count);
    folded->node_count = count;
    folded->names = names;
    folded->first_child = calloc(count + 2, sizeof(*folded->first_child));
    folded->children = calloc(count, sizeof(*folded->children));
    if (!folded->first_child || !folded->children) {
        folded_free(folded);
        return NULL;
    }
    /* Counting sort by parent: the counts stand two places on, so that filling moves them to where they belong. */
    for (size_t i = 1; i < count; i++)
        folded->first_child[folded->nodes[i].parent + 2]++;
    for (size_t i = 2; i < count + 2; i++)
        folded->first_child[i] += folded->first_child[i - 1];
    for (size_t i = 1; i < count; i++)
        folded->children[folded->first_child[folded->nodes[i].parent + 1]++] = (uint32_t)i;
    if (descend(folded, 0) < 0) {
        folded_free(folded);
        return NULL;
    }
    return folded;
}

/* Have the path end with a node's name, below the path of its level. */
static int extend_path(struct folded *folded, const struct level *level, uint32_t node)
{
    size_t size, separator = level->path_bytes ? 1 : 0;
    const char *name = name_at(folded, node, &size);
    char *room;

    folded->path.count = level->path_bytes;
    room = growing_room(&folded->path, size + separator, 1);
    if (!room)
        return -1;
    if (separator)
        *room++ = ';';
    memcpy(room, name, size);
    for (size_t i = 0; i < size; i++) {
        if (room[i] == ';')
            room[i] = ':';
    }
    folded->path.count += size + separator;
    return 0;
}

int64_t folded_next(struct folded *folded, char *text, size_t room)
{
    size_t written = 0;

    while (folded->levels.count) {
        struct level *level = (struct level *)(void *)folded->levels.items + (folded->levels.count - 1);
        struct item item;

        if (level->next == level->end) {
            folded->items.count = level->begin;
            folded->levels.count--;
            continue;
        }
        item = ((const struct item *)(const void *)folded->items.items)[level->next];
        if (extend_path(folded, level, item.node) < 0)
            return -1;
        if (item.is_below) {
            level->next++;
            if (descend(folded, item.node) < 0)
                return -1;
            continue;
        }
        if (folded->path.count + COUNT_BYTES > room - written)
            return written ? (int64_t)written : (int64_t)(folded->path.count + COUNT_BYTES);
        level->next++;
        memcpy(text + written, folded->path.items, folded->path.count);
        written += folded->path.count;
        written += (size_t)snprintf(text + written, COUNT_BYTES, " %llu\n",
                                    (unsigned long long)folded->nodes[item.node].count);
    }
    return (int64_t)written;
}
