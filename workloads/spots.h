/* Which CPU each mover and each victim has. */
#ifndef NUMABENCH_SPOTS_H
#define NUMABENCH_SPOTS_H

#include "drive.h"

/* Fills `spots`, movers first, each with one CPU of where its kind may run; NULL: there are none of that kind. Victims
 * come first and movers make way, since a victim that shares a CPU waits for the scheduler and not for a migration. */
void spots_hand_out(struct drive *drive, const struct locality *movers, const struct locality *victims);

#endif
