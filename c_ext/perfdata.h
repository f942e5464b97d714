/*
 * An incremental parser of perf.data's records: fed bytes as they come, it keeps every distinct call chain once.
 *
 * The format: include/uapi/linux/perf_event.h (enum perf_event_type, enum perf_event_sample_format) and
 * tools/perf/Documentation/perf.data-file-format.txt. Nothing is read beyond the bytes given, whatever they say.
 */
#ifndef NUMABENCH_PERFDATA_H
#define NUMABENCH_PERFDATA_H

#include <stddef.h>
#include <stdint.h>

enum {
    PERFDATA_MORE = 0,    /* all bytes are taken */
    PERFDATA_RECORD = 1,  /* a record that the caller must look at: perfdata_lane.record */
    PERFDATA_OUTSIDE = 2, /* bytes that follow such a record and are part of none: perfdata_lane.record */
    PERFDATA_ROUND = 3,   /* perf has emptied all of its buffers once: see perfdata_round() */
    PERFDATA_CORRUPT = -1,
    PERFDATA_NO_MEMORY = -2,
};

enum {
    PERFDATA_ROWS = 1, /* keep a row of every sample of this event */
    PERFDATA_RAW = 2,  /* and its raw payload */
};

enum { PERFDATA_CORE_TYPES = 23, PERFDATA_FIRST_TOOL_TYPE = 64, PERFDATA_TOOL_TYPES = 85, PERFDATA_TYPES = 128 };

/* What an event's struct perf_event_attr says of its samples. */
struct perfdata_layout {
    uint64_t sample_type;
    uint64_t read_format;
    uint64_t period; /* of samples that do not carry their own */
    uint32_t sample_id_all;
    uint32_t keep; /* PERFDATA_ROWS | PERFDATA_RAW */
};

/* What a lane takes of the records it is fed. A lane of samples must not run ahead of what is settled. */
enum {
    PERFDATA_SIDEBAND = 1, /* all but samples; the caller gets to see records */
    PERFDATA_SAMPLES = 2,
    PERFDATA_PACKED = 4, /* the caller gets to see compressed records */
};

/* The samples that have event, thread and both parts of their chain in common. */
struct perfdata_group {
    uint64_t count;
    uint64_t period; /* sum */
    uint64_t first_ns;
    uint64_t last_ns;
    uint32_t event;
    uint32_t pid; /* both 0 where threads are not told apart */
    uint32_t tid;
    uint32_t comm;   /* a text number: the thread's name at the time */
    uint32_t kernel; /* chain numbers; chain 0 is the empty one */
    uint32_t user;
};

struct perfdata_row {
    uint64_t time_ns;
    uint64_t period;
    uint32_t pid;
    uint32_t tid;
    uint32_t group;
    uint32_t cpu;
    uint32_t raw_bytes;
    uint32_t reserved;
};

/* What user chains are made of: an address in a file, or where nothing was mapped (file 0) the address itself. */
struct perfdata_place {
    uint64_t file;
    uint64_t address;
};

/* Text numbers of a mapped file's name and build id. */
struct perfdata_file {
    uint64_t name;
    uint64_t build_id;
};

/* Texts or chains one after the other: number i is at starts[i] up to starts[i + 1]. */
struct perfdata_span {
    const void *items;
    const uint64_t *starts;
    uint64_t count;
};

struct perfdata_stats {
    uint64_t samples;
    uint64_t lost_in_records; /* PERF_RECORD_LOST and PERF_RECORD_LOST_SAMPLES count the same loss */
    uint64_t lost_samples;
    uint64_t garbage_chains; /* with a word that is neither an address nor a context that is known */
    uint64_t deferred_chains;
    uint64_t cut_lookups;       /* user addresses below more mappings than were looked at */
    uint64_t skipped_words;     /* of hypervisor and guest contexts */
    uint64_t malformed_records; /* shorter than what they say they hold */
    uint64_t unknown_events;    /* samples of an id that no event has */
    uint64_t unknown_records;
    uint64_t records[PERFDATA_TYPES];
};

/* One stream of records: the file's own, and one of what is unpacked from its COMPRESSED records. */
struct perfdata_lane {
    const uint8_t *record; /* valid until the next call */
    size_t record_bytes;
    uint64_t taken_bytes;
    uint64_t outside_bytes;
    uint32_t takes;
    size_t held_bytes;
    uint64_t held[8192 + 1];
};

struct perfdata;

/*
 * `parity`: drop a whole chain for one garbage word, as perf does. `user`: keep the user parts of chains. `threads`:
 * tell threads apart; without any of the two names of threads are not looked at, either.
 */
struct perfdata *perfdata_new(int parity, int user, int threads, uint64_t seed);
void perfdata_free(struct perfdata *data);

/* The new event's number, or PERFDATA_NO_MEMORY. */
int perfdata_add_event(struct perfdata *data, const struct perfdata_layout *layout);
int perfdata_add_id(struct perfdata *data, uint64_t id, uint32_t event);
void perfdata_keep(struct perfdata *data, uint32_t event, uint32_t keep);

/*
 * After PERFDATA_ROUND: samples that a lane of sideband had passed when the round before ended may be taken now.
 * Records of one time come from several buffers; what is older than the newest record of one round has come by the end
 * of the next (tools/perf/util/ordered-events.h).
 */
int perfdata_round(struct perfdata *data);
/* All records about tasks that there will be are known: any sample may be taken now. */
int perfdata_settle(struct perfdata *data);

struct perfdata_lane *perfdata_lane_new(uint32_t takes);
void perfdata_lane_free(struct perfdata_lane *lane);

/* Take bytes; *used says how many. A caller that gets PERFDATA_RECORD or PERFDATA_OUTSIDE calls again with the rest. */
int perfdata_feed(struct perfdata *data, struct perfdata_lane *lane, const uint8_t *bytes, size_t size, size_t *used);

const struct perfdata_stats *perfdata_stats(struct perfdata *data);
/* The samples of one event. */
uint64_t perfdata_samples(const struct perfdata *data, uint32_t event);
/* The address of the kernel's _text or _stext, 0 where it was not recorded. */
uint64_t perfdata_kernel_reference(const struct perfdata *data);
uint64_t perfdata_kernel_bytes(const struct perfdata *data);
struct perfdata_span perfdata_kernel_chains(const struct perfdata *data); /* of uint64_t */
struct perfdata_span perfdata_user_chains(const struct perfdata *data);   /* of uint32_t: numbers of places */
struct perfdata_span perfdata_texts(const struct perfdata *data);
const struct perfdata_place *perfdata_places(const struct perfdata *data, uint64_t *count);
const struct perfdata_file *perfdata_files(const struct perfdata *data, uint64_t *count);
const struct perfdata_group *perfdata_groups(struct perfdata *data, uint64_t *count);
const struct perfdata_row *perfdata_rows(const struct perfdata *data, uint32_t event, uint64_t *count);
const uint8_t *perfdata_raw(const struct perfdata *data, uint32_t event, uint64_t *size);

#endif
