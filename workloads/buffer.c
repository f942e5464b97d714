#define _GNU_SOURCE
#include "buffer.h"

#include <errno.h>
#include <limits.h>
#include <numa.h>
#include <numaif.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SAMPLED_PAGES = 4096, UNTOUCHED = INT_MIN };

/* What move_pages(2) says of a page that has no node, or of a call that it refuses; `OTHER` for what it should not. */
static const struct {
    int number;
    const char *name;
} errors[] = {{ENOENT, "ENOENT"}, {EFAULT, "EFAULT"}, {EACCES, "EACCES"}, {EBUSY, "EBUSY"},
              {EPERM, "EPERM"},   {ENOSYS, "ENOSYS"}, {EINVAL, "EINVAL"}, {0, "OTHER"}};
enum { ERROR_COUNT = sizeof(errors) / sizeof(*errors) };
_Static_assert(ERROR_COUNT == sizeof(((struct residency *)0)->by_error) / sizeof(unsigned long), "a count for each");

static void advise(char *address, size_t bytes, enum thp thp)
{
    if (thp == THP_ALWAYS && madvise(address, bytes, MADV_HUGEPAGE) < 0)
        fail_cannot_run("--thp always: this kernel has no transparent huge pages (madvise: %s)", strerror(errno));
    /* EINVAL: a kernel without huge pages, which is what was asked for. */
    if (thp == THP_NEVER && madvise(address, bytes, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
        fail("--thp never: madvise: %s", strerror(errno));
}

char *buffer_map(size_t bytes, enum thp thp)
{
    size_t page_bytes = (size_t)numa_pagesize();
    char *reserved = mmap(NULL, bytes + 2 * (size_t)BUFFER_ALIGNMENT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *address;

    if (reserved == MAP_FAILED)
        fail_cannot_run("%zu bytes cannot be mapped: %s", bytes, strerror(errno));
    address = reserved + page_bytes;
    address += -(uintptr_t)address % BUFFER_ALIGNMENT;
    if (mprotect(address, bytes, PROT_READ | PROT_WRITE) < 0)
        fail_cannot_run("%zu bytes cannot be mapped: %s", bytes, strerror(errno));
    advise(address, bytes, thp);
    return address;
}

void residency_init(struct residency *residency)
{
    *residency = (struct residency){.node_count = (unsigned)numa_max_possible_node() + 1};
    residency->by_node = calloc(residency->node_count, sizeof(*residency->by_node));
    if (!residency->by_node)
        abort();
}

static void count_error(struct residency *residency, int number, unsigned long pages)
{
    unsigned i = 0;

    while (errors[i].number && errors[i].number != number)
        i++;
    residency->by_error[i] += pages;
}

void residency_add(struct residency *residency, const char *address, size_t bytes)
{
    void *pages[SAMPLED_PAGES];
    int status[SAMPLED_PAGES];
    size_t page_bytes = (size_t)numa_pagesize();
    size_t page_count = bytes / page_bytes;
    size_t stride = (page_count + SAMPLED_PAGES - 1) / SAMPLED_PAGES;
    unsigned long sampled = 0;

    for (size_t page = 0; page < page_count; page += stride) {
        pages[sampled] = (void *)((uintptr_t)address + page * page_bytes);
        status[sampled++] = UNTOUCHED;
    }
    if (move_pages(0, sampled, pages, NULL, status, 0) < 0) {
        count_error(residency, errno, sampled);
        return;
    }
    for (unsigned long i = 0; i < sampled; i++) {
        if (status[i] >= 0 && (unsigned)status[i] < residency->node_count)
            residency->by_node[status[i]]++;
        else
            count_error(residency, status[i] < 0 && status[i] != UNTOUCHED ? -status[i] : INT_MAX, 1);
    }
}

static const char *separator(unsigned *count)
{
    return (*count)++ ? "," : "";
}

void line_residency(struct line *line, struct residency *residency)
{
    unsigned written = 0;

    fputs(",\"nodes\":{", line->stream);
    for (unsigned node = 0; node < residency->node_count; node++)
        if (residency->by_node[node])
            fprintf(line->stream, "%s\"%u\":%lu", separator(&written), node, residency->by_node[node]);
    fputs("},\"other\":{", line->stream);
    written = 0;
    for (unsigned i = 0; i < ERROR_COUNT; i++)
        if (residency->by_error[i])
            fprintf(line->stream, "%s\"%s\":%lu", separator(&written), errors[i].name, residency->by_error[i]);
    fputc('}', line->stream);
    free(residency->by_node);
}
