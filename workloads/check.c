#define _GNU_SOURCE
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 4096 };

struct findings {
    uint64_t bytes;
    uint64_t wrong;
    const char *first;
    unsigned char found;
    bool expected[256];
};

/* Part of a slice in which every thread's last store was in one and the same loop. */
struct stretch {
    const char *address;
    size_t bytes;
    bool right[256];
};

static int by_size(const void *left, const void *right)
{
    size_t a = *(const size_t *)left, b = *(const size_t *)right;

    return (a > b) - (a < b);
}

static uint64_t last_loop(const struct slice *slice, const struct thread *thread, size_t offset)
{
    uint64_t stored_bytes = atomic_load_explicit(&thread->stored_bytes, memory_order_relaxed);

    return stored_bytes / slice->bytes + (offset < stored_bytes % slice->bytes ? 1 : 0);
}

/* The first touch is over before the first loop begins: what it stored remains only where no thread stored since. */
static void find_right(const struct slice *slice, const struct thread *users, size_t offset, bool *right)
{
    bool is_stored = false;

    memset(right, 0, 256 * sizeof(*right));
    for (unsigned i = 0; i < slice->thread_count; i++) {
        uint64_t loop = last_loop(slice, &users[i], offset);

        if (!loop)
            continue;
        right[stored_value(slice, loop)] = true;
        is_stored = true;
    }
    if (!is_stored)
        right[stored_value(slice, 0)] = true;
}

static bool is_uniform(const char *address, size_t bytes)
{
    return memcmp(address, address + 1, bytes - 1) == 0;
}

static void check_chunk(const struct stretch *stretch, const char *address, size_t bytes, struct findings *findings)
{
    findings->bytes += bytes;
    if (stretch->right[(unsigned char)*address] && is_uniform(address, bytes))
        return;
    for (size_t i = 0; i < bytes; i++) {
        if (stretch->right[(unsigned char)address[i]])
            continue;
        if (!findings->wrong++) {
            findings->first = address + i;
            findings->found = (unsigned char)address[i];
            memcpy(findings->expected, stretch->right, sizeof(findings->expected));
        }
    }
}

static void check_stretch(const struct stretch *stretch, struct findings *findings)
{
    for (size_t done = 0; done < stretch->bytes; done += CHUNK_BYTES) {
        size_t left = stretch->bytes - done;

        check_chunk(stretch, stretch->address + done, left < CHUNK_BYTES ? left : CHUNK_BYTES, findings);
    }
}

static void check_slice(const struct process *process, const struct slice *slice, struct findings *findings)
{
    const struct thread *users = &process->threads[slice->first_thread];
    unsigned count = slice->thread_count;
    size_t *ends = calloc(count + 1, sizeof(*ends));
    size_t begin = 0;

    if (!ends)
        abort();
    for (unsigned i = 0; i < count; i++)
        ends[i] = atomic_load_explicit(&users[i].stored_bytes, memory_order_relaxed) % slice->bytes;
    ends[count] = slice->bytes;
    qsort(ends, count + 1, sizeof(*ends), by_size);
    for (unsigned i = 0; i <= count; i++) {
        struct stretch stretch = {.address = slice->address + begin, .bytes = ends[i] - begin};

        if (!stretch.bytes)
            continue;
        find_right(slice, users, begin, stretch.right);
        check_stretch(&stretch, findings);
        begin = ends[i];
    }
    free(ends);
}

static void print_check(const struct findings *findings)
{
    struct line line;
    const char *comma = "";

    line_begin(&line, "check");
    line_number(&line, "pid", getpid());
    line_number(&line, "bytes", (int64_t)findings->bytes);
    line_number(&line, "wrong", (int64_t)findings->wrong);
    fputs(",\"first_wrong\":", line.stream);
    if (!findings->wrong) {
        fputs("null", line.stream);
        line_end(&line);
        return;
    }
    fprintf(line.stream, "{\"addr\":%llu,\"found\":%u,\"expected\":[", (unsigned long long)(uintptr_t)findings->first,
            findings->found);
    for (unsigned value = 0; value < 256; value++) {
        if (!findings->expected[value])
            continue;
        fprintf(line.stream, "%s%u", comma, value);
        comma = ",";
    }
    fputs("]}", line.stream);
    line_end(&line);
}

#ifdef NUMABENCH_TEST
/* Zero is what no thread stores. */
static void corrupt_one_byte(const struct process *process)
{
    if (getenv("NUMABENCH_TEST_CORRUPT"))
        process->slices[0].address[process->slices[0].bytes / 2] = 0;
}
#endif

uint64_t check_data(const struct process *process)
{
    struct findings findings = {0};

#ifdef NUMABENCH_TEST
    corrupt_one_byte(process);
#endif
    for (unsigned i = 0; i < process->slice_count; i++)
        check_slice(process, &process->slices[i], &findings);
    print_check(&findings);
    return findings.wrong;
}
