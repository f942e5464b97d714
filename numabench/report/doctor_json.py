"""The doctor's findings as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.doctor.finding import BIASES
from numabench.report.doctor_text import verdict
from numabench.report.plain import plain

if TYPE_CHECKING:
    from numabench.doctor.diagnosis import Diagnosis

# 1: the first.
DOCTOR_SCHEMA_VERSION = 1


def report(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as plain data for `json.dumps(..., allow_nan=False)`.

    `status` is `blocked`, `biased` or `ready`.
    """
    unblocked = "biased" if diagnosis.weighing(BIASES) else "ready"
    return {
        "schema_version": DOCTOR_SCHEMA_VERSION,
        "kind": "numabench-doctor",
        "status": "blocked" if diagnosis.is_blocked else unblocked,
        "verdict": verdict(diagnosis),
        "takes_guest": diagnosis.takes_guest,
        "findings": plain(diagnosis.findings),
        "fine": plain(diagnosis.fine),
    }
