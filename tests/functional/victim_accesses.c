/* A victim that goes over PAGES pages as one of VICTIMS, with what happens between its accesses told on stdin: `visit
 * N`, or `lose N`, which puts back what the page held before its last visit. Prints at each wrong word which visit it
 * was, and at the end a line of what was checked. */
#include "../../workloads/victim.c"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "lines.h"

enum { PAGE_BYTES = 4096, MAX_PAGES = 64 };

static unsigned long visits;

/* Pages of something that a first access to it would fault on. */
static void print_residency(void *what, size_t bytes)
{
    unsigned char resident[16];
    size_t offset = (uintptr_t)what % PAGE_BYTES, pages = (offset + bytes + PAGE_BYTES - 1) / PAGE_BYTES, there = 0;

    if (pages > sizeof(resident) || mincore((char *)what - offset, offset + bytes, resident) < 0)
        exit(EXIT_STATUS_FAILED);
    for (size_t i = 0; i < pages; i++)
        there += resident[i] & 1;
    printf("{\"event\":\"prepared\",\"pages\":%zu,\"resident\":%zu}\n", pages, there);
}

int main(int argc, char **argv)
{
    static struct workload workload = {.name = "accesses", .is_driven = true};
    static struct process process;
    static struct drive drive;
    static struct thread thread;
    static char before[MAX_PAGES][PAGE_BYTES];
    struct victim *victim;
    size_t pages = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, page;
    char word[8];

    if (argc < 3 || !pages || pages > MAX_PAGES)
        return EXIT_STATUS_USAGE;
    drive = (struct drive){.victim_count = (unsigned)strtoul(argv[2], NULL, 10)};
    drive.memory = (struct memory){.page_bytes = PAGE_BYTES, .pages = pages, .bytes = pages * PAGE_BYTES};
    drive.memory.base = aligned_alloc(PAGE_BYTES, drive.memory.bytes);
    stamp_fill(drive.memory.base, drive.memory.bytes, 0);
    process = (struct process){.workload = &workload, .drive = &drive};
    thread = (struct thread){.process = &process};
    victim = runner_memory(&workload, sizeof(*victim));
    thread.victim = victim;
    victim_init(victim, &drive, &thread);
    victim_prepare(victim);
    print_residency(&victim->latency, sizeof(victim->latency));
    while (scanf("%7s %zu", word, &page) == 2 && page < pages) {
        char *address = memory_page(&drive.memory, page);
        uint64_t wrong = victim->wrong;

        if (strcmp(word, "lose") == 0) {
            memcpy(address, before[page], PAGE_BYTES);
            continue;
        }
        memcpy(before[page], address, PAGE_BYTES);
        access_page(victim, page, true, true);
        visits++;
        if (victim->wrong > wrong)
            printf("{\"event\":\"wrong\",\"visit\":%lu,\"page\":%zu,\"offset\":%zu,\"found\":%llu}\n", visits,
                   drive.wrong[wrong].page, drive.wrong[wrong].offset, (unsigned long long)drive.wrong[wrong].found);
    }
    printf("{\"event\":\"end\",\"checked\":%llu,\"wrong\":%llu}\n", (unsigned long long)victim->checked,
           (unsigned long long)victim->wrong);
    free(drive.memory.base);
    return 0;
}
