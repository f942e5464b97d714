"""The morning as plain data, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.report.nightly import words
from numabench.report.plain import plain

if TYPE_CHECKING:
    from numabench.report.nightly.morning import Changed, Morning

# 1: the first.
MORNING_SCHEMA_VERSION = 1


def report(morning: Morning) -> dict[str, Any]:
    """For `json.dumps(..., allow_nan=False)`. Figures come without their points: those are in verdict.json."""
    return {
        "schema_version": MORNING_SCHEMA_VERSION,
        "kind": "numabench-morning",
        "lab": morning.lab,
        "night": morning.night,
        "nights": morning.nights,
        "figures": morning.figures,
        "ending": morning.ending,
        "verdict": words.verdict(morning),
        "notes": list(morning.notes),
        "caveats": list(morning.caveats),
        "worse": [_changed(one) for one in morning.worse],
        "other": [_changed(one) for one in morning.other],
        "known": [_changed(one) for one in morning.known],
        "cells": plain(morning.cells),
        "left_out": dict(morning.left_out),
        "unjudged": plain(morning.unjudged),
        "smallest_visible": {one.machine: dict(one.figures) for one in morning.visible},
    }


def _changed(one: Changed) -> dict[str, Any]:
    return {
        "cell": one.cell,
        "figures": [
            {
                "metric": shift.figure.key.metric,
                "label": shift.figure.label,
                "unit": shift.figure.unit,
                "better": shift.figure.better,
                "notes": list(shift.figure.notes),
                "change": plain(shift.change),
            }
            for shift in one.shifts
        ],
        "graph": plain(one.graph),
        "again": list(one.again),
        "before": [str(path) for path in one.before],
        "after": [str(path) for path in one.after],
    }
