"""`numabench migration RUN...`: where each second of migration goes, per driver."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli import recordings
from numabench.errors import ResultError, Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.migration_time import MigrationTime
    from numabench.analysis.observed import Observation
    from numabench.analysis.thread_time import PassTime
    from numabench.record import Run

DEFAULT_RESULTS = Path("results")


def migration(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs' directories, names or beginnings of them, or `last`.")
    ],
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the picture there, too.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Show runs of guests and of hardware side by side.")] = False,
) -> None:
    """Show where each second of migration goes: what drivers moved, joined with phases, waits and cost per 2 MB."""
    from numabench import store

    found = [store.load(store.find(results, word)) for word in runs]
    if not anyway:
        _check_comparable(found)
    times = [one for run in found for one in times_of(run)]
    if not times:
        raise ResultError("none of the runs tells where its migration went", "run pingpong with `numabench run`")
    if as_json:
        from numabench.report.migration_json import report

        print(json.dumps(report(times), indent=1, allow_nan=False))
    else:
        from numabench.report.migration_text import render

        print(render(times, shutil.get_terminal_size((100, 0)).columns), end="")
    if png is not None:
        from numabench.report.migration_png import draw

        print(f"picture: {draw(times, png)}", file=sys.stderr)


def _check_comparable(runs: Sequence[Run]) -> None:
    """Raises `Unfit` where some runs are a guest's and others are not: their times have nothing in common."""
    guests = [run.run_id for run in runs if run.is_guest]
    if guests and len(guests) < len(runs):
        raise Unfit(
            f"{', '.join(guests)} ran in a guest and the others did not: times of a guest are not comparable",
            "show them apart, or pass --anyway",
        )


def times_of(run: Run) -> tuple[MigrationTime, ...]:
    """Where the time of each placement of a run went; of one that cannot tell, stderr has the reason."""
    from numabench.analysis import migration_time, observed, thread_time
    from numabench.analysis.missing import Missing

    watched: list[PassTime] = []
    counted: list[Observation] = []
    recordings.reduced(
        run,
        lambda trial, profile, symbols: watched.append(thread_time.reduce(run, trial, profile, symbols)),
        lambda trial, text: counted.append(observed.reduce_counts(run, trial, text)),
    )
    placement_of = {trial.index: trial.placement for trial in run.trials}
    times = []
    for placement in run.placements:
        found = migration_time.migration_time(
            run,
            placement,
            [one for one in watched if placement_of[one.trial] == placement],
            [one for one in counted if one.trial.placement == placement],
        )
        if isinstance(found, Missing):
            print(f"numabench: {run.run_id}, placement {placement}: {found.reason}", file=sys.stderr)
        else:
            times.append(found)
    return tuple(times)
