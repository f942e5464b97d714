"""Where numabench keeps what must outlive it: the journals of what it has set. Every command asks: it loads nothing."""

from __future__ import annotations

import os

JOURNAL, APPLIED, FOREIGN, LOCK = "knobs.journal", "applied.journal", "foreign.journal", "knobs.lock"
VARIABLE = "NUMABENCH_STATE_DIR"


def state_dir() -> str:
    """/var/lib/numabench, or what the environment says: one for the whole machine, as its knobs are, and its users."""
    return os.environ.get(VARIABLE) or "/var/lib/numabench"


def has_journal() -> bool:
    """Whether a run has left a journal, or is writing it now: one stat(2)."""
    return os.path.exists(f"{state_dir()}/{JOURNAL}")  # noqa: PTH110
