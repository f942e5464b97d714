"""The morning in a terminal: short where nothing happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.process import paste
from numabench.report.nightly import words
from numabench.report.page import BOLD, RED, YELLOW, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.report.nightly.morning import Changed, Graph, Morning, Shift

_MIN_WIDTH = 80
_MOST_FIGURES, _MOST_MOVERS, _MOST_CELLS = 5, 5, 20
_LABEL, _NAME = 34, 32


def render(morning: Morning, *, width: int = 100, colour: bool = False) -> str:
    """The morning's lines."""
    page = Page(max(width, _MIN_WIDTH), colour=colour)
    page.text(f"{morning.lab}, night {morning.night}: {words.verdict(morning)}", RED if morning.worse else BOLD)
    for note in morning.notes:
        page.text(note, YELLOW, indent=2, hang=2)
    for caveat in morning.caveats:
        page.text(caveat, indent=2, hang=2)
    for title, changed in (
        ("Got worse", morning.worse),
        ("Changed otherwise", morning.other),
        ("Known changes", morning.known),
    ):
        _changed(page, title, changed)
    if morning.worse:
        page.blank()
        page.text("What is known and meant to be so: numabench nightly acknowledge --help", indent=2)
    _not_ok(page, morning)
    _unjudged(page, morning)
    _visible(page, morning)
    return "".join(line.rstrip() + "\n" for line in page.lines)


def _changed(page: Page, title: str, changed: Sequence[Changed]) -> None:
    if not changed:
        return
    page.blank()
    page.text(title, BOLD)
    for one in changed[:_MOST_CELLS]:
        page.text(one.cell, indent=2)
        for shift in one.shifts[:_MOST_FIGURES]:
            _shift(page, shift)
        if len(one.shifts) > _MOST_FIGURES:
            page.text(f"and {words.count(len(one.shifts) - _MOST_FIGURES, 'figure')} more", indent=4)
        if reason := one.shifts[0].change.acknowledged:
            page.text(f"known: {reason}", indent=4, hang=2)
            continue
        if kernel := words.kernel(one):
            page.text(f"its kernel is another since then: {kernel}", indent=4, hang=2)
        for doubt in dict.fromkeys(doubt for shift in one.shifts for doubt in words.doubts(shift)):
            page.text(f"({doubt})", indent=4, hang=2)
        _graph(page, one.graph)
        if one.again:
            page.text(f"again: {paste(one.again)}", indent=4, hang=4)
    if len(changed) > _MOST_CELLS:
        page.text(f"and {words.count(len(changed) - _MOST_CELLS, 'cell')} more: --json has all", indent=2)


def _shift(page: Page, shift: Shift) -> None:
    figure, change = shift.figure, shift.change
    name = words.label(figure.label, figure.key.metric)
    told = (
        f"{words.levels(change, figure.unit)}{'  ' if change.ratio is not None else ', '}{words.size_and_night(change)}"
    )
    page.text(f"{name:<{_LABEL}} {told}", indent=4, hang=4)


def _graph(page: Page, graph: Graph) -> None:
    if graph.missing:
        page.text(f"call graph: {graph.missing}", indent=4, hang=4)
        return
    tested = "" if graph.is_tested else ", not tested: fewer than three boots on a side"
    page.text(
        f"call graph, share of CPU samples with all below ({graph.runs_before} and {graph.runs_after} runs{tested}):",
        indent=4,
        hang=4,
    )
    for mover in graph.movers[:_MOST_MOVERS]:
        page.text(f"{mover.name:<{_NAME}} {words.moved(mover)}{'' if mover.is_found else ' ?'}", indent=6, hang=4)
    if graph.path:
        page.text(f"along: {' > '.join(graph.path)}", indent=6, hang=4)
    if graph.page is not None:
        page.text(f"all of it: {graph.page}", indent=4, hang=4)


def _not_ok(page: Page, morning: Morning) -> None:
    if morning.not_ok:
        page.blank()
        page.text("Cells that did not end well", BOLD)
        for cell in morning.not_ok[:_MOST_CELLS]:
            page.text(f"{cell.name}: {cell.state}: {cell.reason}", YELLOW, indent=2, hang=4)
        if len(morning.not_ok) > _MOST_CELLS:
            page.text(f"and {len(morning.not_ok) - _MOST_CELLS} more", indent=2)
    if morning.left_out:
        names = words.one_or_all([name for name, _ in morning.left_out])
        page.text(f"left out of the night: {names}: {morning.left_out[0][1]}", indent=2, hang=4)


def _unjudged(page: Page, morning: Morning) -> None:
    if not morning.unjudged:
        return
    page.blank()
    page.text("What could be said less surely, or not at all", BOLD)
    for one in morning.unjudged:
        whose = f"{words.count(one.figures, 'figure')} of {words.count(one.cells, 'cell')}"
        page.text(f"{whose}: {words.note(one.note)}", indent=2, hang=4)


def _visible(page: Page, morning: Morning) -> None:
    if not morning.visible:
        return
    page.blank()
    page.text("Smallest change that such a night shows", BOLD)
    for one in morning.visible:
        told = ", ".join(f"{figure} {change * 100:.1f} %" for figure, change in one.figures)
        page.text(f"{one.machine}: {told or 'no A/A history yet'}", indent=2, hang=4)
