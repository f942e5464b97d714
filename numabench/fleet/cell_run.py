"""One run of a cell: the command line of `numabench run`, waited for, and judged by what it left."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench import process, store
from numabench.errors import EXIT_CANNOT_RUN, EXIT_USAGE, ResultError
from numabench.fleet import night_file
from numabench.fleet.forked import Forked
from numabench.fleet.outcome import BLOCKED, FAILED, OK, Outcome
from numabench.fleet.plan import GUEST
from numabench.fleet.publish import CELL_FILE, LOG_FILE, RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numabench.experiment.progress import Progress
    from numabench.fleet.cells import Block, Cell
    from numabench.fleet.forked import Main
    from numabench.fleet.night_file import Night
    from numabench.fleet.publish import Attempt

SEEDS = 2**31
# A run that is asked to end puts the machine back and closes its result; a guest gives the whole block 15 s.
_END_S = 10.0
_FAILED_RUNS = "failed"
# A guest that says nothing for five minutes is given up.
_TICK_S = 30.0
_LAST_WORDS_BYTES = 4096


def own_command() -> list[str]:
    """The beginning of a command line of this numabench."""
    return [sys.executable, "-m", "numabench"]


def own_environment() -> dict[str, str]:
    """The same modules in a process started elsewhere, also from a checkout that is not installed."""
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def again(night: Night, cell: Cell, boot: int) -> tuple[str, ...]:
    """The command that runs a cell by hand as it ran in a boot: in a guest of that kernel, or on this machine."""
    machine, kernel = night.machines[cell.machine], night.kernels[cell.kernel]
    where: list[str] = ["--native"]
    if machine.kind == GUEST:
        where = ["--lab", "--kernel", kernel.wish, "--cpus-per-node", str(machine.cpus_per_node)]
        if machine.memory_per_node_bytes is not None:
            where += ["--memory-per-node", str(machine.memory_per_node_bytes)]
    return ("numabench", *_with(cell.words, [*_of_boot(night, cell, boot), *where]))


def _of_boot(night: Night, cell: Cell, boot: int) -> list[str]:
    """All kernels of a boot's number have one seed, so that the same pages are sampled."""
    return ["--repeats", str(cell.repeats), "--seed", str((night.seed + boot) % SEEDS)]


def _with(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """A run's words with more options, which come before a program of the user's own."""
    mark = words.index("--") if "--" in words else len(words)
    return [*words[:mark], *options, *words[mark:]]


@dataclass(frozen=True)
class CellRun:
    """The `number`th run of a cell in an attempt."""

    night: Night
    block: Block
    attempt: Attempt
    cell_id: str
    number: int

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.night.cells[self.cell_id]

    @property
    def run_id(self) -> str:
        """A name that no other run of the lab has."""
        try_ = f"a{self.attempt.number}t{self.number}"
        return f"{self.night.name}-b{self.block.boot:02}-{try_}-{self.cell_id}"

    @property
    def results(self) -> Path:
        """Where its run directory goes."""
        return self.attempt.cells / self.cell_id / RUNS

    def record(self) -> dict[str, Any]:
        """What cell.json says of it."""
        return {
            "night": self.night.name,
            "block": self.block.id,
            "boot": self.block.boot,
            "attempt": self.attempt.number,
            "token": self.attempt.token,
            "state": OK,
            "runs": [self.run_id],
            "again": list(again(self.night, self.cell, self.block.boot)),
        }

    def run(self, main: Main, progress: Progress) -> Outcome:
        """Run it to its end, its deadline or the night's; how it went. What a failed one left is put aside.

        Ctrl-C and SIGTERM end it first. Raises `ResultError` where its place cannot be made.
        """
        try:
            self.results.mkdir(parents=True, exist_ok=True)
            (self.results.parent / CELL_FILE).unlink(missing_ok=True)
            log = os.open(self.attempt.path / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ResultError(
                f"cannot write {error.filename}: {error.strerror}", "is the night's place gone?"
            ) from error
        try:
            outcome = self._run(main, log, progress)
        finally:
            os.close(log)
        if outcome.state != OK:
            self._put_aside()
        return outcome

    def _run(self, main: Main, log: int, progress: Progress) -> Outcome:
        asked = json.dumps(again(self.night, self.cell, self.block.boot))
        options = [*_of_boot(self.night, self.cell, self.block.boot), "--native", "--run-id", self.run_id]
        options += ["--results", str(self.results), "--asked", asked]
        argv = _with(self.cell.words, options)
        os.write(log, f"+ {process.paste([*own_command(), *argv])}\n".encode())
        began = os.lseek(log, 0, os.SEEK_END)
        left_s = night_file.seconds_left(self.night.deadline_utc)
        patience_s = self.cell.timeout_s if left_s is None else min(self.cell.timeout_s, max(left_s, 0.0))
        running = Forked(main, argv, log)
        try:
            status = _wait(running, patience_s, lambda told: progress.status(f"{self.cell_id}: {told}"))
        finally:
            running.end(_END_S)
        if status is None:
            if night_file.has_passed(self.night.deadline_utc):
                return Outcome(BLOCKED, f"the night's deadline came while it ran ({self.night.deadline_utc})")
            return Outcome(FAILED, f"it was not done after {patience_s:.0f} s", is_final=False)
        if status != 0:
            return self._failed(status, began)
        return self._judge()

    def _failed(self, status: int, began: int) -> Outcome:
        reason = _last_words(self.attempt.path / LOG_FILE, began) or f"numabench run {process.describe_exit(status)}"
        if status in {EXIT_CANNOT_RUN, EXIT_USAGE}:
            return Outcome(BLOCKED, reason)
        return Outcome(FAILED, reason, is_final=False)

    def _judge(self) -> Outcome:
        """How a run went that ended by itself: all of its trials must be there, and well."""
        try:
            run = store.load(self.results / self.run_id)
        except ResultError as error:
            return Outcome(FAILED, str(error), is_final=False)
        bad = next((trial for trial in run.trials if trial.status != "ok"), None)
        if bad is not None:
            return Outcome(FAILED, f"trial {bad.index}: {bad.status}: {bad.message}", is_final=False)
        if not run.complete:
            return Outcome(FAILED, f"the run is not whole: {run.ending.status}", is_final=False)
        return Outcome(OK)

    def _put_aside(self) -> None:
        """Move a failed run to where nothing is published from."""
        aside = self.attempt.path / _FAILED_RUNS
        try:
            aside.mkdir(exist_ok=True)
            (self.results / self.run_id).rename(aside / self.run_id)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ResultError(f"cannot put {self.run_id} aside: {error.strerror}", "see who may write there") from error


def _wait(running: Forked, patience_s: float, say: Callable[[str], None]) -> int | None:
    """Its exit status; None where it still runs after `patience_s`. Who watches from outside is told that it does."""
    began = time.monotonic()
    while (left_s := began + patience_s - time.monotonic()) > 0:
        status = running.wait(min(left_s, _TICK_S))
        if status is not None:
            return status
        say(f"runs for {time.monotonic() - began:.0f} s")
    return running.wait(0)


def _last_words(log: Path, began: int) -> str:
    """The last error that a run printed into the log behind `began`."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(began, size - _LAST_WORDS_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    told = [line.removeprefix("numabench: ") for line in lines if line.startswith("numabench: ")]
    return (told or [line for line in lines if line.strip()] or [""])[-1].strip()[:500]
