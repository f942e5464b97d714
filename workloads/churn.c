#define _GNU_SOURCE
#include "churn.h"

#include <errno.h>
#include <numa.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lines.h"
#include "random.h"

enum {
    PAGES_LOOKED_AT = 16, /* by a child that lives for a moment */
    PAGES_PER_WRITE = 4,
};

/* A page of a quarter, by its number in the memory. */
static uint64_t some_page(const struct view *view, enum quarter quarter, uint64_t *random)
{
    uint64_t pages = quarter_bytes(view->family) / VIEW_PAGE_BYTES;

    return quarter * pages + random_below(random, pages);
}

static void look_at(const struct view *view, uint64_t page)
{
    view_look(view, page, view->family->memory + page * VIEW_PAGE_BYTES);
}

static _Noreturn void look_and_end(const struct view *view, pid_t parent, uint64_t *random)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_STATUS_FAILED);
    for (unsigned i = 0; i < PAGES_LOOKED_AT; i++)
        look_at(view, some_page(view, i % QUARTER_COUNT, random));
    _exit(0);
}

static void await_child(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            fail("process %d cannot be waited for: %s", (int)child, strerror(errno));
    if (WIFSIGNALED(status))
        fail("process %d, forked to read for a moment, was killed by signal %d (%s)", (int)child, WTERMSIG(status),
             strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status))
        fail("process %d, forked to read for a moment, exited with %d", (int)child, WEXITSTATUS(status));
}

static void churn_fork(struct view *view, uint64_t *random)
{
    pid_t parent = getpid();
    pid_t child = fork();

    if (child < 0)
        fail("no process can be forked: %s", strerror(errno));
    if (child == 0)
        look_and_end(view, parent, random);
    await_child(child);
}

static void must_remap(char *from, size_t bytes, char *to)
{
    if (mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
        fail("mremap of %zu bytes: %s", bytes, strerror(errno));
}

/* What is moved away leaves no mapping behind: this process has no other thread that could map something there. */
static void churn_mremap(struct view *view, uint64_t *random)
{
    const struct family *family = view->family;
    char *home = quarter_address(family, QUARTER_MOVED);
    size_t bytes = quarter_bytes(family);
    uint64_t page = some_page(view, QUARTER_MOVED, random);

    must_remap(home, bytes, family->reserved);
    view_look(view, page, family->reserved + (family->memory + page * VIEW_PAGE_BYTES - home));
    must_remap(family->reserved, bytes, home);
    if (mmap(family->reserved, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        fail("mmap of %zu bytes: %s", bytes, strerror(errno));
    look_at(view, page);
}

/* The middle of the quarter becomes a VMA of its own, and the kernel merges it again. */
static void churn_split(struct view *view, uint64_t *random)
{
    size_t page_bytes = (size_t)numa_pagesize();
    size_t pages = quarter_bytes(view->family) / page_bytes;
    char *middle = quarter_address(view->family, QUARTER_SPLIT) + pages / 4 * page_bytes;
    size_t bytes = (pages + 1) / 2 * page_bytes;

    if (mprotect(middle, bytes, PROT_READ) < 0)
        fail("mprotect of %zu bytes: %s", bytes, strerror(errno));
    look_at(view, some_page(view, QUARTER_SPLIT, random));
    if (mprotect(middle, bytes, PROT_READ | PROT_WRITE) < 0)
        fail("mprotect of %zu bytes: %s", bytes, strerror(errno));
}

static void churn_write(struct view *view, uint64_t *random)
{
    for (unsigned i = 0; i < PAGES_PER_WRITE; i++) {
        uint64_t page = some_page(view, QUARTER_WRITTEN, random);

        look_at(view, page);
        view_write(view, page);
    }
}

void churn_once(struct view *view, uint64_t *random)
{
    static const struct {
        enum churn kind;
        void (*change)(struct view *view, uint64_t *random);
        size_t counter;
        unsigned times;
    } kinds[] = {
        {CHURN_FORK, churn_fork, offsetof(struct member, forks), 1},
        {CHURN_MREMAP, churn_mremap, offsetof(struct member, mremaps), 1},
        {CHURN_SPLIT, churn_split, offsetof(struct member, splits), 1},
        {CHURN_WRITE, churn_write, offsetof(struct member, writes), PAGES_PER_WRITE},
    };
    unsigned churn = family_churn(view->family);
    char *slot = (char *)&view->family->members[view->family->self];

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (!(churn & kinds[i].kind))
            continue;
        kinds[i].change(view, random);
        atomic_fetch_add((_Atomic uint64_t *)(slot + kinds[i].counter), kinds[i].times);
    }
}
