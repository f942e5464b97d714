#include "calltree.h"

#include <stdlib.h>

#include "intern.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

struct calltree {
    struct growing parents;
    struct growing names;
    struct slots index;
    uint64_t seed;
};

static int64_t add_node(struct calltree *tree, uint32_t parent, uint32_t name)
{
    uint32_t *parents = growing_room(&tree->parents, 1, sizeof(*parents));
    uint32_t *names = growing_room(&tree->names, 1, sizeof(*names));

    if (!parents || !names)
        return -1;
    *parents = parent;
    *names = name;
    tree->parents.count++;
    return (int64_t)tree->names.count++;
}

struct calltree *calltree_new(uint64_t seed)
{
    struct calltree *tree = calloc(1, sizeof(*tree));

    if (!tree)
        return NULL;
    tree->seed = seed;
    if (add_node(tree, 0, CALLTREE_ROOT_NAME) < 0) {
        calltree_free(tree);
        return NULL;
    }
    return tree;
}

void calltree_free(struct calltree *tree)
{
    if (!tree)
        return;
    free(tree->parents.items);
    free(tree->names.items);
    free(tree->index.slots);
    free(tree);
}

static int64_t child(struct calltree *tree, uint32_t parent, uint32_t name)
{
    uint64_t hash = hash_mix(tree->seed, (uint64_t)parent << 32 | name);
    int64_t node;

    if (slots_reserve(&tree->index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & tree->index.mask; tree->index.slots[at]; at = (at + 1) & tree->index.mask) {
        uint64_t slot = tree->index.slots[at];
        uint32_t number = (uint32_t)slot - 1;

        if (slot >> 32 == hash >> 32 && ((const uint32_t *)tree->parents.items)[number] == parent &&
            ((const uint32_t *)tree->names.items)[number] == name)
            return number;
    }
    node = add_node(tree, parent, name);
    if (node >= 0)
        slots_put(&tree->index, hash, (uint32_t)node);
    return node;
}

int calltree_insert(struct calltree *tree, const uint32_t *below, const uint32_t *chains, size_t count,
                    const uint64_t *starts, const uint32_t *frames, uint32_t *nodes)
{
    for (size_t i = 0; i < count; i++) {
        int64_t node = below[i];

        for (uint64_t at = starts[chains[i] + 1]; at > starts[chains[i]]; at--) {
            node = child(tree, (uint32_t)node, frames[at - 1]);
            if (node < 0)
                return -1;
        }
        nodes[i] = (uint32_t)node;
    }
    return 0;
}

const uint32_t *calltree_parents(const struct calltree *tree, size_t *count)
{
    *count = tree->parents.count;
    return (const uint32_t *)tree->parents.items;
}

const uint32_t *calltree_names(const struct calltree *tree, size_t *count)
{
    *count = tree->names.count;
    return (const uint32_t *)tree->names.items;
}
