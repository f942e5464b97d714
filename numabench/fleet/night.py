"""A night on one machine: its blocks one by one, each tried a bounded number of times, from wherever it stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.errors import NumabenchError, ResultError, Unfit, UsageError
from numabench.fleet import night_file, publish
from numabench.fleet.block import TRIES_IN_A_BOOT
from numabench.fleet.booter import GuestBooter, NativeBooter, NoBoot, Vanished
from numabench.fleet.cell_run import own_command
from numabench.fleet.experiment import RUN_START_S
from numabench.fleet.ledger import NO_BOOT, VANISHED, Ledger, is_disk_full
from numabench.fleet.outcome import BLOCKED, DEADLINE, DISK_FULL, DONE, INTERRUPTED, attempt_end
from numabench.fleet.plan import GUEST, SLURM
from numabench.fleet.reboot import GoingDown, OneShotBooter
from numabench.host.root import LIVE
from numabench.store import check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numabench.experiment.progress import Progress
    from numabench.fleet.booter import Booter
    from numabench.fleet.cells import Block
    from numabench.fleet.night_file import Night
    from numabench.fleet.plan import MachinePlan
    from numabench.host.root import Root

_INTERRUPTED: tuple[str, ...] = ("it was interrupted",)
LOCK_FILE = ".night.lock"
GOING_DOWN = "going-down"
FAILED = "failed"
# Beyond what its runs may take, for a block that does not end by itself.
_EXTRA_S = 60.0


@contextlib.contextmanager
def alone(lab: Path, lock_file: str = LOCK_FILE) -> Iterator[None]:
    """Keep every other night of a lab from beginning as long as the block runs; the lock dies with its owner.

    Of two locks each keeps off those who take the same one.

    Raises `Unfit` where another has it, and `ResultError` where the lab cannot be written.
    """
    try:
        file = (lab / lock_file).open("a+", encoding="ascii")
    except OSError as error:
        raise ResultError(f"cannot write to {lab}: {error.strerror}", "see who may write there") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip()
            raise Unfit(
                f"another night of {lab} is running (process {owner})", "wait for it to end, or end it"
            ) from None
        # Who has it is a word to the next one. On a full disk there is no room for it, and what makes room is run here.
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def last(lab: Path) -> str:
    """The name of a lab's last night. Raises `UsageError` where there is none."""
    name = night_file.last(lab)
    if not name:
        raise UsageError(f"there is no night in {lab} to go on with", "begin one: leave out --resume")
    return name


def run_night(night: Night, lab: Path, progress: Progress, *, root: Root = LIVE) -> str:
    """Run what is left of a night; how it ended: `done`, or `disk-full`.

    The caller is `alone`. Ctrl-C and SIGTERM end what runs first, and it puts back what it has set. `root` is where the
    booted kernel is read from. Raises `GoingDown` where this machine goes down for another kernel, `CannotRun` where
    this machine lacks what a block needs, and `ResultError` where the night cannot be written.
    """
    ledger = Ledger(night, lab)
    how = FAILED
    try:
        night_file.reserve_again(night.path)
        ledger.note("night-begun", pid=os.getpid())
        how = _run_blocks(ledger, lab, progress, root)
    except (KeyboardInterrupt, SystemExit):
        how = INTERRUPTED
        raise
    except GoingDown:
        how = GOING_DOWN
        raise
    except ResultError as error:
        if not is_disk_full(error):
            raise
        progress.say(f"the disk is full: {error}")
        how = DISK_FULL
    finally:
        if how == DISK_FULL:
            ledger.free_reserve()
        with contextlib.suppress(ResultError):
            ledger.note("night-ended", how=how)
    return how


def _run_blocks(ledger: Ledger, lab: Path, progress: Progress, root: Root) -> str:
    """Run the blocks of this machine, and then Slurm's."""
    night = ledger.night
    local = [block for block in night.blocks if night.machines[block.machine].kind != SLURM]
    for place, block in enumerate(local, 1):
        if not ledger.open_cells(block):
            continue
        progress.say(f"block {place} of {len(local)}: {block.id}: {len(ledger.open_cells(block))} cells")
        one = _Block(ledger, block, _booter(night.machines[block.machine], lab, root), progress, root)
        if one.run() == DISK_FULL:
            return DISK_FULL
    if len(local) < len(night.blocks):
        from numabench.fleet.slurm_night import run_blocks

        run_blocks(night, ledger.journal, progress)
    return DONE


def _booter(machine: MachinePlan, lab: Path, root: Root) -> Booter:
    if machine.kind == GUEST:
        return GuestBooter()
    return OneShotBooter(lab, root) if machine.reboot else NativeBooter()


@dataclass(frozen=True)
class _Block:
    """A block that is run to its end."""

    ledger: Ledger
    block: Block
    booter: Booter
    progress: Progress
    root: Root

    def run(self) -> str:
        """Try it until all of its cells have ended; how the last try ended."""
        ledger, block, how = self.ledger, self.block, DONE
        token = self._continued()
        while ledger.open_cells(block):
            obstacle = self._obstacle()
            if obstacle and not token:
                ledger.end_rest(block, BLOCKED, obstacle)
            elif ledger.tries(block) >= ledger.night.attempts and not token:
                ledger.give_up(block)
            else:
                how = self._try(token or ledger.begin(block))
                token = ""
            if how == DISK_FULL:
                return how
        ledger.close(block)
        return how

    def _continued(self) -> str:
        """The token of a try that began before this machine went down for it; any other that has not ended is lost."""
        last = self.ledger.unended(self.block)
        if last is None:
            return ""
        if self.booter.awaits(last.token):
            return last.token
        self.ledger.end(self.block, last.token, VANISHED, ("the night was ended in the middle of it",))
        return ""

    def _obstacle(self) -> str:
        """Why it must not be tried (again)."""
        night = self.ledger.night
        for time_utc, name in ((night.deadline_utc, "deadline"), (night.start_by_utc, "budget")):
            if night_file.has_passed(time_utc):
                return f"the night's {name} came before it could begin ({time_utc})"
        return self.ledger.obstacle(self.block)

    def _try(self, token: str) -> str:
        """One try: boot, run the block there, and take over what it left; how it ended."""
        how, reasons = INTERRUPTED, _INTERRUPTED
        try:
            how, reasons = self._boot_and_run(token)
        except GoingDown:
            how = ""
            raise
        except NumabenchError as error:
            is_full = isinstance(error, ResultError) and is_disk_full(error)
            how, reasons = DISK_FULL if is_full else FAILED, (str(error),)
            raise
        finally:
            # A try that this machine went down for has not ended.
            if how:
                self.ledger.end(self.block, token, how, reasons)
        if reasons:
            self.progress.say(f"{self.block.id}: {how}: {'; '.join(reasons)}")
        return how

    def _boot_and_run(self, token: str) -> tuple[str, tuple[str, ...]]:
        night, block = self.ledger.night, self.block
        began = time.monotonic()
        try:
            boot = self.booter.boot(night, block, token)
        except NoBoot as error:
            return NO_BOOT, (str(error),)
        try:
            self.ledger.note("booted", block=block.id, token=token, boot_s=round(time.monotonic() - began, 3))
            status = boot.run(self._argv(token), self._patience_s())
        except Vanished as error:
            return VANISHED, (str(error),)
        finally:
            boot.close()
        return self._ended(status, token)

    def _argv(self, token: str) -> list[str]:
        words = [*own_command(), "nightly", "block", str(self.ledger.night.path), self.block.id]
        words += ["--attempt-token", token]
        return words if self.root.is_live else [*words, "--root", str(self.root.directory)]

    def _patience_s(self) -> float:
        """When a block that has not ended is given up, in seconds: its cells, or the deadline, ended it before."""
        night = self.ledger.night
        runs_s: float = sum(night.cells[cell].timeout_s for cell in self.ledger.open_cells(self.block))
        left_s = night_file.seconds_left(night.deadline_utc)
        needed_s = RUN_START_S + TRIES_IN_A_BOOT * runs_s
        return (needed_s if left_s is None else min(needed_s, max(left_s, 0.0))) + _EXTRA_S

    def _ended(self, status: int, token: str) -> tuple[str, tuple[str, ...]]:
        """How a try ended that ran: as its attempt says."""
        path = publish.attempt_of(self.ledger.night.path, self.block.id, token)
        if path is None:
            return FAILED, (f"the block could not begin: it exited with {status}",)
        end = attempt_end(path)
        if end.how == DEADLINE:
            return DEADLINE, ()
        if not end.how and _is_full(path):
            # It could not even say so.
            return DISK_FULL, ("there was no room left for results",)
        return (end.how or VANISHED), end.reasons or (() if end.how else (f"the block exited with {status}",))


def _is_full(path: Path) -> bool:
    try:
        check_writable(path)
    except ResultError as error:
        return is_disk_full(error)
    return False
