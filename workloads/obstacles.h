/* Pages that cannot be moved, or are not there, asked for by the first mover before its slice. */
#ifndef NUMABENCH_OBSTACLES_H
#define NUMABENCH_OBSTACLES_H

#include "drive.h"

/* How many pages the options ask for. */
size_t obstacles_count(const struct driven_options *options);
/* Makes the pages at the address what they are to be: in the order of the kinds. Ends the process where it cannot. */
void obstacles_make(const struct driven_options *options, char *address, size_t page_bytes);

#endif
