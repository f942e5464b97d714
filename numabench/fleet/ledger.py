"""The book that who runs a night keeps: journal.jsonl, from which a night goes on after any end."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.fleet import journal, publish, quarantine
from numabench.fleet.night_file import RESERVE_FILE, now_utc
from numabench.fleet.outcome import (
    BLOCKED,
    DISK_FULL,
    FAILED,
    INTERRUPTED,
    LOST,
    OK,
    STATES,
    WRONG_KERNEL,
    Outcome,
    cell_outcome,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.errors import ResultError
    from numabench.fields import Fields
    from numabench.fleet.cells import Block
    from numabench.fleet.night_file import Night

# How a try of a block ended beside what its attempt says itself: nothing came up; what came up was lost.
NO_BOOT, VANISHED = "no-boot", "lost"
# A kernel that did not come up so often, or under whose name another came up, is not booted again.
MAX_BAD_BOOTS = 2
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_disk_full(error: ResultError) -> bool:
    """Whether a result could not be written because there is no room."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_FULL


@dataclass(frozen=True)
class Try:
    """A try of a block as the journal has it; `how` is empty where it has not ended."""

    token: str
    how: str = ""
    reasons: tuple[str, ...] = ()


class Ledger:
    """What has been begun and what has ended of a night. One process at a time writes it; any may read."""

    def __init__(self, night: Night, lab: Path) -> None:
        """Read it; the first note opens it for writing. Raises `ResultError` where it is damaged."""
        self.night, self.lab = night, lab
        self._path = night.path / journal.JOURNAL_FILE
        self._journal: journal.Journal | None = None
        self._tries: dict[str, list[Try]] = {}
        self._ended: dict[tuple[str, str], Outcome] = {}
        for event in journal.read(self._path):
            self._learn(event)

    def _learn(self, event: Fields) -> None:
        kind, token = event.text("event"), event.text("token", "")
        # A job of Slurm's has no token here: what its starts came to is in the attempts' own files.
        if kind == "block-begun" and token:
            self._tries.setdefault(event.text("block"), []).append(Try(token))
        elif kind == "block-ended" and token:
            ended = Try(event.text("token"), event.text("how"), tuple(event.texts("reasons")))
            tries = self._tries.setdefault(event.text("block"), [])
            self._tries[event.text("block")] = [*(one for one in tries if one.token != ended.token), ended]
        elif kind == "cell-ended":
            if event.text("state") not in STATES:
                event.wrong("state", "a state")
            key = event.text("block"), event.text("cell")
            self._ended[key] = Outcome(event.text("state"), event.text("reason", ""))

    def note(self, event: str, **values: object) -> None:
        """Add an event, durably. Raises `ResultError`."""
        self.journal.append(event, **values, at=_now())

    @property
    def journal(self) -> journal.Journal:
        """The journal, open for writing."""
        if self._journal is None:
            self._journal = journal.Journal(self._path)
        return self._journal

    def open_cells(self, block: Block) -> tuple[str, ...]:
        """The cells of a block that have not ended, in order."""
        return tuple(cell for cell in block.cells if (block.id, cell) not in self._ended)

    def unended(self, block: Block) -> Try | None:
        """The last try of a block where it has not ended."""
        tries = self._tries.get(block.id, [])
        return tries[-1] if tries and not tries[-1].how else None

    def tries(self, block: Block) -> int:
        """How often a block has been tried; one that the user interrupted, or that had no room, does not count."""
        return sum(one.how not in {INTERRUPTED, DISK_FULL} for one in self._tries.get(block.id, []))

    def begin(self, block: Block) -> str:
        """Begin a try; its token. Raises `ResultError`."""
        token = os.urandom(6).hex()
        self.note("block-begun", block=block.id, token=token)
        self._tries.setdefault(block.id, []).append(Try(token))
        return token

    def end(self, block: Block, token: str, how: str, reasons: tuple[str, ...] = ()) -> None:
        """End a try: take over what its attempts left, and quarantine a kernel that it was the last straw for."""
        self.note("block-ended", block=block.id, token=token, how=how, reasons=list(reasons))
        tries = self._tries[block.id]
        self._tries[block.id] = [*(one for one in tries if one.token != token), Try(token, how, reasons)]
        for cell in self.open_cells(block):
            outcome = cell_outcome(self.night.path, block, cell)
            if outcome is not None and (outcome.state == OK or outcome.is_final):
                self.end_cell(block, cell, outcome)
        # What a machine runs by itself is no boot of ours: tomorrow's night finds it as it is then.
        if how in {WRONG_KERNEL, NO_BOOT} and self.night.machines[block.machine].can_boot:
            self._quarantine(block)

    def _quarantine(self, block: Block) -> None:
        bad = [
            one
            for other in self.night.blocks
            if (other.machine, other.kernel) == (block.machine, block.kernel)
            for one in self._tries.get(other.id, [])
            if one.how in {WRONG_KERNEL, NO_BOOT}
        ]
        if len(bad) >= MAX_BAD_BOOTS:
            last = bad[-1]
            why = f"{len(bad)} boots failed: {last.how}: {'; '.join(last.reasons)}"
            entry = quarantine.Quarantined(block.machine, block.kernel, why, _now(), self.night.name)
            quarantine.add(self.lab, entry)

    def end_cell(self, block: Block, cell: str, outcome: Outcome) -> None:
        """Note how a cell of a block ended, for good."""
        self.note("cell-ended", block=block.id, cell=cell, state=outcome.state, reason=outcome.reason)
        self._ended[block.id, cell] = outcome

    def close(self, block: Block) -> None:
        """Let nothing of a block be published any more, all of whose cells have ended."""
        publish.close(self.night.path, block.id)

    def end_rest(self, block: Block, state: str, reason: str) -> None:
        """End all of a block's cells that have not ended: as they did where that was not noted yet."""
        for cell in self.open_cells(block):
            outcome = cell_outcome(self.night.path, block, cell)
            is_settled = outcome is not None and (outcome.state == OK or outcome.is_final)
            self.end_cell(block, cell, outcome if outcome is not None and is_settled else Outcome(state, reason))

    def obstacle(self, block: Block) -> str:
        """Why a block must not be tried, but for the time that is left; empty where it may."""
        missing = self.night.kernels[block.kernel].missing
        if missing:
            return missing
        entry = quarantine.find(self.lab, block.machine, block.kernel)
        return f"{block.kernel} is in quarantine on {block.machine}: {entry.why}" if entry else ""

    def give_up(self, block: Block) -> None:
        """End a block that has had its tries: each cell as it last ended, or lost."""
        tries = self._tries.get(block.id, [])
        last = tries[-1] if tries else Try("")
        reason = (
            f"{last.how}: {'; '.join(last.reasons)}" if last.reasons else f"its {len(tries)} tries did not get to it"
        )
        for cell in self.open_cells(block):
            outcome = cell_outcome(self.night.path, block, cell)
            if outcome is None or outcome.state == LOST:
                state = BLOCKED if last.how in {WRONG_KERNEL, NO_BOOT} else LOST
                outcome = Outcome(state, reason)
            self.end_cell(block, cell, Outcome(outcome.state, outcome.reason))

    def free_reserve(self) -> None:
        """Make room on a full disk for the words that end the night."""
        (self.night.path / RESERVE_FILE).unlink(missing_ok=True)

    def outcome(self, block: Block, cell: str) -> Outcome | None:
        """How a cell of a block ended; None where it has not."""
        return self._ended.get((block.id, cell))


def cell_states(night: Night, lab: Path) -> dict[str, tuple[str, str]]:
    """Each cell's state over its boots, and the reason: `ok` where every boot's is, else the worst of them."""
    ledger = Ledger(night, lab)
    order = (FAILED, LOST, BLOCKED, OK)
    found: dict[str, tuple[str, str]] = {}
    for cell in night.cells:
        blocks = [block for block in night.blocks if cell in block.cells]
        not_reached = Outcome(LOST, "the night ended before it")
        outcomes = [_known(ledger, block, cell) or not_reached for block in blocks]
        worst = min(outcomes, key=lambda outcome: order.index(outcome.state), default=not_reached)
        count = sum(outcome.state == worst.state for outcome in outcomes)
        part = f" (in {count} of {len(outcomes)} boots)" if worst.state != OK and len(outcomes) > 1 else ""
        found[cell] = worst.state, f"{worst.reason}{part}"
    return found


def _known(ledger: Ledger, block: Block, cell: str) -> Outcome | None:
    """How a cell ended, as the journal says; what is published ended well whatever became of the journal."""
    noted = ledger.outcome(block, cell)
    found = cell_outcome(ledger.night.path, block, cell) if noted is None else None
    return found if found is not None and found.state == OK else noted


def _now() -> str:
    return now_utc().isoformat()
