/* What is told of words that do not hold what was stored: by the byte, as they lie in memory. */
#ifndef NUMABENCH_WRONG_H
#define NUMABENCH_WRONG_H

#include "drive.h"

/* How many bytes of two words differ, and the first that does; 7 where none does. */
unsigned bytes_that_differ(uint64_t left, uint64_t right);
unsigned first_difference(uint64_t left, uint64_t right);

/* The line `check` of driven memory; `first` is read where some of the bytes are wrong. */
void print_drive_check(const struct drive *drive, uint64_t bytes, uint64_t wrong_bytes, const struct wrong_word *first);

#endif
