"""Markup in which only what we wrote is markup: every other text is escaped where it comes in."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING

from numabench.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

# A name of a C++ program is rarely longer, and what is shall not fill the page.
LONGEST_TEXT = 1000
MINUS = "\N{MINUS SIGN}"


class Html(str):
    """Markup of ours."""

    __slots__ = ()


def clip(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text with what is not printable made visible, cut where it is too long, and that said."""
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text):,} characters)"
    return escape(text)


def tag(name: str, *children: str | None, **attributes: str | float | None) -> Html:
    """An element. Children that are not `Html` are text; an attribute of None is left out.

    `class_` and `for_` stand for the words that Python keeps to itself, `_` for the hyphen elsewhere.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clip(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[str | None]) -> Html:
    """Markup and texts one after the other."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(clip(child)) for child in children if child is not None
        )
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, class_: str | None = None) -> Html:
    """A table; a cell that is not a `td` or `th` of its own becomes one."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    first = cells[0] if cells else []
    figures = [cell.startswith(_NUMBER) for cell in first]
    columns = [
        tag("th", column, scope="col", class_="number" if figures[place : place + 1] == [True] else None)
        for place, column in enumerate(head)
    ]
    lines = [tag("tr", *row) for row in cells]
    whole = tag("table", tag("thead", tag("tr", *columns)), tag("tbody", *lines), class_=class_)
    return tag("div", whole, class_="wide", tabindex="0", role="region", aria_label="table")


_NUMBER = '<td class="number"'


def _cell(cell: str) -> Html:
    if isinstance(cell, Html) and cell.startswith(("<td", "<th")):
        return cell
    return tag("td", cell)


def number(text: str, value: float | None = None) -> Html:
    """A cell of a figure; `value` is what it is sorted by."""
    return tag("td", text, class_="number", data_value=None if value is None else f"{value:.6g}")


def json_block(data: object) -> str:
    """Data for a script element, in which no text of it can end the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # JSON is ASCII here, so U+2028 and U+2029 are written as escapes already.
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
