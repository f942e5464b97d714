"""What the passes of a run showed: phases, lock waits, spinning and time off the CPU of the workload's own threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import (
    contention,
    kernel_counts,
    migration,
    offcpu,
    phases,
    recorded,
    remote_access,
    score,
)
from numabench.analysis.missing import Missing
from numabench.analysis.spread import spread
from numabench.perf import stat
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from numabench.analysis.contention import ContentionReport, SpinReport
    from numabench.analysis.kernel_counts import KernelCounts
    from numabench.analysis.offcpu import OffCpuReport
    from numabench.analysis.phases import PhaseReport
    from numabench.analysis.remote_access import RemoteAccess
    from numabench.perf import Kallsyms, Profile
    from numabench.record import Run, Trial


_TABLE = SymbolTable()


@dataclass(frozen=True)
class Quality:
    """How far a recording can be trusted.

    `lost` is samples that the kernel had no room for, `throttled` how often it held back sampling, `unsymbolised_share`
    that of the kernel's frames, weighted by samples, which no symbol holds; None where there are no frames.
    """

    samples: int
    lost: int
    throttled: int
    unsymbolised_share: float | None
    is_truncated: bool

    @property
    def lost_share(self) -> float:
        """The lost samples by all that there were."""
        return self.lost / max(self.samples + self.lost, 1)


@dataclass(frozen=True)
class Observation:
    """One pass, reduced. What its recipe does not record is None; one that counts has no samples, and no `quality`.

    `own_samples` are the samples of the workload's processes, of which everything else here is; of a program of the
    user's own they are those of all processes, since which are its own is not known. `slowdown` is how many times as
    long this trial took for the same work as the measured ones. `migrated_bytes` is what the kernel migrated meanwhile.
    """

    trial: Trial
    recipe: str
    quality: Quality | None
    own_samples: int
    slowdown: float | Missing
    migrated_bytes: int | Missing
    counts: KernelCounts | None = None
    remote: RemoteAccess | None = None
    phases: PhaseReport | None = None
    spin: SpinReport | None = None
    waits: ContentionReport | None = None
    off_cpu: OffCpuReport | None = None


def reduce(
    run: Run,
    trial: Trial,
    profile: Profile,
    symbols: Kallsyms | None,
    *,
    everything: bool = False,
    table: SymbolTable = _TABLE,
) -> Observation:
    """Reduce what a pass recorded of the workload, or of everything on the machine."""
    import numpy as np

    assert trial.observed is not None
    pids = () if everything else workload_pids(trial)
    own = np.isin(profile.groups["pid"], pids) if pids else profile.groups["pid"] != 0
    chains = recorded.kernel_chains(profile, symbols)
    cpu = recorded.cpu_event(profile)
    stacks = recorded.stacks(profile, cpu, symbols, select=own) if cpu is not None else None
    events = recorded.contention_events(profile, pids=pids or None)
    switches = recorded.switches(profile, pids=pids or None)
    return Observation(
        trial=trial,
        recipe=trial.observed.recipe,
        quality=quality(profile, symbols),
        own_samples=int(profile.groups["count"][own].sum()),
        slowdown=slowdown(run, trial),
        migrated_bytes=migrated_bytes(run, trial),
        phases=None if stacks is None else phases.report(stacks, table),
        spin=None if stacks is None else contention.spin(stacks, table),
        waits=None if events is None else contention.report(contention.pair(events), chains, table),
        off_cpu=None if switches is None else offcpu.report(offcpu.intervals(switches), chains, table),
    )


def reduce_counts(run: Run, trial: Trial, text: str) -> Observation:
    """Reduce what a pass counted: `text` is what perf stat wrote. Raises `PerfDataError` for what is none."""
    told = trial.observed
    assert told is not None
    counted = stat.parse(text)
    migrated = migrated_bytes(run, trial)
    counts = {told.functions[row.event]: row.count for row in counted if row.event in told.functions}
    return Observation(
        trial=trial,
        recipe=told.recipe,
        quality=None,
        own_samples=0,
        slowdown=slowdown(run, trial),
        migrated_bytes=migrated,
        counts=None if told.recipe == "stat" else kernel_counts.reduce(counts, told.not_counted, migrated),
        remote=remote_access.reduce(counted) if told.recipe == "stat" else None,
    )


def quality(profile: Profile, symbols: Kallsyms | None) -> Quality:
    """How far a recording can be trusted; without symbols none of its kernel frames has one."""
    import numpy as np

    groups, chains, stats = profile.groups, profile.kernel_chains, profile.stats
    weight = np.bincount(groups["kernel"], groups["count"].astype(np.float64), len(chains.starts) - 1)
    weights = np.repeat(weight, np.diff(chains.starts).astype(np.int64))
    total = float(weights.sum())
    share: float | None = None
    if total:
        unknown = np.ones(len(weights), bool) if symbols is None else symbols.resolve(chains.addresses) == len(symbols)
        share = float(weights[unknown].sum()) / total
    return Quality(stats.samples, stats.lost, stats.throttled, share, stats.truncated)


def slowdown(run: Run, trial: Trial) -> float | Missing:
    """How many times as long an observed trial took for the same work as the median of the measured ones."""
    own = score.seconds_per_gib(trial)
    if isinstance(own, Missing):
        return own
    placed = [other for other in run.trials if other.counts and other.placement == trial.placement]
    measured = [score.seconds_per_gib(other) for other in placed]
    usual = spread(value for value in measured if not isinstance(value, Missing))
    if usual is None:
        return Missing("no measured trial of this placement tells its time for the same work")
    return own / usual.median


def migrated_bytes(run: Run, trial: Trial) -> int | Missing:
    """What the kernel says it migrated from READY to the stop, by pgmigrate_success."""
    pages = migration.delta(trial, migration.ALL_REASONS)
    return pages if isinstance(pages, Missing) else pages * run.page_bytes


def workload_pids(trial: Trial) -> tuple[int, ...]:
    """The processes of the workload, none where they are not known: those of a program of the user's own."""
    return tuple(sorted({thread.pid for thread in trial.threads}))
