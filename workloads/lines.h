/* The lines on stdout: one JSON object each, written whole also when threads and processes write at once. */
#ifndef NUMABENCH_LINES_H
#define NUMABENCH_LINES_H

#include <numa.h>
#include <stdint.h>
#include <stdio.h>

enum exit_status { EXIT_STATUS_FAILED = 1, EXIT_STATUS_USAGE = 2, EXIT_STATUS_CANNOT_RUN = 77 };

struct line {
    FILE *stream;
    char *text;
    size_t length;
};

/* Before the first line and the first fork. */
void lines_open(void);

void line_begin(struct line *line, const char *event);
void line_number(struct line *line, const char *key, int64_t value);
void line_text(struct line *line, const char *key, const char *value);
/* The set bits in the kernel's list format: "0-3,8". */
void line_ids(struct line *line, const char *key, const struct bitmask *ids);
/* Writes the line and frees what it held. */
void line_end(struct line *line);

/* A line of only an event, the process and the time. */
void line_stamp(const char *event);

/* Each prints an `error` line and ends the process at once. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail_cannot_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The set bits in the kernel's list format; the caller frees it. */
char *ids_text(const struct bitmask *ids);

#endif
