"""`numabench nightly prune`: old runs and recordings removed, figures and what verdicts refer to kept."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.errors import EXIT_FAILED

if TYPE_CHECKING:
    from numabench.fleet.prune import Pruned


def prune(
    lab: Annotated[Path, typer.Argument(metavar="LAB.toml", help="The lab's plan: see docs/nightly.md.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove the runs and recordings of nights that are older than the plan's keep_nights and keep_recordings.

    Every figure stays in the lab's history, and the runs around a change that is listed or acknowledged stay whole, as
    does a night that has not ended. Exits with 1 where a boot's figures cannot be read: its runs stay.
    """
    from numabench.cli.index import measured
    from numabench.cli.run_words import run_words
    from numabench.fleet import night, plan
    from numabench.fleet import prune as of_lab

    read = plan.read(lab, run_words())
    directory, rule = read.directory.resolve(), read.retention
    if rule.nights is None and rule.recordings is None:
        print(f"everything is kept: {lab} has neither keep_nights nor keep_recordings")
        return
    if dry_run or not directory.is_dir():
        _show(of_lab.plan(directory, rule), "would remove")
        return
    with night.alone(directory):
        pruned = of_lab.prune(directory, rule, measured)
    _show(pruned, "removed")
    if pruned.problems:
        raise typer.Exit(EXIT_FAILED)


def _show(pruned: Pruned, verb: str) -> None:
    from numabench.fleet.prune import RECORDINGS, RUNS
    from numabench.report.escape import escape
    from numabench.units import format_bytes

    by_night: dict[str, list[tuple[str, int]]] = {}
    for removal in pruned.removals:
        by_night.setdefault(removal.night, []).append((removal.kind, removal.size_bytes))
    for night, removals in by_night.items():
        kinds = [kind for kind, _ in removals]
        what = [(RUNS, "the runs of {} boots"), (RECORDINGS, "the recordings of {} runs")]
        told = [words.format(kinds.count(kind)) for kind, words in what if kind in kinds]
        size = format_bytes(sum(size for _, size in removals))
        print(f"{night}: {verb} {' and '.join(told) or 'what its attempts left'}: {size}")
    for night, reason in pruned.kept_nights.items():
        print(f"{night}: stays: {escape(reason)}")
    if pruned.kept_cells:
        print(f"{pruned.kept_cells} old nights of cells stay: a change that is listed or acknowledged refers to them")
    for problem in pruned.problems:
        print(f"left as it is: {escape(problem)}")
    total = format_bytes(sum(removal.size_bytes for removal in pruned.removals))
    print(f"{verb} {total} in {len(by_night)} nights" if by_night else "nothing is old enough to be removed")
