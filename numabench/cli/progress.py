"""A run's progress on stderr: a line that is rewritten on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

_QUIET_PERIOD_S = 10.0


class StderrProgress:
    """Shows what a run says. On a terminal the status is one line, rewritten; elsewhere a line every 10 s."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = ""
        self._last_status = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(text, file=sys.stderr, flush=True)
        self._last_status = time.monotonic()

    def status(self, text: str) -> None:
        """Show where the run is."""
        if self._terminal:
            self._clear()
            width = shutil.get_terminal_size().columns - 1
            self._shown = f"  {text}"[:width]
            print(self._shown, end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._last_status >= _QUIET_PERIOD_S:
            self._last_status = time.monotonic()
            print(f"  {text}", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Take the status away."""
        self._clear()

    def _clear(self) -> None:
        if self._shown:
            print("\r" + " " * len(self._shown) + "\r", end="", file=sys.stderr, flush=True)
            self._shown = ""
