"""A sweep's report as text: a table a figure, what the batch is worth, and what could not run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.finding import INVALID
from numabench.analysis.missing import Missing
from numabench.analysis.sweep import interval
from numabench.report.escape import escape
from numabench.report.page import BOLD, RED, YELLOW, Page
from numabench.report.run_head import guest_note
from numabench.report.sweep_tables import fixed_text, pair_tables, tables
from numabench.units import NS_PER_S, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numabench.analysis.spread import Spread
    from numabench.analysis.sweep import CellFigures, Curve, SweepFinding, SweepSummary
    from numabench.record import Run, Sweep
    from numabench.report.sweep_tables import PairTable, Table

_MIN_WIDTH = 60
_GAP = 2


def rate_text(value: float) -> str:
    """A rate, to four digits or to whole ones."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def time_text(ns: float) -> str:
    """A time in ns, in the unit that reads best."""
    return format_seconds(ns / NS_PER_S)


@dataclass(frozen=True)
class _Figure:
    """What a table shows: of the first spread the interval, too; of several the medians alone."""

    title: str
    of: Callable[[CellFigures], tuple[Spread | None, ...]]
    show: Callable[[float], str]


_FIGURES = (
    _Figure("confirmed MB/s", lambda cell: (cell.mb_per_s,), rate_text),
    _Figure("confirmed pages/s", lambda cell: (cell.pages_per_s,), rate_text),
    _Figure(
        "time of a call: p50 / p99 / p99.9, medians",
        lambda cell: (cell.call_p50_ns, cell.call_p99_ns, cell.call_p999_ns),
        time_text,
    ),
    _Figure("p99 of the victims' accesses", lambda cell: (cell.stall_p99_ns,), time_text),
)


def render(summary: SweepSummary, width: int = 100, colour: bool = False) -> str:
    """The report; no line is longer than `width` columns (at least 60)."""
    page = Page(max(width, _MIN_WIDTH), colour)
    _head(page, summary)
    notes: dict[str, int] = {}
    for table in tables(summary):
        _table(page, table, notes)
    for pairs in pair_tables(summary):
        _pairs(page, pairs)
    for reason, number in notes.items():
        page.text(f"[{number}] {reason}", hang=len(f"[{number}] "))
    _curves(page, summary)
    _statuses(page, summary)
    _findings(page, summary.findings)
    return "\n".join(page.lines) + "\n"


def first_run(sweep: Sweep) -> Run | None:
    """A run of the sweep, for what all of them share."""
    return next((unit.run for unit in sweep.units if unit.run is not None), None)


def _head(page: Page, summary: SweepSummary) -> None:
    sweep = summary.sweep
    run = first_run(sweep)
    page.text(
        f"sweep of {sweep.workload}: {_counted(len(sweep.cells), 'cell')}, {_counted(sweep.repeats, 'repeat')}", BOLD
    )
    page.text(f"{sweep.sweep_id}, {sweep.created_utc}")
    if run is not None and run.is_guest:
        page.text(guest_note(run), YELLOW)
    if sweep.pending:
        state = "is still going" if sweep.is_running else "did not come to its end"
        how = "" if sweep.is_running else f" Go on with it: numabench sweep --resume {sweep.sweep_id}"
        page.text(f"The sweep {state}: {sweep.pending} of {len(sweep.units)} units are left.{how}", YELLOW)
    page.blank()
    if run is not None:
        where = "a guest" if run.is_guest else run.machine.hostname or "this hardware"
        page.item("ran on", f"{where}, Linux {run.machine.kernel_release}, {run.machine.cpu_count} CPUs")
    page.item("command", shlex.join(sweep.argv))
    for axis in sweep.axes:
        page.item(axis.name, ", ".join(axis.values))
    page.item("order", f"each repeat has every cell once, shuffled by seed {sweep.seed}")
    page.item("figures", _figure_words(sweep.repeats))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _figure_words(repeats: int) -> str:
    if repeats == 1:
        return "of one repeat, without an interval"
    bounds = "the lowest and the highest" if repeats == 2 else "the 95 % interval of the mean (of logarithms, by t)"
    return f"the median over repeats, in brackets {bounds}"


def spread_cell(found: Spread, show: Callable[[float], str]) -> str:
    """`12.3 (11.9..12.7)`, `4.2 us (3.9..4.4)`: the median and its interval, or the one value that all have."""
    shown = show(found.median)
    bounds = interval(found)
    if bounds is None or found.low == found.high:
        return shown
    low, high = (show(bound) for bound in bounds)
    unit = shown.partition(" ")[2]
    if unit and low.endswith(f" {unit}") and high.endswith(f" {unit}"):
        low, high = low.removesuffix(f" {unit}"), high.removesuffix(f" {unit}")
    return f"{shown} ({low}..{high})"


def _table(page: Page, table: Table, notes: dict[str, int]) -> None:
    page.blank()
    page.text(fixed_text(table.fixed) or "all cells", BOLD)
    known = [figure for figure in _FIGURES if any(figure.of(cell)[0] is not None for cell in table.cells.values())]
    for figure in known or _FIGURES[:1]:
        texts = {place: _shown(cell, figure, notes) for place, cell in table.cells.items()}
        rows = table.rows.values if table.rows else ("",)
        columns = table.columns.values if table.columns else ("",)
        grid = _Grid(
            corner=table.rows.name if table.rows else "",
            rows=rows,
            heads=tuple(f"{table.columns.name} {value}" if table.columns else "" for value in columns),
            cells=tuple(tuple(texts[row, column] for column in columns) for row in rows),
        )
        _draw_grid(page, figure.title, grid)


def _shown(cell: CellFigures, figure: _Figure, notes: dict[str, int]) -> str:
    """A figure; without one a dash, and where a reason is known its number."""
    numbers = "".join(f" [{notes.setdefault(reason, len(notes) + 1)}]" for reason in cell.why_not)
    known = [found for found in figure.of(cell) if found is not None]
    if not known:
        return ("cannot run" if cell.cannot_run else "-") + numbers
    if len(known) > 1:
        return " / ".join(figure.show(found.median) for found in known) + numbers
    return spread_cell(known[0], figure.show) + numbers


@dataclass(frozen=True)
class _Grid:
    """One figure of a table, in words: `corner` is above the rows' names, `heads` are the columns'."""

    corner: str
    rows: tuple[str, ...]
    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]


def _draw_grid(page: Page, title: str, grid: _Grid) -> None:
    """Rows and columns; columns that do not fit are below the first ones."""
    label = max(len(grid.corner), *(len(row) for row in grid.rows)) + _GAP
    sizes = [max(len(head), *(len(row[place]) for row in grid.cells)) + _GAP for place, head in enumerate(grid.heads)]
    page.text(title, indent=2)
    place = 0
    while place < len(grid.heads):
        end, used = place, 4 + label
        while end < len(grid.heads) and (end == place or used + sizes[end] <= page.width):
            used += sizes[end]
            end += 1
        columns = range(place, end)
        page.raw(
            f"    {escape(grid.corner):<{label}}"
            + "".join(f"{escape(grid.heads[column]):<{sizes[column]}}" for column in columns)
        )
        for row, cells in zip(grid.rows, grid.cells, strict=True):
            page.raw(f"    {escape(row):<{label}}" + "".join(f"{cells[column]:<{sizes[column]}}" for column in columns))
        place = end


def _pairs(page: Page, table: PairTable) -> None:
    """MB/s and times by source and target."""
    nodes = table.nodes
    page.blank()
    page.text(f"from each node to each{': ' if table.fixed else ''}{fixed_text(table.fixed)}", BOLD)
    names = tuple(str(node) for node in nodes)
    rates = {pair: _cell(each.mb_per_s, rate_text) for pair, each in table.pairs.items()}
    times = {pair: _cell(each.call_p99_ns, time_text) for pair, each in table.pairs.items()}
    for title, texts in (("MB/s, of the time in calls", rates), ("p99 of a call", times)):
        cells = tuple(tuple(texts.get((source, target), "-") for target in nodes) for source in nodes)
        _draw_grid(page, title, _Grid("from", names, tuple(f"to {name}" for name in names), cells))


def _cell(found: Spread | None, show: Callable[[float], str]) -> str:
    return "-" if found is None else spread_cell(found, show)


def _curves(page: Page, summary: SweepSummary) -> None:
    if not summary.curves:
        return
    page.blank()
    page.text("the knee: the smallest batch that is shown to come within 10 % of all larger ones", BOLD)
    for curve in summary.curves:
        page.text(f"{_curve_name(curve)}: {_told(curve.knee)}", indent=2, hang=2)
    if summary.stall_budget_s is None:
        return
    page.blank()
    budget = format_seconds(summary.stall_budget_s)
    page.text(f"the largest batch whose victims' p99 stays below {budget}, its interval included", BOLD)
    for curve in summary.curves:
        if curve.in_budget is not None:
            page.text(f"{_curve_name(curve)}: {_told(curve.in_budget)}", indent=2, hang=2)


def _curve_name(curve: Curve) -> str:
    return fixed_text(curve.fixed) or "batch"


def _told(found: int | Missing) -> str:
    return f"none: {found.reason}" if isinstance(found, Missing) else str(found)


def _statuses(page: Page, summary: SweepSummary) -> None:
    found = [(cell, cell.status) for cell in summary.cells if cell.status]
    if not found:
        return
    page.blank()
    page.text("statuses that were not the target's node, over all repeats", BOLD)
    names = [axis.name for axis in summary.sweep.axes]
    for cell, status in found:
        values = fixed_text(list(zip(names, cell.cell.values, strict=True))) or "the only cell"
        page.text(f"{values}: " + ", ".join(f"{name} {count:,}" for name, count in status), indent=2, hang=2)


def _findings(page: Page, findings: Sequence[SweepFinding]) -> None:
    if not findings:
        return
    page.blank()
    page.text("what speaks against units (numabench report UNIT'S DIRECTORY has each one's)", BOLD)
    for finding in findings:
        count = f"{_counted(len(finding.units), 'unit')}, the first {finding.units[0]}"
        style = RED if finding.weight == INVALID else ""
        page.text(f"{finding.code} ({count}): {finding.cause}", style, indent=2, hang=2)
        if finding.remedy:
            page.text(f"-> {finding.remedy}", indent=4, hang=3)
