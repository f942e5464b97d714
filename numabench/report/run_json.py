"""A run's report as data: everything the text says, unrounded."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench.analysis.latency import percentile
from numabench.analysis.missing import Missing
from numabench.analysis.moves import Moves
from numabench.analysis.summary import summarize
from numabench.record import Latency
from numabench.report.moves_text import PERCENTILES

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
        "knobs": _plain(run.knobs),
        "restored": _plain(run.ending.restored),
        "verdict": _verdict(summary),
        "scores": _plain(summary.scores),
        "placements": [_placement(placement) for placement in summary.placements],
        "trials": [_trial(trial) for trial in summary.trials],
        "observed": [_observation(observation) for observation in observations],
    }


def _verdict(summary: Summary) -> dict[str, Any]:
    verdict = summary.verdict
    return {"valid": verdict.is_valid, "findings": _plain(verdict.findings)}


def _placement(placement: PlacementSummary) -> dict[str, Any]:
    return {
        "placement": placement.placement,
        "trials": [summary.trial.index for summary in placement.trials],
        "confirmed_bytes": _plain(placement.confirmed_bytes),
        "mb_per_s": _plain(placement.mb_per_s),
        "seconds_per_gib": _plain(placement.seconds_per_gib),
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
        "check": _plain(trial.check),
        "sampler": _plain(trial.sampler),
    }
    reduced = {field.name: _plain(getattr(summary, field.name)) for field in fields(summary) if field.name != "trial"}
    own |= {name: _plain(getattr(trial, name)) for name in ("victims", "wrong_words", "family")}
    if isinstance(summary.moves, Moves):
        reduced["moves"] |= {"status": dict(summary.moves.status), "call_errors": dict(summary.moves.call_errors)}
    reduced["counts"]["by_pair"] = {f"{source}>{target}": pages for (source, target), pages in summary.counts.by_pair}
    return own | reduced


def _observation(observation: Observation) -> dict[str, Any]:
    trial = observation.trial
    reduced = {field.name: _plain(getattr(observation, field.name)) for field in fields(observation)}
    own = {"index": trial.index, "placement": trial.placement, "recorded": _plain(trial.observed)}
    return own | {name: value for name, value in reduced.items() if name != "trial"}


def _plain(value: object) -> Any:
    """Dataclasses as objects, tuples as lists, and what is missing with its reason."""
    if isinstance(value, Missing):
        return {"missing": value.reason}
    if isinstance(value, Latency):
        shares = {name: percentile(value, share) for name, share in PERCENTILES}
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)} | {"percentiles_ns": shares}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
