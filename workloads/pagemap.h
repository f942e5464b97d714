/* Bits of /proc/PID/pagemap and /proc/kpageflags: include/uapi/linux/kernel-page-flags.h and
 * Documentation/admin-guide/mm/pagemap.rst. */
#ifndef NUMABENCH_PAGEMAP_H
#define NUMABENCH_PAGEMAP_H

#include <stdint.h>

/* Of an entry of pagemap; the frame's number is 0 for users who may not know it. */
static const uint64_t FRAME_MASK = (1ULL << 55) - 1;
static const uint64_t IS_PRESENT = 1ULL << 63;
/* Of a frame's flags. */
static const uint64_t COMPOUND_HEAD = 1ULL << 15, COMPOUND_TAIL = 1ULL << 16, MERGED = 1ULL << 21;

#endif
