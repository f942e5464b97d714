/* What can be said of a column of numbers without sorting it. */
#ifndef NUMABENCH_COLUMNS_H
#define NUMABENCH_COLUMNS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Number the distinct values of a column in the order in which they first come: codes[i] becomes the number of
 * values[i], and the distinct ones are put into distinct[count]. How many there are, or -1 without memory.
 */
int64_t columns_distinct(const uint64_t *values, size_t count, uint64_t seed, uint64_t *distinct, uint32_t *codes);

#endif
