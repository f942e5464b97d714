/* Call stacks as a prefix tree: a node is a function below its callers. */
#ifndef NUMABENCH_CALLTREE_H
#define NUMABENCH_CALLTREE_H

#include <stddef.h>
#include <stdint.h>

#define CALLTREE_ROOT_NAME UINT32_MAX

/* A parent comes before its children. `count` and `period` are a node's own. */
struct calltree_node {
    uint64_t count;
    uint64_t period;
    uint32_t parent;
    uint32_t name; /* the number it was inserted by */
};

struct calltree;

/* A tree of its root alone, node 0. */
struct calltree *calltree_new(uint64_t seed);
void calltree_free(struct calltree *tree);

/* The node of a name below another node, or -1 without memory. */
int64_t calltree_child(struct calltree *tree, uint32_t parent, uint32_t name);
void calltree_add(struct calltree *tree, uint32_t node, uint64_t count, uint64_t period);

const struct calltree_node *calltree_nodes(const struct calltree *tree, size_t *count);

#endif
