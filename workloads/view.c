#define _GNU_SOURCE
#include "view.h"

#include <stdlib.h>

#include "monotonic.h"
#include "options.h"
#include "stamp.h"
#include "wrong.h"

enum {
    LINES = VIEW_PAGE_BYTES / LINE_BYTES,
    /* A stamp's write: whose it is, and which of its writes to the page, modulo 2^14. */
    MEMBER_SHIFT = 14,
};

size_t quarter_bytes(const struct family *family)
{
    size_t bytes = family->bytes / QUARTER_COUNT;

    return bytes - bytes % family->unit_bytes;
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

/* The number of the write that this process must find on a page: 0, the root's, where it has written none. */
static uint64_t last_write(const struct view *view, uint64_t page)
{
    bool is_of_quarter = page < quarter_bytes(view->family) / VIEW_PAGE_BYTES;
    uint32_t times = view->written && is_of_quarter ? view->written[page] : 0;

    return times ? (uint64_t)view->family->self << MEMBER_SHIFT | times % (1 << MEMBER_SHIFT) : 0;
}

void view_write(struct view *view, uint64_t page)
{
    uint64_t *words = (uint64_t *)(view->family->memory + page * VIEW_PAGE_BYTES);

    view->written[page]++;
    for (unsigned line = 0; line < LINES; line++)
        words[line * LINE_WORDS] = stamp(last_write(view, page), page * LINES + line);
}

/* By the system's pages, which may be larger than those of a view. */
static void record_wrong(const struct view *view, uint64_t page, uint64_t found, unsigned offset, uint64_t expected)
{
    struct family *family = view->family;
    size_t page_bytes = family->drive->memory.page_bytes;
    size_t at = page * VIEW_PAGE_BYTES + offset;
    struct wrong_word wrong = {
        .pid = family_pid(family, family->self),
        .thread = ABSENT,
        .t_ns = monotonic_ns(),
        .page = at / page_bytes,
        .offset = at % page_bytes,
        .expected = expected,
        .found = found,
    };

    atomic_fetch_add(&family->members[family->self].wrong_bytes, bytes_that_differ(expected, found));
    drive_add_wrong(family->drive, &wrong);
}

void view_look(const struct view *view, uint64_t page, const char *at)
{
    const uint64_t *words = (const uint64_t *)at;
    uint64_t write = last_write(view, page);

    for (unsigned i = 0; i < LINES * LINE_WORDS; i++) {
        uint64_t line = page * LINES + i / LINE_WORDS;
        uint64_t expected = i % LINE_WORDS ? stamp_filler(line, i % LINE_WORDS) : stamp(write, line);

        if (words[i] != expected)
            record_wrong(view, page, words[i], i * VIEW_WORD_BYTES, expected);
    }
}

void view_check(const struct view *view)
{
    struct family *family = view->family;

    for (uint64_t page = 0; page < family->bytes / VIEW_PAGE_BYTES; page++)
        view_look(view, page, family->memory + page * VIEW_PAGE_BYTES);
    atomic_store(&family->members[family->self].checked_bytes, family->bytes);
}
