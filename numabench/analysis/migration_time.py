"""Where each second of migration goes: what drivers moved, joined with what passes saw of the threads that migrate.

**Whose time.** Of the movers, from GO to each one's last call, added up over them (`threads_s`): two movers that work
side by side for a second are two seconds. A victim that waits for a page on its way is not in it. With automatic
balancing, which has no movers, it is what the workload's threads spend in migration: hint faults, scanning, and phases.

**Seconds are measured, shares observed.** Passes are other trials than the measured ones, and slower. So the measured
trials, pooled, give what they know exactly: the movers' whole time, of it the time in queries, in the driver's calls
(by two readings of the clock around each) and between both, and the time on a CPU (by the thread's CPU clock). A `cpu`
pass says what share of the movers' CPU samples is in calls, by phase: share x CPU time is the time on the CPU in calls.
What is left of the calls' time is off the CPU, divided as a `sched` pass has it, in nanoseconds of movers' switches.

    whole = on the CPU in calls (by phase) + off the CPU in calls (by what was waited for) + queries + between calls

Each sample and each switch belongs to one thread and one part, so nothing is in it twice. What a pass would have to say
is one part, `not split`, where that pass was not made. Without a `sched` pass the locks that a `lock` pass saw movers
sleep for are told apart, in nanoseconds for each byte migrated, and the rest stays `not split`.

Of cpuset a kernel worker migrates while the mover sleeps: what its samples show takes the place of that sleep.

With automatic balancing the whole is share x CPU time of all threads, and what they were off the CPU for in migration,
as a share of their time in the `sched` pass; the rest of their time is the workload's own and not in it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import migration
from numabench.analysis.latency import merged
from numabench.analysis.missing import Missing
from numabench.analysis.moves import moves, stall
from numabench.analysis.spread import Spread, spread
from numabench.analysis.thread_time import OTHER, CpuTime, Doing, elapsed_ns
from numabench.units import BYTES_PER_MB, GIB, HUGE_2M, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numabench.analysis.kernel_counts import KernelCounts
    from numabench.analysis.moves import Moves
    from numabench.analysis.observed import Observation
    from numabench.analysis.thread_time import PassTime
    from numabench.record import Latency, Run, Trial

# Where a part of the time is.
CPU, OFF, QUERIES, BETWEEN = "cpu", "off", "queries", "between"
NOT_SPLIT = "not split"
# Beyond this share of the calls' time, what samples say of it and what the clock says do not fit.
_MISFIT = 0.05


@dataclass(frozen=True)
class Part:
    """One part of the whole: on the CPU in calls, off it in calls, in queries, or between calls.

    `phase` and `lock` are those of `thread_time.Doing`; `per_gib_s` is for each GiB migrated, `share` of the whole.
    """

    where: str
    phase: str
    lock: str
    seconds: float
    share: float
    per_gib_s: float | Missing


@dataclass(frozen=True)
class Moved:
    """What the measured trials moved; a spread over trials is None where no trial has the figure.

    Counts are in base pages; `statuses` are those that were not the target's node, summed. `call` is how long one call
    took, `stall` one access of the victims.
    """

    trials: tuple[int, ...]
    requested_pages: Spread | None
    confirmed_pages: Spread | None
    left_pages: Spread | None
    kernel_pages: Spread | None
    pages_per_s: Spread | None
    mb_per_s: Spread | None
    statuses: tuple[tuple[str, int], ...]
    call_errors: tuple[tuple[str, int], ...]
    call: Latency | None
    stall: Latency | None


@dataclass(frozen=True)
class LockWaits:
    """The movers' waits for locks in their calls, in the `lock` passes, for each 2 MiB that the kernel migrated."""

    count_per_2mb: float
    ns_per_2mb: float


@dataclass(frozen=True)
class MigrationTime:
    """A placement of a run: what was moved, and where the time went.

    `migrated_bytes` are confirmed ones, with automatic balancing those that the kernel counted. `parts` add up to
    `total_s`; `threads_s` is the time of all the threads concerned, which with automatic balancing is more. `cpu_s` is
    their CPU time. `per_gib` is over trials: seconds of the threads for each GiB (None with automatic balancing).
    `cpu_samples` are those of movers that shares are taken from, `unjoined` says what could not be joined.
    """

    run: Run
    placement: str
    moved: Moved
    migrated_bytes: int
    threads_s: float
    cpu_s: float
    total_s: float
    per_gib: Spread | None
    parts: tuple[Part, ...]
    cpu_samples: int
    costs: KernelCounts | None
    lock_waits: LockWaits | None
    unjoined: tuple[str, ...]

    @property
    def total_per_gib_s(self) -> float | Missing:
        """Seconds for each GiB migrated."""
        return _per_gib(self.total_s, self.migrated_bytes)

    def seconds(self, where: str, phase: str | None = None, lock: str | None = None) -> float:
        """The seconds in one place; of one phase and one lock only, where asked."""
        return sum(
            part.seconds
            for part in self.parts
            if part.where == where and phase in {None, part.phase} and lock in {None, part.lock}
        )


def migration_time(
    run: Run, placement: str, passes: Sequence[PassTime], counts: Sequence[Observation] = ()
) -> MigrationTime | Missing:
    """Join a placement's measured trials with its passes; `counts` are the passes that counted what it cost."""
    trials = [trial for trial in run.trials if trial.counts and trial.placement == placement]
    if not trials:
        return Missing("no measured trial went well")
    if run.planned.has_movers and not all(trial.movers for trial in trials):
        return Missing("it has no movers: this report is about workloads that a driver moves, and automatic balancing")
    if not all(elapsed_ns(run, trial) for trial in trials):
        return Missing("the workload does not say how long its threads worked")
    whole = _driven(trials, passes) if run.planned.has_movers else _balanced(trials, passes)
    migrated = [_migrated_bytes(run, trial) for trial in trials]
    migrated_bytes = sum(migrated)
    total_s = sum(whole.parts.values())
    return MigrationTime(
        run=run,
        placement=placement,
        moved=_moved(run, trials),
        migrated_bytes=migrated_bytes,
        threads_s=sum(elapsed_ns(run, trial) for trial in trials) / NS_PER_S,
        cpu_s=_cpu_s(run, trials),
        total_s=total_s,
        per_gib=_spread_per_gib(run, trials, migrated) if run.planned.has_movers else None,
        parts=tuple(
            Part(where, doing.phase, doing.lock, seconds, seconds / total_s, _per_gib(seconds, migrated_bytes))
            for (where, doing), seconds in whole.parts.items()
            if seconds > 0
        ),
        cpu_samples=whole.cpu_samples,
        costs=next((one.counts for one in counts if one.counts is not None), None),
        lock_waits=_lock_waits(passes),
        unjoined=(*whole.unjoined, *_without_costs(counts)),
    )


@dataclass(frozen=True)
class _Whole:
    """Seconds by place and doing, the samples that shares were taken from, and what could not be joined."""

    parts: Mapping[tuple[str, Doing], float]
    cpu_samples: int
    unjoined: tuple[str, ...]


def _driven(trials: Sequence[Trial], passes: Sequence[PassTime]) -> _Whole:
    movers = [mover for trial in trials for mover in trial.movers]
    elapsed_s = sum(mover.elapsed_ns for mover in movers) / NS_PER_S
    query_s = sum(mover.query_ns for mover in movers) / NS_PER_S
    call_s = sum(mover.call_ns for mover in movers) / NS_PER_S
    cpu_s = sum(mover.cpu_ns for mover in movers) / NS_PER_S
    between_s = max(elapsed_s - query_s - call_s, 0.0)
    cpu, told = _cpu_time(passes)
    if cpu is None:
        on_s, in_calls = cpu_s - query_s - between_s, {Doing(NOT_SPLIT): 1}
        told[0] += ", and movers are taken to be on one all the time between calls and in queries"
        if on_s < 0:
            told.append(
                f"that cannot be: they had {cpu_s:.3g} s of CPU time in all, and {query_s + between_s:.3g} s between"
                " calls and in queries"
            )
    else:
        on_s, in_calls = cpu_s * sum(cpu.in_calls.values()) / cpu.total, dict(cpu.in_calls)
    if cpu is not None and on_s > call_s * (1 + _MISFIT):
        told.append(
            f"samples put {on_s:.3g} s of the movers' CPU time in calls, which took {call_s:.3g} s: shares are taken of"
            " the latter"
        )
    on_s = min(max(on_s, 0.0), call_s)
    off_s = call_s - on_s
    moved_bytes = sum(_moved_bytes(trial) for trial in trials)
    waited, untold = _waited(passes, off_s, moved_bytes)
    worked, waited = _worked(passes, waited, moved_bytes)
    on_cpu = Counter(_divided(on_s, in_calls))
    on_cpu.update(worked)
    parts = {
        **{(CPU, doing): seconds for doing, seconds in on_cpu.items()},
        **{(OFF, doing): seconds for doing, seconds in waited.items()},
        (QUERIES, Doing("")): query_s,
        (BETWEEN, Doing("")): between_s,
    }
    return _Whole(parts, 0 if cpu is None else cpu.samples, (*told, *untold))


def _waited(passes: Sequence[PassTime], off_s: float, moved_bytes: int) -> tuple[dict[Doing, float], list[str]]:
    """The time off the CPU in calls, by what was waited for, as far as a pass tells it."""
    switched = _sum(found.off_cpu for found in passes)
    if switched:
        return _divided(off_s, switched), []
    if any(found.off_cpu is not None for found in passes):
        told = ["no mover was off the CPU in a call of the sched pass: that time is not split"] if off_s else []
        return {Doing(NOT_SPLIT): off_s}, told
    told = ["no sched pass: what movers waited for off the CPU is not split"]
    locked = [(found.locks, found.migrated_bytes) for found in passes if found.locks is not None]
    asleep = _sum(locks.asleep for locks, _ in locked)
    seen_bytes = sum(0 if isinstance(size, Missing) else size for _, size in locked)
    if not asleep or not seen_bytes:
        return {Doing(NOT_SPLIT): off_s}, told
    told = ["no sched pass: of the waiting off the CPU only locks are told apart, by the lock pass"]
    waited = {doing: ns / NS_PER_S * moved_bytes / seen_bytes for doing, ns in asleep.items()}
    if sum(waited.values()) > off_s:
        waited = _divided(off_s, asleep)
    return {**waited, Doing(NOT_SPLIT): max(off_s - sum(waited.values()), 0.0)}, told


def _worked(
    passes: Sequence[PassTime], waited: dict[Doing, float], moved_bytes: int
) -> tuple[dict[Doing, float], dict[Doing, float]]:
    """What kernel workers did while movers slept in their calls, and what is left of that sleep."""
    found = [one for one in passes if one.cpu is not None and one.cpu.workers_ns]
    seen_bytes = sum(0 if isinstance(one.migrated_bytes, Missing) else one.migrated_bytes for one in found)
    worked_ns = _sum(one.cpu.workers_ns for one in found if one.cpu is not None)
    slept = {doing: seconds for doing, seconds in waited.items() if doing in {Doing(OTHER), Doing(NOT_SPLIT)}}
    slept_s = sum(slept.values())
    if not seen_bytes or not slept_s:
        return {}, waited
    worked_s = min(sum(worked_ns.values()) / NS_PER_S * moved_bytes / seen_bytes, slept_s)
    rest = {doing: seconds * (1 - worked_s / slept_s) for doing, seconds in slept.items()}
    return _divided(worked_s, worked_ns), {**waited, **rest}


def _balanced(trials: Sequence[Trial], passes: Sequence[PassTime]) -> _Whole:
    """With automatic balancing: what the workload's threads spend in migration, on the CPU and off it."""
    elapsed_s = sum(work.elapsed_ns for trial in trials for work in trial.done) / NS_PER_S
    cpu_s = sum(work.cpu_ns for trial in trials for work in trial.done) / NS_PER_S
    cpu, told = _cpu_time(passes)
    parts: dict[tuple[str, Doing], float] = {}
    if cpu is None:
        told = ["no cpu pass: what of the threads' time is migration is not known"]
    else:
        on_s = cpu_s * sum(cpu.in_calls.values()) / cpu.total
        parts = {(CPU, doing): seconds for doing, seconds in _divided(on_s, cpu.in_calls).items()}
    switched = [found for found in passes if found.off_cpu is not None]
    if not switched:
        return _Whole(parts, 0 if cpu is None else cpu.samples, (*told, "no sched pass: waiting is not in the whole"))
    watched_s = sum(found.elapsed_ns for found in switched) / NS_PER_S
    for doing, ns in _sum(found.off_cpu for found in switched).items():
        parts[OFF, doing] = ns / NS_PER_S * (elapsed_s / watched_s if watched_s else 0.0)
    return _Whole(parts, 0 if cpu is None else cpu.samples, tuple(told))


def _cpu_time(passes: Sequence[PassTime]) -> tuple[CpuTime | None, list[str]]:
    """The CPU samples of all passes as one; None, and why, where there are none."""
    found = [one.cpu for one in passes if one.cpu is not None]
    if not found:
        return None, ["no cpu pass: the time on the CPU is not split by phase"]
    cpu = CpuTime(
        samples=sum(one.samples for one in found),
        others=sum(one.others for one in found),
        in_calls=_sum(one.in_calls for one in found),
        queries=sum(one.queries for one in found),
        elsewhere=sum(one.elsewhere for one in found),
        workers_ns=_sum(one.workers_ns for one in found),
    )
    if not cpu.total:
        return None, ["the cpu pass has no sample of the threads that migrate: their time is not split by phase"]
    return cpu, []


def _sum(several: Iterable[Mapping[Doing, int] | None]) -> dict[Doing, int]:
    total: Counter[Doing] = Counter()
    for each in several:
        total.update(each or {})
    return dict(total)


def _divided(seconds: float, weights: Mapping[Doing, int]) -> dict[Doing, float]:
    """Seconds by the shares of some weights; in one piece where there are none."""
    total = sum(weights.values())
    if not total:
        return {Doing(NOT_SPLIT): seconds}
    return {doing: seconds * weight / total for doing, weight in weights.items()}


def _per_gib(seconds: float, size_bytes: int) -> float | Missing:
    return seconds / (size_bytes / GIB) if size_bytes else Missing("nothing was migrated")


def _cpu_s(run: Run, trials: Sequence[Trial]) -> float:
    if run.planned.has_movers:
        return sum(mover.cpu_ns for trial in trials for mover in trial.movers) / NS_PER_S
    return sum(work.cpu_ns for trial in trials for work in trial.done) / NS_PER_S


def _moved_bytes(trial: Trial) -> int:
    return sum(mover.confirmed for mover in trial.movers) * (trial.unit_bytes or 0)


def _migrated_bytes(run: Run, trial: Trial) -> int:
    if run.planned.has_movers:
        return _moved_bytes(trial)
    pages = _kernel_pages(trial)
    return 0 if isinstance(pages, Missing) else pages * run.page_bytes


def _kernel_pages(trial: Trial) -> int | Missing:
    """What the kernel counted: after hint faults where it tells them apart and nothing else moves pages."""
    if trial.movers:
        return migration.delta(trial, migration.ALL_REASONS)
    misplaced = migration.delta(trial, migration.MISPLACED)
    return migration.delta(trial, migration.ALL_REASONS) if isinstance(misplaced, Missing) else misplaced


def _spread_per_gib(run: Run, trials: Sequence[Trial], migrated: Sequence[int]) -> Spread | None:
    pairs = zip(trials, migrated, strict=True)
    return spread(elapsed_ns(run, trial) / NS_PER_S / (size / GIB) for trial, size in pairs if size)


def _moved(run: Run, trials: Sequence[Trial]) -> Moved:
    found = [done for trial in trials if not isinstance(done := moves(trial), Missing)]
    stalls = [waited for trial in trials if not isinstance(waited := stall(trial), Missing)]

    def over(figure: Callable[[Moves], float | Missing]) -> Spread | None:
        return _known(figure(one) for one in found)

    counted = [migration.counts(run, trial) for trial in trials]
    balanced = [] if found else [_balanced_rate(run, trial) for trial in trials]
    return Moved(
        trials=tuple(trial.index for trial in trials),
        requested_pages=_known(one.requested for one in counted),
        confirmed_pages=_known(one.confirmed for one in counted),
        left_pages=over(lambda one: one.left.pages),
        kernel_pages=_known(_kernel_pages(trial) for trial in trials),
        pages_per_s=over(lambda one: one.pages_per_s) or _known(_pages(rate, run.page_bytes) for rate in balanced),
        mb_per_s=over(lambda one: one.mb_per_s) or _known(balanced),
        statuses=_by_name(one.status for one in found),
        call_errors=_by_name(one.call_errors for one in found),
        call=merged(one.latency for one in found if not isinstance(one.latency, Missing)),
        stall=merged(stalls),
    )


def _known(values: Iterable[float | Missing]) -> Spread | None:
    return spread(value for value in values if not isinstance(value, Missing))


def _balanced_rate(run: Run, trial: Trial) -> float | Missing:
    """Confirmed MB/s with automatic balancing, which has no movers to time."""
    found = migration.throughput(run, trial)
    if isinstance(found, Missing):
        return found
    return Missing("the pages moved between two samples") if found.mb_per_s is None else found.mb_per_s


def _pages(mb_per_s: float | Missing, page_bytes: int) -> float | Missing:
    return mb_per_s if isinstance(mb_per_s, Missing) else mb_per_s * BYTES_PER_MB / page_bytes


def _by_name(several: Iterable[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
    total: Counter[str] = Counter()
    for each in several:
        total.update(dict(each))
    return tuple(sorted(total.items(), key=lambda entry: (-entry[1], entry[0])))


def _lock_waits(passes: Sequence[PassTime]) -> LockWaits | None:
    """Over all lock passes; None where there is none, or where too little was migrated in them."""
    found = [(one.locks, one.migrated_bytes) for one in passes if one.locks is not None]
    size = sum(0 if isinstance(each, Missing) else each for _, each in found)
    if size < HUGE_2M:
        return None
    units = size / HUGE_2M
    waits = [locks.waits for locks, _ in found]
    return LockWaits(sum(each.count for each in waits) / units, sum(each.total_ns for each in waits) / units)


def _without_costs(counts: Sequence[Observation]) -> tuple[str, ...]:
    counted = [one.trial.index for one in counts if one.counts is not None]
    if len(counted) > 1:
        return (f"of {len(counted)} cost passes the first is shown, trial {counted[0]}",)
    if counted:
        return ()
    return ("no cost pass: rmap locks and TLB flushes for each 2 MB are not known",)
