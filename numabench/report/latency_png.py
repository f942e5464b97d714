"""How long calls and accesses took, as a picture: the share that took longer than a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.latency import survival
from numabench.analysis.missing import Missing
from numabench.analysis.moves import Moves
from numabench.report.axes import DASHES, add_legend, begin, colour, name_dashes, say_why_not
from numabench.units import NS_PER_S, format_seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from numabench.analysis.summary import PlacementSummary, Summary, TrialSummary
    from numabench.record import Latency

_MARKED = ((0.01, "p99"), (0.001, "p99.9"))
# What stands for zero where the scale is logarithmic.
_SHORTEST_NS = 1.0


def draw_latency(figure: Figure, summary: Summary, placement: PlacementSummary) -> None:
    """A curve for the calls of each direction and one for the victims' accesses, a dash pattern a repeat."""
    axes = begin(figure, summary, placement, "How long one call, one access took", "share that took longer")
    axes.set_xlabel("time of one")
    curves = [_curves(trial) for trial in placement.trials]
    names = list(dict.fromkeys(name for each in curves for name in each))
    if not names:
        say_why_not(axes, ["the run has neither calls nor victims"] if placement.trials else [])
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda time_s, _place: format_seconds(time_s))
    axes.yaxis.set_major_formatter(lambda share, _place: f"{100 * share:g} %")
    lowest = 1.0
    for repeat, each in enumerate(curves):
        for name, latency in each.items():
            points = survival(latency)
            times = [max(ns, _SHORTEST_NS) / NS_PER_S for ns, _ in points]
            shares = [share for _, share in points]
            # The last bucket's share is zero, which has no place on the scale: the curve falls off at the longest.
            floor = 0.5 / latency.count
            lowest = min(lowest, floor)
            axes.step(
                [*times, latency.max_ns / NS_PER_S],
                [*shares, floor],
                where="post",
                color=colour(names.index(name), len(names)),
                linestyle=DASHES[repeat % len(DASHES)],
                linewidth=1.6,
                label=name,
            )
    axes.set_ylim(lowest, 1.5)
    for share, name in _MARKED:
        if share > lowest:
            axes.axhline(share, color="#888888", linewidth=0.8)
            axes.annotate(name, (0.005, share), xycoords=("axes fraction", "data"), fontsize=8, va="bottom")
    name_dashes(axes, placement)
    add_legend(axes)


def _curves(trial: TrialSummary) -> dict[str, Latency]:
    found: dict[str, Latency] = {}
    if isinstance(trial.moves, Moves):
        for step in trial.moves.steps:
            if not isinstance(step.latency, Missing):
                found[f"calls, node {step.source} to {step.target}"] = step.latency
        if not isinstance(trial.moves.mixed, Missing):
            found["calls, several ways at once"] = trial.moves.mixed
    if not isinstance(trial.stall, Missing):
        found["accesses of victims"] = trial.stall
    return found
