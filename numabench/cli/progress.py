"""A run's progress on stderr: a line that is rewritten on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time

from numabench.report.escape import escape, escape_lines

_QUIET_PERIOD_S = 10.0


class StderrProgress:
    """Shows what a run says. On a terminal the status is one line, rewritten; elsewhere a line every 10 s.

    A reader that goes away (`2>&1 | head`) does not end the run.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown = ""
        self._last_status = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        self._write(f"{escape_lines(text)}\n")
        self._last_status = time.monotonic()

    def status(self, text: str) -> None:
        """Show where the run is."""
        if self._is_terminal:
            self.clear()
            width = shutil.get_terminal_size().columns - 1
            self._shown = f"  {escape(text)}"[:width]
            self._write(self._shown)
        elif time.monotonic() - self._last_status >= _QUIET_PERIOD_S:
            self._last_status = time.monotonic()
            self._write(f"  {escape(text)}\n")

    def clear(self) -> None:
        """Take the status away."""
        if self._shown:
            self._write("\r" + " " * len(self._shown) + "\r")
            self._shown = ""

    @staticmethod
    def _write(text: str) -> None:
        """Write what was escaped by `say` and `status`."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
