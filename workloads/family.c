#define _GNU_SOURCE
#include "family.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "churn.h"
#include "lines.h"
#include "options.h"
#include "view.h"
#include "wrong.h"

static void *must_map(size_t bytes, int protection, int flags)
{
    void *address = mmap(NULL, bytes, protection, flags | MAP_ANONYMOUS, -1, 0);

    if (address == MAP_FAILED)
        fail_cannot_run("%zu bytes cannot be mapped: %s", bytes, strerror(errno));
    return address;
}

void family_open(struct family *family)
{
    family->processes = family_processes(&family->options);
    family->members = must_map(family->processes * sizeof(*family->members), PROT_READ | PROT_WRITE, MAP_SHARED);
    family->reserved = must_map(quarter_bytes(family), PROT_NONE, MAP_PRIVATE);
    family->quiet_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (family->quiet_fd < 0)
        fail("eventfd: %s", strerror(errno));
    atomic_store(&family->members[0].pid, getpid());
}

static void become_member(struct family *family, unsigned number)
{
    char name[sizeof("forktree-511")];

    family->self = family->self * family->options.fanout + number;
    family->generation++;
    atomic_store(&family->members[family->self].pid, getpid());
    snprintf(name, sizeof(name), "forktree-%u", family->self % MAX_FAMILY);
    prctl(PR_SET_NAME, name);
}

void family_fork(struct family *family, struct handshake *handshake)
{
    while (family->generation < family->options.depth) {
        unsigned number = handshake_fork(handshake, 1 + family->options.fanout);

        if (number == 0)
            return;
        become_member(family, number);
    }
}

unsigned family_mover(const struct family *family)
{
    switch (family->options.mover_at) {
    case MOVER_AT_CHILD:
        return family->processes - 1;
    case MOVER_AT_SIBLING:
        return 1;
    default:
        return 0;
    }
}

unsigned family_target(const struct family *family)
{
    return family->options.mover_at == MOVER_AT_SIBLING ? 2 : family_mover(family);
}

unsigned family_churn(const struct family *family)
{
    unsigned churn = family->options.churn;

    return family->self == family_target(family) ? churn & ~(unsigned)CHURN_WRITE : churn;
}

pid_t family_pid(const struct family *family, unsigned member)
{
    return atomic_load(&family->members[member].pid);
}

/* Once, and again until the word to stop, or nobody is left to say it. */
static void churn_until_stop(struct view *view, struct handshake *handshake)
{
    const struct family *family = view->family;
    uint64_t random = family->seed + family->self;
    uint64_t deadline_ns = family_churn(family) ? 0 : UINT64_MAX;
    enum word word;

    do {
        churn_once(view, &random);
        word = handshake_await_word(handshake, -1, deadline_ns);
    } while (word != WORD_STOP && word != WORD_CLOSED);
}

static void say_quiet(const struct family *family)
{
    uint64_t one = 1;

    if (write(family->quiet_fd, &one, sizeof(one)) < 0)
        fail("eventfd: %s", strerror(errno));
}

void family_await_stop(const struct family *family, struct handshake *handshake)
{
    enum word word;

    do
        word = handshake_await_word(handshake, -1, UINT64_MAX);
    while (word != WORD_STOP && word != WORD_CLOSED);
    say_quiet(family);
}

void family_await_end(struct handshake *handshake)
{
    while (handshake->go_fd != ABSENT)
        if (handshake_await_word(handshake, -1, UINT64_MAX) == WORD_EXIT)
            return;
}

#ifdef NUMABENCH_TEST
/* In the last process, in the quarter that nobody changes. */
static void corrupt_one_byte(const struct family *family)
{
    if (getenv("NUMABENCH_TEST_CORRUPT") && family->self == family->processes - 1)
        family->memory[family->bytes - VIEW_PAGE_BYTES / 2] ^= 1;
}
#endif

static _Noreturn void check_and_end(const struct view *view, struct handshake *handshake)
{
    handshake_release(handshake);
#ifdef NUMABENCH_TEST
    corrupt_one_byte(view->family);
#endif
    view_check(view);
    _exit(handshake_join(handshake));
}

void family_live(struct family *family, struct handshake *handshake)
{
    struct view view;

    view_open(&view, family);
    handshake_await_children(handshake);
    handshake_ready(handshake);
    handshake_await_go(handshake);
    churn_until_stop(&view, handshake);
    say_quiet(family);
    family_await_end(handshake);
    check_and_end(&view, handshake);
}

void family_end(struct family *family, struct handshake *handshake)
{
    struct view view = {.family = family};

    check_and_end(&view, handshake);
}

/* Words from the harness are left for the runner. */
void family_quiesce(const struct family *family, const struct handshake *handshake)
{
    struct handshake children = *handshake;
    uint64_t quiet = 0, more;

    children.go_fd = ABSENT;
    handshake_stop(&children);
    while (quiet < family->processes - 1)
        if (handshake_await_word(&children, family->quiet_fd, UINT64_MAX) == WORD_DONE &&
            read(family->quiet_fd, &more, sizeof(more)) == sizeof(more))
            quiet += more;
}

void family_check_root(struct family *family)
{
    struct view view = {.family = family};

    view_check(&view);
}

static uint64_t sum(const struct family *family, size_t counter)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < family->processes; i++) {
        const char *slot = (const char *)&family->members[i];

        total += atomic_load((const _Atomic uint64_t *)(slot + counter));
    }
    return total;
}

/* How many processes map the pages of the mapping at an address, as numa_maps says it (since Linux 2.6.16); -1 where it
 * cannot be read. */
static int64_t read_mapmax(const char *memory)
{
    FILE *maps = fopen("/proc/self/numa_maps", "re");
    char *line = NULL;
    size_t room = 0;
    int64_t mapmax = ABSENT;

    if (!maps)
        return ABSENT;
    while (mapmax == ABSENT && getline(&line, &room, maps) > 0) {
        const char *word = strstr(line, " mapmax=");

        if (strtoull(line, NULL, 16) == (uintptr_t)memory && word)
            mapmax = strtoll(word + strlen(" mapmax="), NULL, 10);
    }
    free(line);
    fclose(maps);
    return mapmax;
}

void print_family(const struct family *family)
{
    struct line line;

    line_begin(&line, "family");
    line_number(&line, "pid", getpid());
    line_number(&line, "processes", family->processes);
    line_number(&line, "depth", family->options.depth);
    line_number(&line, "fanout", family->options.fanout);
    line_number(&line, "vmas_per_page", family->processes);
    fputs(",\"chain\":[1", line.stream);
    /* A fork clones its parent's chain and adds an anon_vma of its own: anon_vma_fork() in mm/rmap.c. */
    for (unsigned generation = 1; generation <= family->options.depth; generation++)
        fprintf(line.stream, ",%u", generation + 1);
    fputc(']', line.stream);
    line_number(&line, "mapmax", read_mapmax(family->memory));
    line_end(&line);
}

void print_churn(const struct family *family)
{
    struct line line;

    line_begin(&line, "churn");
    line_number(&line, "pid", getpid());
    line_number(&line, "forks", (int64_t)sum(family, offsetof(struct member, forks)));
    line_number(&line, "mremaps", (int64_t)sum(family, offsetof(struct member, mremaps)));
    line_number(&line, "splits", (int64_t)sum(family, offsetof(struct member, splits)));
    line_number(&line, "writes", (int64_t)sum(family, offsetof(struct member, writes)));
    line_end(&line);
}

/* The number of a process; 0 is the root's. */
static unsigned member_of(const struct family *family, pid_t pid)
{
    unsigned member = family->processes - 1;

    while (member && family_pid(family, member) != pid)
        member--;
    return member;
}

static unsigned generation_of(const struct family *family, unsigned member)
{
    unsigned generation = 0;

    for (; member; member = (member - 1) / family->options.fanout)
        generation++;
    return generation;
}

void report_check(const struct family *family)
{
    uint64_t wrong_bytes = sum(family, offsetof(struct member, wrong_bytes));
    const struct wrong_word *first = &family->drive->wrong[0];
    unsigned member = member_of(family, first->pid);

    print_drive_check(family->drive, sum(family, offsetof(struct member, checked_bytes)), wrong_bytes, first);
    if (wrong_bytes)
        fail("%" PRIu64 " bytes are wrong: the first in process %d (number %u, generation %u) in page %zu at offset "
             "%zu, where a word is %#" PRIx64 " and not %#" PRIx64,
             wrong_bytes, (int)first->pid, member, generation_of(family, member), first->page,
             first->offset + first_difference(first->expected, first->found), first->found, first->expected);
}
