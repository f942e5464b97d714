"""A sweep's report as pictures: throughput and the victims' p99 by batch, and heat maps over pairs of nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.sweep import BATCH, interval
from numabench.errors import ResultError
from numabench.report import png_file
from numabench.report.axes import DASHES, colour, safe
from numabench.report.run_head import guest_note
from numabench.report.sweep_tables import fixed_text, pair_tables, tables
from numabench.report.sweep_text import first_run, rate_text, time_text
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from numabench.analysis.spread import Spread
    from numabench.analysis.sweep import CellFigures, SweepSummary
    from numabench.report.sweep_tables import PairTable, Table

_DPI = 110
_PANEL_INCHES = (5.2, 4.0)
_PANELS_ACROSS = 3
# Beyond so many panels a picture is a wall: there is another one.
_PANELS = 6
_MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class _Figure:
    """What the curves of a picture are of."""

    name: str
    title: str
    label: str
    of: Callable[[CellFigures], Spread | None]
    show: Callable[[float], str]
    is_time: bool


_RATE = _Figure("throughput", "Throughput", "confirmed MB/s", lambda cell: cell.mb_per_s, rate_text, False)
_STALL = _Figure("stall", "Victims' p99", "p99 of an access", lambda cell: cell.stall_p99_ns, time_text, True)


def draw(summary: SweepSummary, directory: Path) -> tuple[Path, ...]:
    """Draw a sweep's pictures into a directory, made if need be; their paths. What has no figures has no picture.

    Raises `ResultError` where the directory cannot be written.
    """
    paths: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for figure in (_RATE, _STALL):
            panels = [table for table in tables(summary) if any(figure.of(cell) for cell in table.cells.values())]
            pages = [panels[first : first + _PANELS] for first in range(0, len(panels), _PANELS)]
            for page, shown in enumerate(pages, 1):
                path = directory / f"{figure.name}{f'-{page}' if len(pages) > 1 else ''}.png"
                _draw_curves(path, summary, figure, shown)
                paths.append(path)
        for place, pairs in enumerate(pair_tables(summary), 1):
            path = directory / f"pairs-{place}.png"
            if _draw_pairs(path, summary, pairs):
                paths.append(path)
    except OSError as error:
        raise ResultError(
            f"cannot write pictures to {directory}: {error.strerror}", "choose another directory"
        ) from error
    return tuple(paths)


def _figure(summary: SweepSummary, width: float, height: float, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: {safe(summary.sweep.workload)}   ({safe(summary.sweep.sweep_id)})", fontsize=11)
    run = first_run(summary.sweep)
    if run is not None and run.is_guest:
        figure.supxlabel(guest_note(run), fontsize=8, color="#a00000")
    return figure


def _draw_curves(path: Path, summary: SweepSummary, wanted: _Figure, panels: Sequence[Table]) -> None:
    """A panel a table; in it a line a column, with its intervals."""
    across = min(len(panels), _PANELS_ACROSS)
    down = -(-len(panels) // across)
    width, height = _PANEL_INCHES
    rows = panels[0].rows
    title = wanted.title if rows is None else f"{wanted.title} by {rows.name}"
    figure = _figure(summary, max(across * width, 7.0), down * height + 0.6, title)
    for place, table in enumerate(panels, 1):
        axes = figure.add_subplot(down, across, place)
        axes.set_title(safe(fixed_text(table.fixed)) or "all cells", loc="left", fontsize=9)
        _draw_table(axes, summary, wanted, table)
    png_file.save(figure, path)


def _draw_table(axes: Axes, summary: SweepSummary, wanted: _Figure, table: Table) -> None:
    rows = table.rows.values if table.rows else ("",)
    is_batch = table.rows is not None and table.rows.name == BATCH
    places = [float(row) if is_batch else float(place) for place, row in enumerate(rows)]
    columns = table.columns.values if table.columns else ("",)
    knees = _knees(summary)
    scale = NS_PER_S if wanted.is_time else 1
    for number, column in enumerate(columns):
        points = sorted(
            (place, found, table.cells[row, column])
            for place, row in zip(places, rows, strict=True)
            if (found := wanted.of(table.cells[row, column])) is not None
        )
        if not points:
            continue
        # Beside each other, intervals of several lines can be told apart.
        shift = (number - (len(columns) - 1) / 2) * 0.03
        xs = [place * 2**shift if is_batch else place + shift for place, _, _ in points]
        label = f"{table.columns.name} {column}" if table.columns else wanted.label
        axes.errorbar(
            xs,
            [found.median / scale for _, found, _ in points],
            yerr=_bars([found for _, found, _ in points], scale),
            color=colour(number, len(columns)),
            # Between two pairs of nodes, or two drivers, there is nothing to draw a line through.
            linestyle=DASHES[number % len(DASHES)] if is_batch else "none",
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            linewidth=1.6,
            capsize=3,
            label=safe(label),
        )
        if not wanted.is_time:
            knee = [(x, found.median) for x, (_, found, cell) in zip(xs, points, strict=True) if id(cell) in knees]
            axes.plot([x for x, _ in knee], [y for _, y in knee], "o", markersize=14, fillstyle="none", color="#444444")
    if is_batch:
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(places) / 1.5, max(places) * 1.5)
    axes.set_xticks(places, [safe(row) for row in rows])
    axes.minorticks_off()
    axes.set_xlabel("batch (pages a call)" if is_batch else safe(table.rows.name) if table.rows else "")
    _finish(axes, summary, wanted)


def _knees(summary: SweepSummary) -> set[int]:
    """The cells that are knees, by identity."""
    return {
        id(cell)
        for curve in summary.curves
        if not isinstance(curve.knee, Missing)
        for batch, cell in curve.points
        if batch == curve.knee
    }


def _bars(spreads: Sequence[Spread], scale: float) -> list[list[float]]:
    """What the intervals reach below and above the medians; nothing where there is none."""
    bounds = [interval(found) or (found.median, found.median) for found in spreads]
    below = [max(found.median - low, 0.0) / scale for found, (low, _) in zip(spreads, bounds, strict=True)]
    above = [max(high - found.median, 0.0) / scale for found, (_, high) in zip(spreads, bounds, strict=True)]
    return [below, above]


def _finish(axes: Axes, summary: SweepSummary, wanted: _Figure) -> None:
    """The vertical scale, its lines and the legend."""
    axes.set_ylabel(wanted.label)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if wanted.is_time:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda time_s, _place: time_text(time_s * NS_PER_S))
        axes.yaxis.set_minor_formatter(lambda _time_s, _place: "")
        if summary.stall_budget_s is not None:
            budget = time_text(summary.stall_budget_s * NS_PER_S)
            axes.axhline(summary.stall_budget_s, color="#a00000", linewidth=1.2, label=f"budget {budget}")
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda rate, _place: rate_text(rate))
        if summary.curves:
            axes.plot([], [], "o", markersize=10, fillstyle="none", color="#444444", label="knee")
    axes.legend(fontsize=8, frameon=False, loc="best")


def _draw_pairs(path: Path, summary: SweepSummary, table: PairTable) -> bool:
    """Heat maps from each node to each; False where there is nothing to show."""
    maps = [
        ("MB/s of the time in calls", {pair: each.mb_per_s for pair, each in table.pairs.items()}, rate_text, False),
        ("p99 of a call", {pair: each.call_p99_ns for pair, each in table.pairs.items()}, time_text, True),
        ("p99 of a victim's access", _stalls(table), time_text, True),
    ]
    shown = [each for each in maps if any(found is not None for found in each[1].values())]
    if not shown:
        return False
    nodes = table.nodes
    side = max(3.4, 0.58 * len(nodes) + 1.2)
    figure = _figure(summary, max(len(shown) * (side + 0.6), 7.0), side + 1.2, "From node to node")
    for place, (title, spreads, show, is_time) in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), place)
        axes.set_title(safe(title), fontsize=10)
        medians = {pair: found.median for pair, found in spreads.items() if found is not None}
        _draw_map(axes, nodes, medians, show, is_time=is_time)
    if table.fixed:
        figure.text(0.01, 0.99, safe(fixed_text(table.fixed)), fontsize=8, va="top")
    png_file.save(figure, path)
    return True


def _stalls(table: PairTable) -> dict[tuple[int, int], Spread | None]:
    """What victims waited, by pair; a ping-pong is both ways at once."""
    asked = {pair: cell.stall_p99_ns for pair, cell in table.stalls.items()}
    return {(target, source): found for (source, target), found in asked.items()} | asked


def _draw_map(
    axes: Axes,
    nodes: Sequence[int],
    medians: dict[tuple[int, int], float],
    show: Callable[[float], str],
    *,
    is_time: bool,
) -> None:
    """A square a pair, with its figure in it; hatched where none is known."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    # Dark is bad in all maps: slow, or long.
    shades = colormaps["viridis_r" if is_time else "viridis"].with_extremes(bad="#ffffff")
    grid = [[medians.get((source, target), math.nan) for target in nodes] for source in nodes]
    low, high = min(medians.values()), max(medians.values())
    axes.imshow(grid, cmap=shades, vmin=low, vmax=high if high > low else low + 1)
    for row, source in enumerate(nodes):
        for column, target in enumerate(nodes):
            value = medians.get((source, target))
            if value is None:
                square = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#bbbbbb", lw=0)
                axes.add_patch(square)
                continue
            share = (value - low) / (high - low) if high > low else 0.0
            red, green, blue, _ = shades(share)
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            axes.text(
                column,
                row,
                show(value).replace(" ", "\n"),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
    axes.set_xticks(range(len(nodes)), [str(node) for node in nodes])
    axes.set_yticks(range(len(nodes)), [str(node) for node in nodes])
    axes.set_xlabel("to node (hatched: no figure)")
    axes.set_ylabel("from node")
