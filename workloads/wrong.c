#define _GNU_SOURCE
#include "wrong.h"

#include <inttypes.h>
#include <unistd.h>

#include "lines.h"

unsigned bytes_that_differ(uint64_t left, uint64_t right)
{
    unsigned count = 0;

    for (uint64_t bits = left ^ right; bits; bits >>= 8)
        count += (bits & 0xff) != 0;
    return count;
}

unsigned first_difference(uint64_t left, uint64_t right)
{
    const unsigned char *a = (const unsigned char *)&left, *b = (const unsigned char *)&right;
    unsigned i = 0;

    while (i + 1 < sizeof(left) && a[i] == b[i])
        i++;
    return i;
}

static void line_first_wrong(struct line *line, const struct drive *drive, const struct wrong_word *first)
{
    unsigned i = first_difference(first->expected, first->found);

    fprintf(line->stream, "{\"addr\":%" PRIu64 ",\"found\":%u,\"expected\":[%u]}",
            (uint64_t)(uintptr_t)memory_page(&drive->memory, first->page) + first->offset + i,
            ((const unsigned char *)&first->found)[i], ((const unsigned char *)&first->expected)[i]);
}

void print_drive_check(const struct drive *drive, uint64_t bytes, uint64_t wrong_bytes, const struct wrong_word *first)
{
    struct line line;

    line_begin(&line, "check");
    line_number(&line, "pid", getpid());
    line_number(&line, "bytes", (int64_t)bytes);
    line_number(&line, "wrong", (int64_t)wrong_bytes);
    fputs(",\"first_wrong\":", line.stream);
    if (wrong_bytes)
        line_first_wrong(&line, drive, first);
    else
        fputs("null", line.stream);
    line_end(&line);
}
