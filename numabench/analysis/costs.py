"""What migrating 2 MB cost: the figures that the batching of TLB flushes in v6.3 brought down from 512."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.migration import ALL_REASONS, delta
from numabench.analysis.missing import Missing
from numabench.units import HUGE_2M

if TYPE_CHECKING:
    from numabench.record import Run, Trial

# (name, where it is counted, its counters there, which are added up)
_EVENTS = (
    ("TLB interrupts", "interrupts", ("TLB",)),
    ("function-call interrupts", "interrupts", ("CAL",)),
    # CONFIG_DEBUG_TLBFLUSH only.
    ("TLB flushes sent", "vmstat", ("nr_tlb_remote_flush",)),
    ("TLB flushes received", "vmstat", ("nr_tlb_remote_flush_received",)),
    ("hinting faults", "vmstat", ("numa_hint_faults",)),
    ("PTE updates", "vmstat", ("numa_pte_updates",)),
    # CONFIG_LOCK_EVENT_COUNTS only: how each lock that was not to be had at once was come by in the end.
    ("rwsem write locks waited for", "lock_events", ("rwsem_opt_lock", "rwsem_wlock")),
    ("rwsem read locks waited for", "lock_events", ("rwsem_rlock", "rwsem_rlock_fast", "rwsem_rlock_steal")),
)


@dataclass(frozen=True)
class Cost:
    """Events of the whole machine during a trial, and how many for each 2 MB (2 MiB) that the kernel migrated.

    The divisor is pgmigrate_success: a page that went to and fro cost twice.
    """

    name: str
    total: int | Missing
    per_2mb: float | Missing


def costs(run: Run, trial: Trial) -> tuple[Cost, ...]:
    """The costs of a trial; interrupts are those received (/proc/interrupts), PTE updates count a THP as its pages."""
    migrated = delta(trial, ALL_REASONS)
    return tuple(
        Cost(name, total := _total(trial, source, counters), _per_2mb(total, migrated, run.page_bytes))
        for name, source, counters in _EVENTS
    )


def _total(trial: Trial, source: str, counters: tuple[str, ...]) -> int | Missing:
    if source == "vmstat":
        return delta(trial, counters[0])
    if trial.before is None or trial.after is None:
        return Missing("the trial did not come to its last counters")
    if source == "lock_events":
        if not trial.before.lock_events:
            return Missing("this kernel has no CONFIG_LOCK_EVENT_COUNTS")
        return _sum(trial.before.lock_events, trial.after.lock_events, counters)
    if counters[0] not in trial.before.interrupts or counters[0] not in trial.after.interrupts:
        return Missing(f"this machine counts no {counters[0]} interrupts")
    return _sum(trial.before.interrupts, trial.after.interrupts, counters)


def _sum(before: dict[str, int], after: dict[str, int], counters: tuple[str, ...]) -> int:
    """What was counted meanwhile; a kernel may lack some of the counters."""
    return sum(after[name] - before[name] for name in counters if name in before and name in after)


def _per_2mb(total: int | Missing, migrated_pages: int | Missing, page_bytes: int) -> float | Missing:
    if isinstance(total, Missing):
        return total
    if isinstance(migrated_pages, Missing):
        return migrated_pages
    if migrated_pages * page_bytes < HUGE_2M:
        return Missing("the kernel migrated less than 2 MB")
    return total / (migrated_pages * page_bytes / HUGE_2M)
