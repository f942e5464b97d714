/*
 * Feeds the parser damaged recordings: perfdata_fuzz FILE RUNS SEED. FILE holds records alone. Every run damages some
 * bytes, feeds parts of random sizes and walks all that was found; to be built with sanitizers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perfdata.h"

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

static uint64_t walk(const struct perfdata *data)
{
    uint64_t count, total = sum(perfdata_texts(data), 1);
    uint64_t kernel_chains = perfdata_kernel_chains(data).count, user_chains = perfdata_user_chains(data).count;
    const struct perfdata_group *groups = perfdata_groups(data, &count);

    for (uint64_t i = 0; i < count; i++) {
        if (groups[i].kernel >= kernel_chains || groups[i].user >= user_chains || groups[i].event >= EVENTS)
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
    return total + sum(perfdata_kernel_chains(data), 8) + sum(perfdata_user_chains(data), 8);
}

static void feed(struct perfdata *data, const uint8_t *bytes, size_t size, uint64_t *state)
{
    struct perfdata_lane *lane = perfdata_lane_new();
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
        at += used;
    }
    perfdata_lane_free(lane);
}

static void run(const uint8_t *original, size_t size, uint64_t *state)
{
    static const uint64_t kept = 0x1FFFF; /* every bit up to PERF_SAMPLE_IDENTIFIER */
    static const struct perfdata_epoch epochs[] = {{.tid = 7, .time_ns = 5}, {.tid = 8, .time_ns = 900}};
    struct perfdata *data = perfdata_new((int)(next_random(state) % 2), 1, 1, next_random(state));
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
    if (next_random(state) % 2)
        perfdata_set_epochs(data, epochs, 2);
    feed(data, bytes, size, state);
    if (walk(data) == 1)
        putchar('\n');
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
