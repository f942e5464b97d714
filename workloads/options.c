#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "runner.h"

static const char *const placement_names[] = {"default", "hard", "inverse", "inverse-compat", NULL};
static const char *const thp_names[] = {"default", "always", "never", NULL};
static const char *const mapping_names[] = {"one", "per-thread", NULL};

static const uint64_t MAX_SIZE_BYTES = 1ULL << 46;
static const uint64_t MAX_LOOPS = 1ULL << 40;
static const uint64_t MAX_DURATION_MS = 30ULL * 86400 * 1000;
static const uint64_t MAX_INTERVAL_MS = 3600 * 1000;
enum { MAX_THREADS = 65536, MAX_WORDS = 64 };

enum option_id {
    NODES,
    PLACEMENT,
    SIZE,
    THREADS,
    LOOPS,
    DURATION,
    START_NODE,
    THP,
    MAPPING,
    INTERVAL,
    SEED,
    READY,
    GO
};

static const struct option words[] = {
    [NODES] = {"nodes", required_argument, NULL, NODES},
    [PLACEMENT] = {"placement", required_argument, NULL, PLACEMENT},
    [SIZE] = {"size", required_argument, NULL, SIZE},
    [THREADS] = {"threads", required_argument, NULL, THREADS},
    [LOOPS] = {"loops", required_argument, NULL, LOOPS},
    [DURATION] = {"duration-ms", required_argument, NULL, DURATION},
    [START_NODE] = {"start-node", required_argument, NULL, START_NODE},
    [THP] = {"thp", required_argument, NULL, THP},
    [MAPPING] = {"mapping", required_argument, NULL, MAPPING},
    [INTERVAL] = {"interval-ms", required_argument, NULL, INTERVAL},
    [SEED] = {"seed", required_argument, NULL, SEED},
    [READY] = {"ready-fd", required_argument, NULL, READY},
    [GO] = {"go-fd", required_argument, NULL, GO},
    [GO + 1] = {NULL, 0, NULL, 0},
};

const char *placement_name(enum placement placement)
{
    return placement_names[placement];
}

const char *thp_name(enum thp thp)
{
    return thp_names[thp];
}

const char *mapping_name(enum mapping mapping)
{
    return mapping_names[mapping];
}

uint64_t option_number(const char *name, const char *text, uint64_t low, uint64_t high)
{
    unsigned long long value;
    char *end;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end)
        fail_usage("--%s '%s' is not a number", name, text);
    if (errno || value < low || value > high)
        fail_usage("--%s %s is out of range: it goes from %llu to %llu", name, text, (unsigned long long)low,
                   (unsigned long long)high);
    return value;
}

unsigned option_choice(const char *name, const char *text, const char *const *names)
{
    char known[128] = "";

    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0)
            return i;
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "", names[i]);
    }
    fail_usage("--%s '%s' is none of %s", name, text, known);
}

static uint64_t number(enum option_id id, const char *text, uint64_t low, uint64_t high)
{
    return option_number(words[id].name, text, low, high);
}

static unsigned choice(enum option_id id, const char *text, const char *const *names)
{
    return option_choice(words[id].name, text, names);
}

static int descriptor(enum option_id id, const char *text)
{
    int fd = (int)number(id, text, 0, INT_MAX);

    if (fcntl(fd, F_GETFD) < 0)
        fail_usage("--%s %d is not an open descriptor", words[id].name, fd);
    return fd;
}

static void set(struct options *options, enum option_id id, const char *text)
{
    switch (id) {
    case NODES:
        options->nodes = text;
        break;
    case PLACEMENT:
        options->placement = choice(id, text, placement_names);
        break;
    case SIZE:
        options->size_bytes = number(id, text, 1, MAX_SIZE_BYTES);
        break;
    case THREADS:
        options->threads = (unsigned)number(id, text, 1, MAX_THREADS);
        break;
    case LOOPS:
        options->loops = number(id, text, 0, MAX_LOOPS);
        break;
    case DURATION:
        options->duration_ms = number(id, text, 0, MAX_DURATION_MS);
        break;
    case START_NODE:
        options->start_node = (int)number(id, text, 0, MAX_NODE_ID);
        break;
    case THP:
        options->thp = choice(id, text, thp_names);
        break;
    case MAPPING:
        options->mapping = choice(id, text, mapping_names);
        break;
    case INTERVAL:
        options->interval_ms = number(id, text, 1, MAX_INTERVAL_MS);
        break;
    case SEED:
        options->seed = number(id, text, 0, INT64_MAX);
        break;
    case READY:
        options->ready_fd = descriptor(id, text);
        break;
    case GO:
        options->go_fd = descriptor(id, text);
        break;
    }
}

static _Noreturn void fail_unknown(const char *word, const struct option *known_words)
{
    char known[1024] = "";

    for (const struct option *option = known_words; option->name; option++)
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s--%s", option == known_words ? "" : ", ",
                 option->name);
    fail_usage("'%s' is not an option, which are %s", word, known);
}

/* Driven workloads have options of their own, and --pages says what --thp says of the others. */
static void list_words(struct option *known, const struct workload *workload)
{
    unsigned count = 0;

    for (const struct option *option = words; option->name; option++)
        if (!workload->is_driven || option->val != THP)
            known[count++] = *option;
    for (const struct option *option = driven_words; workload->is_driven && option->name; option++)
        known[count++] = *option;
    for (const struct option *option = family_words; workload->has_family && option->name; option++)
        known[count++] = *option;
    known[count] = (struct option){0};
}

static void check_together(const struct options *options, const struct workload *workload)
{
    if (options->start_node != ABSENT && options->placement != PLACEMENT_DEFAULT)
        fail_usage("--start-node is for --placement default: %s says itself where memory starts",
                   placement_name(options->placement));
    if (options->placement == PLACEMENT_INVERSE_COMPAT && !workload->is_published)
        fail_usage("%s has no published inverse: use --placement inverse", workload->name);
    if (options->mapping == MAPPING_PER_THREAD && !workload->has_mapping_per_thread)
        fail_usage("--mapping per-thread is for memset: %s has one mapping", workload->name);
    if (!options->loops && !options->duration_ms && options->go_fd == ABSENT)
        fail_usage("it would never end: give --loops, --duration-ms or --go-fd");
}

void options_parse(struct options *options, const struct workload *workload, int argc, char **argv)
{
    struct option known[MAX_WORDS];
    int id;

    *options = (struct options){
        .size_bytes = workload->size_bytes,
        .loops = workload->loops,
        .start_node = ABSENT,
        .interval_ms = 1000,
        .seed = 1,
        .ready_fd = ABSENT,
        .go_fd = ABSENT,
    };
    driven_options_init(&options->driven);
    family_options_init(&options->family);
    list_words(known, workload);
    opterr = 0;
    while ((id = getopt_long(argc, argv, "+:", known, NULL)) != -1) {
        if (id == ':')
            fail_usage("%s needs a value", argv[optind - 1]);
        if (id == '?')
            fail_unknown(argv[optind - 1], known);
        if (id >= FAMILY_OPTION_FIRST)
            family_options_set(&options->family, id, optarg);
        else if (id >= DRIVEN_OPTION_FIRST)
            driven_options_set(&options->driven, id, optarg);
        else
            set(options, (enum option_id)id, optarg);
    }
    if (optind < argc)
        fail_unknown(argv[optind], known);
    if (workload->has_family)
        family_options_check(options);
    if (workload->is_driven)
        driven_options_check(options);
    check_together(options, workload);
}
