#include "chains.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

/* The table's size when it is new and when it is full: 48 bytes each, 12 MiB in all. */
enum { FIRST_SEEN = 1 << 12, MOST_SEEN = 1 << 18, MOST_WORDS = 8192 };

typedef unsigned __int128 wide;

/* Sebastiano Vigna's SplitMix64. */
static uint64_t next_key(uint64_t *state)
{
    uint64_t key = *state += UINT64_C(0x9E3779B97F4A7C15);

    key = (key ^ key >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    key = (key ^ key >> 27) * UINT64_C(0x94D049BB133111EB);
    return key ^ key >> 31;
}

int chains_init(struct chains *chains, uint64_t seed)
{
    uint64_t state = seed;

    chains->seed = seed;
    for (size_t i = 0; i < sizeof(chains->keys) / sizeof(*chains->keys); i++)
        chains->keys[i] = next_key(&state);
    chains->seen = calloc(FIRST_SEEN, sizeof(*chains->seen));
    chains->seen_mask = FIRST_SEEN - 1;
    chains->places = malloc(MOST_WORDS * sizeof(*chains->places));
    if (!chains->seen || !chains->places || sequences_init(&chains->kernel) < 0 || sequences_init(&chains->user) < 0)
        return -1;
    return 0;
}

void chains_free(struct chains *chains)
{
    free(chains->seen);
    free(chains->places);
    free(chains->groups.items);
    free(chains->group_index.slots);
    sequences_free(&chains->kernel);
    sequences_free(&chains->user);
}

/*
 * The NH hash of UMAC (J. Black et al., CRYPTO 1999) with words of 64 bits: whatever two different sequences of one
 * length are, they have one digest with a chance of 2^-64 over the keys, which are drawn anew for each reading. The
 * lengths are part of what is hashed.
 */
static inline void digest_words(const struct chains *chains, wide *sum, size_t *key, struct chain_part part)
{
    const uint64_t *keys = chains->keys;

    for (size_t i = 0; i + 2 <= part.count; i += 2, *key += 2) {
        if (*key == CHAIN_KEYS) { /* a longer chain is hashed in blocks, whose digests are a polynomial's terms */
            *sum *= (wide)keys[0] << 64 | keys[1] | 1;
            *key = 0;
        }
        *sum += (wide)(part.words[i] + keys[*key]) * (part.words[i + 1] + keys[*key + 1]);
    }
    if (part.count % 2) {
        if (*key == CHAIN_KEYS) {
            *sum *= (wide)keys[0] << 64 | keys[1] | 1;
            *key = 0;
        }
        *sum += (wide)(part.words[part.count - 1] + keys[*key]) * keys[*key + 1];
        *key += 2;
    }
}

static inline struct chain_digest digest_of(const struct chains *chains, uint32_t event, uint32_t state,
                                            struct chain_part kernel, struct chain_part user)
{
    uint64_t who = (uint64_t)event << 32 | state, lengths = (uint64_t)kernel.count << 32 | user.count;
    wide sum = (wide)(who + chains->keys[CHAIN_KEYS]) * (lengths + chains->keys[CHAIN_KEYS + 1]);
    size_t key = 0;

    digest_words(chains, &sum, &key, kernel);
    digest_words(chains, &sum, &key, user);
    return (struct chain_digest){(uint64_t)sum, (uint64_t)(sum >> 64)};
}

static inline size_t seen_slot(const struct chains *chains, struct chain_digest digest)
{
    return ((digest.low ^ digest.high) * UINT64_C(0x9E3779B97F4A7C15) >> 40) & chains->seen_mask;
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

void chains_shrink(struct chains *chains)
{
    struct chain_seen *smaller = calloc(FIRST_SEEN, sizeof(*smaller));

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
    chains->seen = calloc(old * 4, sizeof(*chains->seen));
    if (!chains->seen) {
        chains->seen = before;
        return -1;
    }
    chains->seen_mask = old * 4 - 1;
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

static int64_t user_chain(struct chains *chains, struct tasks *tasks, uint32_t space, struct chain_part user)
{
    for (size_t i = 0; i < user.count; i++) {
        int64_t place = tasks_place(tasks, space, user.words[i]);

        if (place < 0)
            return -1;
        chains->places[i] = (uint32_t)place;
    }
    return sequences_numbers(&chains->user, chains->seed, chains->places, user.count);
}

static int64_t group_of(struct chains *chains, struct tasks *tasks, uint32_t event, uint32_t state,
                        struct chain_part kernel, struct chain_part user)
{
    struct perfdata_group key = {.event = event, .first_ns = UINT64_MAX};
    struct pair who = state < tasks->states.items.count ? *pairs_at(&tasks->states, state) : (struct pair){0, 0};
    int64_t kernel_chain = sequences_words(&chains->kernel, chains->seed, kernel.words, kernel.count);
    int64_t user_number = user_chain(chains, tasks, (uint32_t)who.b, user);

    if (kernel_chain < 0 || user_number < 0)
        return -1;
    key.pid = (uint32_t)(who.a >> 32);
    key.tid = (uint32_t)who.a;
    key.comm = (uint32_t)(who.b >> 32);
    key.kernel = (uint32_t)kernel_chain;
    key.user = (uint32_t)user_number;
    return find_or_add_group(chains, &key);
}

int64_t chains_count(struct chains *chains, struct tasks *tasks, uint32_t event, uint32_t state,
                     struct chain_part kernel, struct chain_part user, uint64_t time_ns, uint64_t period)
{
    struct chain_digest digest = digest_of(chains, event, state, kernel, user);
    struct chain_seen *seen = &chains->seen[seen_slot(chains, digest)];
    int64_t group;

    while (seen->entry) {
        if (seen->digest.low == digest.low && seen->digest.high == digest.high) {
            seen->period += period;
            if (time_ns < seen->first_ns)
                seen->first_ns = time_ns;
            if (time_ns > seen->last_ns)
                seen->last_ns = time_ns;
            if (++seen->count == UINT32_MAX) {
                flush(chains, seen);
                seen->count = 0;
                seen->period = 0;
            }
            return seen->entry - 1;
        }
        seen = seen == &chains->seen[chains->seen_mask] ? chains->seen : seen + 1;
    }
    group = group_of(chains, tasks, event, state, kernel, user);
    if (group < 0 || make_room(chains) < 0)
        return -1;
    seen = &chains->seen[seen_slot(chains, digest)];
    while (seen->entry)
        seen = seen == &chains->seen[chains->seen_mask] ? chains->seen : seen + 1;
    *seen = (struct chain_seen){digest, period, time_ns, time_ns, 1, (uint32_t)group + 1};
    chains->seen_count++;
    return group;
}
