/* How often the kernel gave which error. */
#ifndef NUMABENCH_ERRORS_H
#define NUMABENCH_ERRORS_H

#include <stdint.h>

#include "lines.h"

enum { ERROR_NUMBERS = 134 /* Linux's end at EHWPOISON, 133 */ };

struct errors {
    uint64_t by_number[ERROR_NUMBERS]; /* at 0 those beyond */
};

/* `number` is the errno, without a sign. */
static inline void errors_add(struct errors *errors, int number)
{
    errors->by_number[number > 0 && number < ERROR_NUMBERS ? number : 0]++;
}

/* Adds {"ENOMEM":2,...} without the closing brace: those that were seen. The comma that goes before another key. */
const char *line_errors(struct line *line, const char *key, const struct errors *errors);

#endif
