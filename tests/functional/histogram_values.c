/* Reads whole numbers from stdin and prints the histogram line that the workloads would. */
#include "histogram.h"

int main(void)
{
    static struct histogram histogram;
    unsigned long long value;
    struct line line;

    lines_open();
    while (scanf("%llu", &value) == 1)
        histogram_add(&histogram, value);
    line_begin(&line, "histogram");
    line_histogram(&line, "latency", &histogram);
    line_end(&line);
    return 0;
}
