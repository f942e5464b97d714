"""What a run's pictures have in common: axes, colours, dashes and legends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.idset import format_ids
from numabench.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from numabench.analysis.summary import PlacementSummary, Summary

# Okabe and Ito's colours, which also the colour-blind tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")
DASHES = ("-", "--", ":", "-.")
LEGEND_ROWS = 24
NAME_CHARS = 40


def safe(text: str) -> str:
    """A text of the result file that matplotlib draws as it is, not as mathematics; a long one is cut."""
    shown = escape(text)
    if len(shown) > NAME_CHARS:
        shown = shown[: NAME_CHARS - 3] + "..."
    return shown.replace("$", r"\$")


def begin(figure: Figure, summary: Summary, placement: PlacementSummary, title: str, label: str) -> Axes:
    """Axes with the run's and the placement's names; by seconds since GO."""
    axes = figure.add_subplot()
    run = summary.run
    driver = f" by {safe(run.planned.driver)}" if run.planned.mover else ""
    axes.set_title(
        f"{title}: {safe(run.workload)}{driver}, placement {safe(placement.placement)}", loc="left", fontsize=11
    )
    figure.suptitle(safe(run.run_id), fontsize=8, x=0.99, ha="right", color="#555555")
    axes.set_xlabel("seconds since GO")
    axes.set_ylabel(label)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def say_why_not(axes: Axes, why_not: Iterable[str]) -> None:
    """A reason in place of the curves."""
    reason = next(iter(why_not), "no measured trial went well")
    axes.text(0.5, 0.5, reason, ha="center", va="center", transform=axes.transAxes, wrap=True)


def finish(axes: Axes, known: bool, why_not: Iterable[str]) -> None:
    """Both scales from zero on, and a legend; a reason where there is nothing to see."""
    if not known:
        say_why_not(axes, why_not)
        return
    axes.set_xlim(left=0)
    # A line along zero is drawn whole.
    axes.set_ylim(bottom=-0.01 * axes.get_ylim()[1])
    add_legend(axes)


def add_legend(axes: Axes) -> None:
    """A legend beside the axes, which has each label once."""
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
        ncols=-(-len(entries) // LEGEND_ROWS),
    )


def colour(place: int, of: int) -> str:
    """One of `of` colours; more than the eight that all can tell apart are taken along a rainbow."""
    if of <= len(COLOURS):
        return COLOURS[place]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["turbo"]((place + 0.5) / of))


def name_dashes(axes: Axes, placement: PlacementSummary) -> None:
    """Legend entries for the dash patterns, each with the trials drawn in it."""
    for pattern, dashes in enumerate(DASHES[: len(placement.trials)]):
        numbers = format_ids(trial.trial.index for trial in placement.trials[pattern :: len(DASHES)])
        axes.plot([], [], color="#555555", linestyle=dashes, label=f"trial {numbers}")
