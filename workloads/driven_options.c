#define _GNU_SOURCE
#include "driven_options.h"

#include <stdlib.h>
#include <string.h>

#include "drivers.h"
#include "lines.h"
#include "options.h"
#include "topology.h"

static const char *const driver_names[] = {
    "autonuma", "move_pages", "mbind", "migrate_pages", "cpuset", "weighted-interleave", "home-node", "null", NULL};
static const char *const mover_names[] = {"inside", "outside", NULL};
static const char *const flag_names[] = {"move", "move_all", "strict", NULL};
static const char *const order_names[] = {"sequential", "random", "interleaved", NULL};
static const char *const page_names[] = {"4k",   "thp",  "hugetlb", "16k", "32k", "64k",
                                         "128k", "256k", "512k",    "1m",  NULL};
static const char *const spot_names[] = {"all", "source", "target", NULL};
static const char *const access_names[] = {"read", "write", NULL};
static const char *const pattern_names[] = {"sequential", "random", NULL};
static const char *const sharing_names[] = {"private", "shared", NULL};
static const char *const route_names[] = {"ping-pong", "one-way", NULL};
static const char *const obstacle_names[] = {"untouched", "zero", "pinned", "unmapped", "ksm", NULL};

enum { MAX_BATCH = 1 << 20, MAX_RETRIES = 1000, MAX_OBSTACLES = 1 << 16 };

enum driven_option_id {
    DRIVER = DRIVEN_OPTION_FIRST,
    MOVER,
    FLAGS,
    BATCH,
    ORDER,
    PAGES,
    MOVER_ON,
    VICTIMS,
    VICTIM_ACCESS,
    VICTIM_PATTERN,
    VICTIM_ON,
    SHARING,
    ROUTE,
    RETRIES,
    VERIFY,
    OBSTACLES,
    CPUSET_MEMS,
};

const struct option driven_words[] = {
    {"driver", required_argument, NULL, DRIVER},
    {"mover", required_argument, NULL, MOVER},
    {"flags", required_argument, NULL, FLAGS},
    {"batch", required_argument, NULL, BATCH},
    {"order", required_argument, NULL, ORDER},
    {"pages", required_argument, NULL, PAGES},
    {"mover-on", required_argument, NULL, MOVER_ON},
    {"victims", required_argument, NULL, VICTIMS},
    {"victim-access", required_argument, NULL, VICTIM_ACCESS},
    {"victim-pattern", required_argument, NULL, VICTIM_PATTERN},
    {"victim-on", required_argument, NULL, VICTIM_ON},
    {"sharing", required_argument, NULL, SHARING},
    {"route", required_argument, NULL, ROUTE},
    {"retries", required_argument, NULL, RETRIES},
    {"verify", required_argument, NULL, VERIFY},
    {"obstacles", required_argument, NULL, OBSTACLES},
    {"cpuset-mems", required_argument, NULL, CPUSET_MEMS},
    {NULL, 0, NULL, 0},
};

const char *driver_name(enum driver_id driver)
{
    return driver_names[driver];
}

const char *obstacle_name(unsigned kind)
{
    return obstacle_names[kind];
}

const char *page_type_name(enum page_type pages)
{
    return page_names[pages];
}

const char *spot_name(struct spot_option option, char room[16])
{
    if (option.spot != SPOT_NODE)
        return spot_names[option.spot];
    snprintf(room, 16, "%d", option.node);
    return room;
}

/* Calls `take` with each word of a list that commas separate. */
static void each_word(const char *text, void (*take)(struct driven_options *options, char *word),
                      struct driven_options *options)
{
    char *words = strdup(text);
    char *rest = words;
    char *word;

    if (!words)
        abort();
    while ((word = strsep(&rest, ",")))
        take(options, word);
    free(words);
}

static void add_flag(struct driven_options *options, char *word)
{
    options->flags |= 1U << option_choice("flags", word, flag_names);
}

static void add_obstacle(struct driven_options *options, char *word)
{
    char *count = strchr(word, ':');
    unsigned kind;

    if (!count)
        fail_usage("--obstacles '%s' is not KIND:COUNT, such as pinned:8", word);
    *count++ = '\0';
    kind = option_choice("obstacles", word, obstacle_names);
    options->obstacles[kind] = (unsigned)option_number("obstacles", count, 1, MAX_OBSTACLES);
}

static struct spot_option spot(const char *name, const char *text)
{
    if (*text >= '0' && *text <= '9')
        return (struct spot_option){.spot = SPOT_NODE, .node = (int)option_number(name, text, 0, MAX_NODE_ID)};
    return (struct spot_option){.spot = option_choice(name, text, spot_names)};
}

void driven_options_init(struct driven_options *options)
{
    *options = (struct driven_options){
        .driver = DRIVER_MOVE_PAGES,
        .victims = ABSENT,
        .victim_access = ACCESS_WRITE,
        .victim_on = {.spot = SPOT_TARGET},
        .retries = 10,
    };
}

void driven_options_set(struct driven_options *options, int id, const char *text)
{
    switch ((enum driven_option_id)id) {
    case DRIVER:
        options->driver = option_choice("driver", text, driver_names);
        break;
    case MOVER:
        options->mover = option_choice("mover", text, mover_names);
        break;
    case FLAGS:
        options->flags = 0;
        each_word(text, add_flag, options);
        break;
    case BATCH:
        options->batch = (unsigned)option_number("batch", text, 1, MAX_BATCH);
        break;
    case ORDER:
        options->order = option_choice("order", text, order_names);
        break;
    case PAGES:
        options->pages = option_choice("pages", text, page_names);
        break;
    case MOVER_ON:
        options->mover_on = spot("mover-on", text);
        break;
    case VICTIMS:
        options->victims = (int)option_number("victims", text, 0, MAX_VICTIMS);
        break;
    case VICTIM_ACCESS:
        options->victim_access = option_choice("victim-access", text, access_names);
        break;
    case VICTIM_PATTERN:
        options->victim_pattern = option_choice("victim-pattern", text, pattern_names);
        break;
    case VICTIM_ON:
        options->victim_on = spot("victim-on", text);
        break;
    case SHARING:
        options->sharing = option_choice("sharing", text, sharing_names);
        break;
    case ROUTE:
        options->route = option_choice("route", text, route_names);
        break;
    case RETRIES:
        options->retries = (unsigned)option_number("retries", text, 0, MAX_RETRIES);
        break;
    case VERIFY:
        options->is_verifying = option_number("verify", text, 0, 1);
        break;
    case OBSTACLES:
        each_word(text, add_obstacle, options);
        break;
    case CPUSET_MEMS:
        options->cpuset_mems = text;
        break;
    }
}

static void check_flags(const struct driven_options *options)
{
    if (options->flags & FLAG_STRICT && options->driver != DRIVER_MBIND)
        fail_usage("--flags strict is for --driver mbind: %s has no such flag", driver_name(options->driver));
    if (options->flags && driver_has_own_flags(options->driver))
        fail_usage("--flags is not for --driver %s, which has none: the kernel sets them",
                   driver_name(options->driver));
    if (options->flags && !(options->flags & (FLAG_MOVE | FLAG_MOVE_ALL)))
        fail_usage("--flags needs move or move_all: without them nothing moves");
}

static bool has_obstacles(const struct driven_options *options)
{
    for (unsigned kind = 0; kind < OBSTACLE_KINDS; kind++)
        if (options->obstacles[kind])
            return true;
    return false;
}

static void check_driver(const struct driven_options *options)
{
    const char *name = driver_name(options->driver);
    bool names_pages = options->driver == DRIVER_MOVE_PAGES || options->driver == DRIVER_NULL;

    if (options->mover == MOVER_OUTSIDE && options->driver != DRIVER_MOVE_PAGES &&
        options->driver != DRIVER_MIGRATE_PAGES && options->driver != DRIVER_NULL)
        fail_usage("--mover outside is for move_pages and migrate_pages: %s has no pid", name);
    if (options->order == ORDER_INTERLEAVED && !names_pages)
        fail_usage("--order interleaved needs a driver that names each page, move_pages: not %s", name);
    if (options->batch && (options->driver == DRIVER_MIGRATE_PAGES || options->driver == DRIVER_CPUSET))
        fail_usage("--batch is not for --driver %s, which moves a whole process in one call", name);
    if (options->driver == DRIVER_CPUSET && !options->cpuset_mems)
        fail_usage("--driver cpuset needs --cpuset-mems, the cpuset.mems file to write");
    if (options->driver != DRIVER_CPUSET && options->cpuset_mems)
        fail_usage("--cpuset-mems is for --driver cpuset, not %s", name);
    if (options->driver == DRIVER_HOME_NODE && options->victims > 0)
        fail_usage("--driver home-node places pages anew and takes no --victims");
    if (options->driver == DRIVER_HOME_NODE && options->sharing == SHARING_SHARED)
        fail_usage("--driver home-node places pages anew and takes no --sharing shared");
    if (options->driver == DRIVER_AUTONUMA && options->victims == 0)
        fail_usage("--driver autonuma needs victims: without faults nothing moves");
}

static void check_threads(const struct options *all)
{
    if (all->driven.driver == DRIVER_AUTONUMA && all->threads)
        fail_usage("--threads is of movers, and --driver autonuma has none: --victims says how many touch the pages");
}

void driven_options_check(struct options *all)
{
    struct driven_options *options = &all->driven;

    check_flags(options);
    if (!options->flags)
        options->flags = driver_flags(options->driver);
    check_driver(options);
    check_threads(all);
    if (all->placement != PLACEMENT_DEFAULT)
        fail_usage("--placement is only default here: --start-node and --victim-on say where things are");
    if (has_obstacles(options) && (options->pages != PAGES_BASE || options->sharing == SHARING_SHARED))
        fail_usage("--obstacles are private pages of 4k: not with --pages %s and --sharing %s",
                   page_type_name(options->pages), sharing_names[options->sharing]);
    if (options->obstacles[OBSTACLE_KSM] == 1)
        fail_usage("--obstacles ksm:1 has nothing to be merged with: it takes 2 or more");
    if (has_obstacles(options) && (options->driver == DRIVER_AUTONUMA || options->driver == DRIVER_HOME_NODE))
        fail_usage("--obstacles are for pages that are migrated, which --driver %s does not ask for",
                   driver_name(options->driver));
    if (options->pages >= PAGES_FOLIO && options->sharing == SHARING_SHARED)
        fail_usage("--pages %s is of private memory: not with --sharing shared", page_type_name(options->pages));
    if (options->route == ROUTE_ONE_WAY && options->driver != DRIVER_AUTONUMA)
        all->loops = 1;
}

static void line_flags(struct line *line, unsigned flags)
{
    const char *comma = "";

    fputs(",\"flags\":[", line->stream);
    for (unsigned i = 0; flag_names[i]; i++) {
        if (!(flags & 1U << i))
            continue;
        fprintf(line->stream, "%s\"%s\"", comma, flag_names[i]);
        comma = ",";
    }
    fputc(']', line->stream);
}

static void line_obstacles(struct line *line, const unsigned *counts)
{
    const char *comma = "";

    fputs(",\"obstacles\":{", line->stream);
    for (unsigned kind = 0; kind < OBSTACLE_KINDS; kind++) {
        if (!counts[kind])
            continue;
        fprintf(line->stream, "%s\"%s\":%u", comma, obstacle_names[kind], counts[kind]);
        comma = ",";
    }
    fputc('}', line->stream);
}

void line_driven_options(struct line *line, const struct driven_options *options, uint64_t unit_bytes, unsigned victims)
{
    char room[16];

    fprintf(line->stream, ",\"driver\":{\"name\":\"%s\"", driver_name(options->driver));
    line_text(line, "mover", mover_names[options->mover]);
    line_flags(line, options->flags);
    line_number(line, "batch", options->batch);
    line_text(line, "order", order_names[options->order]);
    line_text(line, "pages", page_type_name(options->pages));
    line_number(line, "unit_bytes", (int64_t)unit_bytes);
    line_text(line, "mover_on", spot_name(options->mover_on, room));
    line_number(line, "victims", victims);
    line_text(line, "victim_access", access_names[options->victim_access]);
    line_text(line, "victim_pattern", pattern_names[options->victim_pattern]);
    line_text(line, "victim_on", spot_name(options->victim_on, room));
    line_text(line, "sharing", sharing_names[options->sharing]);
    line_text(line, "route", route_names[options->route]);
    line_number(line, "retries", options->retries);
    line_number(line, "verify", options->is_verifying);
    line_obstacles(line, options->obstacles);
}
