/*
 * Run inside a guest with two nodes: touch MIB of memory on node 0 and move all of it to node 1, 512 addresses a call.
 *
 *     move 4k|thp MIB
 *
 * A thread spins on CPU 1 meanwhile: the kernel puts off a flush only for memory that another CPU has in use
 * (should_defer_flush() in mm/rmap.c).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE = 2 << 20, BATCH = 512, MPOL_BIND = 2, MPOL_DEFAULT = 0, MPOL_MF_MOVE = 2 };

static atomic_int spinning, done;

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void *spin(void *unused)
{
    pin(1);
    spinning = 1;
    while (!done)
        ;
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t spinner;

    size_t bytes = argc == 3 ? strtoul(argv[2], NULL, 10) << 20 : 0;
    int thp = argc == 3 && !strcmp(argv[1], "thp");
    size_t step = thp ? HUGE : PAGE;
    unsigned long first_node = 1;
    void *addresses[BATCH];
    int nodes[BATCH], status[BATCH];
    size_t moved = 0;
    char *base;

    if (!bytes)
        return 2;
    base = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return 1;
    base = (char *)(((uintptr_t)base + HUGE - 1) / HUGE * HUGE);
    madvise(base, bytes, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (syscall(SYS_mbind, base, bytes, MPOL_BIND, &first_node, 8 * sizeof(first_node), 0))
        return 1;
    memset(base, 1, bytes);
    if (syscall(SYS_mbind, base, bytes, MPOL_DEFAULT, NULL, 0, 0))
        return 1;
    pin(0);
    if (pthread_create(&spinner, NULL, spin, NULL))
        return 1;
    while (!spinning)
        sched_yield();
    for (size_t at = 0; at < bytes;) {
        unsigned long count = 0;

        for (; count < BATCH && at < bytes; count++, at += step) {
            addresses[count] = base + at;
            nodes[count] = 1;
            status[count] = -4095;
        }
        if (syscall(SYS_move_pages, 0, count, addresses, nodes, status, MPOL_MF_MOVE))
            return 1;
        for (unsigned long i = 0; i < count; i++)
            moved += status[i] == 1;
    }
    done = 1;
    pthread_join(spinner, NULL);
    fprintf(stderr, "moved %zu of %zu\n", moved, bytes / step);
    return moved != bytes / step;
}
