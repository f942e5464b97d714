"""A sweep's report as data: everything the text says, unrounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.report.plain import plain
from numabench.report.sweep_text import first_run

if TYPE_CHECKING:
    from numabench.analysis.sweep import CellFigures, Curve, SweepSummary
    from numabench.record import SweepUnit

# 1: the first.
REPORT_SCHEMA_VERSION = 1


def report(summary: SweepSummary) -> dict[str, Any]:
    """The report as plain data for `json.dumps(..., allow_nan=False)`.

    A figure that is not known is `{"missing": reason}`; a spread is null where no repeat has it, its `ci95` below three
    repeats. Keys are the attributes of `numabench.analysis.sweep`, units in their names.
    """
    sweep = summary.sweep
    run = first_run(sweep)
    names = [axis.name for axis in sweep.axes]
    return {
        "schema_version": REPORT_SCHEMA_VERSION,
        "kind": "numabench-sweep-report",
        "sweep_id": sweep.sweep_id,
        "path": str(sweep.path),
        "created_utc": sweep.created_utc,
        "complete": sweep.is_complete,
        "is_guest": run is not None and run.is_guest,
        "argv": list(sweep.argv),
        "workload": sweep.workload,
        "axes": {axis.name: list(axis.values) for axis in sweep.axes},
        "repeats": sweep.repeats,
        "seed": sweep.seed,
        "stall_budget_s": summary.stall_budget_s,
        "cells": [_cell(names, cell) for cell in summary.cells],
        "curves": [_curve(curve) for curve in summary.curves],
        "units": [_unit(unit) for unit in sweep.units],
        "findings": plain(summary.findings),
    }


def _cell(names: list[str], cell: CellFigures) -> dict[str, Any]:
    spreads = (
        *("mb_per_s", "pages_per_s", "call_p50_ns", "call_p99_ns", "call_p999_ns"),
        *("stall_p50_ns", "stall_p99_ns", "stall_p999_ns"),
    )
    return {
        "values": dict(zip(names, cell.cell.values, strict=True)),
        "units": [unit.unit.index for unit in cell.units],
        **{name: plain(getattr(cell, name)) for name in spreads},
        "pairs": plain(cell.pairs),
        "status": dict(cell.status),
        "why_not": list(cell.why_not),
        "cannot_run": cell.cannot_run,
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "fixed": dict(curve.fixed),
        "batches": [batch for batch, _ in curve.points],
        "knee": plain(curve.knee),
        "in_budget": plain(curve.in_budget),
    }


def _unit(unit: SweepUnit) -> dict[str, Any]:
    return {
        "index": unit.index,
        "name": unit.name,
        "cell": unit.cell,
        "repeat": unit.repeat,
        "status": unit.status,
        "reasons": list(unit.reasons),
        "trial": None if unit.trial is None else {"status": unit.trial.status, "message": unit.trial.message},
    }
