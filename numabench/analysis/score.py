"""Where a placement lies between the best and the worst that can be arranged by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.moves import moves
from numabench.analysis.spread import Spread, spread
from numabench.units import BYTES_PER_MB, GIB, NS_PER_S

if TYPE_CHECKING:
    from numabench.record import Run, Trial

HARD, INVERSE = "hard", "inverse"


@dataclass(frozen=True)
class PlacementScore:
    """(inverse - x) / (inverse - hard): 1 is as good as `hard`, 0 as bad as `inverse`; beyond both is possible."""

    placement: str
    score: float | Missing


def seconds_per_gib(trial: Trial) -> float | Missing:
    """Seconds from GO to the last thread's end per GiB stored by all threads, also where a run stops by duration.

    Of a trial with movers per GiB that they moved, by their own clocks.
    """
    if trial.movers:
        moved = moves(trial)
        rate = moved if isinstance(moved, Missing) else moved.mb_per_s
        return rate if isinstance(rate, Missing) else GIB / BYTES_PER_MB / rate
    if not trial.done:
        return Missing("the workload does not say what it stored")
    stored_bytes = sum(work.stored_bytes for work in trial.done)
    if stored_bytes == 0:
        return Missing("nothing was stored")
    return max(work.elapsed_ns for work in trial.done) / NS_PER_S / (stored_bytes / GIB)


def placement_seconds(run: Run, placement: str) -> Spread | None:
    """Seconds per GiB over a placement's measured trials, None where none of them knows."""
    found = [seconds_per_gib(trial) for trial in run.trials if trial.counts and trial.placement == placement]
    return spread(value for value in found if not isinstance(value, Missing))


def scores(run: Run) -> tuple[PlacementScore, ...]:
    """The score of each placement that is neither bound, from the medians of seconds per GiB.

    The measure is of autonuma-benchmark's three builds of each test; a score needs all three.
    """
    middle = [placement for placement in run.placements if placement not in {HARD, INVERSE, "inverse-compat"}]
    return tuple(PlacementScore(placement, _score(run, placement)) for placement in middle)


def _score(run: Run, placement: str) -> float | Missing:
    times = {name: placement_seconds(run, name) for name in (placement, HARD, INVERSE)}
    for name, found in times.items():
        if name not in run.placements:
            return Missing(f"the placement {name} was not run (--all-placements runs all three)")
        if found is None:
            return Missing(f"no trial of {name} tells what it stored and how long it took")
    own, hard, inverse = (found for found in times.values() if found is not None)
    if inverse.low <= hard.high:
        return Missing("inverse was not clearly slower than hard, so that there is nothing to lie between")
    return (inverse.median - own.median) / (inverse.median - hard.median)
