/*
 * Feeds the parser damaged recordings: perfdata_fuzz FILE RUNS SEED. FILE holds records alone. Every run damages some
 * bytes, feeds parts of random sizes and walks all that was found; to be built with sanitizers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folded.h"
#include "perfdata.h"
#include "stacks.h"

enum { EVENTS = 3, MAX_BYTES = 1 << 20, MAX_DAMAGE = 40 };

/* xorshift64*: S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016). */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static void damage(uint8_t *bytes, size_t size, uint64_t *state)
{
    static const uint64_t extremes[] = {0, 1, 7, 8, UINT16_MAX, UINT32_MAX, UINT64_MAX, (uint64_t)-4095, 1ULL << 61};
    uint64_t count = next_random(state) % MAX_DAMAGE;

    for (uint64_t i = 0; i < count && size > 8; i++) {
        size_t at = next_random(state) % (size - 8);

        if (next_random(state) % 2)
            bytes[at] ^= (uint8_t)(1U << next_random(state) % 8);
        else
            memcpy(bytes + at, &extremes[next_random(state) % (sizeof(extremes) / sizeof(*extremes))], 8);
    }
}

static uint64_t sum(struct perfdata_span span, size_t item_bytes)
{
    const uint8_t *items = span.items;
    uint64_t total = 0;

    for (uint64_t i = 0; i < span.starts[span.count] * item_bytes; i++)
        total += items[i];
    return total;
}

static uint64_t walk(struct perfdata *data)
{
    uint64_t count, total = sum(perfdata_texts(data), 1), places, files;
    uint64_t kernel_chains = perfdata_kernel_chains(data).count, user_chains = perfdata_user_chains(data).count;
    uint64_t texts = perfdata_texts(data).count;
    struct perfdata_span users = perfdata_user_chains(data);
    const struct perfdata_place *place = perfdata_places(data, &places);
    const struct perfdata_file *file = perfdata_files(data, &files);
    const struct perfdata_group *groups = perfdata_groups(data, &count);

    for (uint64_t i = 0; i < count; i++) {
        if (groups[i].kernel >= kernel_chains || groups[i].user >= user_chains || groups[i].event >= EVENTS ||
            groups[i].comm >= texts)
            abort();
        total += groups[i].count;
    }
    for (uint64_t i = 0; i < users.starts[users.count]; i++) {
        if (((const uint32_t *)users.items)[i] >= places)
            abort();
    }
    for (uint64_t i = 0; i < places; i++) {
        if (place[i].file >= files)
            abort();
    }
    for (uint64_t i = 0; i < files; i++) {
        if (file[i].name >= texts || file[i].build_id >= texts)
            abort();
    }
    for (uint32_t event = 0; event < EVENTS; event++) {
        const struct perfdata_row *rows = perfdata_rows(data, event, &count);
        uint64_t raw_bytes, row_bytes = 0;
        const uint8_t *raw = perfdata_raw(data, event, &raw_bytes);

        for (uint64_t i = 0; i < count; i++)
            row_bytes += rows[i].raw_bytes;
        if (row_bytes != raw_bytes)
            abort();
        for (uint64_t i = 0; i < raw_bytes; i++)
            total += raw[i];
    }
    return total + sum(perfdata_kernel_chains(data), 8);
}

/* Name everything, make the tree and its text: the samples in it are those that were counted. */
static void fold(struct perfdata *data, uint64_t *state)
{
    struct stacks *stacks = stacks_new(data, next_random(state));
    struct calltree *tree = calltree_new(next_random(state));
    struct folded *folded = NULL;
    char text[4096];
    int64_t size;

    if (!stacks || !tree || stacks_name_kernel(stacks, NULL, 0) < 0 || stacks_name_comms(stacks) < 0)
        abort();
    while (stacks_next_file(stacks) != STACKS_NONE) {
        if (stacks_name_file(stacks, NULL, NULL, 0, (const uint8_t *)"a;b", 3) < 0)
            abort();
    }
    for (uint32_t odd = 0; (odd = stacks_odd_name(stacks, odd)) != STACKS_NONE && odd < 10; odd++)
        stacks_show(stacks, odd, (const uint8_t *)"odd", 3);
    if (stacks_build(stacks, tree, STACKS_ALL_EVENTS, STACKS_USER | STACKS_COMM, NULL) < 0)
        abort();
    folded = folded_new(tree, stacks_names(stacks));
    while (folded && (size = folded_next(folded, text, sizeof(text))) > 0 && size <= (int64_t)sizeof(text))
        ;
    folded_free(folded);
    calltree_free(tree);
    stacks_free(stacks);
}

static void feed_lane(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size,
                      uint64_t *state)
{
    size_t at = 0, used;

    while (lane && at < size) {
        size_t part = 1 + next_random(state) % 70000;
        uint8_t *copy;
        int status;

        if (part > size - at)
            part = size - at;
        copy = malloc(part); /* so that a sanitizer sees a byte too many */
        if (!copy)
            abort();
        memcpy(copy, bytes + at, part);
        status = perfdata_feed(data, lane, copy, part, &used);
        free(copy);
        if (used > part || (status == PERFDATA_MORE && used != part))
            abort();
        if (status < 0)
            break;
        if (status == PERFDATA_ROUND && perfdata_round(data) < 0)
            abort();
        at += used;
    }
    perfdata_lane_free(lane);
}

/* In one way through the bytes, or the records about tasks first and then the samples. */
static void feed(struct perfdata *data, const uint8_t *bytes, size_t size, uint64_t *state)
{
    if (next_random(state) % 2) {
        feed_lane(data, perfdata_lane_new(PERFDATA_SIDEBAND | PERFDATA_SAMPLES | PERFDATA_PACKED), bytes, size, state);
        return;
    }
    feed_lane(data, perfdata_lane_new(PERFDATA_SIDEBAND | PERFDATA_PACKED), bytes, size, state);
    if (perfdata_settle(data) < 0)
        abort();
    feed_lane(data, perfdata_lane_new(PERFDATA_SAMPLES), bytes, size, state);
}

static void run(const uint8_t *original, size_t size, uint64_t *state)
{
    static const uint64_t kept = 0x1FFFF; /* every bit up to PERF_SAMPLE_IDENTIFIER */
    struct perfdata *data = perfdata_new((int)(next_random(state) % 2), next_random(state) % 8 != 0,
                                         (int)(next_random(state) % 2), next_random(state));
    uint64_t type = next_random(state) % 4 ? 0x4C7 | 1 << 5 | 1 << 8 : next_random(state) & kept;
    uint64_t events = 1 + next_random(state) % EVENTS;
    uint8_t *bytes = malloc(size);

    if (!data || !bytes)
        abort();
    memcpy(bytes, original, size);
    damage(bytes, size, state);
    for (uint32_t event = 0; event < events; event++) {
        struct perfdata_layout layout = {type, next_random(state) % 32, 1, next_random(state) % 2,
                                         PERFDATA_ROWS | PERFDATA_RAW};

        perfdata_add_event(data, &layout);
        perfdata_add_id(data, event + 1, event);
    }
    feed(data, bytes, size, state);
    if (walk(data) == 1)
        putchar('\n');
    fold(data, state);
    perfdata_free(data);
    free(bytes);
}

int main(int argc, char **argv)
{
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    uint8_t *bytes = malloc(MAX_BYTES);
    uint64_t state;
    size_t size;
    long runs;

    if (!file || !bytes) {
        fprintf(stderr, "usage: perfdata_fuzz FILE RUNS SEED\n");
        return 2;
    }
    size = fread(bytes, 1, MAX_BYTES, file);
    fclose(file);
    runs = strtol(argv[2], NULL, 10);
    state = strtoull(argv[3], NULL, 10) | 1;
    for (long i = 0; i < runs; i++)
        run(bytes, size, &state);
    free(bytes);
    printf("%ld runs\n", runs);
    return 0;
}
