"""The first page: the night in a sentence, what got worse, and every cell by machine and kernel."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from numabench.process import paste
from numabench.report.html.element import Html, table, tag
from numabench.report.nightly import words
from numabench.report.nightly.morning import OK
from numabench.report.site import chart, frame, names
from numabench.report.site.cell import direction, known_or_kernel
from numabench.report.site.night import cell_link

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numabench.analysis.history.types import Change, SeriesVerdict
    from numabench.report.nightly.morning import Changed, Morning
    from numabench.report.site.lab import CellHistory, Lab

_MOST_CELLS, _MOST_SHIFTS, _RECENT = 8, 4, 14
# A change of one of a cell's figures by how much it matters.
_ORDER = ("worse", "better", "changed")


def render(lab: Lab, states: Mapping[str, Sequence[str]]) -> str:
    """The page as text; `states` are those of each night's cells."""
    morning = lab.morning
    night = tag("a", f"night {morning.night}", href=names.link(names.INDEX, names.night_page(morning.night)))
    return frame.page(
        morning.lab,
        (),
        tag(
            "p",
            night,
            f", {words.count(morning.nights, 'night')} so far; {words.count(morning.figures, 'figure')} looked at",
        ),
        _banner(morning),
        _changed("Changed otherwise", morning.other),
        _changed("Known changes", morning.known),
        _tools(),
        *_matrices(lab),
        _nights(lab, states),
        _said_less(morning),
        with_script=True,
    )


def _banner(morning: Morning) -> Html:
    look = "banner alarm" if morning.worse else "banner" if morning.not_ok or morning.notes else "banner fine"
    sentence = words.verdict(morning)
    worse = _list(morning.worse)
    notes = [tag("p", note) for note in (*morning.notes, *morning.caveats)]
    return tag(
        "div", tag("strong", sentence[:1].upper() + sentence[1:] + "."), *notes, worse, class_=look, role="status"
    )


def _changed(title: str, changed: Sequence[Changed]) -> Html | None:
    return tag("section", tag("h2", title), _list(changed)) if changed else None


def _list(changed: Sequence[Changed]) -> Html | None:
    """A few cells, and the others folded."""
    if not changed:
        return None
    items = _items(changed)
    more = items[_MOST_CELLS:]
    folded = (
        tag("details", tag("summary", f"{words.count(len(more), 'cell')} more"), tag("ul", *more)) if more else None
    )
    return tag("div", tag("ul", *items[:_MOST_CELLS]), folded)


def _items(changed: Sequence[Changed]) -> list[Html]:
    items = []
    for one in changed:
        told = [
            tag(
                "div",
                direction(shift.change),
                f" {words.label(shift.figure.label, shift.figure.key.metric)}: "
                f"{chart.levels(shift.change, shift.figure.unit)}, {words.size_and_night(shift.change)}"
                + "".join(f"; {told}" for told in (known_or_kernel(shift.change), *words.doubts(shift)) if told),
            )
            for shift in one.shifts[:_MOST_SHIFTS]
        ]
        more = len(one.shifts) - _MOST_SHIFTS
        told += [tag("div", f"and {words.count(more, 'figure')} more")] if more > 0 else []
        moved = [f"along {' > '.join(one.graph.path)}"] if one.graph.path else []
        moved += [f"{mover.name} {words.moved(mover)}" for mover in one.graph.movers[:3]]
        where = tag("div", "call graph: ", "; ".join(moved), class_="note") if moved else None
        items.append(tag("li", cell_link(names.INDEX, one.cell), *told, where))
    return items


def _tools() -> Html:
    """For those with a script; without it all rows are there."""
    return tag(
        "div",
        tag("label", "Show rows with ", _input("search")),
        " ",
        tag("label", _input("checkbox"), " only what changed or is not ok"),
        " ",
        tag("output", aria_live="polite"),
        class_="tools",
        hidden="",
    )


def _input(kind: str) -> Html:
    return Html(f'<input type="{kind}" autocomplete="off">')


def _matrices(lab: Lab) -> list[Html]:
    by_machine: defaultdict[str, list[CellHistory]] = defaultdict(list)
    for history in lab.cells:
        by_machine[history.cell.machine].append(history)
    return [_matrix(lab, machine, cells) for machine, cells in by_machine.items()]


def _matrix(lab: Lab, machine: str, cells: Sequence[CellHistory]) -> Html:
    """What is measured by kernel; a row is one setting of one experiment."""
    kernels = list(dict.fromkeys(history.cell.kernel for history in cells))
    rows: defaultdict[tuple[str, tuple[str, ...]], dict[str, CellHistory]] = defaultdict(dict)
    for history in cells:
        rows[history.cell.experiment, history.cell.words][history.cell.kernel] = history
    several = {experiment for experiment, count in _counts(list(rows)).items() if count > 1}
    lines = []
    for (experiment, run_words), by_kernel in rows.items():
        what = tag("div", paste(run_words), class_="what") if experiment in several else None
        row = [
            _cell(lab, by_kernel[kernel]) if kernel in by_kernel else tag("td", "not planned", class_="empty")
            for kernel in kernels
        ]
        told = any(_is_told(history) for history in by_kernel.values())
        lines.append(tag("tr", tag("th", experiment, what, scope="row"), *row, data_told="yes" if told else None))
    head = tag("tr", *(tag("th", name, scope="col") for name in ("", *kernels)))
    whole = tag("table", tag("thead", head), tag("tbody", *lines), class_="matrix")
    wide = tag("div", whole, class_="wide", tabindex="0", role="region", aria_label=f"cells of {machine} by kernel")
    visible = next((one for one in lab.morning.visible if one.machine == machine), None)
    shown = ", ".join(f"{figure} {change * 100:.1f} %" for figure, change in visible.figures) if visible else ""
    note = f"Smallest change that a night shows here, from its own A/A cells: {shown or 'no A/A history yet'}."
    return tag("section", tag("h2", machine), tag("p", note, class_="note"), wide)


def _counts(rows: Sequence[tuple[str, tuple[str, ...]]]) -> dict[str, int]:
    names_of = [experiment for experiment, _ in rows]
    return {name: names_of.count(name) for name in dict.fromkeys(names_of)}


def _is_told(history: CellHistory) -> bool:
    return history.cell.state != OK or bool(_new(history))


def _new(history: CellHistory) -> list[tuple[SeriesVerdict, Change]]:
    """What is new of a cell, what matters most first."""
    found = [(figure, change) for figure in history.figures for change in figure.changes if change.is_new]
    return sorted(found, key=lambda pair: (bool(pair[1].acknowledged), _ORDER.index(pair[1].direction)))


def _cell(lab: Lab, history: CellHistory) -> Html:
    cell = history.cell
    new = _new(history)
    figure = new[0][0] if new else history.figures[0] if history.figures else None
    parts: list[str | None] = [tag("div", frame.state(cell.state))]
    if figure is not None:
        nights = [night.name for night in lab.nights]
        parts += [
            tag(
                "div",
                words.amount(figure.level, figure.unit),
                " ",
                tag("span", figure.label, class_="what"),
                class_="value",
            ),
            tag(
                "div",
                direction(new[0][1]),
                f" {words.relative(new[0][1].ratio)}" if new[0][1].ratio else None,
                class_="date",
            )
            if new
            else None,
            chart.sparkline(figure, nights),
        ]
    return tag("td", tag("a", *parts, href=names.link(names.INDEX, names.cell_page(cell.name))))


def _nights(lab: Lab, states: Mapping[str, Sequence[str]]) -> Html:
    items = [
        tag(
            "li",
            tag("a", night.name, href=names.link(names.INDEX, names.night_page(night.name))),
            f" {'cannot be read' if night.unreadable else frame.state_count(states[night.name])}",
        )
        for night in reversed(lab.nights)
    ]
    older = items[_RECENT:]
    folded = (
        tag("details", tag("summary", f"{words.count(len(older), 'night')} before"), tag("ul", *older, class_="nights"))
        if older
        else None
    )
    key = "How many cells are ok (\N{CHECK MARK}), failed (\N{MULTIPLICATION X}), lost (?), blocked (\N{EN DASH})."
    return tag(
        "section",
        tag("h2", "Nights"),
        tag("p", key, class_="note"),
        tag("ul", *items[:_RECENT], class_="nights"),
        folded,
    )


def _said_less(morning: Morning) -> Html | None:
    if not morning.unjudged:
        return None
    rows = [(words.note(one.note), f"{one.figures:,}", f"{one.cells:,}") for one in morning.unjudged]
    title = tag("h2", "What could be said less surely, or not at all")
    return tag("section", title, table(("why", "figures", "cells"), rows))
