"""Where each second of migration goes, as data: everything the text says, unrounded."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from numabench.analysis import run_settings, verdict
from numabench.report.plain import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.migration_time import MigrationTime

# 1: the first.
MIGRATION_SCHEMA_VERSION = 1


def report(times: Sequence[MigrationTime]) -> dict[str, Any]:
    """The report as plain data; keys are the attributes of `analysis.migration_time`, units in their names.

    A figure that is not known is `{"missing": reason}`; null means that there is none to have.
    """
    all_settings = [run_settings.settings(one.run, one.placement) for one in times]
    return {
        "schema_version": MIGRATION_SCHEMA_VERSION,
        "kind": "numabench-migration",
        "differing": list(run_settings.differing(all_settings)),
        "runs": [_run(one, settings) for one, settings in zip(times, all_settings, strict=True)],
    }


def _run(one: MigrationTime, settings: dict[str, str]) -> dict[str, Any]:
    run = one.run
    told = {
        "run_id": run.run_id,
        "path": str(run.path),
        "is_guest": run.is_guest,
        "driver": run.planned.driver,
        "settings": settings,
        "findings": plain(verdict.judge(run).findings),
        "total_per_gib_s": plain(one.total_per_gib_s),
    }
    return told | {field.name: plain(getattr(one, field.name)) for field in fields(one) if field.name != "run"}
