/*
 * Feeds the parser damaged recordings: perfdata_fuzz FILE RUNS SEED. FILE holds records alone. Every run damages some
 * of them where it hurts (sizes, types, counts), feeds two lanes in turns by parts of random sizes, and what stands in
 * COMPRESSED records to a third as if it were unpacked, and walks all that was found. To be built with sanitizers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folded.h"
#include "perfdata.h"
#include "stacks.h"

enum { EVENTS = 3, MAX_BYTES = 1 << 20, MAX_DAMAGE = 12, MAX_RECORDS = 4096, HEADER_BYTES = 8, UNPACK_DEPTH = 2 };
enum { TYPE_COMPRESSED = 81, TYPE_COMPRESSED2 = 83 };

/* Where each record of the whole file begins, and the end. */
struct records {
    size_t at[MAX_RECORDS + 1];
    size_t count;
};

/* xorshift64*: S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016). */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static struct records find_records(const uint8_t *bytes, size_t size)
{
    struct records found = {{0}, 0};
    size_t at = 0;

    while (at + HEADER_BYTES <= size && found.count < MAX_RECORDS) {
        uint16_t record_bytes;

        memcpy(&record_bytes, bytes + at + 6, sizeof(record_bytes));
        if (record_bytes < HEADER_BYTES || record_bytes > size - at)
            break;
        found.at[found.count++] = at;
        at += record_bytes;
    }
    found.at[found.count] = at;
    return found;
}

static void damage_record(uint8_t *record, size_t size, uint64_t *state)
{
    static const uint64_t extremes[] = {0, 1, 7, 8, UINT16_MAX, UINT32_MAX, UINT64_MAX, (uint64_t)-4095, 1ULL << 61};
    static const uint8_t types[] = {1, 2, 3, 4, 7, 9, 10, 13, 17, 22, 64, 66, 71, 78, 80, 81, 83, 127, 255};
    size_t words = (size - HEADER_BYTES) / 8;
    uint16_t record_bytes;

    switch (next_random(state) % 6) {
    case 0: /* a size a little off, or any */
        memcpy(&record_bytes, record + 6, sizeof(record_bytes));
        record_bytes =
            (uint16_t)(next_random(state) % 4 ? record_bytes + (next_random(state) % 9 - 4) * 4 : next_random(state));
        memcpy(record + 6, &record_bytes, sizeof(record_bytes));
        break;
    case 1: /* hardly more than a header */
        record[6] = (uint8_t)(HEADER_BYTES + next_random(state) % 12 * 8);
        record[7] = 0;
        break;
    case 2:
        record[0] = types[next_random(state) % sizeof(types)];
        break;
    case 3: /* a word near the beginning, where counts are */
        if (words)
            memcpy(record + HEADER_BYTES + next_random(state) % (words < 24 ? words : 24) * 8,
                   &extremes[next_random(state) % (sizeof(extremes) / sizeof(*extremes))], 8);
        break;
    case 4: /* a small number there */
        if (words)
            record[HEADER_BYTES + next_random(state) % (words < 24 ? words : 24) * 8] = (uint8_t)next_random(state);
        break;
    default:
        record[next_random(state) % size] ^= (uint8_t)(1U << next_random(state) % 8);
    }
}

static void damage(uint8_t *bytes, const struct records *records, uint64_t *state)
{
    uint64_t count = next_random(state) % MAX_DAMAGE;

    for (uint64_t i = 0; i < count; i++) {
        size_t record = next_random(state) % records->count;

        damage_record(bytes + records->at[record], records->at[record + 1] - records->at[record], state);
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

/* The places of user frames are of files, and the files have names. */
static void check_places(struct perfdata *data)
{
    uint64_t places, files, texts = perfdata_texts(data).count;
    struct perfdata_span users = perfdata_user_chains(data);
    const struct perfdata_place *place = perfdata_places(data, &places);
    const struct perfdata_file *file = perfdata_files(data, &files);

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
}

static uint64_t walk(struct perfdata *data)
{
    uint64_t count, samples = 0, total = sum(perfdata_texts(data), 1);
    uint64_t kernel_chains = perfdata_kernel_chains(data).count, user_chains = perfdata_user_chains(data).count;
    const struct perfdata_group *groups = perfdata_groups(data, &count);

    for (uint64_t i = 0; i < count; i++) {
        samples += groups[i].count;
        if (groups[i].kernel >= kernel_chains || groups[i].user >= user_chains || groups[i].event >= EVENTS ||
            groups[i].comm >= perfdata_texts(data).count)
            abort();
    }
    if (samples != perfdata_stats(data)->samples)
        abort();
    check_places(data);
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

static void unpack(struct perfdata *data, const uint8_t *record, size_t size, uint64_t *state, int depth);

/* How much to feed next: mostly one whole record, alone in its memory, where a sanitizer sees it read a word too far.
 */
static size_t part_bytes(const uint8_t *bytes, size_t size, uint64_t *state)
{
    uint16_t record_bytes = 0;

    if (next_random(state) % 8 && size >= HEADER_BYTES)
        memcpy(&record_bytes, bytes + 6, sizeof(record_bytes));
    if (record_bytes)
        return record_bytes;
    return 1 + next_random(state) % (next_random(state) % 2 ? 300 : 70000);
}

/* One part of a lane's bytes, up to the first record that is the caller's; 0 where the lane is at its end. */
static size_t feed_part(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size,
                        uint64_t *state, int depth)
{
    size_t part = part_bytes(bytes, size, state), used;
    uint8_t *copy;
    int status;

    if (part > size)
        part = size;
    if (!part)
        return 0;
    copy = malloc(part); /* so that a sanitizer sees a byte too many */
    if (!copy)
        abort();
    memcpy(copy, bytes, part);
    status = perfdata_feed(data, lane, copy, part, &used);
    if (used > part || (status == PERFDATA_MORE && used != part))
        abort();
    if (status == PERFDATA_RECORD)
        unpack(data, lane->record, lane->record_bytes, state, depth);
    free(copy);
    if (status == PERFDATA_ROUND && perfdata_round(data) < 0)
        abort();
    return status < 0 ? 0 : used;
}

static void unpack(struct perfdata *data, const uint8_t *record, size_t size, uint64_t *state, int depth)
{
    size_t at = record[0] == TYPE_COMPRESSED2 ? HEADER_BYTES + 8 : HEADER_BYTES;
    struct perfdata_lane *lane;
    size_t used;

    if ((record[0] != TYPE_COMPRESSED && record[0] != TYPE_COMPRESSED2) || depth == UNPACK_DEPTH)
        return;
    lane = perfdata_lane_new(PERFDATA_SIDEBAND | PERFDATA_SAMPLES | PERFDATA_PACKED);
    while (lane && at < size && (used = feed_part(data, lane, record + at, size - at, state, depth + 1)))
        at += used;
    perfdata_lane_free(lane);
}

/* The file's halves by turns, as the files of a directory may be. */
static void feed_lanes(struct perfdata *data, int kinds, const uint8_t *bytes, const struct records *records,
                       uint64_t *state)
{
    size_t middle = records->at[records->count / 2], end = records->at[records->count];
    size_t at[2] = {0, middle}, ends[2] = {middle, end};
    struct perfdata_lane *lanes[2] = {perfdata_lane_new(kinds), perfdata_lane_new(kinds)};
    int is_going[2] = {lanes[0] != NULL, lanes[1] != NULL};

    while (is_going[0] || is_going[1]) {
        uint64_t turn = is_going[0] && is_going[1] ? next_random(state) % 2 : (uint64_t)is_going[1];
        size_t used = feed_part(data, lanes[turn], bytes + at[turn], ends[turn] - at[turn], state, 0);

        at[turn] += used;
        is_going[turn] = used > 0;
    }
    perfdata_lane_free(lanes[0]);
    perfdata_lane_free(lanes[1]);
}

/* In one way through the bytes, or the records about tasks first and then the samples. */
static void feed(struct perfdata *data, const uint8_t *bytes, const struct records *records, uint64_t *state)
{
    if (next_random(state) % 2) {
        feed_lanes(data, PERFDATA_SIDEBAND | PERFDATA_SAMPLES | PERFDATA_PACKED, bytes, records, state);
        return;
    }
    feed_lanes(data, PERFDATA_SIDEBAND | PERFDATA_PACKED, bytes, records, state);
    if (perfdata_settle(data) < 0)
        abort();
    feed_lanes(data, PERFDATA_SAMPLES, bytes, records, state);
}

static void run(const uint8_t *original, const struct records *records, uint64_t *state)
{
    static const uint64_t kept = 0x1FFFF; /* every bit up to PERF_SAMPLE_IDENTIFIER */
    struct perfdata *data = perfdata_new((int)(next_random(state) % 2), (int)(next_random(state) % 2),
                                         (int)(next_random(state) % 2), next_random(state));
    uint64_t type = next_random(state) % 2 ? 0x4C7 | 1 << 5 | 1 << 8 : next_random(state) & kept;
    uint64_t events = 1 + next_random(state) % EVENTS;
    uint8_t *bytes = malloc(records->at[records->count]);

    if (!data || !bytes)
        abort();
    memcpy(bytes, original, records->at[records->count]);
    damage(bytes, records, state);
    for (uint32_t event = 0; event < events; event++) {
        struct perfdata_layout layout = {type, next_random(state) % 32, 1, next_random(state) % 2,
                                         PERFDATA_ROWS | PERFDATA_RAW};

        if (next_random(state) % 8 == 0) /* an event of another layout */
            layout.sample_type = next_random(state) & kept;
        perfdata_add_event(data, &layout);
        perfdata_add_id(data, event + 1, event);
    }
    feed(data, bytes, records, state);
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
    struct records records;
    uint64_t state;
    size_t size;
    long runs;

    if (!file || !bytes) {
        fprintf(stderr, "usage: perfdata_fuzz FILE RUNS SEED\n");
        return 2;
    }
    size = fread(bytes, 1, MAX_BYTES, file);
    fclose(file);
    records = find_records(bytes, size);
    if (!records.count || records.at[records.count] != size) {
        fprintf(stderr, "perfdata_fuzz: %s does not hold whole records\n", argv[1]);
        return 2;
    }
    runs = strtol(argv[2], NULL, 10);
    state = strtoull(argv[3], NULL, 10) | 1;
    for (long i = 0; i < runs; i++)
        run(bytes, &records, &state);
    free(bytes);
    printf("%ld runs\n", runs);
    return 0;
}
