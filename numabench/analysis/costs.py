"""What migrating 2 MB cost: the figures that the batching of TLB flushes in v6.3 brought down from 512."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.migration import ALL_REASONS, delta
from numabench.analysis.missing import Missing
from numabench.units import HUGE_2M

if TYPE_CHECKING:
    from numabench.record import Run, Trial

# (name, where it is counted, its counter there)
_EVENTS = (
    ("TLB interrupts", "interrupts", "TLB"),
    ("function-call interrupts", "interrupts", "CAL"),
    # CONFIG_DEBUG_TLBFLUSH only.
    ("TLB flushes sent", "vmstat", "nr_tlb_remote_flush"),
    ("TLB flushes received", "vmstat", "nr_tlb_remote_flush_received"),
    ("hinting faults", "vmstat", "numa_hint_faults"),
    ("PTE updates", "vmstat", "numa_pte_updates"),
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
        Cost(name, total := _total(trial, source, counter), _per_2mb(total, migrated, run.page_bytes))
        for name, source, counter in _EVENTS
    )


def _total(trial: Trial, source: str, counter: str) -> int | Missing:
    if source == "vmstat":
        return delta(trial, counter)
    if trial.before is None or trial.after is None:
        return Missing("the trial did not come to its last counters")
    if counter not in trial.before.interrupts or counter not in trial.after.interrupts:
        return Missing(f"this machine counts no {counter} interrupts")
    return trial.after.interrupts[counter] - trial.before.interrupts[counter]


def _per_2mb(total: int | Missing, migrated_pages: int | Missing, page_bytes: int) -> float | Missing:
    if isinstance(total, Missing):
        return total
    if isinstance(migrated_pages, Missing):
        return migrated_pages
    if migrated_pages * page_bytes < HUGE_2M:
        return Missing("the kernel migrated less than 2 MB")
    return total / (migrated_pages * page_bytes / HUGE_2M)
