"""The page of a night: what began in it, what became of its cells, and their runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.report.html.element import Html, number, table, tag
from numabench.report.nightly import words
from numabench.report.site import chart, frame, names
from numabench.report.site.cell import direction, known_or_kernel, run_links

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numabench.report.nightly.morning import Shift
    from numabench.report.site.lab import CellHistory, Lab, NightSummary, Stay


@dataclass(frozen=True)
class InIt:
    """What a night had: what became of its cells, what changed its level in it, and each cell's main figure as text."""

    stays: Sequence[tuple[CellHistory, Stay]]
    began: Sequence[Shift]
    values: Mapping[str, str]


class Values:
    """The main figure of each cell by night."""

    def __init__(self, cells: Iterable[CellHistory]) -> None:
        self._by_night: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for history in cells:
            for figure in history.figures[:1]:
                for point in figure.points:
                    told = f"{words.amount(point.value, figure.unit)} {figure.label}"
                    self._by_night[point.night][history.cell.name] = told

    def of(self, night: str) -> Mapping[str, str]:
        """By cell, as text."""
        return self._by_night[night]


def render(lab: Lab, night: NightSummary, had: InIt, site: Path) -> str:
    """The page as text; `site` is where it will be, absolute."""
    page = names.night_page(night.name)
    return frame.page(
        f"Night {night.name}",
        ((lab.morning.lab, names.link(page, names.INDEX)),),
        _facts(night, [stay.state for _, stay in had.stays]),
        _changes(had.began, page),
        _cells(had, site, page),
        _left_out(night),
    )


def _facts(night: NightSummary, states: Sequence[str]) -> Html:
    ending = night.ending or "it has not ended: it runs, or was cut off"
    rows = [("began", night.began_utc or "unknown"), ("ended", ending), ("cells", frame.state_count(states))]
    if night.unreadable:
        rows = [("cannot be read", night.unreadable)]
    return tag("dl", *(part for label, told in rows for part in (tag("dt", label), tag("dd", told))), class_="facts")


def _changes(began: Sequence[Shift], page: Path) -> Html | None:
    if not began:
        return None
    rows = [
        (
            tag("td", cell_link(page, shift.figure.key.cell), class_="title"),
            tag("td", words.label(shift.figure.label, shift.figure.key.metric), class_="title"),
            tag("td", direction(shift.change)),
            number(chart.levels(shift.change, shift.figure.unit)),
            number(words.size(shift.change)),
            tag("td", known_or_kernel(shift.change), class_="reason"),
        )
        for shift in began
    ]
    head = ("cell", "figure", "", "before -> after", "change (95 %)", "what is known")
    return tag("section", tag("h2", "New levels that began in this night"), table(head, rows))


def cell_link(page: Path, cell: str) -> Html:
    """What leads to a cell's page."""
    return tag("a", cell, href=names.link(page, names.cell_page(cell)))


def _cells(had: InIt, site: Path, page: Path) -> Html:
    rows = [
        (
            tag("th", cell_link(page, history.cell.name), scope="row", class_="title"),
            tag("td", frame.state(stay.state)),
            number(had.values.get(history.cell.name, "")),
            tag("td", *run_links(stay, site, page), class_="runs"),
            tag("td", stay.release, class_="title"),
            tag("td", stay.reason, class_="reason"),
        )
        for history, stay in had.stays
    ]
    head = ("cell", "state", "main figure", "runs", "kernel", "why")
    told = table(head, rows) if rows else tag("p", "It has no cells.")
    return tag("section", tag("h2", "Cells"), told)


def _left_out(night: NightSummary) -> Html | None:
    if not night.left_out:
        return None
    return tag("section", tag("h2", "Left out"), table(("cell", "why"), night.left_out))
