"""The page of a cell: its figures over nights, what became of it, its runs, where it changed, and how it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.process import paste
from numabench.report.html.element import Html, join, number, table, tag
from numabench.report.nightly import words
from numabench.report.nightly.morning import OK
from numabench.report.site import chart, frame, names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.analysis.history.types import Change, SeriesVerdict
    from numabench.report.nightly.morning import Graph
    from numabench.report.site.lab import CellHistory, Lab, Stay

# Figures that are shown with their boots and unfolded, and nights that are told in full.
_MOST_MAIN, _RECENT = 6, 45
# With more nights a second picture has the last ones.
_LONG = 90
_MOST_LOGS, _MOST_MOVERS = 6, 12


def render(lab: Lab, history: CellHistory, site: Path) -> str:
    """The page as text; `site` is where it will be, absolute."""
    cell, page = history.cell, names.cell_page(history.cell.name)
    nights = tuple(night.name for night in lab.nights)
    return frame.page(
        cell.name,
        ((f"{lab.morning.lab}", names.link(page, names.INDEX)),),
        _facts(lab, history),
        _changes(history.figures, page),
        _graphs(history, page),
        *_figures(history.figures, nights),
        _history(history, site, page),
        _logs(history, site, page),
    )


def _facts(lab: Lab, history: CellHistory) -> Html:
    cell = history.cell
    rows: list[tuple[str, str | Html]] = [
        ("machine", cell.machine),
        ("kernel", cell.kernel),
        ("experiment", cell.experiment),
        ("measures", tag("code", paste(("numabench", *cell.words)))),
        (f"night {lab.morning.night}", join([frame.state(cell.state), f": {cell.reason}" if cell.reason else None])),
    ]
    if cell.twin_of:
        twin = tag("a", cell.twin_of, href=names.link(names.cell_page(cell.name), names.cell_page(cell.twin_of)))
        rows.insert(3, ("the same as", twin))
    if history.again:
        rows.append(("again", tag("code", paste(history.again), class_="again")))
    return tag("dl", *(part for label, told in rows for part in (tag("dt", label), tag("dd", told))), class_="facts")


def _changes(figures: Sequence[SeriesVerdict], page: Path) -> Html:
    rows = [
        (
            tag("th", words.label(figure.label, figure.key.metric), scope="row", class_="title"),
            night_link(page, change.night),
            tag("td", direction(change)),
            number(chart.levels(change, figure.unit)),
            number(words.size(change)),
            tag("td", known_or_kernel(change), class_="reason"),
        )
        for figure, change in sorted(
            ((figure, change) for figure in figures for change in figure.changes),
            key=lambda pair: (pair[1].night, -figures.index(pair[0])),
            reverse=True,
        )
    ]
    told = (
        table(("figure", "since", "", "before -> after", "change (95 %)", "what is known"), rows)
        if rows
        else tag("p", "No figure has changed its level so far.")
    )
    return tag("section", tag("h2", "Changes"), told)


def direction(change: Change) -> Html:
    """Which way a change is, with its mark."""
    known = bool(change.acknowledged)
    sign = chart.key_sign(change.direction, known=known)
    return tag("span", sign, change.direction, class_="known" if known else change.direction)


def known_or_kernel(change: Change) -> str:
    """Why a change is known, and what of the kernel was another."""
    return "; ".join(told for told in (change.acknowledged, change.kernel and f"kernel: {change.kernel}") if told)


def night_link(page: Path, night: str) -> Html:
    """A cell of a table that leads to a night."""
    return tag("td", tag("a", night, href=names.link(page, names.night_page(night))), class_="date")


def _graphs(history: CellHistory, page: Path) -> Html | None:
    if not history.graphs:
        return None
    shown = [graph_part(graph, history.cell.name, page) for graph in history.graphs]
    return tag("section", tag("h2", "Call graphs around changes"), *shown)


def graph_part(graph: Graph, cell: str, page: Path) -> Html:
    """What moved most in a comparison, and the link to all of it."""
    title = tag("h3", f"Around {graph.night}")
    if graph.missing:
        return tag("div", title, tag("p", graph.missing, class_="note"))
    rows = [
        (
            tag("td", tag("code", mover.name), class_="title"),
            number(f"{mover.before * 100:.1f} %", mover.before),
            number(f"{mover.after * 100:.1f} %", mover.after),
            number(words.moved(mover).rpartition(", ")[2], abs(mover.after - mover.before)),
            "found by a test" if mover.is_found else "not tested" if not graph.is_tested else "may be chance",
        )
        for mover in graph.movers[:_MOST_MOVERS]
    ]
    head = ("function, with all below it", "before", "after", "points", "")
    target = names.graph_page(cell, graph.night)
    link = tag("p", tag("a", "The whole comparison", href=names.link(page, target))) if graph.page is not None else None
    along = tag("p", "It moved along ", tag("code", " > ".join(graph.path)), class_="path") if graph.path else None
    runs = f"Share of the CPU's samples, in {graph.runs_before} runs before and {graph.runs_after} after."
    return tag("div", title, tag("p", runs, class_="note"), table(head, rows), along, link)


def _figures(figures: Sequence[SeriesVerdict], nights: Sequence[str]) -> list[Html]:
    main = [figure for figure in figures if words.is_main(figure.key.metric)][:_MOST_MAIN] or list(figures[:_MOST_MAIN])
    # What has changed is not hidden, if it is not too much.
    main += [figure for figure in figures if figure not in main and figure.changes][: 2 * _MOST_MAIN - len(main)]
    rest = [figure for figure in figures if figure not in main]
    if not main:
        return [tag("section", tag("h2", "Figures"), tag("p", "It has not been measured yet."))]
    shown = [_figure(figure, nights, with_boots=place < _MOST_MAIN) for place, figure in enumerate(main)]
    sections = [
        tag(
            "section",
            tag("h2", "Figures"),
            _key(),
            tag("div", *shown, class_="charts" if len(nights) <= _LONG else None),
        )
    ]
    if rest:
        folded = [
            tag("details", tag("summary", _caption(figure)), _figure(figure, nights, with_boots=False))
            for figure in rest
        ]
        sections.append(tag("section", tag("h2", f"{words.count(len(rest), 'more figure')}"), *folded))
    return sections


def _key() -> Html:
    signs = [
        (chart.key_path("points", "M34 16h0"), "a night"),
        (chart.key_path("boots", "M20 20h0M34 10h0M48 22h0"), "its boots"),
        (chart.key_path("level", "M4 16H64"), "level"),
        (chart.key_path("interval", "M4 4H64V28H4Z"), "95 % interval of a new level"),
        (chart.key_sign("worse"), "worse"),
        (chart.key_sign("better"), "better"),
        (chart.key_sign("changed"), "changed"),
        (chart.key_sign("worse", known=True), "known"),
        (chart.key_path("beyond", "M34 6L24 26H44Z"), "beyond the scale"),
    ]
    return tag("ul", *(tag("li", sign, name) for sign, name in signs), class_="legend")


def _figure(figure: SeriesVerdict, nights: Sequence[str], *, with_boots: bool) -> Html:
    whole = chart.series_chart(figure, nights, with_boots=with_boots)
    if with_boots and len(nights) > _LONG:
        # What is new is lost at the edge of a long history.
        recent = chart.series_chart(figure, nights[-chart.RECENT :])
        parts = [tag("div", whole, recent, class_="charts")]
    else:
        parts = [whole]
    return tag("figure", tag("figcaption", _caption(figure)), *parts, class_="series")


def _caption(figure: SeriesVerdict) -> Html:
    told = []
    if figure.noise is not None:
        told.append(f"noise {_share(figure.noise, figure)}")
    if figure.smallest_visible is not None and figure.smallest_visible < 1:
        told.append(f"shows changes from {_share(figure.smallest_visible, figure)}")
    told += [words.note(note) for note in figure.notes]
    name = words.label(figure.label, figure.key.metric)
    now = tag("span", words.amount(figure.level, figure.unit), class_="now")
    better = {"higher": " (more is better)", "lower": " (less is better)", "neither": ""}[figure.better]
    return tag("span", f"{name}: ", now, better, f"; {'; '.join(told)}" if told else None)


def _share(value: float, figure: SeriesVerdict) -> str:
    """A share of the level, or an amount where levels are not above 0."""
    if all(point.value > 0 for point in figure.points):
        return f"{value * 100:.2g} %" if value < 0.1 else f"{value * 100:.0f} %"
    return words.amount(value, figure.unit)


def _history(history: CellHistory, site: Path, page: Path) -> Html:
    """The last nights with their runs, and those before as far as there is something to say of them."""
    main = history.figures[0] if history.figures else None
    values = {} if main is None else {point.night: point.value for point in main.points}
    stays = history.stays[::-1]
    recent, older = stays[:_RECENT], stays[_RECENT:]
    head = ("night", "state", "" if main is None else main.label, "kernel", "runs", "why")
    rows = [
        (
            night_link(page, stay.night),
            tag("td", frame.state(stay.state)),
            number("" if main is None or stay.night not in values else words.amount(values[stay.night], main.unit)),
            tag("td", stay.release, class_="title"),
            tag("td", *run_links(stay, site, page), class_="runs"),
            tag("td", stay.reason, class_="reason"),
        )
        for stay in recent
    ]
    before = None
    if older:
        items = [
            tag(
                "li",
                tag("a", stay.night, href=names.link(page, names.night_page(stay.night))),
                " ok" if stay.state == OK else " ",
                None if stay.state == OK else frame.state(stay.state),
            )
            for stay in older
        ]
        before = tag(
            "details", tag("summary", f"{words.count(len(older), 'night')} before"), tag("ul", *items, class_="nights")
        )
    told = table(head, rows) if rows else tag("p", "It was in no night yet.")
    return tag("section", tag("h2", "Nights"), told, before)


def run_links(stay: Stay, site: Path, page: Path) -> list[Html]:
    """A link to each run's directory, by its boot."""
    return [tag("a", f"boot {boot}", href=names.outside(site, page, path)) for boot, path in stay.runs]


def _logs(history: CellHistory, site: Path, page: Path) -> Html | None:
    if not history.logs:
        return None
    shown = [
        tag(
            "details",
            tag("summary", f"{log.night}: ", tag("code", log.file.parent.name)),
            tag("pre", *_lines(log.text)),
            tag("p", tag("a", "The whole log", href=names.outside(site, page, log.file))),
        )
        for log in history.logs[:_MOST_LOGS]
    ]
    return tag("section", tag("h2", "Logs of what failed"), *shown)


def _lines(text: str) -> list[str]:
    """A log's lines, each escaped by itself: their ends are ours."""
    return [part for line in text.splitlines() for part in (line, Html("\n"))]
