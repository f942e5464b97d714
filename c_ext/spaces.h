/* Address spaces that grow out of one another, each by one mapping, and what is mapped where in them. */
#ifndef NUMABENCH_SPACES_H
#define NUMABENCH_SPACES_H

#include <stddef.h>
#include <stdint.h>

/* vm.max_map_count as kernels are shipped; what lies deeper is not looked at. */
enum { SPACES_MAPPINGS_MAX = 65530 };

/* Space i is space `parent`, which is below i, and one mapping on top of it. Space 0 is empty. */
struct spaces_space {
    uint64_t start;
    uint64_t end;
    uint32_t parent;
    uint32_t file;
};

/*
 * found[i] becomes the number of the space whose mapping addresses[i] lies in, as seen from spaces[i], or 0. All of
 * spaces[] must exist.
 */
void spaces_resolve(const struct spaces_space *table, const uint32_t *spaces, const uint64_t *addresses, size_t count,
                    uint32_t *found);

#endif
