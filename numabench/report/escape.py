"""Names, paths and messages of a result file made safe to show: they may hold anything a file can hold."""

from __future__ import annotations


def escape(text: str) -> str:
    r"""The text with every character that is not printable (control, bidirectional, surrogate) written as `\x1b`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def escape_lines(text: str) -> str:
    """A text of several lines with each line escaped."""
    return "\n".join(escape(line) for line in text.split("\n"))
