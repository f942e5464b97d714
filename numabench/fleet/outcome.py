"""What became of the cells of a night's blocks, read from what their attempts left: the directories are the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.fleet import journal
from numabench.fleet.publish import EVENTS_FILE, attempts, published

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.fields import Fields
    from numabench.fleet.cells import Block

OK, FAILED, BLOCKED, LOST = "ok", "failed", "blocked", "lost"
STATES = (OK, FAILED, BLOCKED, LOST)
# How an attempt ended that could say so.
DONE, WRONG_KERNEL, INTERRUPTED, DEADLINE, DISK_FULL = "done", "wrong-kernel", "interrupted", "deadline", "disk-full"


@dataclass(frozen=True)
class Outcome:
    """How a cell of a block ended. `is_final`: another try would end alike."""

    state: str
    reason: str = ""
    is_final: bool = True


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended, and why; an empty `how` is that of one which could not say."""

    how: str = ""
    reasons: tuple[str, ...] = ()


def cell_outcome(night: Path, block: Block, cell: str) -> Outcome | None:
    """How a cell of a block ended as far as its attempts say; None where it did not end."""
    if published(night, cell, block.boot).is_dir():
        return Outcome(OK)
    last = None
    for path in attempts(night, block.id):
        for event in journal.events(path / EVENTS_FILE, "cell-ended"):
            if event.text("cell") == cell:
                last = _outcome(event)
    return last


def _outcome(event: Fields) -> Outcome:
    state = event.text("state")
    if state not in STATES:
        event.wrong("state", "a state")
    # What was measured and is not published was cut off in between, or was not to be: it is measured again.
    if state == OK:
        return Outcome(LOST, "it was measured and not published", is_final=False)
    return Outcome(state, event.text("reason", ""), bool(event.fields.get("is_final")))


def pending(night: Path, block: Block) -> tuple[str, ...]:
    """The cells of a block that an attempt would measure, in order."""
    return tuple(cell for cell in block.cells if not _is_settled(cell_outcome(night, block, cell)))


def _is_settled(outcome: Outcome | None) -> bool:
    return outcome is not None and (outcome.state == OK or outcome.is_final)


def attempt_end(path: Path) -> AttemptEnd:
    """How the attempt of that directory ended."""
    ends = journal.events(path / EVENTS_FILE, "attempt-ended")
    return AttemptEnd(ends[-1].text("how"), tuple(ends[-1].texts("reasons"))) if ends else AttemptEnd()
