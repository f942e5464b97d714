"""What other runs have set on the machine: one that was killed, one that goes on, and `numabench state apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor.context import Left
from numabench.doctor.finding import BIASES, BLOCKS, INFORMS, Finding, Fine
from numabench.errors import NumabenchError
from numabench.host import knob_journal, knobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen
    from numabench.host.root import Root

LEFT = "earlier runs"


def read(root: Root) -> Left:
    """What the journals and the lock tell; of a captured tree nothing. Not for one who holds the lock itself."""
    if not root.is_live:
        return Left()
    is_running = knob_journal.is_locked(knob_journal.default_state_dir())
    try:
        found = [entry for entry in knobs.altered(root) if not entry.is_stale]
    except NumabenchError:
        found = []
    told = {
        by: tuple(f"{entry.name} is {entry.now}, and was {entry.before}" for entry in found if entry.by == by)
        for by in ("killed", "applied", "run")
    }
    return Left(
        told["killed"],
        told["applied"],
        (told["run"] or ("each has the value that it had before",)) if is_running else (),
    )


def check_leftover(context: Context) -> Iterator[Seen]:
    """Whether an earlier run is still felt, or another goes on."""
    found = [*_other_run(context), *_killed(context), *_applied(context)]
    yield from found
    if not found:
        yield Fine(LEFT, "none goes on, and none has left a knob set")


def _other_run(context: Context) -> Iterator[Finding]:
    left, has_set_knobs = context.left.other_run, context.needs.has_set_knobs
    if left:
        yield Finding(
            "another-run",
            BIASES if has_set_knobs else BLOCKS,
            LEFT,
            f"another numabench is running and has set knobs: {'; '.join(left)}",
            "both runs share CPUs, memory bandwidth and knobs, which are put back when the other ends"
            if has_set_knobs
            else "numabench run refuses to set knobs until the other has put them back",
            "wait for the other to end",
            "docs/state.md",
        )


def _killed(context: Context) -> Iterator[Finding]:
    if context.left.killed:
        yield Finding(
            "left-altered",
            BIASES,
            LEFT,
            f"a run that was killed has left knobs set: {'; '.join(context.left.killed)}",
            "the machine is not as its owner left it: results of now and of before the killed run cannot be compared",
            "sudo numabench state restore",
            "docs/state.md",
        )


def _applied(context: Context) -> Iterator[Finding]:
    if context.left.applied:
        yield Finding(
            "state-applied",
            INFORMS,
            LEFT,
            f"numabench state apply has set knobs: {'; '.join(context.left.applied)}",
            "results of now can be compared only with those of runs under the same knobs",
            "nothing, if it is meant; to put them back: sudo numabench state restore",
            "docs/state.md",
        )
