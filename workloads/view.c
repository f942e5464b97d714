#define _GNU_SOURCE
#include "view.h"

#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monotonic.h"

enum {
    WORDS = VIEW_PAGE_BYTES / VIEW_WORD_BYTES,
    WRITTEN_WORDS = WORDS / 2, /* of a page that is written */
};

/* The word of a page that a process stored the `time`th time; the root's, at the time 0, is in all of them. Never zero,
 * and another for each process, page, time and place. */
static uint64_t stored_word(unsigned member, uint64_t page, uint32_t time, unsigned index)
{
    return (uint64_t)(member + 1) << 54 | (uint64_t)(time & 0xffffff) << 30 | (page * WORDS + index) % (1 << 30);
}

size_t quarter_bytes(const struct family *family)
{
    size_t bytes = family->bytes / QUARTER_COUNT;

    return bytes - bytes % (size_t)numa_pagesize();
}

char *quarter_address(const struct family *family, enum quarter quarter)
{
    return family->memory + quarter * quarter_bytes(family);
}

void view_open(struct view *view, struct family *family)
{
    *view = (struct view){
        .family = family,
        .written = calloc(quarter_bytes(family) / VIEW_PAGE_BYTES, sizeof(*view->written)),
    };
    if (!view->written)
        abort();
}

void view_write(struct view *view, uint64_t page)
{
    uint64_t *words = (uint64_t *)(view->family->memory + page * VIEW_PAGE_BYTES);
    uint32_t time = ++view->written[page];

    for (unsigned i = 0; i < WRITTEN_WORDS; i++)
        words[i] = stored_word(view->family->self, page, time, i);
}

void view_stamp_root(char *memory, size_t bytes)
{
    uint64_t *words = (uint64_t *)memory;

    for (uint64_t i = 0; i < bytes / VIEW_WORD_BYTES; i++)
        words[i] = stored_word(0, i / WORDS, 0, i % WORDS);
}

static uint64_t expected_word(const struct view *view, uint64_t page, unsigned index)
{
    bool is_of_quarter = page < quarter_bytes(view->family) / VIEW_PAGE_BYTES;
    uint32_t time = view->written && is_of_quarter ? view->written[page] : 0;

    return time && index < WRITTEN_WORDS ? stored_word(view->family->self, page, time, index)
                                         : stored_word(0, page, 0, index);
}

static unsigned bytes_that_differ(uint64_t left, uint64_t right)
{
    unsigned count = 0;

    for (uint64_t bits = left ^ right; bits; bits >>= 8)
        count += (bits & 0xff) != 0;
    return count;
}

static void record_wrong(const struct view *view, uint64_t page, const uint64_t *at, unsigned offset, uint64_t expected)
{
    struct family *family = view->family;
    struct member *member = &family->shared->members[family->self];
    uint64_t found = *at;
    unsigned slot = atomic_fetch_add(&family->shared->wrong_count, 1);

    atomic_fetch_add(&member->wrong_bytes, bytes_that_differ(expected, found));
    if (slot >= MAX_WRONG_WORDS)
        return;
    family->shared->wrong[slot] = (struct wrong_word){
        .pid = getpid(),
        .member = family->self,
        .generation = family->generation,
        .t_ns = monotonic_ns(),
        .address = (uint64_t)(uintptr_t)at,
        .page = page,
        .offset = offset,
        .expected = expected,
        .found = found,
    };
}

void view_look(const struct view *view, uint64_t page, const char *at)
{
    const uint64_t *words = (const uint64_t *)at;

    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t expected = expected_word(view, page, i);

        if (words[i] != expected)
            record_wrong(view, page, &words[i], i * VIEW_WORD_BYTES, expected);
    }
}

void view_check(const struct view *view)
{
    struct family *family = view->family;

    for (uint64_t page = 0; page < family->bytes / VIEW_PAGE_BYTES; page++)
        view_look(view, page, family->memory + page * VIEW_PAGE_BYTES);
    atomic_store(&family->shared->members[family->self].checked_bytes, family->bytes);
}
