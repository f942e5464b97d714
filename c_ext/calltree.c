#include "calltree.h"

#include <stdlib.h>

#include "intern.h"

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

struct calltree {
    struct growing nodes;
    struct slots index;
    uint64_t seed;
};

static struct calltree_node *nodes_of(const struct calltree *tree)
{
    return (struct calltree_node *)(void *)tree->nodes.items;
}

static int64_t add_node(struct calltree *tree, uint32_t parent, uint32_t name)
{
    struct calltree_node *room = growing_room(&tree->nodes, 1, sizeof(*room));

    if (!room)
        return -1;
    *room = (struct calltree_node){0, 0, parent, name};
    return (int64_t)tree->nodes.count++;
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
    free(tree->nodes.items);
    free(tree->index.slots);
    free(tree);
}

int64_t calltree_child(struct calltree *tree, uint32_t parent, uint32_t name)
{
    uint64_t hash = hash_mix(tree->seed, (uint64_t)parent << 32 | name);
    int64_t node;

    if (slots_reserve(&tree->index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & tree->index.mask; tree->index.slots[at]; at = (at + 1) & tree->index.mask) {
        uint64_t slot = tree->index.slots[at];
        const struct calltree_node *found = nodes_of(tree) + ((uint32_t)slot - 1);

        if (slot >> 32 == hash >> 32 && found->parent == parent && found->name == name)
            return (uint32_t)slot - 1;
    }
    node = add_node(tree, parent, name);
    if (node >= 0)
        slots_put(&tree->index, hash, (uint32_t)node);
    return node;
}

void calltree_add(struct calltree *tree, uint32_t node, uint64_t count, uint64_t period)
{
    nodes_of(tree)[node].count += count;
    nodes_of(tree)[node].period += period;
}

const struct calltree_node *calltree_nodes(const struct calltree *tree, size_t *count)
{
    *count = tree->nodes.count;
    return nodes_of(tree);
}
