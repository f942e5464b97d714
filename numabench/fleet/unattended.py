"""A night that nobody watches: run, reported, pruned, and told of; or gone on with where something broke it off.

Each step is a process of its own: whatever one of them comes to, the next ones run. `unattended.json` in the lab's
directory names the night from before it begins until all is done, so that who comes next can go on with it.
"""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import EXIT_FAILED, EXIT_REGRESSION, EXIT_UNFIT, NumabenchError, ResultError, Unfit
from numabench.fields import parse
from numabench.fleet import alert, ledger, night_file, reboot
from numabench.fleet.cell_run import own_command
from numabench.fleet.night import alone
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.fleet.plan import LabPlan

FILE, LOCK_FILE = "unattended.json", ".unattended.lock"
# 1: the first.
SCHEMA_VERSION = 1
# A night whose process was killed goes on so often; each try of a block counts, too.
_MAX_CRASHES = 3
_NO_NIGHT = "-"
# A block that is asked to end is given less.
STOP_S = 90.0


@dataclass(frozen=True)
class Steps:
    """What the steps of a night exited with; None for one that did not come.

    `is_judged` says that the report could be made.
    """

    run: int
    report: int | None = None
    prune: int | None = None
    is_judged: bool = True

    @property
    def states(self) -> list[str]:
        """What there is to tell."""
        judged = {None, 0, EXIT_FAILED, EXIT_REGRESSION}
        others = (self.report not in judged, not self.is_judged, bool(self.prune))
        found = [alert.FAILED] if self.run or any(others) else []
        return [*found, alert.REGRESSION] if self.report == EXIT_REGRESSION else found

    @property
    def exit_status(self) -> int:
        """A regression's, else the first that is not 0."""
        if self.report == EXIT_REGRESSION:
            return EXIT_REGRESSION
        status = self.run or self.report or self.prune or 0
        return status if status >= 0 else EXIT_FAILED


def run(plan: LabPlan, say: Callable[[str], None], *, only_resume: bool = False) -> int:
    """Go on with the night that was broken off, if there is one, and then run tonight's, unless `only_resume`.

    The exit status of the last of them (docs/nightly.md). Ctrl-C and SIGTERM end the step that runs; the night can be
    gone on with. Raises `Unfit` where another one of this lab is running, which is told, too.
    """
    try:
        plan.directory.mkdir(parents=True, exist_ok=True)
        lab = plan.directory.resolve()
        with alone(lab, LOCK_FILE):
            return _run(plan, lab, say, only_resume=only_resume)
    except (NumabenchError, OSError) as error:
        # Who only goes on with a night is not to tell of one that somebody else runs.
        if not (only_resume and isinstance(error, Unfit)):
            what = "did not begin" if isinstance(error, Unfit) else "was broken off"
            status = error.exit_code if isinstance(error, NumabenchError) else EXIT_FAILED
            _tell(plan, "", Steps(status), f"# {plan.name}: tonight's night {what}\n\n{error}\n", say)
        raise


def _run(plan: LabPlan, lab: Path, say: Callable[[str], None], *, only_resume: bool) -> int:
    status = 0
    try:
        broken_off = unfinished(lab)
    except ResultError as error:
        if only_resume:
            raise
        # Tonight's night has to begin all the same.
        say(f"what night was broken off cannot be read: {error}")
        _tell(plan, "", Steps(EXIT_FAILED), f"# {plan.name}: a night was broken off\n\n{error}\n", say)
        for file in (lab / FILE, lab / reboot.FILE):
            if file.exists():
                file.rename(file.with_name(f"{file.name}.damaged"))
        broken_off = ""
    if broken_off:
        say(f"night {broken_off} was broken off: it is gone on with")
        status = _night(plan, lab, broken_off, say)
        if reboot.pending(lab) is not None:
            return status
    elif only_resume:
        say(f"there is no night in {lab} to go on with")
    if only_resume:
        return status
    name = night_file.new_name(lab, f"{datetime.datetime.now().astimezone():%Y-%m-%d}")
    replace(lab / FILE, {"schema_version": SCHEMA_VERSION, "night": name})
    return _night(plan, lab, name, say, is_new=True)


def unfinished(lab: Path) -> str:
    """The night that was broken off before all was done, or that this machine went down for; empty for none.

    Raises `ResultError` where what says so is damaged.
    """
    file = lab / FILE
    try:
        # Also beside the other file: the night that goes on will need it.
        down = reboot.pending(lab)
        if file.exists():
            fields = parse(file, read_bytes(file))
            check_version(fields, SCHEMA_VERSION)
            name = fields.text("night")
            if not night_file.is_name(name):
                fields.wrong("night", "a night's name")
            return name
    except ResultError as error:
        raise ResultError(
            error.message, "take it away; a night that was broken off goes on with `numabench nightly run --resume`"
        ) from None
    return "" if down is None else down.night


def _night(plan: LabPlan, lab: Path, name: str, say: Callable[[str], None], *, is_new: bool = False) -> int:
    path = night_file.path_of(lab, name)
    if not is_new and not (path / night_file.NIGHT_FILE).exists():
        text = f"# {plan.name}: night {name} did not begin\n\nIt was ended before its plan was made.\n"
        down = reboot.pending(lab)
        if down is not None and down.night == name:
            # Of a night that is gone: no other would begin.
            (lab / reboot.FILE).unlink()
        return end(plan, name, Steps(EXIT_FAILED), text, say)
    status = _run_it(plan, path, say)
    if reboot.pending(lab) is not None:
        # The machine goes down, and the night goes on when it is up again.
        return status
    if not (path / night_file.NIGHT_FILE).exists():
        text = f"# {plan.name}: night {name} did not begin\n\n`numabench nightly run` exited with {status}.\n"
        return end(plan, name, Steps(status), text, say)
    if status == EXIT_UNFIT:
        # Somebody runs it by hand.
        return status
    with tempfile.TemporaryDirectory(prefix="numabench-") as directory:
        told = Path(directory) / "night.md"
        reported = _step(plan, "report", "--night", name, "--markdown", str(told))
        is_judged = told.is_file()
        text = told.read_text(encoding="utf-8") if is_judged else _plain(plan, name, reported)
    return end(plan, name, Steps(status, reported, _step(plan, "prune"), is_judged), text, say)


def _run_it(plan: LabPlan, path: Path, say: Callable[[str], None]) -> int:
    """Run a night, and go on with it where its process is killed; what it exited with."""
    for _ in range(_MAX_CRASHES):
        resume = ["--resume"] if (path / night_file.NIGHT_FILE).exists() else []
        status = _step(plan, "run", "--night", path.name, *resume)
        if status >= 0:
            return status
        say(f"night {path.name} {process.describe_exit(status)}: it goes on")
    return status


def _step(plan: LabPlan, *words: str) -> int:
    """One command of `numabench nightly`, told to end where this process is; what it exited with."""
    command, *options = words
    running = process.start([*own_command(), "nightly", command, str(plan.file), *options], stdout=1, stderr=2)
    try:
        return running.wait() or 0
    except BaseException:
        running.interrupt()
        if running.wait(STOP_S) is None:
            running.kill()
        raise


def end(plan: LabPlan, name: str, steps: Steps, text: str, say: Callable[[str], None]) -> int:
    """Tell of a night, and be done with it."""
    problems = _tell(plan, name, steps, text, say)
    (plan.directory.resolve() / FILE).unlink(missing_ok=True)
    # An alert that does not come through is noticed nowhere else.
    return steps.exit_status or (EXIT_FAILED if problems else 0)


def _tell(plan: LabPlan, name: str, steps: Steps, text: str, say: Callable[[str], None]) -> tuple[str, ...]:
    payload = {
        "night": name,
        "state": steps.states,
        "exit_status": steps.exit_status,
        "steps": {"run": steps.run, "report": steps.report, "prune": steps.prune},
        "cells": _cells(plan, name),
    }
    problems = alert.send(plan, payload, text)
    for problem in problems:
        say(problem)
    return problems


def tell_killed(plan: LabPlan, how: str, say: Callable[[str], None]) -> tuple[str, ...]:
    """Tell that who ran the night was killed, `how` in systemd's word; what could not be told."""
    lab = plan.directory.resolve()
    try:
        name = unfinished(lab)
    except ResultError:
        name = ""
    text = f"# {plan.name}: night {name or _NO_NIGHT} was killed\n\nsystemd says: {how}.\n"
    return _tell(plan, name, Steps(EXIT_FAILED), text, say)


def _cells(plan: LabPlan, name: str) -> dict[str, dict[str, str]]:
    """The state of each cell and the reason, as far as there is a night."""
    try:
        lab = plan.directory.resolve()
        states = ledger.cell_states(night_file.load(night_file.path_of(lab, name)), lab)
    except NumabenchError:
        return {}
    return {cell: {"state": state, "reason": reason} for cell, (state, reason) in states.items()}


def _plain(plan: LabPlan, name: str, status: int) -> str:
    """What can be said of a night without its report."""
    ends = {cell: (how["state"], how["reason"]) for cell, how in _cells(plan, name).items()}
    rows = [f"- {cell}: {state}{reason and f': {reason}'}" for cell, (state, reason) in ends.items()]
    why = f"There is no report: `numabench nightly report` {process.describe_exit(status)}."
    return "\n".join((f"# {plan.name}: night {name}", "", why, "", *rows, ""))
