"""`numabench list`: the recorded runs."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from numabench.cli.report import DEFAULT_RESULTS

if TYPE_CHECKING:
    from numabench.record import Listed


def list_runs(
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the recorded runs, oldest first; also directories that cannot be read, with the reason."""
    from numabench import store

    found = list(store.iterate(results))
    if as_json:
        print(json.dumps([_as_json(entry) for entry in found], indent=1))
        return
    if not found:
        print(f"no run in {results}")
    for entry in found:
        print(_line(entry))


def _as_json(entry: Listed) -> dict[str, Any]:
    return {
        "path": str(entry.path),
        "run_id": entry.run_id,
        "created_utc": entry.created_utc,
        "workload": entry.workload,
        "where": entry.where,
        "kernel": entry.kernel,
        "nodes": list(entry.nodes),
        "status": entry.status,
        "trials": entry.trials,
        "planned_trials": entry.planned_trials,
        "unreadable": entry.unreadable,
        "kind": "sweep" if entry.is_sweep else "run",
    }


def _line(entry: Listed) -> str:
    from numabench.idset import format_ids
    from numabench.report.escape import escape

    if entry.unreadable:
        return escape(f"{entry.run_id}  unreadable: {entry.unreadable}")
    where = f"{entry.where} {entry.kernel}, nodes {format_ids(entry.nodes)}" if entry.nodes else entry.where
    what = "units" if entry.is_sweep else "trials"
    return escape(
        f"{entry.run_id:<40}  {entry.status:<11}  {entry.trials}/{entry.planned_trials} {what}  {where}".rstrip()
    )
