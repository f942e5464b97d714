"""What a run that was killed has left set on the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor.finding import BIASES, Finding, Fine
from numabench.host.knob_journal import Journal, default_state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen
    from numabench.host.root import Root

LEFT = "earlier runs"


def altered(root: Root) -> tuple[str, ...]:
    """A sentence for each knob that is still as a run left it; of a captured tree none."""
    if not root.is_live:
        return ()
    try:
        records = Journal(default_state_dir()).load().records
    except OSError:
        return ()
    boot = (root.read_or_none("/proc/sys/kernel/random/boot_id") or "").strip()
    if records and records[0].get("boot_id", boot) not in {"", boot}:
        return ()
    written = {record["writing"] for record in records if "writing" in record}
    return tuple(
        f"{record['name']} was {record['before']} and was set to {record['wanted']}"
        for record in records
        if record.get("name") in written
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
        f"a run that was killed, or still goes on, has changed: {'; '.join(context.altered)}",
        "the machine is not as its owner left it, and figures of now and of before cannot be compared",
        "the next numabench run puts it back before it begins",
        "docs/design.md",
    )
