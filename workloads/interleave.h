/* Where units of the interleaved order begin. */
#ifndef NUMABENCH_INTERLEAVE_H
#define NUMABENCH_INTERLEAVE_H

#include "drive.h"

/* Moves odd units of touched memory one node further than the source; ends the process where one stays. */
void interleave_units(const struct drive *drive);

#endif
