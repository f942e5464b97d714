"""One block, on the machine where it runs and within its boot: attest, run the cells, publish each that is whole."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.errors import EXIT_FAILED, EXIT_UNFIT, NumabenchError, ResultError, Unfit
from numabench.fleet import attest, night_file, publish
from numabench.fleet.cell_run import CellRun
from numabench.fleet.journal import Journal
from numabench.fleet.outcome import (
    DEADLINE,
    DISK_FULL,
    DONE,
    FAILED,
    INTERRUPTED,
    OK,
    WRONG_KERNEL,
    Outcome,
    cell_outcome,
    pending,
)
from numabench.host import cpuset, knobs
from numabench.host.booted import booted
from numabench.host.root import LIVE
from numabench.store import check_writable

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.experiment.progress import Progress
    from numabench.fleet.cells import Block
    from numabench.fleet.forked import Main
    from numabench.fleet.night_file import Night
    from numabench.fleet.publish import Attempt
    from numabench.host.root import Root

# A cell that fails is tried again at once, and then in another boot.
TRIES_IN_A_BOOT = 2


def run_block(night_dir: Path, block_id: str, token: str, main: Main, progress: Progress, *, root: Root = LIVE) -> int:
    """Run what is left of a block and publish it; 0 where all its cells ended, 4 on a wrong kernel, else 1.

    `token` is the caller's name for this attempt, `main` numabench's command line, and `root` where the booted kernel
    is read from. What happened is in the attempt's directory: its attempt.json, events.jsonl and log.txt. The caller
    has no threads: runs are forks. Raises `Stale` once a later attempt has begun, or the block has been ended,
    and `ResultError` where the night's directory cannot be written.
    """
    night = night_file.load(night_dir)
    block = night.block(block_id)
    attempt = publish.take(night_dir, block_id, token)
    events = Journal(attempt.path / publish.EVENTS_FILE)
    how = ""
    reasons: tuple[str, ...] = ()
    try:
        reasons = _attest(night, block, attempt, root)
        if reasons:
            how = WRONG_KERNEL
            progress.say(f"{block.id}: wrong kernel: {'; '.join(reasons)}")
            return EXIT_UNFIT
        _recover(progress)
        how = _Measuring(night, block, attempt, events, main, progress).run_cells()
    except (KeyboardInterrupt, SystemExit):
        how = INTERRUPTED
        raise
    except NumabenchError as error:
        how, reasons = ("" if isinstance(error, publish.Stale) else FAILED), (str(error),)
        raise
    finally:
        if how:
            with contextlib.suppress(ResultError):
                events.append("attempt-ended", how=how, reasons=list(reasons), at=_now())
    return EXIT_FAILED if pending(night_dir, block) else 0


def _attest(night: Night, block: Block, attempt: Attempt, root: Root) -> tuple[str, ...]:
    """Why this is not the boot that was asked for; what it is goes on record."""
    found = booted(root)
    reasons = attest.differences(night, block, found, attempt.path.name)
    record = {
        "kernel": block.kernel,
        "machine": block.machine,
        "node": os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "boot_id": found.boot_id,
        "release": found.release,
        "build_id": found.build_id,
        "cmdline": found.cmdline,
        "began_utc": _now(),
        "wrong": list(reasons),
    }
    publish.write_attempt(attempt, record)
    return reasons


def _recover(progress: Progress) -> None:
    """Put back what a run that was killed has left set on this machine."""
    # One that lives has the knobs: it puts them back itself.
    with contextlib.suppress(Unfit):
        knobs.recover(on_write=progress.say)
    cpuset.recover()


@dataclass(frozen=True)
class _Measuring:
    """A block that is being measured."""

    night: Night
    block: Block
    attempt: Attempt
    events: Journal
    main: Main
    progress: Progress

    def run_cells(self) -> str:
        """Run what is left of the block, cell by cell; how it ended."""
        night, name = self.night, self.block.id
        waiting = pending(night.path, self.block)
        for place, cell_id in enumerate(waiting, 1):
            words = f"{name}: cell {place} of {len(waiting)}: {cell_id}"
            for number in range(1, TRIES_IN_A_BOOT + 1):
                if night_file.has_passed(night.start_by_utc) or night_file.has_passed(night.deadline_utc):
                    return DEADLINE
                self.progress.say(words if number == 1 else f"{words}, again")
                outcome = self._try(CellRun(night, self.block, self.attempt, cell_id, number))
                self.progress.say(f"{name}: {cell_id}: {outcome.state}{outcome.reason and f': {outcome.reason}'}")
                if outcome.state == OK or outcome.is_final:
                    break
                if not _has_room(self.attempt.path):
                    return DISK_FULL
            if night_file.has_passed(night.deadline_utc):
                return DEADLINE
        return DONE

    def _try(self, run: CellRun) -> Outcome:
        """Run a cell once, and publish it where it went well."""
        publish.check(self.attempt)
        self.events.append("cell-begun", cell=run.cell.id, number=run.number, at=_now())
        began = time.monotonic()
        outcome = run.run(self.main, self.progress)
        elapsed_s = round(time.monotonic() - began, 3)
        if outcome.state == OK:
            publish.write_cell(self.attempt, run.cell.id, {**run.record(), "elapsed_s": elapsed_s})
        ended = {"cell": run.cell.id, "number": run.number, "elapsed_s": elapsed_s, "at": _now()}
        self.events.append("cell-ended", state=outcome.state, reason=outcome.reason, is_final=outcome.is_final, **ended)
        if outcome.state == OK and not publish.publish(self.attempt, run.cell.id, self.block.boot):
            return cell_outcome(self.night.path, self.block, run.cell.id) or outcome
        return outcome


def _has_room(path: Path) -> bool:
    """Whether a megabyte can still be stored where results go."""
    try:
        check_writable(path)
    except ResultError:
        return False
    return True


def _now() -> str:
    return night_file.now_utc().isoformat()
