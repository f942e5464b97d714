"""Where numabench keeps what must outlive it: the journals of what it has set. Every command asks: it loads nothing."""

from __future__ import annotations

import os

JOURNAL, APPLIED, LOCK = "knobs.journal", "applied.journal", "knobs.lock"


def state_dir() -> str:
    """$XDG_STATE_HOME/numabench, else /var/lib/numabench for root, ~/.local/state/numabench for others."""
    home = os.environ.get("XDG_STATE_HOME")
    if home:
        return f"{home}/numabench"
    return "/var/lib/numabench" if os.geteuid() == 0 else os.path.expanduser("~/.local/state/numabench")  # noqa: PTH111


def has_journal() -> bool:
    """Whether a run has left a journal, or is writing it now: one stat(2)."""
    return os.path.exists(f"{state_dir()}/{JOURNAL}")  # noqa: PTH110
