/* Call stacks as a prefix tree: a node is a function below its callers. */
#ifndef NUMABENCH_CALLTREE_H
#define NUMABENCH_CALLTREE_H

#include <stddef.h>
#include <stdint.h>

#define CALLTREE_ROOT_NAME UINT32_MAX

struct calltree;

/* A tree of its root alone, node 0. */
struct calltree *calltree_new(uint64_t seed);
void calltree_free(struct calltree *tree);

/*
 * Put chains below nodes: chain chains[i], its frames from the leaf on frames[starts[c]] up to frames[starts[c + 1]],
 * goes below node below[i], its outermost frame first; nodes[i] becomes the node of its leaf. The
 * nodes and chains must exist. 0 or -1 without memory.
 */
int calltree_insert(struct calltree *tree, const uint32_t *below, const uint32_t *chains, size_t count,
                    const uint64_t *starts, const uint32_t *frames, uint32_t *nodes);

/* Every node's parent and the name it was inserted by; a parent comes before its children. */
const uint32_t *calltree_parents(const struct calltree *tree, size_t *count);
const uint32_t *calltree_names(const struct calltree *tree, size_t *count);

#endif
