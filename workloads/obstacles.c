#define _GNU_SOURCE
#include "obstacles.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lines.h"
#include "monotonic.h"
#include "pagemap.h"

enum { PAGES_PER_PIPE = 8, KSM_WAIT_S = 30, KSM_POLL_NS = 100 * NS_PER_MS };

static const char *const ksm_run = "/sys/kernel/mm/ksm/run";

size_t obstacles_count(const struct driven_options *options)
{
    size_t count = 0;

    for (unsigned kind = 0; kind < OBSTACLE_KINDS; kind++)
        count += options->obstacles[kind];
    return count;
}

static void leave(char *address, size_t count, size_t page_bytes)
{
    (void)address, (void)count, (void)page_bytes;
}

/* Pages that were only read are the zero page. */
static void read_only(char *address, size_t count, size_t page_bytes)
{
    for (size_t i = 0; i < count; i++)
        (void)*(volatile char *)(address + i * page_bytes);
}

/* A pipe holds a reference to pages that nobody reads from it, as long as it is open. */
static void pin(char *address, size_t count, size_t page_bytes)
{
    int ends[2] = {-1, -1};

    for (size_t i = 0; i < count; i++) {
        struct iovec page = {.iov_base = address + i * page_bytes, .iov_len = page_bytes};

        memset(address + i * page_bytes, 1, page_bytes);
        if (i % PAGES_PER_PIPE == 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
            fail_cannot_run("no pipe to pin pages: %s (ulimit -n)", strerror(errno));
        if (vmsplice(ends[1], &page, 1, 0) != (ssize_t)page_bytes)
            fail_cannot_run("a page cannot be pinned by vmsplice: %s", strerror(errno));
    }
}

static void unmap(char *address, size_t count, size_t page_bytes)
{
    if (munmap(address, count * page_bytes) < 0)
        fail("munmap: %s", strerror(errno));
}

static char read_digit(const char *path)
{
    char digit = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, &digit, 1) != 1)
        digit = 0;
    if (fd >= 0)
        close(fd);
    return digit;
}

/* 1 and 0; -1 where it may not be known. */
static int is_ksm(int pagemap, int flags, const char *address, size_t page_bytes)
{
    uint64_t entry = 0, bits = 0;

    if (pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)address / page_bytes * sizeof(entry))) < 0)
        return -1;
    entry &= FRAME_MASK;
    if (!entry || pread(flags, &bits, sizeof(bits), (off_t)(entry * sizeof(bits))) < 0)
        return -1;
    return (bits & MERGED) != 0;
}

static void merge(char *address, size_t count, size_t page_bytes)
{
    uint64_t end_ns = monotonic_ns() + KSM_WAIT_S * NS_PER_S;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
    size_t merged = 0;

    memset(address, 0x5a, count * page_bytes);
    if (madvise(address, count * page_bytes, MADV_MERGEABLE) < 0)
        fail_cannot_run("--obstacles ksm: this kernel does not merge pages (madvise: %s)", strerror(errno));
    if (read_digit(ksm_run) != '1')
        fail_cannot_run("--obstacles ksm needs the kernel's merging (echo 1 > %s)", ksm_run);
    while (merged < count) {
        while (merged < count && is_ksm(pagemap, flags, address + merged * page_bytes, page_bytes) == 1)
            merged++;
        if (merged < count && is_ksm(pagemap, flags, address + merged * page_bytes, page_bytes) < 0)
            fail_cannot_run("--obstacles ksm: /proc/kpageflags does not tell whether pages are merged (run as root)");
        if (merged < count && monotonic_ns() > end_ns)
            fail_cannot_run("--obstacles ksm: %zu of %zu pages were merged in %d s (see /sys/kernel/mm/ksm)", merged,
                            count, KSM_WAIT_S);
        if (merged < count)
            nanosleep(&(struct timespec){.tv_nsec = KSM_POLL_NS}, NULL);
    }
    close(pagemap);
    close(flags);
}

void obstacles_make(const struct driven_options *options, char *address, size_t page_bytes)
{
    static void (*const make[])(char *address, size_t count, size_t page_bytes) = {
        [OBSTACLE_UNTOUCHED] = leave, [OBSTACLE_ZERO] = read_only, [OBSTACLE_PINNED] = pin,
        [OBSTACLE_UNMAPPED] = unmap,  [OBSTACLE_KSM] = merge,
    };

    for (unsigned kind = 0; kind < OBSTACLE_KINDS; kind++) {
        if (options->obstacles[kind])
            make[kind](address, options->obstacles[kind], page_bytes);
        address += options->obstacles[kind] * page_bytes;
    }
}
