#define _GNU_SOURCE
#include "family_options.h"

#include <stdlib.h>
#include <string.h>

#include "options.h"

static const char *const mover_at_names[] = {"parent", "child", "sibling", NULL};
static const char *const churn_names[] = {"fork", "mremap", "split", "write", NULL};

enum { MAX_DEPTH = 6, MAX_FANOUT = 8 };

enum family_option_id { DEPTH = FAMILY_OPTION_FIRST, FANOUT, MOVER_AT, CHURN };

const struct option family_words[] = {
    {"depth", required_argument, NULL, DEPTH},
    {"fanout", required_argument, NULL, FANOUT},
    {"mover-at", required_argument, NULL, MOVER_AT},
    {"churn", required_argument, NULL, CHURN},
    {NULL, 0, NULL, 0},
};

void family_options_init(struct family_options *options)
{
    *options = (struct family_options){
        .depth = 3,
        .fanout = 2,
        .churn = CHURN_FORK | CHURN_MREMAP | CHURN_SPLIT | CHURN_WRITE,
    };
}

static unsigned churn_of(const char *text)
{
    char *words, *rest, *word;
    unsigned churn = 0;

    if (strcmp(text, "none") == 0)
        return 0;
    words = rest = strdup(text);
    if (!words)
        abort();
    while ((word = strsep(&rest, ",")))
        churn |= 1U << option_choice("churn", word, churn_names);
    free(words);
    return churn;
}

void family_options_set(struct family_options *options, int id, const char *text)
{
    switch ((enum family_option_id)id) {
    case DEPTH:
        options->depth = (unsigned)option_number("depth", text, 1, MAX_DEPTH);
        break;
    case FANOUT:
        options->fanout = (unsigned)option_number("fanout", text, 1, MAX_FANOUT);
        break;
    case MOVER_AT:
        options->mover_at = option_choice("mover-at", text, mover_at_names);
        break;
    case CHURN:
        options->churn = churn_of(text);
        break;
    }
}

unsigned family_processes(const struct family_options *options)
{
    unsigned processes = 1, generation = 1;

    for (unsigned i = 0; i < options->depth; i++) {
        generation *= options->fanout;
        processes += generation;
    }
    return processes;
}

static void check_family(const struct family_options *options)
{
    unsigned processes = family_processes(options);

    if (processes > MAX_FAMILY)
        fail_usage("--depth %u with --fanout %u makes %u processes: at most %d are allowed", options->depth,
                   options->fanout, processes, MAX_FAMILY);
    if (options->mover_at == MOVER_AT_SIBLING && options->fanout < 2)
        fail_usage("--mover-at sibling needs --fanout 2 or more: an only child has no sibling");
}

static void check_driver(const struct options *all)
{
    switch (all->driven.driver) {
    case DRIVER_MOVE_PAGES:
    case DRIVER_MIGRATE_PAGES:
    case DRIVER_NULL:
        return;
    case DRIVER_MBIND:
        if (all->family.mover_at == MOVER_AT_SIBLING)
            fail_usage("--driver mbind moves the caller's own memory: not with --mover-at sibling");
        return;
    default:
        fail_usage("forktree takes the drivers move_pages, mbind, migrate_pages, null: not %s",
                   driver_name(all->driven.driver));
    }
}

void family_options_check(const struct options *all)
{
    const struct driven_options *driven = &all->driven;

    check_family(&all->family);
    check_driver(all);
    if (all->family.mover_at == MOVER_AT_SIBLING && driven->pages != PAGES_BASE && all->family.churn & CHURN_WRITE)
        fail_usage("--pages %s at a sibling cannot be with --churn write, which copies base pages out of larger ones",
                   page_type_name(driven->pages));
    if (driven->victims > 0)
        fail_usage("--victims %d is for pingpong: in forktree the other processes are the victims", driven->victims);
    if (driven->sharing == SHARING_SHARED)
        fail_usage("--sharing shared is for pingpong: what children inherit is private");
    if (all->mapping == MAPPING_PER_THREAD)
        fail_usage("--mapping per-thread is for pingpong: what children inherit is one mapping");
    if (driven->mover == MOVER_OUTSIDE)
        fail_usage("--mover outside is for pingpong: --mover-at says which process moves");
    if (driven->pages == PAGES_HUGETLB)
        fail_usage("--pages hugetlb is for pingpong: a copy on write may find no free huge page, which kills");
    for (unsigned kind = 0; kind < OBSTACLE_KINDS; kind++)
        if (driven->obstacles[kind])
            fail_usage("--obstacles are for pingpong: in forktree the other processes are in the way");
}

void line_family_options(struct line *line, const struct family_options *options)
{
    const char *comma = "";

    line_number(line, "depth", options->depth);
    line_number(line, "fanout", options->fanout);
    line_text(line, "mover_at", mover_at_names[options->mover_at]);
    fputs(",\"churn\":[", line->stream);
    for (unsigned i = 0; churn_names[i]; i++) {
        if (!(options->churn & 1U << i))
            continue;
        fprintf(line->stream, "%s\"%s\"", comma, churn_names[i]);
        comma = ",";
    }
    fputc(']', line->stream);
}
