"""What a run that was killed has left set on the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor.finding import BIASES, Finding, Fine
from numabench.errors import NumabenchError
from numabench.host import knobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen
    from numabench.host.root import Root

LEFT = "earlier runs"


def altered(root: Root) -> tuple[str, ...]:
    """A sentence for each knob that a killed run, or `numabench state apply`, has left set; of a captured tree none."""
    if not root.is_live:
        return ()
    try:
        found = knobs.altered(root)
    except NumabenchError:
        return ()
    by = {"killed": "a run that was killed", "applied": "numabench state apply"}
    return tuple(
        f"{entry.name} is {entry.now}, and was {entry.before} before {by[entry.by]}"
        for entry in found
        if entry.by in by and not entry.is_stale
    )


def check_leftover(context: Context) -> Iterator[Seen]:
    """Whether an earlier run is still felt."""
    if not context.altered:
        yield Fine(LEFT, "nothing is left set")
        return
    yield Finding(
        "left-altered",
        BIASES,
        LEFT,
        "; ".join(context.altered),
        "the machine is not as its owner left it, and figures of now and of before cannot be compared",
        "numabench state restore",
        "docs/state.md",
    )
