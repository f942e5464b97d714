/* Counts of times by their length: log-linear buckets, 32 to a power of two, so that a bucket is at most 1/32 wide. */
#ifndef NUMABENCH_HISTOGRAM_H
#define NUMABENCH_HISTOGRAM_H

#include <stdint.h>

#include "lines.h"

enum { HISTOGRAM_BITS = 5, HISTOGRAM_STEPS = 1 << HISTOGRAM_BITS };
enum { HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) * HISTOGRAM_STEPS };

struct histogram {
    uint64_t count;
    uint64_t min;
    uint64_t max;
    uint64_t sum;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Values below 32 have a bucket each. */
static inline unsigned histogram_bucket(uint64_t value)
{
    unsigned shift;

    if (value < HISTOGRAM_STEPS)
        return (unsigned)value;
    shift = 63 - HISTOGRAM_BITS - (unsigned)__builtin_clzll(value);
    return (shift << HISTOGRAM_BITS) + (unsigned)(value >> shift);
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    if (!histogram->count++ || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->sum += value;
    histogram->buckets[histogram_bucket(value)]++;
}

/* The smallest value that a bucket counts. */
uint64_t histogram_low(unsigned bucket);
/* Adds {"min","max","sum","counts":[[low,count],...]}: only buckets that hold something. */
void line_histogram(struct line *line, const char *key, const struct histogram *histogram);

#endif
