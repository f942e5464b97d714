"""A run reduced: each trial, each placement over its repeats, the scores, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import convergence, costs, migration, moves, residency, score, trial_findings, verdict
from numabench.analysis.missing import Missing
from numabench.analysis.spread import Spread, spread
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numabench.analysis.moves import Moves
    from numabench.analysis.observed import Observation
    from numabench.record import Latency, Run, Trial


@dataclass(frozen=True)
class TrialSummary:
    """What one trial showed. `mb_per_s` is None where it is not known or only a lower bound is."""

    trial: Trial
    elapsed_s: float | Missing
    counts: migration.Counts
    throughput: migration.Throughput | Missing
    cpu_placement: convergence.ThreadPlacement | Missing
    page_residency: convergence.PageResidency | Missing
    locality: convergence.Convergence | Missing
    memory: residency.NodeMemory | Missing
    costs: tuple[costs.Cost, ...]
    scan_passes: float | Missing
    seconds_per_gib: float | Missing
    moves: Moves | Missing
    stall: Latency | Missing
    mb_per_s: float | None


@dataclass(frozen=True)
class PlacementSummary:
    """A placement over its measured trials that went well; a spread is None where no trial has the figure."""

    placement: str
    trials: tuple[TrialSummary, ...]
    confirmed_bytes: Spread | None
    mb_per_s: Spread | None
    seconds_per_gib: Spread | None

    @property
    def typical(self) -> TrialSummary | None:
        """The trial to show where only one can be: of the middle rate, else of the middle number."""
        if not self.trials:
            return None
        rated = [(rate, summary) for summary in self.trials if (rate := summary.mb_per_s) is not None]
        if rated:
            return sorted(rated, key=lambda pair: pair[0])[(len(rated) - 1) // 2][1]
        return self.trials[(len(self.trials) - 1) // 2]


@dataclass(frozen=True)
class Summary:
    """A whole run: `trials` holds all of them, also warm-ups and failures."""

    run: Run
    trials: tuple[TrialSummary, ...]
    placements: tuple[PlacementSummary, ...]
    scores: tuple[score.PlacementScore, ...]
    verdict: verdict.Verdict


def summarize(run: Run, observations: Sequence[Observation] = ()) -> Summary:
    """Reduce a run; `observations` are its passes, of which the verdict speaks, too."""
    trials = tuple(_summarize_trial(run, trial) for trial in run.trials)
    placements = tuple(_summarize_placement(name, trials) for name in run.placements)
    return Summary(run, trials, placements, score.scores(run), verdict.judge(run, observations))


def _summarize_trial(run: Run, trial: Trial) -> TrialSummary:
    clock = trial.clock
    elapsed_s: float | Missing = Missing("the trial had no GO and stop")
    if clock.go_ns is not None and clock.stop_ns is not None:
        elapsed_s = (clock.stop_ns - clock.go_ns) / NS_PER_S
    return TrialSummary(
        trial=trial,
        elapsed_s=elapsed_s,
        counts=migration.counts(run, trial),
        throughput=migration.throughput(run, trial),
        cpu_placement=convergence.cpu_placement(trial),
        page_residency=convergence.page_residency(trial, run.nodes),
        locality=convergence.hint_fault_locality(trial),
        memory=residency.node_memory(trial, run.nodes),
        costs=costs.costs(run, trial),
        scan_passes=trial_findings.scan_passes(run, trial),
        seconds_per_gib=score.seconds_per_gib(trial),
        moves=moves.moves(trial),
        stall=moves.stall(trial),
        mb_per_s=migration.rate(run, trial),
    )


def _summarize_placement(name: str, trials: tuple[TrialSummary, ...]) -> PlacementSummary:
    own = tuple(summary for summary in trials if summary.trial.counts and summary.trial.placement == name)
    return PlacementSummary(
        placement=name,
        trials=own,
        confirmed_bytes=_spread(summary.counts.confirmed_bytes for summary in own),
        mb_per_s=spread(rate for summary in own if (rate := summary.mb_per_s) is not None),
        seconds_per_gib=_spread(summary.seconds_per_gib for summary in own),
    )


def _spread(values: Iterable[float | Missing]) -> Spread | None:
    return spread(value for value in values if not isinstance(value, Missing))
