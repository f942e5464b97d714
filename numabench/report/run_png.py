"""A run's report as pictures: memory per node, the three convergences, and migrated pages a second, over time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from numabench.analysis.migration import migrated_rates
from numabench.analysis.missing import Missing
from numabench.analysis.residency import ELSEWHERE
from numabench.analysis.summary import summarize
from numabench.errors import ResultError
from numabench.idset import format_ids
from numabench.report.escape import escape
from numabench.report.run_head import guest_note
from numabench.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from numabench.analysis.convergence import Convergence
    from numabench.analysis.summary import PlacementSummary, Summary, TrialSummary
    from numabench.record import Run

_SIZE_INCHES = (10.0, 5.5)
_DPI = 110
# Okabe and Ito's colours, which also the colour-blind tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")
_DASHES = ("-", "--", ":", "-.")
_LEGEND_ROWS = 24
_NAME_CHARS = 40


def draw(run: Run, directory: Path) -> tuple[Path, ...]:
    """Draw a run's pictures into a directory, made if need be: three a placement. Returns their paths.

    Raises `ResultError` where the directory cannot be written.
    """
    summary = summarize(run)
    pictures: tuple[tuple[str, Callable[[Figure, Summary, PlacementSummary], None]], ...] = (
        ("memory", _draw_memory),
        ("convergence", _draw_convergence),
        ("migration", _draw_migration),
    )
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
    figure.savefig(path)


def _safe(text: str) -> str:
    """A text of the result file that matplotlib draws as it is, not as mathematics; a long one is cut."""
    shown = escape(text)
    if len(shown) > _NAME_CHARS:
        shown = shown[: _NAME_CHARS - 3] + "..."
    return shown.replace("$", r"\$")


def _begin(figure: Figure, summary: Summary, placement: PlacementSummary, title: str, label: str) -> Axes:
    axes = figure.add_subplot()
    run = summary.run
    axes.set_title(f"{title}: {_safe(run.workload)}, placement {_safe(placement.placement)}", loc="left", fontsize=11)
    figure.suptitle(_safe(run.run_id), fontsize=8, x=0.99, ha="right", color="#555555")
    axes.set_xlabel("seconds since GO")
    axes.set_ylabel(label)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _finish(axes: Axes, known: bool, why_not: Iterable[str]) -> None:
    if not known:
        reason = next(iter(why_not), "no measured trial went well")
        axes.text(0.5, 0.5, reason, ha="center", va="center", transform=axes.transAxes, wrap=True)
        return
    axes.set_xlim(left=0)
    # A line along zero is drawn whole.
    axes.set_ylim(bottom=-0.01 * axes.get_ylim()[1])
    entries: dict[str, Artist] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        entries.setdefault(label, handle)
    axes.legend(
        entries.values(),
        entries.keys(),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        fontsize=8,
        frameon=False,
        ncols=-(-len(entries) // _LEGEND_ROWS),
    )


def _colour(place: int, of: int) -> str:
    """One of `of` colours; more than the eight that all can tell apart are taken along a rainbow."""
    if of <= len(_COLOURS):
        return _COLOURS[place]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["turbo"]((place + 0.5) / of))


def _name_dashes(axes: Axes, placement: PlacementSummary) -> None:
    """Legend entries for the dash patterns, each with the trials drawn in it."""
    for pattern, dashes in enumerate(_DASHES[: len(placement.trials)]):
        numbers = format_ids(trial.trial.index for trial in placement.trials[pattern :: len(_DASHES)])
        axes.plot([], [], color="#555555", linestyle=dashes, label=f"trial {numbers}")


def _draw_memory(figure: Figure, summary: Summary, placement: PlacementSummary) -> None:
    """Memory per node: a colour a node, a dash pattern a repeat."""
    memories = [trial.memory for trial in placement.trials]
    scaled = all(isinstance(memory, Missing) or memory.is_scaled for memory in memories)
    axes = _begin(figure, summary, placement, "Memory per node", "MiB" if scaled else "share of sampled pages")
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
                color=_colour(place, len(memory.nodes)),
                linestyle=_DASHES[repeat % len(_DASHES)],
                linewidth=1.6,
                label=name,
            )
    _name_dashes(axes, placement)
    _finish(axes, known, (memory.reason for memory in memories if isinstance(memory, Missing)))


def _kinds(trial: TrialSummary) -> tuple[tuple[str, Convergence | Missing], ...]:
    cpu, pages = trial.cpu_placement, trial.page_residency
    return (
        ("CPU placement", cpu if isinstance(cpu, Missing) else cpu.convergence),
        ("page residency", pages if isinstance(pages, Missing) else pages.convergence),
        ("hint-fault locality", trial.locality),
    )


def _draw_convergence(figure: Figure, summary: Summary, placement: PlacementSummary) -> None:
    """The three convergences: a colour each, a dash pattern a repeat, and page residency with its interval."""
    axes = _begin(figure, summary, placement, "Three convergences", "%")
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
                color=_COLOURS[place],
                linestyle=_DASHES[repeat % len(_DASHES)],
                marker="." if len(times) == 1 else "",
                linewidth=1.6,
                label=name,
            )
            low, high = ([100 * bound for bound in bounds] for bounds in _bounds(found))
            if low != high:
                axes.fill_between(times, low, high, color=_COLOURS[place], alpha=0.15, linewidth=0)
    _name_dashes(axes, placement)
    _finish(axes, known, reasons)
    if known:
        axes.set_ylim(-1, 104)


def _bounds(found: Convergence) -> tuple[list[float], list[float]]:
    return [point.low for point in found.points], [point.high for point in found.points]


def _draw_migration(figure: Figure, summary: Summary, placement: PlacementSummary) -> None:
    """Pages that the kernel migrated after hinting faults, by second: a colour a repeat."""
    axes = _begin(figure, summary, placement, "Pages migrated a second (numa_pages_migrated)", "pages/s")
    known = False
    for repeat, trial in enumerate(placement.trials):
        rates = migrated_rates(trial.trial)
        if rates:
            known = True
            times, values = zip(*rates, strict=True)
            axes.step(
                (0.0, *times),
                (values[0], *values),
                where="pre",
                color=_colour(repeat, len(placement.trials)),
                label=f"trial {trial.trial.index}",
            )
    _finish(axes, known, ["numa_pages_migrated was not sampled"] if placement.trials else [])
