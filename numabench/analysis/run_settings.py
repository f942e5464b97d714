"""What runs that are shown side by side were set to, and in what they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.record import Run

# What must be the same for times to be compared.
KERNEL, PAGES, SIZE = "kernel", "pages", "size"
SAME = (KERNEL, PAGES, SIZE)


def settings(run: Run, placement: str) -> dict[str, str]:
    """What was set, in words by the names of options, and the kernel; what does not apply is not there."""
    plan = run.planned
    found = {
        "workload": run.workload,
        "placement": placement,
        KERNEL: run.machine.kernel_release,
        SIZE: format_bytes(plan.size_bytes) if plan.size_bytes else "",
        PAGES: plan.mover.pages if plan.mover else format_bytes(run.page_bytes),
    }
    if plan.mover:
        found |= {
            "threads": str(plan.threads),
            "batch": "" if plan.mover.batch is None else str(plan.mover.batch),
            "flags": " ".join(plan.mover.flags),
            "order": plan.mover.order,
            "sharing": plan.mover.sharing,
            "mover": plan.mover.mover,
            "mover-on": plan.mover.mover_on,
            "route": plan.mover.route,
        }
    if plan.victims:
        found |= {"victims": str(plan.victims.count), "victim-access": plan.victims.access}
    return {name: value for name, value in found.items() if value}


def differing(several: Sequence[dict[str, str]]) -> tuple[str, ...]:
    """The settings that not all have alike, of those that at least two have."""
    names = dict.fromkeys(name for each in several for name in each)
    return tuple(name for name in names if len({each[name] for each in several if name in each}) > 1)
