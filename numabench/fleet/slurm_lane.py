"""The blocks of one machine of Slurm's, one job after another, so that their order stays A B B A."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.errors import ProgramError, ResultError
from numabench.fleet import night_file, publish, quarantine, slurm
from numabench.fleet.ledger import is_disk_full
from numabench.fleet.outcome import (
    BLOCKED,
    DEADLINE,
    DISK_FULL,
    FAILED,
    LOST,
    OK,
    WRONG_KERNEL,
    Outcome,
    attempt_end,
    cell_outcome,
    pending,
)
from numabench.fleet.slurm_job import candidates, request
from numabench.fleet.slurm_starts import MAX_FAILED_BOOTS, Starts
from numabench.store import check_writable
from numabench.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.experiment.progress import Progress
    from numabench.fleet.cells import Block
    from numabench.fleet.journal import Journal
    from numabench.fleet.night_file import Night


@dataclass(frozen=True)
class Patience:
    """How long a night waits for what may never come, in seconds.

    `poll_s`: between questions to slurmctld. `silent_s`: for slurmctld to answer. `down_s`: for one of the nodes that a
    block may have, where all are down or drained, or while its job is held. `waiting_s`: for a node that others use.
    `settle_s`: for what a job has written to be seen here, over a network's file system.
    """

    poll_s: float = 10.0
    silent_s: float = 1800.0
    down_s: float = 900.0
    waiting_s: float = 6 * 3600.0
    settle_s: float = 90.0


class Lane:
    """A machine, the blocks that are left for it, and the job of the one that goes on."""

    def __init__(
        self,
        night: Night,
        blocks: Sequence[Block],
        journal: Journal,
        *,
        progress: Progress,
        patience: Patience,
        roots: Path | None,
    ) -> None:
        self._night, self._journal, self._progress = night, journal, progress
        self._patience, self._roots = patience, roots
        self._starts = Starts(night, journal)
        self._left = list(blocks)
        self._job: int | None = None
        # Since when what lasts too long has lasted, by its name.
        self._since: dict[str, float] = {}
        self._answered = time.monotonic()

    @property
    def block(self) -> Block | None:
        """The block that goes on, or comes next; None once all have ended."""
        return self._left[0] if self._left else None

    @property
    def job(self) -> int | None:
        """The number of its job, where there is one."""
        return self._job

    def step(self, jobs: Sequence[slurm.Job] | None, silence: str = "") -> None:
        """Do what comes next, given the night's jobs as they are now; None: slurmctld did not answer, in words."""
        if jobs is not None:
            try:
                self._step(jobs)
            except ProgramError as error:
                silence = error.message
            else:
                self._answered = time.monotonic()
                return
        self._step_in_silence(time.monotonic() - self._answered, silence)

    def _step(self, jobs: Sequence[slurm.Job]) -> None:
        block = self.block
        if block is None:
            return
        own = [job for job in jobs if job.comment == block.id]
        for job in own:
            self._starts.note(block, job, self._told_of_nodes)
        current = next((job for job in own if job.id == self._job), None)
        if self._is_done(block):
            self._leave(block, current)
        elif self._job is None:
            self._begin(block, own)
        elif night_file.has_passed(self._night.deadline_utc):
            self._end(block, BLOCKED, f"the night's deadline came ({self._night.deadline_utc})")
        elif current is None or current.has_ended:
            self._after(block, current)
        elif current.is_waiting or current.state == "CONFIGURING":
            self._wait(block, current)
        else:
            self._since.clear()
            self._progress.status(f"{block.id}: job {current.id} is {current.state.lower()} on {current.nodes}")

    def _step_in_silence(self, silent_s: float, told: str) -> None:
        """Do what can be done meanwhile: the directory says what is done."""
        block = self.block
        if block is None:
            return
        if self._is_done(block):
            self._end(block)
        elif silent_s > self._patience.silent_s:
            state = LOST if self._job is not None else BLOCKED
            self._end(block, state, f"slurmctld did not answer for {format_seconds(silent_s)}: {told}")
        elif night_file.has_passed(self._night.deadline_utc):
            self._end(block, LOST if self._job is not None else BLOCKED, f"the night's deadline came, and {told}")

    def _is_done(self, block: Block) -> bool:
        return not pending(self._night.path, block)

    def _leave(self, block: Block, job: slurm.Job | None) -> None:
        """End a block whose cells have all ended, and its job, which may be about to end by itself."""
        if job is not None and not job.has_ended:
            if job.is_running and self._lasts("leaving", True) < self._patience.settle_s:
                return
            self._cancel()
        self._end(block)

    def _begin(self, block: Block, own: Sequence[slurm.Job]) -> None:
        """Have a job for a block: the one that is there already, for a night that goes on, or a new one."""
        living = next((job for job in own if not job.has_ended), None)
        refusal = self._refusal(block)
        if living is not None:
            self._take(block, living.id, "goes on as")
        elif refusal is not None:
            self._end(block, refusal.state, refusal.reason)
        else:
            self._submit(block)

    def _refusal(self, block: Block) -> Outcome | None:
        """Why a block is not to be begun, or begun again."""
        night = self._night
        for time_utc, name in ((night.deadline_utc, "deadline"), (night.start_by_utc, "budget")):
            if night_file.has_passed(time_utc):
                return Outcome(BLOCKED, f"the night's {name} came before it could begin ({time_utc})")
        entry = quarantine.find(self._lab, block.machine, block.kernel)
        if entry is not None:
            return Outcome(BLOCKED, f"{block.kernel} is in quarantine on {block.machine}: {entry.why}")
        try:
            check_writable(night.path)
        except ResultError as error:
            if is_disk_full(error):
                raise
            return Outcome(BLOCKED, str(error))
        return None

    @property
    def _lab(self) -> Path:
        return self._night.path.parent.parent

    def _submit(self, block: Block) -> None:
        partition = slurm.nodes(partition=self._night.machines[block.machine].partition)
        left = pending(self._night.path, block)
        wanted = request(self._night, block, left, partition, self._roots)
        try:
            wanted.output.parent.mkdir(exist_ok=True)
            number = slurm.submit(wanted)
        except slurm.Refused as error:
            self._end(block, BLOCKED, error.message)
        except OSError as error:
            self._end(block, BLOCKED, f"cannot make {wanted.output.parent}: {error.strerror}")
        else:
            self._take(block, number, "is")

    def _take(self, block: Block, number: int, verb: str) -> None:
        self._job = number
        self._since.clear()
        self._journal.append("block-begun", block=block.id, job=number, at=_now())
        self._progress.say(f"{block.id}: {verb} job {number}")

    def _wait(self, block: Block, job: slurm.Job) -> None:
        """Judge a job that does not run: it may be about to, or never."""
        failed = self._failed_boots(block)
        patience = self._patience
        why = job.reason or job.state.lower()
        if failed is not None:
            self._end(block, failed.state, failed.reason)
        elif job.restarts and self._starts.tries(block) >= self._night.attempts:
            self._end(block, *self._last_reason(block, job))
        elif job.is_waiting and job.was_not_launched:
            self._cancel()
            self._again(block, job)
        elif job.is_waiting and night_file.has_passed(self._night.start_by_utc):
            self._end(block, BLOCKED, f"the night's budget ended while job {job.id} waited for a node ({why})")
        elif job.is_waiting and self._lasts("held", "held" in why.lower()) > patience.down_s:
            self._end(block, BLOCKED, f"job {job.id} is held in Slurm ({why})")
        elif job.is_waiting and self._lasts("down", bool(told := self._told_of_nodes())) > patience.down_s:
            self._end(block, BLOCKED, f"no node for it came up in {format_seconds(patience.down_s)}: {told}")
        elif self._lasts("waiting", True) > patience.waiting_s:
            self._end(block, BLOCKED, f"job {job.id} waited {format_seconds(patience.waiting_s)} for a node ({why})")
        else:
            self._progress.status(f"{block.id}: job {job.id} waits: {why}")

    def _lasts(self, name: str, is_so: bool) -> float:
        """For how many seconds something has been so."""
        if not is_so:
            self._since.pop(name, None)
            return 0.0
        return time.monotonic() - self._since.setdefault(name, time.monotonic())

    def _told_of_nodes(self) -> str:
        """What Slurm says of this block's nodes where none of them can take it; empty where one can."""
        block = self.block
        if block is None:
            return ""
        machine = self._night.machines[block.machine]
        nodes = candidates(machine, slurm.nodes(partition=machine.partition))
        if not nodes:
            return "no node has the machine's name and features"
        if any(node.is_usable for node in nodes):
            return ""
        return "; ".join(f"{node.name} is {node.state}{node.reason and f' ({node.reason})'}" for node in nodes)

    def _failed_boots(self, block: Block) -> Outcome | None:
        """Put a kernel that did not come up too often in quarantine; how its block ends then."""
        reasons = self._starts.failed_boots(block.machine, block.kernel)
        if len(reasons) < MAX_FAILED_BOOTS:
            entry = quarantine.find(self._lab, block.machine, block.kernel)
            return None if entry is None else Outcome(BLOCKED, _in_quarantine(entry))
        why = f"{len(reasons)} boots failed: {reasons[-1]}"
        entry = quarantine.Quarantined(block.machine, block.kernel, why, _now(), self._night.name)
        quarantine.add(self._lab, entry)
        self._starts.note_quarantined(block.machine, block.kernel)
        return Outcome(BLOCKED, _in_quarantine(entry))

    def _after(self, block: Block, job: slurm.Job | None) -> None:
        """A job is over, or forgotten, and cells are left: again, or not, by what its attempt said at the end."""
        if job is None and self._job is not None:
            self._starts.note_forgotten(block, self._job)
        made = publish.attempts(self._night.path, block.id)
        end = attempt_end(made[-1]) if made else None
        failed = self._failed_boots(block)
        is_settling = job is not None and job.state == "COMPLETED"
        if failed is not None:
            self._end(block, failed.state, failed.reason)
        elif is_settling and self._lasts("settling", True) < self._patience.settle_s:
            return
        elif end is not None and end.how == DEADLINE:
            self._end(block, BLOCKED, "the night's time was over")
        elif end is not None and end.how == DISK_FULL:
            # Whoever makes room goes on with the night: its blocks have not ended.
            raise ResultError(f"{block.id} had no room left for results") from OSError(errno.ENOSPC, "no room")
        elif job is not None and job.state == "CANCELLED":
            self._end(block, BLOCKED, f"job {job.id} was cancelled in Slurm")
        elif self._starts.tries(block) >= self._night.attempts:
            self._end(block, *self._last_reason(block, job))
        else:
            self._again(block, job)

    def _again(self, block: Block, job: slurm.Job | None) -> None:
        """Have the block submitted once more."""
        self._progress.say(f"{block.id}: {self._last_reason(block, job)[1]}; again")
        self._job = None

    def _last_reason(self, block: Block, job: slurm.Job | None) -> tuple[str, str]:
        """The state and the reason of cells that the last start did not end."""
        made = publish.attempts(self._night.path, block.id)
        end = attempt_end(made[-1]) if made else None
        told = self._starts.last_failure(block)
        slurms = f"job {self._job}: {'forgotten by Slurm' if job is None else job.state}"
        if end is None:
            return FAILED, told or f"it came to no attempt ({slurms})"
        if end.how == WRONG_KERNEL:
            return FAILED, f"wrong kernel: {'; '.join(end.reasons)}"
        if end.how in {"", "interrupted"}:
            return LOST, f"attempt {len(made)} {end.how or 'ended without a word'} ({slurms})"
        return FAILED, "; ".join(end.reasons) or f"attempt {len(made)} left it ({slurms})"

    def _end(self, block: Block, state: str = LOST, reason: str = "") -> None:
        """End a block, its job and what may still run of it; cells that did not end by themselves end so."""
        if self._job is not None and not self._is_done(block):
            self._cancel()
        publish.close(self._night.path, block.id)
        for cell in block.cells:
            outcome = cell_outcome(self._night.path, block, cell)
            # Why it has no result: what its last try said, unless that was to be tried again and could not.
            if outcome is None or outcome.state == LOST or (not outcome.is_final and state == BLOCKED):
                outcome = Outcome(state, reason)
            words = {"state": outcome.state, "reason": outcome.reason}
            self._journal.append("cell-ended", block=block.id, cell=cell, **words, at=_now())
            if outcome.state != OK:
                self._progress.say(f"{block.id}: {cell}: {outcome.state}: {outcome.reason}")
        self._journal.append("block-ended", block=block.id, at=_now())
        self._left.pop(0)
        self._job = None
        self._since.clear()

    def _cancel(self) -> None:
        try:
            slurm.cancel([self._job] if self._job is not None else [])
        except slurm.SilentController as error:
            # Nothing more of it is published, whatever it does.
            self._progress.say(f"job {self._job} could not be cancelled: {error}")


def _now() -> str:
    return night_file.now_utc().isoformat()


def _in_quarantine(entry: quarantine.Quarantined) -> str:
    return f"{entry.kernel} is in quarantine on {entry.machine}: {entry.why}"
