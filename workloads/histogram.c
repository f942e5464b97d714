#include "histogram.h"

uint64_t histogram_low(unsigned bucket)
{
    unsigned shift;

    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    shift = (bucket >> HISTOGRAM_BITS) - 1;
    return (uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << shift;
}

void line_histogram(struct line *line, const char *key, const struct histogram *histogram)
{
    const char *comma = "";

    fprintf(line->stream, ",\"%s\":{\"min\":%llu,\"max\":%llu,\"sum\":%llu,\"counts\":[", key,
            (unsigned long long)histogram->min, (unsigned long long)histogram->max, (unsigned long long)histogram->sum);
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        if (!histogram->buckets[bucket])
            continue;
        fprintf(line->stream, "%s[%llu,%llu]", comma, (unsigned long long)histogram_low(bucket),
                (unsigned long long)histogram->buckets[bucket]);
        comma = ",";
    }
    fputs("]}", line->stream);
}
