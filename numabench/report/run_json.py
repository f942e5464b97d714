"""A run's report as data: everything the text says, unrounded."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from numabench.analysis.moves import Moves
from numabench.analysis.summary import summarize
from numabench.report.plain import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.observed import Observation
    from numabench.analysis.summary import PlacementSummary, Summary, TrialSummary
    from numabench.record import Run

# 1: the first.
REPORT_SCHEMA_VERSION = 1


def report(run: Run, observations: Sequence[Observation] = ()) -> dict[str, Any]:
    """The report as plain data for `json.dumps(..., allow_nan=False)`; `observations` are the run's passes, reduced.

    A figure that is not known is `{"missing": reason}`, never null or zero; null means that there is none to have (an
    interval of two repeats). Keys are the attributes of `numabench.analysis`, units in their names.
    """
    summary = summarize(run, observations)
    return {
        "schema_version": REPORT_SCHEMA_VERSION,
        "kind": "numabench-report",
        "run_id": run.run_id,
        "path": str(run.path),
        "created_utc": run.created_utc,
        "status": run.ending.status,
        "message": run.ending.message,
        "is_guest": run.is_guest,
        "workload": run.workload,
        "identity": run.identity,
        "plan": run.plan,
        "knobs": plain(run.knobs),
        "restored": plain(run.ending.restored),
        "doctor": plain(run.doctor),
        "verdict": _verdict(summary),
        "scores": plain(summary.scores),
        "placements": [_placement(placement) for placement in summary.placements],
        "trials": [_trial(trial) for trial in summary.trials],
        "observed": [_observation(observation) for observation in observations],
    }


def _verdict(summary: Summary) -> dict[str, Any]:
    verdict = summary.verdict
    return {"valid": verdict.is_valid, "findings": plain(verdict.findings)}


def _placement(placement: PlacementSummary) -> dict[str, Any]:
    return {
        "placement": placement.placement,
        "trials": [summary.trial.index for summary in placement.trials],
        "confirmed_bytes": plain(placement.confirmed_bytes),
        "mb_per_s": plain(placement.mb_per_s),
        "seconds_per_gib": plain(placement.seconds_per_gib),
    }


def _trial(summary: TrialSummary) -> dict[str, Any]:
    trial = summary.trial
    own = {
        "index": trial.index,
        "placement": trial.placement,
        "role": trial.role,
        "status": trial.status,
        "message": trial.message,
        "exit_status": trial.exit_status,
        "check": plain(trial.check),
        "sampler": plain(trial.sampler),
    }
    reduced = {field.name: plain(getattr(summary, field.name)) for field in fields(summary) if field.name != "trial"}
    own |= {name: plain(getattr(trial, name)) for name in ("victims", "wrong_words", "family")}
    if isinstance(summary.moves, Moves):
        reduced["moves"] |= {"status": dict(summary.moves.status), "call_errors": dict(summary.moves.call_errors)}
    reduced["counts"]["by_pair"] = {f"{source}>{target}": pages for (source, target), pages in summary.counts.by_pair}
    return own | reduced


def _observation(observation: Observation) -> dict[str, Any]:
    trial = observation.trial
    reduced = {field.name: plain(getattr(observation, field.name)) for field in fields(observation)}
    own = {"index": trial.index, "placement": trial.placement, "recorded": plain(trial.observed)}
    return own | {name: value for name, value in reduced.items() if name != "trial"}
