"""Two sides compared: whether they may be, their figures, phases and locks, and call trees. Pure, as analysis is."""
