/*
 * The least that moves pages to and fro between two nodes, with nothing of numabench in it:
 *
 *     bare_mover move_pages|mbind|migrate_pages PAGES BATCH PASSES
 *
 * One thread on CPU 0 moves 4 KiB pages from node 0 to node 1, back, and so on, BATCH pages a call (migrate_pages:
 * all), each page once a pass. One JSON line: pages that were asked for, nanoseconds of wall clock and of the thread's
 * CPU.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, BIND = 2, MOVE = 2, MASK_BITS = 65 };

static const unsigned long NODE[] = {1, 2};

static char *base;
static size_t pages, batch;
static void **addresses;
static int *nodes, *status;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void by_move_pages(int target)
{
    for (size_t at = 0; at < pages; at += batch) {
        size_t count = pages - at < batch ? pages - at : batch;

        for (size_t i = 0; i < count; i++) {
            addresses[i] = base + (at + i) * PAGE;
            nodes[i] = target;
        }
        if (syscall(SYS_move_pages, 0, count, addresses, nodes, status, MOVE))
            fail("move_pages");
    }
}

static void by_mbind(int target)
{
    for (size_t at = 0; at < pages; at += batch) {
        size_t count = pages - at < batch ? pages - at : batch;

        if (syscall(SYS_mbind, base + at * PAGE, count * PAGE, BIND, &NODE[target], MASK_BITS, MOVE))
            fail("mbind");
    }
}

static void by_migrate_pages(int target)
{
    if (syscall(SYS_migrate_pages, 0, MASK_BITS, &NODE[!target], &NODE[target]))
        fail("migrate_pages");
}

int main(int argc, char **argv)
{
    cpu_set_t first;

    if (argc != 5)
        return 2;
    pages = strtoul(argv[2], NULL, 10);
    batch = strtoul(argv[3], NULL, 10);
    unsigned long passes = strtoul(argv[4], NULL, 10);
    void (*move)(int target) = !strcmp(argv[1], "mbind")           ? by_mbind
                               : !strcmp(argv[1], "migrate_pages") ? by_migrate_pages
                                                                   : by_move_pages;

    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof(first), &first);
    addresses = calloc(batch, sizeof(*addresses));
    nodes = calloc(batch, sizeof(*nodes));
    status = calloc(batch, sizeof(*status));
    base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!addresses || !nodes || !status || base == MAP_FAILED || madvise(base, pages * PAGE, MADV_NOHUGEPAGE) ||
        syscall(SYS_mbind, base, pages * PAGE, BIND, &NODE[0], MASK_BITS, 0))
        fail("memory");
    memset(base, 1, pages * PAGE);
    if (syscall(SYS_mbind, base, pages * PAGE, 0, NULL, 0, 0))
        fail("mbind");

    uint64_t wall_ns = now_ns(CLOCK_MONOTONIC), cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned long pass = 0; pass < passes; pass++)
        move(!(pass % 2));
    cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    wall_ns = now_ns(CLOCK_MONOTONIC) - wall_ns;
    printf("{\"pages\":%lu,\"wall_ns\":%lu,\"cpu_ns\":%lu}\n", pages * passes, wall_ns, cpu_ns);
    return 0;
}
