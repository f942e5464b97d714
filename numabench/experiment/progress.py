"""What a run says while it goes on; the command line decides how it looks."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives a run's words. Implementations write to stderr or nowhere; none may raise."""

    def say(self, text: str) -> None:
        """Tell something that stays: a knob written, a trial done, a warning."""

    def status(self, text: str) -> None:
        """Tell where the run is now; it may be overwritten or left out."""
