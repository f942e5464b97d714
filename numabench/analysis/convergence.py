"""Three kinds of convergence that are never mixed: where threads run, where pages are, what hinting faults see.

Time starts at GO. What was not reached is censored at the last sample, not taken for the end of the run: perf bench
numa reports the whole run's time as its convergence latency where nothing converged.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.record import MemorySlice, Sample, Trial

TARGETS = (0.5, 0.9, 0.99)
MIN_SAMPLES = 3
# Home is judged by the last quarter of the samples; mmtests smooths locality over 20,000 faults.
TAIL_SHARE = 0.25
WINDOW_FAULTS = 20_000
_Z95 = 1.959964


@dataclass(frozen=True)
class Point:
    """A share at one moment, with its 95 % confidence interval where it is estimated from a sample of `size`."""

    t_s: float
    share: float
    low: float
    high: float
    size: int


@dataclass(frozen=True)
class Reach:
    """When a share was first found at `target`: `reached_s` is None where it was not by `observed_s`.

    It came there between `after_s`, when it was last looked for before (GO, where that was never), and `reached_s`.
    `held` is False where the share was below it again at the end, by more than chance.
    """

    target: float
    after_s: float | None
    reached_s: float | None
    observed_s: float
    held: bool


@dataclass(frozen=True)
class Convergence:
    """One kind of convergence over a trial."""

    points: tuple[Point, ...]
    reaches: tuple[Reach, ...]

    @property
    def final(self) -> Point:
        """Where it was at the end."""
        return self.points[-1]


@dataclass(frozen=True)
class ThreadPlacement:
    """Threads on their home nodes over time; `homes` counts threads by home, `restless` those who left it in the tail.

    A thread's home is the node where it was seen most often in the last quarter of the samples. The threads are
    settled from `settled_s` on: no thread was seen elsewhere from then to the end, over at least three samples. The
    last of them came home between `settled_after_s`, the time of the sample before, and then.
    """

    convergence: Convergence
    homes: tuple[tuple[int, int], ...]
    restless: int
    settled_after_s: float | None
    settled_s: float | None


@dataclass(frozen=True)
class PageResidency:
    """The share of pages on the node of the thread that uses them, and the most that threads as placed would allow.

    `attainable` is below 1 where threads on several nodes share a slice, as in numa01.
    """

    convergence: Convergence
    attainable: float


def wilson(share: float, size: int) -> tuple[float, float]:
    """The 95 % score interval of a share found in a sample of `size` (Wilson, 1927); 0 to 1 of an empty one."""
    if size <= 0:
        return 0.0, 1.0
    z2 = _Z95 * _Z95
    center = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = _Z95 / (1 + z2 / size) * math.sqrt(share * (1 - share) / size + z2 / (4 * size * size))
    return max(min(center - half, share), 0.0), min(max(center + half, share), 1.0)


def _converge(points: Sequence[Point]) -> Convergence:
    last = points[-1]
    reaches = []
    for target in TARGETS:
        place = next((place for place, point in enumerate(points) if point.share >= target), None)
        after_s, reached_s = (None, None) if place is None else (_time_before(points, place), points[place].t_s)
        held = reached_s is not None and last.high >= target
        reaches.append(Reach(target, after_s, reached_s, last.t_s, held))
    return Convergence(tuple(points), tuple(reaches))


def _time_before(points: Sequence[Point], place: int) -> float:
    """When the point before was; GO for the first."""
    return points[place - 1].t_s if place else 0.0


def _since_go(trial: Trial, sample: Sample) -> float:
    """Seconds since GO; the sample taken just before it is at 0."""
    assert trial.clock.go_ns is not None
    return max(sample.t_ns - trial.clock.go_ns, 0) / NS_PER_S


def _while_working(trial: Trial) -> list[Sample]:
    """The samples, with the threads of those taken after the stop where they were last seen at work.

    Threads that have stopped are woken wherever a CPU is idle, which says nothing of where they stored.
    """
    found: list[Sample] = []
    for sample in trial.samples:
        before = found[-1] if found else sample
        has_stopped = trial.clock.stop_ns is not None and sample.t_ns > trial.clock.stop_ns
        if has_stopped and len(before.cpu_nodes) == len(sample.cpu_nodes):
            found.append(replace(sample, cpu_nodes=before.cpu_nodes))
        else:
            found.append(sample)
    return found


def cpu_placement(trial: Trial) -> ThreadPlacement | Missing:
    """How settled threads are on nodes. Threads whose CPU is not known are left out."""
    samples = [sample for sample in _while_working(trial) if any(node >= 0 for node in sample.cpu_nodes)]
    if trial.clock.go_ns is None or len(samples) < MIN_SAMPLES:
        return Missing(f"fewer than {MIN_SAMPLES} samples know where threads ran")
    if len({len(sample.cpu_nodes) for sample in samples}) != 1:
        return Missing("the number of threads changed while it ran")
    tail = samples[-max(round(len(samples) * TAIL_SHARE), MIN_SAMPLES) :]
    homes = [_home([sample.cpu_nodes[thread] for sample in tail]) for thread in range(len(samples[0].cpu_nodes))]
    points = [Point(_since_go(trial, sample), *_at_home(sample, homes)) for sample in samples]
    restless = sum(
        any(sample.cpu_nodes[thread] not in {home, -1} for sample in tail)
        for thread, home in enumerate(homes)
        if home is not None
    )
    calm = len(points)
    while calm and points[calm - 1].share == 1:
        calm -= 1
    is_settled = len(points) - calm >= MIN_SAMPLES
    return ThreadPlacement(
        convergence=_converge(points),
        homes=tuple(sorted(Counter(home for home in homes if home is not None).items())),
        restless=restless,
        settled_after_s=_time_before(points, calm) if is_settled else None,
        settled_s=points[calm].t_s if is_settled else None,
    )


def _home(seen: list[int]) -> int | None:
    """The node seen most often, of several the lowest; None where none is known."""
    tally = Counter(node for node in seen if node >= 0)
    return min(tally, key=lambda node: (-tally[node], node)) if tally else None


def _at_home(sample: Sample, homes: list[int | None]) -> tuple[float, float, float, int]:
    known = [(node, home) for node, home in zip(sample.cpu_nodes, homes, strict=True) if node >= 0 and home is not None]
    share = sum(node == home for node, home in known) / len(known) if known else 0.0
    return share, share, share, len(known)


def page_residency(trial: Trial, nodes: tuple[int, ...]) -> PageResidency | Missing:
    """Where pages are, seen from the threads that use them; a slice counts by its size.

    A slice used by several threads counts the mean over its threads. The interval is of the pages sampled, not of the
    threads, whose nodes are known. A sample without any page, as of a program before its start, is none.
    """
    if trial.clock.go_ns is None:
        return Missing("the trial had no GO")
    with_pages = [sample for sample in _while_working(trial) if sample.has_pages]
    if len(with_pages) < MIN_SAMPLES:
        return Missing(f"{len(with_pages)} of {len(trial.samples)} samples held pages, {MIN_SAMPLES} are needed")
    points, attainable = [], 0.0
    for sample in with_pages:
        users = _slice_users(trial, sample)
        shares = _weighted(trial, sample, users, nodes)
        if shares is not None:
            share, attainable, size = shares
            points.append(Point(_since_go(trial, sample), share, *wilson(share, size), size))
    if len(points) < MIN_SAMPLES:
        return Missing(f"fewer than {MIN_SAMPLES} samples know both pages and the threads that use them")
    return PageResidency(_converge(points), attainable)


def _slice_users(trial: Trial, sample: Sample) -> list[list[int]]:
    """For each row of a sample the nodes of the threads that use it; a program we do not know uses all with all."""
    if len(trial.slices) != len(sample.pages):
        return [[node for node in sample.cpu_nodes if node >= 0] for _ in sample.pages]
    return [_users(piece, sample.cpu_nodes) for piece in trial.slices]


def _users(piece: MemorySlice, cpu_nodes: tuple[int, ...]) -> list[int]:
    return [cpu_nodes[number] for number in piece.threads if number < len(cpu_nodes) and cpu_nodes[number] >= 0]


def _weighted(
    trial: Trial, sample: Sample, users: list[list[int]], nodes: tuple[int, ...]
) -> tuple[float, float, int] | None:
    """The share of pages with their threads, the most there could be, and the number of pages it was found from."""
    local = best = weight = 0.0
    size = 0
    for row, (counts, used_by) in enumerate(zip(sample.pages, users, strict=True)):
        found = sum(counts)
        if not found or not used_by:
            continue
        here = {node: pages / found for node, pages in zip(nodes, counts, strict=False)}
        bytes_known = trial.slice_bytes(sample, row)
        slice_weight = float(found if bytes_known is None else bytes_known)
        local += slice_weight * sum(here.get(node, 0.0) for node in used_by) / len(used_by)
        best += slice_weight * max(Counter(used_by).values()) / len(used_by)
        weight += slice_weight
        size += found
    # Sums of shares may miss 1 by the last bit.
    return (min(local / weight, 1.0), min(best / weight, 1.0), size) if weight else None


def hint_fault_locality(trial: Trial) -> Convergence | Missing:
    """The share of NUMA hinting faults on memory of the node they were taken on, by windows of faults.

    A window is of at least 20,000 faults, as in mmtests, or of a tenth of all where that is less. The share is of the
    whole machine (/proc/vmstat), and of what the scanner chose to unmap: what does not fault is not in it.
    """
    series = [
        (sample, sample.vmstat["numa_hint_faults"], sample.vmstat["numa_hint_faults_local"])
        for sample in trial.samples
        if {"numa_hint_faults", "numa_hint_faults_local"} <= sample.vmstat.keys()
    ]
    if trial.clock.go_ns is None or len(series) < 2:
        return Missing("this kernel counts no hinting faults, or they were not sampled")
    all_faults = series[-1][1] - series[0][1]
    if all_faults <= 0:
        return Missing("there was no hinting fault")
    wanted = min(WINDOW_FAULTS, max(all_faults // 10, 1))
    points: list[Point] = []
    _, from_faults, from_local = series[0]
    for sample, faults, local in series[1:]:
        if faults - from_faults >= wanted:
            share = min(max((local - from_local) / (faults - from_faults), 0.0), 1.0)
            points.append(Point(_since_go(trial, sample), share, share, share, faults - from_faults))
            from_faults, from_local = faults, local
    return _converge(points) if points else Missing("there was no hinting fault")
