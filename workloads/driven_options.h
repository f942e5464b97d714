/* The options of workloads that a driver moves: docs/workload-protocol.md. */
#ifndef NUMABENCH_DRIVEN_OPTIONS_H
#define NUMABENCH_DRIVEN_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

enum driver_id {
    DRIVER_AUTONUMA,
    DRIVER_MOVE_PAGES,
    DRIVER_MBIND,
    DRIVER_MIGRATE_PAGES,
    DRIVER_CPUSET,
    DRIVER_WEIGHTED_INTERLEAVE,
    DRIVER_HOME_NODE,
    DRIVER_NULL,
};
enum { MAX_VICTIMS = 64 /* each has a line in every page */ };
enum mover_side { MOVER_INSIDE, MOVER_OUTSIDE };
enum move_flag { FLAG_MOVE = 1, FLAG_MOVE_ALL = 2, FLAG_STRICT = 4 };
enum order { ORDER_SEQUENTIAL, ORDER_RANDOM, ORDER_INTERLEAVED };
/* From PAGES_FOLIO on: large folios of 16 KiB << (type - PAGES_FOLIO). */
enum page_type { PAGES_BASE, PAGES_THP, PAGES_HUGETLB, PAGES_FOLIO };
enum spot { SPOT_ALL, SPOT_SOURCE, SPOT_TARGET, SPOT_NODE };
enum access { ACCESS_READ, ACCESS_WRITE };
enum pattern { PATTERN_SEQUENTIAL, PATTERN_RANDOM };
enum sharing { SHARING_PRIVATE, SHARING_SHARED };
enum route { ROUTE_PING_PONG, ROUTE_ONE_WAY };
enum obstacle { OBSTACLE_UNTOUCHED, OBSTACLE_ZERO, OBSTACLE_PINNED, OBSTACLE_UNMAPPED, OBSTACLE_KSM, OBSTACLE_KINDS };

/* Where threads are pinned: `node` is of SPOT_NODE. */
struct spot_option {
    enum spot spot;
    int node;
};

struct driven_options {
    enum driver_id driver;
    enum mover_side mover;
    unsigned flags;
    unsigned batch; /* units a call; 0: as many as is usual, until it is settled */
    enum order order;
    enum page_type pages; /* or PAGES_FOLIO + n */
    struct spot_option mover_on;
    int victims; /* or ABSENT: none, or with autonuma one for each CPU */
    enum access victim_access;
    enum pattern victim_pattern;
    struct spot_option victim_on;
    enum sharing sharing;
    enum route route;
    unsigned retries;
    bool is_verifying;
    unsigned obstacles[OBSTACLE_KINDS];
    const char *cpuset_mems; /* NULL: none */
};

struct options;

enum { DRIVEN_OPTION_FIRST = 100 };
/* Ended by a row of zeros; `val` begins at DRIVEN_OPTION_FIRST. */
extern const struct option driven_words[];

void driven_options_init(struct driven_options *options);
/* Ends the process with a usage error where the words cannot be meant. */
void driven_options_set(struct driven_options *options, int id, const char *text);
void driven_options_check(struct options *options);

const char *driver_name(enum driver_id driver);
const char *obstacle_name(unsigned kind);
/* "4k", "thp", "64k"... */
const char *page_type_name(enum page_type pages);
/* "all", "source", "target" or the node's number; `room` holds a number. */
const char *spot_name(struct spot_option option, char room[16]);

struct line;
/* The object `driver` of the `start` line, but for its closing brace. */
void line_driven_options(struct line *line, const struct driven_options *options, uint64_t unit_bytes,
                         unsigned victims);

#endif
