"""What became of the starts of a block's jobs: an attempt at the block, or nothing that could begin one.

Each start of a job is one attempt, named by the job's number and how often it had been requeued. A start without an
attempt is one whose node did not come up, or whose script could not begin: those are journaled, since Slurm forgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.fleet import journal, publish, slurm
from numabench.fleet.outcome import DISK_FULL, INTERRUPTED, WRONG_KERNEL, attempt_end
from numabench.fleet.slurm_job import output_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.fields import Fields
    from numabench.fleet.cells import Block
    from numabench.fleet.journal import Journal
    from numabench.fleet.night_file import Night

START_FAILED, QUARANTINED = "start-failed", "quarantined"
# A boot that is tried so often on a machine, and comes up with another kernel or not at all, is not tried again.
MAX_FAILED_BOOTS = 2
_LAST_WORDS_BYTES = 2000
# How jobs end whose node ran their script.
_RAN = frozenset({"COMPLETED", "FAILED", "OUT_OF_MEMORY", "TIMEOUT"})


@dataclass(frozen=True)
class Starts:
    """The starts of a night's jobs, as its directory and its journal have them."""

    night: Night
    journal: Journal

    def tries(self, block: Block) -> int:
        """How often a block was tried: attempts, and starts that came to none.

        One that was interrupted, or had no room, does not count, as on one machine.
        """
        ends = [attempt_end(path).how for path in publish.attempts(self.night.path, block.id)]
        return sum(how not in {INTERRUPTED, DISK_FULL} for how in ends) + len(self._failed([block]))

    def note(self, block: Block, job: slurm.Job, nodes: Callable[[], str]) -> None:
        """Journal those starts of a job that are over and came to no attempt; each once.

        `nodes` is asked for what Slurm says of the nodes that it may have been.
        """
        over = range(job.restarts + (job.has_ended and job.state != "CANCELLED"))
        known = {event.text("token") for event in self._failed([block])} | self._attempt_tokens(block)
        for restarts in over:
            token = slurm.token(job.id, restarts)
            if token in known:
                continue
            is_boot = False
            if restarts == job.restarts and job.state in _RAN:
                reason = self._script_failed(block, job)
            elif job.was_not_launched:
                reason = f"a node did not take start {token}: {job.reason}"
            else:
                is_boot = True
                reason = f"no node came up for start {token}: {nodes() or 'Slurm does not say why'}"
            self.journal.append(START_FAILED, block=block.id, token=token, is_boot=is_boot, reason=reason)

    def note_forgotten(self, block: Block, job_id: int) -> None:
        """Journal a job that Slurm does not know any more and that came to no attempt."""
        known = {event.text("token") for event in self._failed([block])} | self._attempt_tokens(block)
        if not any(token.startswith(f"{job_id}.") for token in known):
            reason = f"job {job_id} was forgotten by Slurm before it began"
            token = slurm.token(job_id, 0)
            self.journal.append(START_FAILED, block=block.id, token=token, is_boot=False, reason=reason)

    def failed_boots(self, machine: str, kernel: str) -> tuple[str, ...]:
        """Why boots of a machine with a kernel were not what was asked for, one reason each, since its quarantine.

        What put it there does not do so again once somebody has let it out.
        """
        blocks = [block for block in self.night.blocks if (block.machine, block.kernel) == (machine, kernel)]
        reasons = [event.text("reason") for event in self._failed(blocks) if event.fields.get("is_boot")]
        for block in blocks:
            for path in publish.attempts(self.night.path, block.id):
                end = attempt_end(path)
                if end.how == WRONG_KERNEL:
                    reasons.append("; ".join(end.reasons))
        return tuple(reasons[self._quarantined(machine, kernel) :])

    def note_quarantined(self, machine: str, kernel: str) -> None:
        """Journal that a kernel is put in quarantine for what is in `failed_boots`."""
        count = self._quarantined(machine, kernel) + len(self.failed_boots(machine, kernel))
        self.journal.append(QUARANTINED, machine=machine, kernel=kernel, failed_boots=count)

    def _quarantined(self, machine: str, kernel: str) -> int:
        """How many failed boots had put a kernel in quarantine in this night."""
        noted = journal.events(self.journal.path, QUARANTINED)
        own = [e for e in noted if (e.text("machine"), e.text("kernel")) == (machine, kernel)]
        return own[-1].count("failed_boots") if own else 0

    def last_failure(self, block: Block) -> str:
        """Why the last start of a block that came to no attempt did not; empty where there is none."""
        failed = self._failed([block])
        return failed[-1].text("reason") if failed else ""

    def _failed(self, blocks: list[Block]) -> tuple[Fields, ...]:
        ids = {block.id for block in blocks}
        return tuple(e for e in journal.events(self.journal.path, START_FAILED) if e.text("block") in ids)

    def _attempt_tokens(self, block: Block) -> set[str]:
        """The names of a block's attempts."""
        return {
            event.text("token")
            for path in publish.attempts(self.night.path, block.id)
            for event in journal.events(path / publish.EVENTS_FILE, "attempt-begun")
        }

    def _script_failed(self, block: Block, job: slurm.Job) -> str:
        said = _last_words(output_file(self.night, block))
        return f"job {job.id} could not begin: {said or job.state}"


def _last_words(file: Path) -> str:
    try:
        text = file.read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
