"""How many pages a trial migrated, by three counts that are never mixed, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.moves import Moves, moves
from numabench.record import HOME_NODE
from numabench.units import BYTES_PER_MB, NS_PER_S

if TYPE_CHECKING:
    from numabench.record import Run, Trial

FIRST_SHARE, LAST_SHARE = 0.01, 0.99
# Two counts agree within this share of the larger, or within one huge page.
AGREE_SHARE = 0.05
AGREE_PAGES = 512

MISPLACED = "numa_pages_migrated"
ALL_REASONS = "pgmigrate_success"


@dataclass(frozen=True)
class KernelCount:
    """What /proc/vmstat counted for the whole machine between READY and the end, in base pages (a THP is 512 on x86).

    `misplaced` is numa_pages_migrated, pages moved after a NUMA hinting fault; `promoted` (pgpromote_success) is the
    part of it that went to a faster tier. `demoted` sums pgdemote_*. `other` is what is left of pgmigrate_success:
    system calls, compaction, hotplug (Documentation/mm/page_migration.rst).
    """

    total: int | Missing
    misplaced: int | Missing
    promoted: int | Missing
    demoted: int | Missing
    other: int | Missing
    failed: int | Missing
    thp_success: int | Missing
    thp_failed: int | Missing
    thp_split: int | Missing


@dataclass(frozen=True)
class Disagreement:
    """The kernel counted `kernel_pages`, of which `confirmed_pages` were found moved."""

    kernel_pages: int
    confirmed_pages: int

    @property
    def is_kernel_more(self) -> bool:
        """More: pages went to and fro, or were somebody else's. Fewer: counters lag, or page tables were raced."""
        return self.kernel_pages > self.confirmed_pages


@dataclass(frozen=True)
class Counts:
    """The three counts of one trial, in base pages, and whether they agree.

    `net` are the pages that at the end are on another node than at READY: a page that went there and back is not in it,
    one that went by a detour is in it once, and so is `by_pair`. With automatic balancing `confirmed` is the same; with
    movers it is gross: every time that a page was found on its target.
    """

    requested: int | Missing
    confirmed: int | Missing
    net: int | Missing
    confirmed_bytes: int | Missing
    by_pair: tuple[tuple[tuple[int, int], int], ...]
    unknown: int
    kernel: KernelCount
    disagreement: Disagreement | None


@dataclass(frozen=True)
class Throughput:
    """Confirmed MB/s (10^6 bytes) in the window in which the kernel's count went from 1 % to 99 % of its rise.

    `start_s` and `end_s` are since GO, interpolated between the samples around them, which are at most `resolution_s`
    apart: the true rate is between `low_mb_per_s` and `high_mb_per_s` (None: no upper bound). Where both fall between
    the same two samples, `mb_per_s` is None and only the lower bound is known.
    """

    start_s: float
    end_s: float
    resolution_s: float
    mb_per_s: float | None
    low_mb_per_s: float
    high_mb_per_s: float | None


def delta(trial: Trial, counter: str) -> int | Missing:
    """How much a counter of /proc/vmstat rose between READY and the end of a trial."""
    if trial.before is None or trial.after is None:
        return Missing("the trial did not come to its last counters")
    if counter not in trial.before.vmstat or counter not in trial.after.vmstat:
        return Missing(f"this kernel has no {counter}")
    return trial.after.vmstat[counter] - trial.before.vmstat[counter]


def kernel_count(trial: Trial) -> KernelCount:
    """The kernel's own count of a trial, by reason."""
    total, misplaced = delta(trial, ALL_REASONS), delta(trial, MISPLACED)
    demoted = _demoted(trial)
    other: int | Missing = total if isinstance(total, Missing) else Missing("the reasons are not counted")
    if not isinstance(total, Missing) and not isinstance(misplaced, Missing):
        other = max(total - misplaced - (0 if isinstance(demoted, Missing) else demoted), 0)
    return KernelCount(
        total=total,
        misplaced=misplaced,
        promoted=delta(trial, "pgpromote_success"),
        demoted=demoted,
        other=other,
        failed=delta(trial, "pgmigrate_fail"),
        thp_success=delta(trial, "thp_migration_success"),
        thp_failed=delta(trial, "thp_migration_fail"),
        thp_split=delta(trial, "thp_migration_split"),
    )


def _demoted(trial: Trial) -> int | Missing:
    names = [] if trial.before is None else [name for name in trial.before.vmstat if name.startswith("pgdemote_")]
    found = [rise for name in names if not isinstance(rise := delta(trial, name), Missing)]
    return sum(found) if found else Missing("this kernel counts no demotions")


def counts(run: Run, trial: Trial) -> Counts:
    """The three counts of a trial."""
    kernel = kernel_count(trial)
    net: int | Missing = Missing(_why_not_confirmed(trial)) if trial.pages is None else sum(trial.pages.moved.values())
    requested: int | Missing = Missing("automatic balancing asks for no page, it moves those that it finds misplaced")
    confirmed = net
    if run.planned.has_movers:
        moved = moves(trial)
        requested = moved if isinstance(moved, Missing) else moved.requested.pages
        confirmed = moved if isinstance(moved, Missing) else moved.confirmed.pages
    return Counts(
        requested=requested,
        confirmed=confirmed,
        net=net,
        confirmed_bytes=confirmed if isinstance(confirmed, Missing) else confirmed * run.page_bytes,
        by_pair=() if trial.pages is None else tuple(sorted(trial.pages.moved.items())),
        unknown=0 if trial.pages is None else trial.pages.unknown,
        kernel=kernel,
        disagreement=_disagreement(_counted(run, kernel), confirmed),
    )


def _counted(run: Run, kernel: KernelCount) -> int | Missing:
    """What the kernel counted of the driver's doing; of balancing on a kernel without reasons, all."""
    if run.planned.driver == HOME_NODE:
        return Missing("pages are placed anew, and not migrated")
    return kernel.total if run.planned.has_movers or isinstance(kernel.misplaced, Missing) else kernel.misplaced


def _why_not_confirmed(trial: Trial) -> str:
    if trial.status == "workload-failed":
        return "the workload failed before its pages were asked for"
    return "its pages could not be asked for both before and after"


def _disagreement(counted: int | Missing, confirmed: int | Missing) -> Disagreement | None:
    if isinstance(counted, Missing) or isinstance(confirmed, Missing):
        return None
    if abs(counted - confirmed) <= max(AGREE_SHARE * max(counted, confirmed), AGREE_PAGES):
        return None
    return Disagreement(counted, confirmed)


def rate(run: Run, trial: Trial) -> float | None:
    """Confirmed MB/s: of movers by their own clocks, else in the window of `throughput`. None where it is not known."""
    moved = moves(trial) if run.planned.has_movers else None
    if isinstance(moved, Moves):
        return None if isinstance(moved.mb_per_s, Missing) else moved.mb_per_s
    found = throughput(run, trial)
    return None if isinstance(found, Missing) else found.mb_per_s


def throughput(run: Run, trial: Trial) -> Throughput | Missing:
    """How fast a trial's pages moved, by balancing; movers have clocks of their own (`moves`)."""
    if run.planned.has_movers:
        return Missing("movers have clocks of their own")
    go_ns, confirmed = trial.clock.go_ns, counts(run, trial).net
    if isinstance(confirmed, Missing):
        return confirmed
    if confirmed == 0:
        return Missing("no page ended on another node")
    if go_ns is None:
        return Missing("the trial had no GO")
    series = [
        (sample.t_ns, value)
        for sample in trial.samples
        if (value := sample.vmstat.get(MISPLACED, sample.vmstat.get(ALL_REASONS))) is not None
    ]
    series = [now for place, now in enumerate(series) if place == 0 or now[0] > series[place - 1][0]]
    if len(series) < 2 or series[-1][1] <= series[0][1]:
        return Missing("the kernel's count did not rise between two samples")
    return _window(series, go_ns, confirmed * run.page_bytes)


def _window(series: list[tuple[int, int]], go_ns: int, moved_bytes: int) -> Throughput:
    base, rise = series[0][1], series[-1][1] - series[0][1]
    times = [(t_ns - go_ns) / NS_PER_S for t_ns, _ in series]
    shares = [(value - base) / rise for _, value in series]
    first = next(place for place, share in enumerate(shares) if share > FIRST_SHARE)
    last = next(place for place, share in enumerate(shares) if share >= LAST_SHARE)
    start_s, end_s = (
        times[place - 1]
        + (times[place] - times[place - 1]) * (share - shares[place - 1]) / (shares[place] - shares[place - 1])
        for place, share in ((first, FIRST_SHARE), (last, LAST_SHARE))
    )
    window_mb = moved_bytes / BYTES_PER_MB * (LAST_SHARE - FIRST_SHARE)
    inner_s = (series[last - 1][0] - series[first][0]) / NS_PER_S
    outer_s = (series[last][0] - series[first - 1][0]) / NS_PER_S
    return Throughput(
        start_s=start_s,
        end_s=end_s,
        resolution_s=max(times[place] - times[place - 1] for place in (first, last)),
        mb_per_s=window_mb / (end_s - start_s) if last > first and end_s > start_s else None,
        low_mb_per_s=window_mb / outer_s,
        high_mb_per_s=window_mb / inner_s if inner_s > 0 else None,
    )


def migrated_rates(trial: Trial, counter: str = MISPLACED) -> tuple[tuple[float, float], ...]:
    """The kernel's pages per second between each two samples, as (seconds since GO at their end, rate).

    By `counter`: numa_pages_migrated, or pgmigrate_success.
    """
    if trial.clock.go_ns is None:
        return ()
    known = [(sample.t_ns, sample.vmstat[counter]) for sample in trial.samples if counter in sample.vmstat]
    return tuple(
        ((late_ns - trial.clock.go_ns) / NS_PER_S, (late - early) * NS_PER_S / (late_ns - early_ns))
        for (early_ns, early), (late_ns, late) in pairwise(known)
        if late_ns > early_ns
    )
