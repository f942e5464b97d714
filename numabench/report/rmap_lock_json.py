"""The thread's question answered, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.report.plain import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.comparison.rmap_lock import ArmResult, Mode

# 1: the first.
RMAP_LOCK_SCHEMA_VERSION = 1


def report(kernel: str, arms: Sequence[ArmResult]) -> dict[str, Any]:
    """The arms as plain data for `json.dumps(..., allow_nan=False)`; shares are 0 to 1, null what was not run."""
    return {
        "schema_version": RMAP_LOCK_SCHEMA_VERSION,
        "kind": "numabench-rmap-lock",
        "kernel": kernel,
        "arms": [
            {
                "name": arm.name,
                "what": arm.what,
                "is_control": arm.is_control,
                "shared": _mode(arm.shared),
                "exclusive": _mode(arm.exclusive),
                "phases": None if arm.diff is None or arm.diff.tree is None else plain(arm.diff.tree.phases),
                "metrics": None if arm.diff is None else plain(arm.diff.metrics),
            }
            for arm in arms
        ],
    }


def _mode(mode: Mode | None) -> dict[str, Any] | None:
    if mode is None:
        return None
    return {
        **plain(mode),
        "contended_share": plain(mode.contended_share),
        "waits_per_2mb": plain(mode.waits_per_2mb),
    }
