"""A comparison as data: everything the text says, unrounded, and all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.report.plain import plain

if TYPE_CHECKING:
    from numabench.comparison.diff import Diff
    from numabench.comparison.side import Side

# 1: the first.
DIFF_SCHEMA_VERSION = 1


def report(diff: Diff) -> dict[str, Any]:
    """The comparison as plain data for `json.dumps(..., allow_nan=False)`.

    Null is what there is none of (an interval of one boot). Keys are the attributes of `numabench.comparison`; shares
    are 0 to 1, costs for 2 MB in the event's own unit (ns for cpu-clock).
    """
    return {
        "schema_version": DIFF_SCHEMA_VERSION,
        "kind": "numabench-diff",
        "a": _side(diff.a),
        "b": _side(diff.b),
        "is_forced": diff.is_forced,
        "differences": plain(diff.differences),
        "metrics": plain(diff.metrics),
        "tree": plain(diff.tree),
        "notes": list(diff.notes),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "runs": [{"run_id": run.run_id, "path": str(run.path), "is_guest": run.is_guest} for run in side.runs],
        "boots": [[run.run_id for run in runs] for runs in side.boots],
        "recorded": [{"run_id": one.run_id, "trial": one.trial} for one in side.recorded],
    }
