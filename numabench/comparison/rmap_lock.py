"""The thread's question asked of one kernel in two modes: does it take the waiting away to share anon_vma's lock."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.analysis import calltree, phases
from numabench.analysis import costs as of_trials
from numabench.analysis.migration import ALL_REASONS, delta, rate
from numabench.analysis.missing import Missing
from numabench.units import HUGE_2M

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numabench.analysis.callchain import Stack
    from numabench.analysis.calltree import CallTree
    from numabench.analysis.observed import Observation
    from numabench.comparison.diff import Diff
    from numabench.record import Run, Trial

# What the mails said (docs/the-thread.md has their words and dates).
LOCKS_PER_2MB, FLUSHES_PER_2MB = 1024, 512
WAIT_UNMAP, WAIT_REMAP = 0.4939, 0.5061
_WAITED = ("rwsem write locks waited for", "rwsem read locks waited for")
_RWSEM = "rwsem"
_LOCKS, _FLUSHES = "rmap lock acquisitions", "TLB flushes"


@dataclass(frozen=True)
class Mode:
    """One arm with the lock taken one way, over all boots.

    `locks_per_2mb` and `flushes_per_2mb` are counted in passes of their own; `acquired` is the former for what the
    measured trials migrated, and `waited` the rw-semaphores of the whole machine that were not to be had at once in
    these: those of other locks (mmap_lock) are among them, and the controls show how many they are. `wait_unmap` and
    `wait_remap` are shares of the workload's CPU samples that wait for an rw-semaphore there, medians over the boots.
    """

    boots: int
    migrated_bytes: int | Missing
    acquired: float | Missing
    waited: int | Missing
    locks_per_2mb: float | Missing
    flushes_per_2mb: float | Missing
    wait_unmap: float | Missing
    wait_remap: float | Missing
    mb_per_s: float | Missing

    @property
    def contended_share(self) -> float | Missing:
        """The acquisitions that had to wait, by all; 0 to 1, and more where other locks were waited for as well."""
        if isinstance(self.acquired, Missing):
            return self.acquired
        if isinstance(self.waited, Missing):
            return self.waited
        return self.waited / self.acquired if self.acquired else Missing("no lock was taken")

    @property
    def waits_per_2mb(self) -> float | Missing:
        """Waits for each 2 MiB that the kernel migrated."""
        if isinstance(self.waited, Missing) or isinstance(self.migrated_bytes, Missing):
            return self.waited if isinstance(self.waited, Missing) else self.migrated_bytes
        return self.waited / (self.migrated_bytes / HUGE_2M)


@dataclass(frozen=True)
class ArmResult:
    """An arm in both modes and their comparison, which is None where a mode has no run.

    `waiting` is the tree of who waited for the exclusive lock, None where no boot recorded one.
    """

    name: str
    what: str
    is_control: bool
    shared: Mode | None
    exclusive: Mode | None
    diff: Diff | None
    waiting: CallTree | None = None


def mode(runs: Sequence[Run], observations: Sequence[Sequence[Observation]]) -> Mode:
    """One arm's runs in one mode, each with its passes. A figure that not every boot has is of those that have it."""
    trials = [(run, trial) for run in runs for trial in run.trials if trial.counts]
    migrated = _sum(_migrated(run, trial) for run, trial in trials)
    passes = [one for several in observations for one in several]
    locks = _median(_cost(one, _LOCKS) for one in passes if one.counts)
    acquired: float | Missing
    if isinstance(locks, Missing):
        acquired = locks
    elif isinstance(migrated, Missing):
        acquired = migrated
    else:
        acquired = locks * migrated / HUGE_2M
    rates = (rate(run, trial) for run, trial in trials)
    return Mode(
        boots=len(runs),
        migrated_bytes=migrated,
        acquired=acquired,
        waited=_sum(_waited(run, trial) for run, trial in trials),
        locks_per_2mb=locks,
        flushes_per_2mb=_median(_cost(one, _FLUSHES) for one in passes if one.counts),
        wait_unmap=_median(_waiting(one, phases.UNMAP) for one in passes if one.phases),
        wait_remap=_median(_waiting(one, phases.REMAP) for one in passes if one.phases),
        mb_per_s=_median(value if value is not None else Missing("a trial has no rate") for value in rates),
    )


def _migrated(run: Run, trial: Trial) -> int | Missing:
    pages = delta(trial, ALL_REASONS)
    return pages if isinstance(pages, Missing) else pages * run.page_bytes


def _waited(run: Run, trial: Trial) -> int | Missing:
    totals = [cost.total for cost in of_trials.costs(run, trial) if cost.name in _WAITED]
    return _sum(totals)


def _cost(observation: Observation, name: str) -> float | Missing:
    assert observation.counts is not None
    return next(cost.per_2mb for cost in observation.counts.costs if cost.name == name)


def _waiting(observation: Observation, phase: str) -> float | Missing:
    report = observation.phases
    if report is None or not report.total_weight:
        return Missing("the recording has no samples of the workload")
    waits = (share for share in report.shares if share.phase == phase and share.waits_for.startswith(_RWSEM))
    return sum(share.weight for share in waits) / report.total_weight


def _sum(values: Iterable[int | Missing]) -> int | Missing:
    """The sum, which is missing where one of its parts is: half of it would pass for all."""
    found: list[int] = []
    for value in values:
        if isinstance(value, Missing):
            return value
        found.append(value)
    return sum(found) if found else Missing("there is no measured trial")


def _median(values: Iterable[float | Missing]) -> float | Missing:
    found, missing = [], Missing("no pass has it")
    for value in values:
        if isinstance(value, Missing):
            missing = value
        else:
            found.append(value)
    return statistics.median(found) if found else missing


def waiting_tree(stacks: Iterable[Stack]) -> CallTree:
    """Who waited for a lock while migrating, as the thread drew it: one row, and below it who wanted the lock.

    All threads are one, and the kernel's part of the chains is drawn. The lock's own functions and the scheduler's,
    which differ by kernel and by whether a thread spun or slept, are one frame that names the lock's class.
    """
    waiting = []
    for stack in stacks:
        where = phases.place(stack.kernel)
        if where.in_migration and where.waits_for.startswith(_RWSEM):
            above = phases.above_lock(stack.kernel)
            frames = (f"[waiting for {where.waits_for}]", *above)
            waiting.append(replace(stack, frames=frames, kernel_frames=len(frames), comm=""))
    return calltree.build(waiting, style="fractal")
