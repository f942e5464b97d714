"""Finding words in a report."""

from __future__ import annotations


def line_of(text: str, start: str) -> str:
    """The one line that begins so, its indent left out of account."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line
