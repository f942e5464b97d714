"""What the threads that migrate did while a pass watched them: on the CPU by phase, off it by what they waited for.

They are the movers where a driver is called, and nobody else: a victim that is held up by a migration does not migrate.
With automatic balancing, which has no movers, they are all threads of the workload, as far as they migrate.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from numabench.analysis import contention, offcpu, phases, recorded
from numabench.analysis.lock_names import lock_name
from numabench.analysis.observed import migrated_bytes
from numabench.perf.symbols import SymbolTable
from numabench.record import AUTONUMA, MOVER
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from numabench.analysis.callchain import Stack
    from numabench.analysis.contention import ContentionEvents, Waits
    from numabench.analysis.missing import Missing
    from numabench.analysis.offcpu import Switches
    from numabench.perf import Kallsyms, Profile
    from numabench.record import Run, Trial

_TABLE = SymbolTable()
OTHER, PREEMPTED = "other work in the call", "preempted"
_MBIND = "sys_mbind kernel_mbind do_mbind"
# A stack is in a driver's call where one of these, by canonical name, is in it: some of them are inlined.
_CALLS = {
    "move_pages": "sys_move_pages kernel_move_pages do_pages_move do_move_pages_to_node move_pages_and_store_status",
    "mbind": _MBIND,
    "weighted-interleave": _MBIND,
    "migrate_pages": "sys_migrate_pages kernel_migrate_pages do_migrate_pages migrate_to_node",
    "cpuset": "cgroup_file_write cpuset_write_resmask cpuset_migrate_mm",
    # It gives pages up and touches them anew.
    "home-node": f"{_MBIND} sys_set_mempolicy_home_node sys_madvise do_madvise handle_mm_fault",
}
_IN_CALL = {driver: frozenset(names.split()) for driver, names in _CALLS.items()}
# The kernel's own threads that migrate for a driver, whose call waits for them.
_WORKERS = {"cpuset": frozenset(["cpuset_migrate_mm_workfn"])}
# Movers ask where pages are by move_pages(2) with no target, which of the drivers only move_pages calls with one.
_QUERY = frozenset(["do_pages_stat"])
_OTHERS_QUERY = _QUERY | {"sys_move_pages", "kernel_move_pages"}
# What is waited for asleep, if only after a while; a spinlock is waited for on the CPU.
_SLEEPING = ("rwsem", "mutex", "semaphore", "pcpu-sem", "rt-mutex", "rwlock-rt")


@dataclass(frozen=True, order=True)
class Doing:
    """What a thread was at: a phase of `analysis.phases` (or OTHER, PREEMPTED), and the lock that it waited for.

    `lock` is its class and, where the call path tells it, its name (`rwsem:R anon_vma`); empty for none.
    """

    phase: str
    lock: str = ""


@dataclass(frozen=True)
class CpuTime:
    """The CPU samples of the threads that migrate, by weight: in the driver's calls, in queries, and elsewhere.

    Elsewhere is user space, and the kernel for another end: faults and interrupts outside of a call. With automatic
    balancing `in_calls` is what belongs to a migration. `others` are the samples of the workload's other threads.
    `workers_ns` is the time of the kernel's own threads that migrate for the driver (cpuset), by samples and frequency.
    """

    samples: int
    others: int
    in_calls: Mapping[Doing, int]
    queries: int
    elsewhere: int
    workers_ns: Mapping[Doing, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The weight of all of them."""
        return sum(self.in_calls.values()) + self.queries + self.elsewhere


@dataclass(frozen=True)
class LockTime:
    """The waits for locks of the threads that migrate, in their driver's calls.

    `asleep` has the nanoseconds of those locks that are slept for, which for a mutex includes spinning before it.
    """

    waits: Waits
    asleep: Mapping[Doing, int]


@dataclass(frozen=True)
class PassTime:
    """A pass, reduced to the threads that migrate; what its recipe does not record is None.

    `off_cpu` has nanoseconds in the driver's calls. `elapsed_ns` is the threads' time in this pass, of all together;
    `migrated_bytes` what the kernel migrated meanwhile.
    """

    trial: int
    recipe: str
    elapsed_ns: int
    migrated_bytes: int | Missing
    cpu: CpuTime | None = None
    off_cpu: Mapping[Doing, int] | None = None
    locks: LockTime | None = None


def migrating_tids(run: Run, trial: Trial) -> tuple[int, ...]:
    """The threads that migrate in a trial."""
    return tuple(thread.tid for thread in trial.threads if thread.role == MOVER or not run.planned.has_movers)


def reduce(run: Run, trial: Trial, profile: Profile, symbols: Kallsyms | None, table: SymbolTable = _TABLE) -> PassTime:
    """Reduce what a pass recorded, of which the rows of `recorded.PAIRED` must have been kept."""
    import numpy as np

    assert trial.observed is not None
    driver, tids = run.planned.driver, migrating_tids(run, trial)
    chains = recorded.kernel_chains(profile, symbols)
    cpu = recorded.cpu_event(profile)
    on_cpu: CpuTime | None = None
    if cpu is not None:
        groups = profile.groups
        own = np.isin(groups["tid"], tids)
        beside = np.isin(groups["tid"], [thread.tid for thread in trial.threads]) & ~own
        others = int(groups["count"][beside & (groups["event"] == cpu.number)].sum())
        on_cpu = cpu_time(recorded.stacks(profile, cpu, symbols, select=own), driver, others, table)
        if driver in _WORKERS and trial.observed.frequency_hz:
            everyone = recorded.stacks(profile, cpu, symbols, select=~own)
            period_ns = NS_PER_S // trial.observed.frequency_hz
            on_cpu = replace(on_cpu, workers_ns=workers_time(everyone, driver, period_ns, table))
    switches, events = recorded.switches(profile), recorded.contention_events(profile)
    return PassTime(
        trial=trial.index,
        recipe=trial.observed.recipe,
        elapsed_ns=elapsed_ns(run, trial),
        migrated_bytes=migrated_bytes(run, trial),
        cpu=on_cpu,
        off_cpu=None if switches is None else off_time(_switches_of(switches, tids), chains, driver, table),
        locks=None if events is None else lock_time(_events_of(events, tids), chains, driver, table),
    )


def elapsed_ns(run: Run, trial: Trial) -> int:
    """The time from GO to their end of the threads that migrate, of all together."""
    if run.planned.has_movers:
        return sum(mover.elapsed_ns for mover in trial.movers)
    return sum(work.elapsed_ns for work in trial.done)


def cpu_time(stacks: Iterable[Stack], driver: str, others: int = 0, table: SymbolTable = _TABLE) -> CpuTime:
    """The CPU samples of threads that migrate by a driver; `stacks` must be theirs alone."""
    in_calls: dict[Doing, int] = {}
    samples = queries = elsewhere = 0
    for stack in stacks:
        samples += stack.samples
        doing = at_work(stack.kernel, driver, table)
        if doing is not None:
            in_calls[doing] = in_calls.get(doing, 0) + stack.weight
        elif is_query(stack.kernel, driver, table):
            queries += stack.weight
        else:
            elsewhere += stack.weight
    return CpuTime(samples, others, in_calls, queries, elsewhere)


def workers_time(stacks: Iterable[Stack], driver: str, period_ns: int, table: SymbolTable = _TABLE) -> dict[Doing, int]:
    """The CPU time of the kernel's threads that migrate for a driver, which each sample has `period_ns` of."""
    found: dict[Doing, int] = {}
    for stack in stacks:
        if _WORKERS[driver].intersection(table.stack(stack.kernel)):
            doing = _doing(stack.kernel, table)
            found[doing] = found.get(doing, 0) + stack.samples * period_ns
    return found


def off_time(
    switches: Switches, chain: Callable[[int], tuple[str, ...]], driver: str, table: SymbolTable = _TABLE
) -> dict[Doing, int]:
    """Nanoseconds off the CPU in the driver's calls, by what they were waited in and for; `chain` gives kernel frames.

    All but idle is taken to be the threads that migrate.
    """
    off = offcpu.intervals(switches)
    preempted = off.preempted.astype(bool)
    found = _in_calls(off.off_ns[~preempted], off.stack[~preempted], lambda stack: at_work(chain(stack), driver, table))
    lost = _in_calls(off.off_ns[preempted], off.stack[preempted], lambda stack: at_work(chain(stack), driver, table))
    return {**found, **({Doing(PREEMPTED): sum(lost.values())} if lost else {})}


def lock_time(
    events: ContentionEvents, chain: Callable[[int], tuple[str, ...]], driver: str, table: SymbolTable = _TABLE
) -> LockTime:
    """The waits for locks in the driver's calls; all events are taken to be of the threads that migrate."""
    import numpy as np

    pairs = contention.pair(events)
    doing = {int(stack): at_work(chain(int(stack)), driver, table) for stack in np.unique(pairs.stack)}
    own = np.isin(pairs.stack, [stack for stack, found in doing.items() if found is not None])
    kinds = np.unique(pairs.flags).tolist()
    sleeping = [flags for flags in kinds if contention.lock_class(flags).startswith(_SLEEPING)]
    asleep = own & np.isin(pairs.flags, sleeping)
    return LockTime(
        contention.waits(pairs.wait_ns[own]), _in_calls(pairs.wait_ns[asleep], pairs.stack[asleep], doing.__getitem__)
    )


def _in_calls(times_ns: Any, stacks: Any, doing_of: Callable[[int], Doing | None]) -> dict[Doing, int]:
    """The times in a driver's calls, summed by what was done there."""
    import numpy as np

    kinds, kind_of = np.unique(stacks.astype(np.int64), return_inverse=True)
    sums_ns = np.bincount(kind_of.reshape(-1), times_ns.astype(np.float64), len(kinds))
    found: dict[Doing, int] = {}
    for stack, sum_ns in zip(kinds.tolist(), sums_ns.tolist(), strict=True):
        doing = doing_of(stack)
        if doing is not None:
            found[doing] = found.get(doing, 0) + int(sum_ns)
    return found


def at_work(kernel_frames: tuple[str, ...], driver: str, table: SymbolTable = _TABLE) -> Doing | None:
    """What a thread does for a driver, by its kernel stack; None where it is not in one of its calls."""
    if driver == AUTONUMA:
        inside = phases.place(kernel_frames, table).in_migration
    else:
        frames = table.stack(kernel_frames)
        inside = bool(_IN_CALL.get(driver, frozenset()).intersection(frames)) and not _QUERY.intersection(frames)
    if not inside:
        return None
    return _doing(kernel_frames, table)


def _doing(kernel_frames: tuple[str, ...], table: SymbolTable) -> Doing:
    where = phases.place(kernel_frames, table)
    lock = f"{where.waits_for} {lock_name(kernel_frames, table)}".strip() if where.waits_for else ""
    return Doing(where.phase if where.in_migration else OTHER, lock)


def is_query(kernel_frames: tuple[str, ...], driver: str, table: SymbolTable = _TABLE) -> bool:
    """Whether a mover asks where its pages are. Where do_pages_stat is inlined, one of move_pages cannot be told."""
    names = _QUERY if driver in {"move_pages", AUTONUMA} else _OTHERS_QUERY
    return bool(names.intersection(table.stack(kernel_frames)))


def _switches_of(switches: Switches, tids: Collection[int]) -> Switches:
    """The switches, with all other threads as idle, which is nobody."""
    import numpy as np

    prev, following = (
        np.where(np.isin(column, list(tids)), column, 0) for column in (switches.prev_pid, switches.next_pid)
    )
    return offcpu.Switches(switches.time_ns, prev, following, switches.prev_state, switches.stack)


def _events_of(events: ContentionEvents, tids: Collection[int]) -> ContentionEvents:
    import numpy as np

    own = np.isin(events.tid, list(tids))
    return contention.ContentionEvents(**{column.name: getattr(events, column.name)[own] for column in fields(events)})
