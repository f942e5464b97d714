"""A run's report as pictures: memory per node, the three convergences, and migrated pages a second, over time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from numabench.analysis.migration import ALL_REASONS, MISPLACED, migrated_rates
from numabench.analysis.missing import Missing
from numabench.analysis.residency import ELSEWHERE
from numabench.analysis.summary import summarize
from numabench.errors import ResultError
from numabench.report import png_file
from numabench.report.axes import COLOURS, DASHES, begin, colour, finish, name_dashes
from numabench.report.latency_png import draw_latency
from numabench.report.run_head import guest_note
from numabench.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

    from numabench.analysis.convergence import Convergence
    from numabench.analysis.summary import PlacementSummary, Summary, TrialSummary
    from numabench.record import Run

_SIZE_INCHES = (10.0, 5.5)
_DPI = 110


def draw(run: Run, directory: Path) -> tuple[Path, ...]:
    """Draw a run's pictures into a directory, made if need be: three a placement, or four. Returns their paths.

    Movers have no convergence to draw, and how long calls and accesses took is known of driven workloads alone.

    Raises `ResultError` where the directory cannot be written.
    """
    summary = summarize(run)
    pictures: list[tuple[str, Callable[[Figure, Summary, PlacementSummary], None]]] = [("memory", _draw_memory)]
    if not run.planned.has_movers:
        pictures.append(("convergence", _draw_convergence))
    pictures.append(("migration", _draw_migration))
    if run.planned.mover is not None:
        pictures.append(("latency", draw_latency))
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for placement in summary.placements:
            for name, paint in pictures:
                path = directory / f"{re.sub(r'[^A-Za-z0-9-]', '_', placement.placement)}-{name}.png"
                _save(path, summary, placement, paint)
                paths.append(path)
    except OSError as error:
        raise ResultError(
            f"cannot write pictures to {directory}: {error.strerror}", "choose another directory"
        ) from error
    return tuple(paths)


def _save(
    path: Path,
    summary: Summary,
    placement: PlacementSummary,
    paint: Callable[[Figure, Summary, PlacementSummary], None],
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    paint(figure, summary, placement)
    if summary.run.is_guest:
        figure.supxlabel(guest_note(summary.run), fontsize=8, color="#a00000")
    png_file.save(figure, path)


def _draw_memory(figure: Figure, summary: Summary, placement: PlacementSummary) -> None:
    """Memory per node: a colour a node, a dash pattern a repeat."""
    memories = [trial.memory for trial in placement.trials]
    scaled = all(isinstance(memory, Missing) or memory.is_scaled for memory in memories)
    axes = begin(figure, summary, placement, "Memory per node", "MiB" if scaled else "share of sampled pages")
    known = False
    for repeat, memory in enumerate(memories):
        if isinstance(memory, Missing):
            continue
        known = True
        for place, node in enumerate(memory.nodes):
            amounts = [amount / MIB if memory.is_scaled else amount for amount in memory.of_node(node)]
            if node == ELSEWHERE and not any(amounts):
                continue
            name = "elsewhere" if node == ELSEWHERE else f"node {node}"
            axes.plot(
                memory.times_s,
                amounts,
                color=colour(place, len(memory.nodes)),
                linestyle=DASHES[repeat % len(DASHES)],
                linewidth=1.6,
                label=name,
            )
    name_dashes(axes, placement)
    finish(axes, known, (memory.reason for memory in memories if isinstance(memory, Missing)))


def _kinds(trial: TrialSummary) -> tuple[tuple[str, Convergence | Missing], ...]:
    cpu, pages = trial.cpu_placement, trial.page_residency
    return (
        ("CPU placement", cpu if isinstance(cpu, Missing) else cpu.convergence),
        ("page residency", pages if isinstance(pages, Missing) else pages.convergence),
        ("hint-fault locality", trial.locality),
    )


def _draw_convergence(figure: Figure, summary: Summary, placement: PlacementSummary) -> None:
    """The three convergences: a colour each, a dash pattern a repeat, and page residency with its interval."""
    axes = begin(figure, summary, placement, "Three convergences", "%")
    reasons = []
    known = False
    for repeat, trial in enumerate(placement.trials):
        for place, (name, found) in enumerate(_kinds(trial)):
            if isinstance(found, Missing):
                reasons.append(f"{name}: {found.reason}")
                continue
            known = True
            times = [point.t_s for point in found.points]
            axes.plot(
                times,
                [100 * point.share for point in found.points],
                color=COLOURS[place],
                linestyle=DASHES[repeat % len(DASHES)],
                marker="." if len(times) == 1 else "",
                linewidth=1.6,
                label=name,
            )
            low, high = ([100 * bound for bound in bounds] for bounds in _bounds(found))
            if low != high:
                axes.fill_between(times, low, high, color=COLOURS[place], alpha=0.15, linewidth=0)
    name_dashes(axes, placement)
    finish(axes, known, reasons)
    if known:
        axes.set_ylim(-1, 104)


def _bounds(found: Convergence) -> tuple[list[float], list[float]]:
    return [point.low for point in found.points], [point.high for point in found.points]


def _draw_migration(figure: Figure, summary: Summary, placement: PlacementSummary) -> None:
    """Pages that the kernel migrated, after hinting faults or by movers' calls, by second: a colour a repeat."""
    counter = ALL_REASONS if summary.run.planned.has_movers else MISPLACED
    axes = begin(figure, summary, placement, f"Pages migrated a second ({counter})", "pages/s")
    known = False
    for repeat, trial in enumerate(placement.trials):
        rates = migrated_rates(trial.trial, counter)
        if rates:
            known = True
            times, values = zip(*rates, strict=True)
            axes.step(
                (0.0, *times),
                (values[0], *values),
                where="pre",
                color=colour(repeat, len(placement.trials)),
                label=f"trial {trial.trial.index}",
            )
    finish(axes, known, [f"{counter} was not sampled"] if placement.trials else [])
