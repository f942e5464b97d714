"""Lines of text within a width, from texts that may hold anything."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from numabench.report.escape import escape

LABEL = 18
BOLD, RED, YELLOW, RESET = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


@dataclass
class Page:
    """Lines under way, each within the width; every text that comes in is escaped here."""

    width: int
    colour: bool

    def __post_init__(self) -> None:
        self.lines: list[str] = []

    def blank(self) -> None:
        """An empty line."""
        self.lines.append("")

    def text(self, text: str, style: str = "", indent: int = 0, hang: int = 0) -> None:
        """A paragraph."""
        lines = textwrap.wrap(
            escape(text),
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + hang),
            break_on_hyphens=False,
        )
        self.lines += [f"{style}{line}{RESET}" if style and self.colour else line for line in lines]

    def item(self, label: str, text: str, indent: int = 0) -> None:
        """A label and its paragraph beside it; an empty label goes on with the one above."""
        body = textwrap.wrap(escape(text), self.width - LABEL - indent, break_on_hyphens=False) or [""]
        for place, line in enumerate(body):
            name = escape(label) if place == 0 else ""
            self.lines.append(f"{' ' * indent}{name:<{LABEL}}{line}".rstrip())

    def raw(self, line: str) -> None:
        """A line that is ours and fits."""
        self.lines.append(line.rstrip())
