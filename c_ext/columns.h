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

enum { COLUMNS_BINS = 64 };

/*
 * Sum a column by groups: totals[g] and most[g] become the sum and the maximum of the values of group g, and
 * histogram[g * COLUMNS_BINS + n] how many of them are 2^n up to 2^(n+1); those below 1 are in the first. All of the
 * three are zeros before; every codes[i] is the number of a group.
 */
void columns_group(const uint32_t *codes, const int64_t *values, size_t count, int64_t *totals, int64_t *most,
                   uint32_t *histogram);

#endif
