/*
 * Run inside a guest with two nodes as root: what the kernel answers where an answer does not mean what it seems to.
 *
 * One JSON line a case: the return value (or the errno's name) and where the pages were afterwards, asked for with
 * move_pages(2) without a target. No code of numabench's workloads is in it: it is what they are compared with.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    HUGE = 2 << 20,
    PAGES = 512,
    BIND = 2,
    WEIGHTED_INTERLEAVE = 6,
    STRICT = 1,
    MOVE = 2,
    MOVE_ALL = 4,
    UNSET = -4095,
    SET_MEMPOLICY_HOME_NODE = 450,
    KSM_TRIES = 300,
};

static const unsigned long NODE[] = {1, 2};

struct where {
    size_t on[2], elsewhere;
};

static void *page_at(char *base, size_t index)
{
    return base + index * PAGE;
}

static long bind_to(char *base, size_t bytes, int mode, unsigned long nodes, int flags)
{
    return syscall(SYS_mbind, base, bytes, mode, &nodes, 8 * sizeof(nodes) + 1, flags);
}

/* Memory of small pages on node 0, each of its pages different. */
static char *memory(size_t pages, int node)
{
    char *base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED || madvise(base, pages * PAGE, MADV_NOHUGEPAGE) ||
        bind_to(base, pages * PAGE, BIND, NODE[node], 0)) {
        perror("memory");
        exit(1);
    }
    for (size_t i = 0; i < pages; i++)
        *(size_t *)page_at(base, i) = i + 1;
    syscall(SYS_mbind, base, pages * PAGE, 0, NULL, 0, 0);
    return base;
}

static struct where where(char *base, size_t pages)
{
    struct where found = {{0, 0}, 0};

    for (size_t i = 0; i < pages; i++) {
        void *address = page_at(base, i);
        int status = UNSET;

        syscall(SYS_move_pages, 0, 1UL, &address, NULL, &status, 0);
        if (status == 0 || status == 1)
            found.on[status]++;
        else
            found.elsewhere++;
    }
    return found;
}

static void tell(const char *name, long result, int error, struct where at)
{
    printf("{\"case\":\"%s\",\"result\":%ld,\"errno\":\"%s\",\"on\":[%zu,%zu],\"elsewhere\":%zu", name, result,
           result < 0 ? strerrorname_np(error) : "", at.on[0], at.on[1], at.elsewhere);
}

static void told(const char *name, long result, char *base, size_t pages)
{
    int error = errno;

    tell(name, result, error, where(base, pages));
    printf("}\n");
}

/* move_pages(2) of every page; the statuses are told by number and count. */
static void moved(const char *name, char *base, size_t pages, int flags)
{
    void **addresses = calloc(pages, sizeof(*addresses));
    int *nodes = calloc(pages, sizeof(*nodes));
    int *status = calloc(pages, sizeof(*status));

    for (size_t i = 0; i < pages; i++) {
        addresses[i] = page_at(base, i);
        nodes[i] = 1;
        status[i] = UNSET;
    }
    long result = syscall(SYS_move_pages, 0, pages, addresses, nodes, status, flags);
    tell(name, result, errno, where(base, pages));
    printf(",\"status\":{");
    for (size_t i = 0, told_any = 0; i < pages; i++) {
        size_t count = 0, first = 1;

        for (size_t j = 0; j < pages; j++) {
            count += status[j] == status[i];
            first = first && (j >= i || status[j] != status[i]);
        }
        if (first)
            printf("%s\"%s\":%zu", told_any++ ? "," : "",
                   status[i] == UNSET ? "unset"
                   : status[i] < 0    ? strerrorname_np(-status[i])
                   : status[i]        ? "node1"
                                      : "node0",
                   count);
    }
    printf("}}\n");
    free(addresses);
    free(nodes);
    free(status);
}

static long migrate(int pid)
{
    return syscall(SYS_migrate_pages, pid, 8 * sizeof(NODE[0]) + 1, &NODE[0], &NODE[1]);
}

static void pin(char *base, size_t pages)
{
    int ends[2];
    struct iovec vector = {base, pages * PAGE};

    if (pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, (int)(2 * pages * PAGE)) < 0 ||
        vmsplice(ends[1], &vector, 1, 0) != (ssize_t)(pages * PAGE)) {
        perror("vmsplice");
        exit(1);
    }
}

static void weighted_interleave(void)
{
    char *base = memory(PAGES, 0);

    told("weighted-interleave over the source, too",
         bind_to(base, PAGES * PAGE, WEIGHTED_INTERLEAVE, NODE[0] | NODE[1], MOVE), base, PAGES);
    told("weighted-interleave over the other nodes", bind_to(base, PAGES * PAGE, WEIGHTED_INTERLEAVE, NODE[1], MOVE),
         base, PAGES);
}

static void home_node(void)
{
    char *base = memory(PAGES, 0);

    told("home-node without a policy", syscall(SET_MEMPOLICY_HOME_NODE, base, PAGES * PAGE, 1, 0), base, PAGES);
    bind_to(base, PAGES * PAGE, BIND, NODE[0] | NODE[1], MOVE);
    told("home-node of pages that exist", syscall(SET_MEMPOLICY_HOME_NODE, base, PAGES * PAGE, 1, 0), base, PAGES);
    madvise(base, PAGES * PAGE, MADV_DONTNEED);
    for (size_t i = 0; i < PAGES; i++)
        *(size_t *)page_at(base, i) = i;
    told("home-node of pages that are touched anew", 0, base, PAGES);
}

static void pinned(void)
{
    char *of_move_pages = memory(16, 0), *of_mbind = memory(16, 0), *of_strict = memory(16, 0);

    pin(of_move_pages, 8);
    moved("move_pages with 8 of 16 pinned", of_move_pages, 16, MOVE);
    pin(of_mbind, 8);
    told("mbind MOVE with 8 of 16 pinned", bind_to(of_mbind, 16 * PAGE, BIND, NODE[1], MOVE), of_mbind, 16);
    pin(of_strict, 8);
    told("mbind MOVE|STRICT with 8 of 16 pinned", bind_to(of_strict, 16 * PAGE, BIND, NODE[1], MOVE | STRICT),
         of_strict, 16);
}

/* While a child maps the pages, too. */
static void shared(void)
{
    char *base = memory(16, 0);
    int ends[2];
    char byte;

    if (pipe(ends))
        exit(1);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) != 0);
    }
    moved("move_pages MOVE of pages that a child maps", base, 16, MOVE);
    told("mbind MOVE of pages that a child maps", bind_to(base, 16 * PAGE, BIND, NODE[1], MOVE), base, 16);
    told("mbind MOVE|STRICT of pages that a child maps", bind_to(base, 16 * PAGE, BIND, NODE[1], MOVE | STRICT), base,
         16);
    told("mbind MOVE_ALL|STRICT of pages that a child maps", bind_to(base, 16 * PAGE, BIND, NODE[1], MOVE_ALL | STRICT),
         base, 16);
    close(ends[1]);
    waitpid(child, NULL, 0);
}

static long ksm_sharing(void)
{
    long pages = 0;
    FILE *file = fopen("/sys/kernel/mm/ksm/pages_sharing", "r");

    if (file && fscanf(file, "%ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages;
}

/* Needs ksm/run=1. 16 equal pages become one. */
static void ksm(void)
{
    char *base = memory(16, 0);

    for (size_t i = 0; i < 16; i++)
        *(size_t *)page_at(base, i) = 4711;
    madvise(base, 16 * PAGE, MADV_MERGEABLE);
    for (int tries = 0; ksm_sharing() < 15 && tries < KSM_TRIES; tries++)
        usleep(100000);
    moved("move_pages MOVE of pages that KSM merged", base, 16, MOVE);
    /* While ksmd looks at the page it does not move: ask until it has. */
    for (int tries = 0; where(base, 1).on[0] && tries < KSM_TRIES; tries++)
        moved("move_pages MOVE_ALL of pages that KSM merged", base, 16, MOVE_ALL);
    madvise(base, 16 * PAGE, MADV_UNMERGEABLE);
}

/* Needs two huge pages in the pool of node 0 and two in that of node 1. */
static void hugetlb(void)
{
    char *base = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

    if (base == MAP_FAILED)
        return;
    bind_to(base, HUGE, BIND, NODE[0], 0);
    memset(base, 1, HUGE);
    syscall(SYS_mbind, base, HUGE, 0, NULL, 0, 0);
    moved("move_pages of the second 4 KiB of a hugetlb page", base + PAGE, 1, MOVE);
    moved("move_pages of the first 4 KiB of a hugetlb page", base, 1, MOVE);
    munmap(base, HUGE);
}

static size_t free_pages(int node)
{
    char path[64], line[128];
    size_t kib = 0;

    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "Node %*d MemFree: %zu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib / 4;
}

/* Node 1 has room for half of what is moved. */
static void target_full(const char *name, long (*call)(char *base, size_t bytes))
{
    size_t pages = 24576;
    char *base = memory(pages, 0);
    size_t hog_pages = free_pages(1) - pages / 2;
    char *hog = memory(hog_pages, 1);

    told(name, call(base, pages * PAGE), base, pages);
    munmap(hog, hog_pages * PAGE);
    munmap(base, pages * PAGE);
}

static long by_mbind(char *base, size_t bytes)
{
    return bind_to(base, bytes, BIND, NODE[1], MOVE);
}

static long by_mbind_strict(char *base, size_t bytes)
{
    return bind_to(base, bytes, BIND, NODE[1], MOVE | STRICT);
}

static long by_migrate_pages(char *base, size_t bytes)
{
    (void)base;
    (void)bytes;
    return migrate(0);
}

int main(void)
{
    weighted_interleave();
    home_node();
    pinned();
    shared();
    ksm();
    hugetlb();
    target_full("mbind MOVE to a node that fills", by_mbind);
    target_full("mbind MOVE|STRICT to a node that fills", by_mbind_strict);
    target_full("migrate_pages to a node that fills", by_migrate_pages);
    char *base = memory(64, 0);
    pin(base, 8);
    told("migrate_pages with 8 pages pinned", migrate(0), base, 64);
    return 0;
}
