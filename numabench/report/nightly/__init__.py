"""The morning after a night: what changed, since when, where, and what could not be judged."""
