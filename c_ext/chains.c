/* posix_memalign() and madvise() */
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200112L
#include "chains.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

/* The table's size when it is new and when it is full: 48 bytes each, 12 MiB in all. */
enum { LARGE_PAGE = 2 << 20, FIRST_SEEN = 1 << 12, MOST_SEEN = 1 << 18, MOST_WORDS = 8192 };

typedef unsigned __int128 wide;

/* Sebastiano Vigna's SplitMix64. */
static uint64_t next_key(uint64_t *state)
{
    uint64_t key = *state += UINT64_C(0x9E3779B97F4A7C15);

    key = (key ^ key >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    key = (key ^ key >> 27) * UINT64_C(0x94D049BB133111EB);
    return key ^ key >> 31;
}

/* A table without entries. Its slots are looked at in no order: where the kernel has large pages, they save time. */
static struct chain_seen *new_seen(size_t slots)
{
    size_t size = slots * sizeof(struct chain_seen);
    void *table = size < LARGE_PAGE ? calloc(1, size) : NULL;

    if (size < LARGE_PAGE || posix_memalign(&table, LARGE_PAGE, size))
        return table;
    madvise(table, size, MADV_HUGEPAGE);
    return memset(table, 0, size);
}

int chains_init(struct chains *chains, uint64_t seed)
{
    uint64_t state = seed;

    chains->seed = seed;
    for (size_t i = 0; i < sizeof(chains->keys) / sizeof(*chains->keys); i++)
        chains->keys[i] = next_key(&state);
    chains->seen = new_seen(FIRST_SEEN);
    chains->seen_mask = FIRST_SEEN - 1;
    chains->places = malloc(MOST_WORDS * sizeof(*chains->places));
    chains->recent_kernel = calloc(CHAIN_RECENT, sizeof(*chains->recent_kernel));
    chains->recent_user = calloc(CHAIN_RECENT, sizeof(*chains->recent_user));
    if (!chains->recent_kernel || !chains->recent_user)
        return -1;
    if (!chains->seen || !chains->places || sequences_init(&chains->kernel) < 0 || sequences_init(&chains->user) < 0)
        return -1;
    return 0;
}

void chains_free(struct chains *chains)
{
    free(chains->seen);
    free(chains->places);
    free(chains->recent_kernel);
    free(chains->recent_user);
    free(chains->groups.items);
    free(chains->group_index.slots);
    sequences_free(&chains->kernel);
    sequences_free(&chains->user);
}

/*
 * The NH hash of UMAC (J. Black et al., CRYPTO 1999) with words of 64 bits: whatever two different sequences of one
 * length are, they have one digest with a chance of 2^-64 over the keys, which are drawn anew for each reading. So have
 * two sums of such digests under keys of their own; the lengths are among what is summed. A digest is an identity.
 */
static inline wide digest_words(const uint64_t *keys, struct chain_part part)
{
    size_t key = 0, i = 0;
    wide sum = 0;

    for (; i + 2 <= part.count; i += 2, key += 2) {
        if (key == CHAIN_KEYS) { /* a longer chain is hashed in blocks, whose digests are a polynomial's terms */
            sum *= (wide)keys[0] << 64 | keys[1] | 1;
            key = 0;
        }
        sum += (wide)(part.words[i] + keys[key]) * (part.words[i + 1] + keys[key + 1]);
    }
    if (i == part.count)
        return sum;
    if (key == CHAIN_KEYS) {
        sum *= (wide)keys[0] << 64 | keys[1] | 1;
        key = 0;
    }
    return sum + (wide)(part.words[i] + keys[key]) * keys[key + 1];
}

static inline struct chain_digest digest(wide sum)
{
    return (struct chain_digest){(uint64_t)sum, (uint64_t)(sum >> 64)};
}

static inline void set_digests(const struct chains *chains, struct chain_sample *sample)
{
    const uint64_t *rest = chains->keys + 2 * CHAIN_KEYS;
    uint64_t who = (uint64_t)sample->event << 32 | sample->state;
    uint64_t lengths = (uint64_t)sample->kernel.count << 32 | sample->user.count;
    wide kernel = digest_words(chains->keys, sample->kernel);
    wide user = digest_words(chains->keys + CHAIN_KEYS, sample->user);

    sample->kernel_digest = digest(kernel);
    sample->user_digest = digest(user);
    sample->digest = digest(kernel + user + (wide)(who + rest[0]) * (lengths + rest[1]));
}

static inline int is_same(struct chain_digest a, struct chain_digest b)
{
    return a.low == b.low && a.high == b.high;
}

static inline size_t seen_slot(const struct chains *chains, struct chain_digest of)
{
    return ((of.low ^ of.high) * UINT64_C(0x9E3779B97F4A7C15) >> 40) & chains->seen_mask;
}

static void flush(struct chains *chains, struct chain_seen *seen)
{
    struct perfdata_group *group = (struct perfdata_group *)(void *)chains->groups.items + (seen->entry - 1);

    group->count += seen->count;
    group->period += seen->period;
    if (seen->first_ns < group->first_ns)
        group->first_ns = seen->first_ns;
    if (seen->last_ns > group->last_ns)
        group->last_ns = seen->last_ns;
}

void chains_flush(struct chains *chains)
{
    for (size_t i = 0; i <= chains->seen_mask; i++) {
        if (chains->seen[i].entry)
            flush(chains, &chains->seen[i]);
    }
    memset(chains->seen, 0, (chains->seen_mask + 1) * sizeof(*chains->seen));
    chains->seen_count = 0;
}

void chains_forget(struct chains *chains)
{
    chains_flush(chains);
    memset(chains->recent_user, 0, CHAIN_RECENT * sizeof(*chains->recent_user));
}

void chains_shrink(struct chains *chains)
{
    struct chain_seen *smaller = new_seen(FIRST_SEEN);

    if (!smaller || chains->seen_count) {
        free(smaller);
        return;
    }
    free(chains->seen);
    chains->seen = smaller;
    chains->seen_mask = FIRST_SEEN - 1;
}

/* Have room for one more entry: a larger table, or where it is as large as it may be, an empty one. */
static int make_room(struct chains *chains)
{
    size_t old = chains->seen_mask + 1;
    struct chain_seen *before = chains->seen;

    if (chains->seen_count < old / 8 * 5)
        return 0;
    if (old >= MOST_SEEN) {
        chains_flush(chains);
        return 0;
    }
    chains->seen = new_seen(old * 2);
    if (!chains->seen) {
        chains->seen = before;
        return -1;
    }
    chains->seen_mask = old * 2 - 1;
    for (size_t i = 0; i < old; i++) {
        size_t at = seen_slot(chains, before[i].digest);

        if (!before[i].entry)
            continue;
        while (chains->seen[at].entry)
            at = (at + 1) & chains->seen_mask;
        chains->seen[at] = before[i];
    }
    free(before);
    return 0;
}

static int64_t find_or_add_group(struct chains *chains, const struct perfdata_group *key)
{
    uint64_t hash = hash_mix(chains->seed, (uint64_t)key->event << 32 | key->comm);
    struct perfdata_group *room;

    hash = hash_mix(hash, (uint64_t)key->pid << 32 | key->tid);
    hash = hash_mix(hash, (uint64_t)key->kernel << 32 | key->user);
    if (slots_reserve(&chains->group_index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & chains->group_index.mask; chains->group_index.slots[at];
         at = (at + 1) & chains->group_index.mask) {
        uint64_t slot = chains->group_index.slots[at];
        const struct perfdata_group *found =
            (struct perfdata_group *)(void *)chains->groups.items + ((uint32_t)slot - 1);

        if (slot >> 32 == hash >> 32 && found->kernel == key->kernel && found->user == key->user &&
            found->tid == key->tid && found->pid == key->pid && found->event == key->event && found->comm == key->comm)
            return (uint32_t)slot - 1;
    }
    room = growing_room(&chains->groups, 1, sizeof(*room));
    if (!room)
        return -1;
    *room = *key;
    slots_put(&chains->group_index, hash, (uint32_t)chains->groups.count);
    return (int64_t)chains->groups.count++;
}

static inline struct chain_recent *recent_of(const struct chains *chains, struct chain_recent *table,
                                             struct chain_digest of, uint32_t space)
{
    return &table[hash_mix(of.low ^ chains->seed, of.high + space) >> 32 & (CHAIN_RECENT - 1)];
}

static int64_t kernel_chain(struct chains *chains, const struct chain_sample *sample)
{
    struct chain_recent *recent = recent_of(chains, chains->recent_kernel, sample->kernel_digest, 0);
    int64_t number;

    if (!sample->kernel.count)
        return 0;
    if (recent->number && recent->count == sample->kernel.count && is_same(recent->digest, sample->kernel_digest))
        return recent->number;
    number = sequences_words(&chains->kernel, chains->seed, sample->kernel.words, sample->kernel.count);
    if (number > 0)
        *recent = (struct chain_recent){sample->kernel_digest, (uint32_t)sample->kernel.count, 0, (uint32_t)number};
    return number;
}

static int64_t user_chain(struct chains *chains, struct tasks *tasks, uint32_t space, const struct chain_sample *sample)
{
    struct chain_recent *recent = recent_of(chains, chains->recent_user, sample->user_digest, space);
    int64_t number;

    if (!sample->user.count)
        return 0;
    if (recent->number && recent->count == sample->user.count && recent->space == space &&
        is_same(recent->digest, sample->user_digest))
        return recent->number;
    for (size_t i = 0; i < sample->user.count; i++) {
        int64_t place = tasks_place(tasks, space, sample->user.words[i]);

        if (place < 0)
            return -1;
        chains->places[i] = (uint32_t)place;
    }
    number = sequences_numbers(&chains->user, chains->seed, chains->places, sample->user.count);
    if (number > 0)
        *recent = (struct chain_recent){sample->user_digest, (uint32_t)sample->user.count, space, (uint32_t)number};
    return number;
}

static int64_t group_of(struct chains *chains, struct tasks *tasks, const struct chain_sample *sample)
{
    struct perfdata_group key = {.event = sample->event, .first_ns = UINT64_MAX};
    struct pair who = {0, 0};
    int64_t kernel, user;

    if (sample->state < tasks->states.items.count)
        who = *pairs_at(&tasks->states, sample->state);
    kernel = kernel_chain(chains, sample);
    user = user_chain(chains, tasks, (uint32_t)who.b, sample);
    if (kernel < 0 || user < 0)
        return -1;
    key.pid = (uint32_t)(who.a >> 32);
    key.tid = (uint32_t)who.a;
    key.comm = (uint32_t)(who.b >> 32);
    key.kernel = (uint32_t)kernel;
    key.user = (uint32_t)user;
    return find_or_add_group(chains, &key);
}

static inline struct chain_seen *next_seen(const struct chains *chains, struct chain_seen *seen)
{
    return seen == &chains->seen[chains->seen_mask] ? chains->seen : seen + 1;
}

static int64_t count_new(struct chains *chains, struct tasks *tasks, const struct chain_sample *sample)
{
    int64_t group = group_of(chains, tasks, sample);
    struct chain_seen *seen;

    if (group < 0 || make_room(chains) < 0)
        return -1;
    seen = &chains->seen[seen_slot(chains, sample->digest)];
    while (seen->entry)
        seen = next_seen(chains, seen);
    *seen =
        (struct chain_seen){sample->digest, sample->period, sample->time_ns, sample->time_ns, 1, (uint32_t)group + 1};
    chains->seen_count++;
    return group;
}

static inline int64_t count(struct chains *chains, struct tasks *tasks, const struct chain_sample *sample)
{
    struct chain_seen *seen = &chains->seen[seen_slot(chains, sample->digest)];

    for (; seen->entry; seen = next_seen(chains, seen)) {
        if (!is_same(seen->digest, sample->digest))
            continue;
        seen->period += sample->period;
        if (sample->time_ns < seen->first_ns)
            seen->first_ns = sample->time_ns;
        if (sample->time_ns > seen->last_ns)
            seen->last_ns = sample->time_ns;
        if (++seen->count == UINT32_MAX) {
            flush(chains, seen);
            seen->count = 0;
            seen->period = 0;
        }
        return seen->entry - 1;
    }
    return count_new(chains, tasks, sample);
}

int64_t chains_count(struct chains *chains, struct tasks *tasks, struct chain_sample *sample)
{
    set_digests(chains, sample);
    return count(chains, tasks, sample);
}

int chains_drain(struct chains *chains, struct tasks *tasks)
{
    uint32_t waiting = chains->waiting_count;

    chains->waiting_count = 0;
    for (uint32_t i = 0; i < waiting; i++) {
        if (count(chains, tasks, &chains->waiting[i]) < 0)
            return -1;
    }
    return 0;
}

int chains_push(struct chains *chains, struct tasks *tasks, const struct chain_sample *sample)
{
    struct chain_sample *waiting = &chains->waiting[chains->waiting_count++];

    *waiting = *sample;
    set_digests(chains, waiting);
    __builtin_prefetch(&chains->seen[seen_slot(chains, waiting->digest)]);
    return chains->waiting_count < CHAIN_WAITING ? 0 : chains_drain(chains, tasks);
}
