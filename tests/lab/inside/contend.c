/*
 * Run inside a guest with two nodes: two threads, one on each CPU, move their halves of one mapping to and fro.
 *
 *     contend ROUNDS
 *
 * Each call of move_pages(2) waits for all CPUs to give up their lists of pages (lru_cache_disable()), one caller at a
 * time: there the threads wait for each other.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 512, BATCH = 8, MPOL_MF_MOVE = 2, THREADS = 2 };

static char *memory;
static long rounds;

static void *move_half(void *argument)
{
    long half = (long)(intptr_t)argument;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((int)half, &set);
    sched_setaffinity(0, sizeof(set), &set);
    for (long round = 0; round < rounds; round++) {
        void *addresses[BATCH];
        int nodes[BATCH], status[BATCH];

        for (long i = 0; i < BATCH; i++) {
            addresses[i] = memory + (half * PAGES + (round / 2 * BATCH + i) % PAGES) * PAGE;
            nodes[i] = (int)(round % 2);
            status[i] = -4095;
        }
        if (syscall(SYS_move_pages, 0, (unsigned long)BATCH, addresses, nodes, status, MPOL_MF_MOVE) < 0)
            exit(1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];

    rounds = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    memory = mmap(NULL, (size_t)THREADS * PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (rounds < 1 || memory == MAP_FAILED)
        return 2;
    madvise(memory, (size_t)THREADS * PAGES * PAGE, MADV_NOHUGEPAGE);
    memset(memory, 1, (size_t)THREADS * PAGES * PAGE);
    for (long half = 0; half < THREADS; half++) {
        if (pthread_create(&threads[half], NULL, move_half, (void *)(intptr_t)half))
            return 1;
    }
    for (int half = 0; half < THREADS; half++)
        pthread_join(threads[half], NULL);
    return 0;
}
