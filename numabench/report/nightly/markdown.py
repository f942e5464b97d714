"""The morning as Markdown, for the summary of a CI job (`$GITHUB_STEP_SUMMARY`), a mail or a chat."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from numabench.process import paste
from numabench.report.escape import escape
from numabench.report.nightly import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numabench.report.nightly.morning import Changed, Graph, Morning

_MOST_ROWS = 50
_MOST_MOVERS = 8
# GitHub cuts a summary off at a MiB, and who reads a chat is sooner tired.
_LONGEST = 500
# What is markup within a line; links that begin by themselves are broken up.
_MARKS = re.compile(r"([\\`*_{}\[\]#!|<>~&@]|:(?=//)|(?<=www)\.)")


def render(morning: Morning) -> str:
    """The morning as GitHub's Markdown."""
    lines = [f"## {_text(morning.lab)}, night {_text(morning.night)}: {_text(words.verdict(morning))}", ""]
    for note in (*morning.notes, *morning.caveats):
        lines += [f"> {_text(note)}", ""]
    for title, changed in (
        ("Got worse", morning.worse),
        ("Changed otherwise", morning.other),
        ("Known changes", morning.known),
    ):
        lines += _changed(title, changed)
    if morning.not_ok:
        lines += ["### Cells that did not end well", ""]
        lines += _table(
            ("cell", "state", "reason"),
            ((_code(cell.name), _text(cell.state), _text(cell.reason)) for cell in morning.not_ok),
        )
    if morning.unjudged:
        lines += ["### What could be said less surely, or not at all", ""]
        lines += _table(
            ("why", "figures", "cells"),
            ((_text(words.note(one.note)), str(one.figures), str(one.cells)) for one in morning.unjudged),
        )
    lines += _visible(morning)
    return "\n".join(lines).rstrip("\n") + "\n"


def _changed(title: str, changed: Sequence[Changed]) -> Iterator[str]:
    if not changed:
        return
    yield from (f"### {title}", "")
    yield from _table(("cell", "figure", "before -> after", "change (95 %)", "since", "why"), _rows(changed))
    for one in changed:
        if one.shifts[0].change.acknowledged:
            continue
        yield from (
            f"<details><summary><code>{html.escape(escape(one.cell))}</code>: where, and how to run it again</summary>",
            "",
        )
        yield from _graph(one.graph)
        if one.again:
            # A fence longer than any in it: https://github.github.com/gfm/#fenced-code-blocks
            yield from ("", "````sh", escape(paste(one.again)).replace("`", "'"), "````")
        yield from ("", "</details>", "")


def _rows(changed: Sequence[Changed]) -> Iterator[tuple[str, ...]]:
    for one in changed:
        for shift in one.shifts:
            figure, change = shift.figure, shift.change
            yield (
                _code(one.cell),
                _text(words.label(figure.label, figure.key.metric)),
                _text(words.levels(change, figure.unit)),
                _text(words.size(change)),
                _text(change.night),
                _text("; ".join([change.acknowledged or change.kernel, *words.doubts(shift)]).lstrip("; ")),
            )


def _graph(graph: Graph) -> Iterator[str]:
    if graph.missing:
        yield _text(f"call graph: {graph.missing}")
        return
    yield from _table(
        ("function, with all below it", "share of CPU samples"),
        ((_code(mover.name), _text(words.moved(mover))) for mover in graph.movers[:_MOST_MOVERS]),
    )
    if graph.path:
        yield "along " + " > ".join(map(_code, graph.path))
    if graph.page is not None:
        yield from ("", f"all of it: {_code(str(graph.page))}")


def _visible(morning: Morning) -> Iterator[str]:
    for one in morning.visible:
        told = ", ".join(f"{figure} {change * 100:.1f} %" for figure, change in one.figures)
        yield _text(f"Smallest change that such a night shows on {one.machine}: {told or 'no A/A history yet'}")
        yield ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    every = list(rows)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in every[:_MOST_ROWS]:
        yield f"| {' | '.join(row)} |"
    if len(every) > _MOST_ROWS:
        yield from ("", f"and {len(every) - _MOST_ROWS} more")
    yield ""


def _text(text: str) -> str:
    """A text in which nothing is markup, a link, or a mention of somebody."""
    shown = escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
    return _MARKS.sub(r"\\\1", shown)


def _code(text: str) -> str:
    """A name in the letters of code; none of its own signs ends it."""
    shown = escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
    return f"`{shown.replace('`', chr(39)).replace('|', '/') or ' '}`"
