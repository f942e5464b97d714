"""`numabench nightly unattended`: what a timer runs: the night, its report, the retention rule, the alert."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from numabench.fleet.plan import LabPlan

_LAB_FILE = typer.Argument(metavar="LAB.toml", help="The lab's plan: see docs/nightly.md.")
# $SERVICE_RESULT (systemd.exec(5)) of a service that could not say itself how it went.
_KILLED = frozenset({"signal", "core-dump", "timeout", "watchdog", "oom-kill"})


def unattended(
    lab: Annotated[Path, _LAB_FILE],
    resume: Annotated[
        bool, typer.Option("--resume", help="Only go on with a night that was broken off; do not begin one.")
    ] = False,
) -> None:
    """Run a night as a timer does: `nightly run`, `nightly report`, `nightly prune`, and the plan's alert.

    A night that was broken off before is gone on with first, within its deadline. Exits with 3 on a regression, else
    with what the first step that failed exited with, and with 4 where one is running.
    """
    from numabench.cli.progress import StderrProgress
    from numabench.fleet import unattended as of_night

    progress = StderrProgress()
    status = of_night.run(_read(lab), progress.say, only_resume=resume)
    if status:
        raise typer.Exit(status)


def ended(lab: Annotated[Path, _LAB_FILE]) -> None:
    """Tell of a night whose process was killed; systemd calls it when the service has ended, however it did."""
    from numabench.cli.progress import StderrProgress
    from numabench.errors import EXIT_FAILED
    from numabench.fleet import unattended as of_night

    how = os.environ.get("SERVICE_RESULT", "")
    if how in _KILLED and of_night.tell_killed(_read(lab), how, StderrProgress().say):
        raise typer.Exit(EXIT_FAILED)


def _read(lab: Path) -> LabPlan:
    from numabench.cli.run_words import run_words
    from numabench.fleet import plan

    return plan.read(lab, run_words())
