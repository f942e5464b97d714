"""The figures of a run that are compared, each with its values over trials."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from numabench.analysis.latency import percentile
from numabench.analysis.missing import Missing
from numabench.analysis.summary import summarize
from numabench.comparison.change import Metric
from numabench.units import HUGE_2M

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numabench.analysis.contention import ContentionReport
    from numabench.analysis.convergence import Convergence
    from numabench.analysis.kernel_counts import KernelCounts
    from numabench.analysis.moves import Moves
    from numabench.analysis.observed import Observation
    from numabench.analysis.summary import TrialSummary
    from numabench.record import Latency, Run

    Key = tuple[str, Metric]
    Values = Mapping[Key, tuple[float, ...]]
    # A figure of one trial; None where the trial ended before it was reached.
    Figure = tuple[Metric, float | None]

# A percentile needs so many values that one of them is beyond it.
_PERCENTILES = (("p50", 0.5, 1), ("p99", 0.99, 100), ("p99.9", 0.999, 1000))
_BUCKET = 1 / 32
_TARGETS = (0.9, 0.99)
_KERNEL_PAGES = {
    "total": "pages migrated",
    "misplaced": "pages migrated after hinting faults",
    "promoted": "pages promoted",
    "demoted": "pages demoted",
    "other": "pages migrated for other reasons",
    "failed": "pages that failed to migrate",
    "thp_success": "huge pages migrated",
    "thp_failed": "huge pages that failed to migrate",
    "thp_split": "huge pages split to migrate",
}
TIME_TO = "time_to."
FAILURES, CALL_ERRORS = "failures", "call_errors"
LOCK_WAITS, LOCK_WAIT_NS = "lock_waits", "lock_wait_ns"
# Totals with parts by name (`failures.EBUSY`): where the total is known, a part that is absent is none.
_TOTALS = (FAILURES, CALL_ERRORS, LOCK_WAITS, LOCK_WAIT_NS)


def values(run: Run, observations: Sequence[Observation] = ()) -> dict[Key, tuple[float, ...]]:
    """A run's figures by placement, over its measured trials that went well, and over its passes that went well.

    A figure that a trial does not have is left out. So is a time to something that a trial ended before (`unreached`
    counts these); the share of trials that came to it is a figure of its own, of one value a run.
    """
    found: defaultdict[Key, list[float]] = defaultdict(list)
    for key, figures in _by_key(run).items():
        reached = [value for value in figures if value is not None]
        if reached:
            found[key] = reached
        if key[1].name.startswith(TIME_TO):
            found[key[0], _reached_share(key[1], len(figures))].append(len(reached) / len(figures))
    for observation in observations:
        if observation.trial.status == "ok":
            for metric, value in _observed(observation):
                found[observation.trial.placement, metric].append(value)
    return _fill_in({key: tuple(each) for key, each in found.items()}, found)


def unreached(run: Run) -> dict[Key, tuple[int, int]]:
    """Of which figures how many trials ended before they were reached, and of how many."""
    counted = ((key, figures.count(None), len(figures)) for key, figures in _by_key(run).items())
    return {key: (missed, of) for key, missed, of in counted if missed}


def total_of(name: str) -> str:
    """The figure that one is a part of by its name, empty where it is none."""
    whole, dot, _ = name.partition(".")
    return whole if dot and whole in _TOTALS else ""


def aligned(runs: Sequence[Values]) -> tuple[dict[Key, tuple[float, ...]], ...]:
    """The figures of several runs, with what is counted by name at zero where only others saw that name."""
    names = [key for each in runs for key in each]
    return tuple(_fill_in(each, names) for each in runs)


def _fill_in(own: Values, names: Iterable[Key]) -> dict[Key, tuple[float, ...]]:
    """A run's figures, with each of `names` that its total covers; a trial without that part has 0 of it."""
    totals = {(placement, metric.name): len(each) for (placement, metric), each in own.items()}
    filled = dict(own)
    for placement, metric in names:
        whole = totals.get((placement, metric.name.partition(".")[0]), 0)
        if metric.name.partition(".")[0] in _TOTALS and len(filled.get((placement, metric), ())) < whole:
            seen = filled.get((placement, metric), ())
            filled[placement, metric] = (*seen, *[0.0] * (whole - len(seen)))
    return filled


def _by_key(run: Run) -> dict[Key, list[float | None]]:
    """The figures of all trials that count, in their order."""
    found: defaultdict[Key, list[float | None]] = defaultdict(list)
    for placement in summarize(run).placements:
        for trial in placement.trials:
            for metric, value in _figures(run, trial):
                found[placement.placement, metric].append(value)
    return found


def _figures(run: Run, trial: TrialSummary) -> Iterator[Figure]:
    is_timed = run.planned.duration_s is not None
    yield from _speed(run, trial)
    yield from _known(
        Metric("confirmed_bytes", "confirmed moved", "B", is_time=is_timed, step=run.page_bytes),
        trial.counts.confirmed_bytes,
    )
    if not run.planned.has_movers:
        yield from _convergence(run, trial)
    if not isinstance(trial.moves, Missing):
        yield from _moves(trial.moves, is_timed)
    if not isinstance(trial.stall, Missing):
        yield from _latency("access", "victims' accesses", trial.stall)
    for cost in trial.costs:
        metric = Metric(f"cost.{_slug(cost.name)}", cost.name, "per 2 MB", "lower")
        yield from _known(metric, cost.per_2mb)
    for name, label in _KERNEL_PAGES.items():
        metric = Metric(f"kernel_pages.{name}", label, "pages", is_time=is_timed, step=1.0)
        yield from _known(metric, getattr(trial.counts.kernel, name))


def _slug(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


def _known(metric: Metric, value: float | Missing) -> Iterator[Figure]:
    if not isinstance(value, Missing):
        yield metric, float(value)


def _speed(run: Run, trial: TrialSummary) -> Iterator[Figure]:
    rate = Metric("mb_per_s", "throughput", "MB/s", "higher", is_time=True)
    if trial.mb_per_s is not None:
        yield rate, trial.mb_per_s
    elif not isinstance(trial.throughput, Missing):
        # All pages moved between two samples: only a lower bound is known.
        yield rate, None
    if not run.planned.has_movers:
        # Of movers it is the throughput by another name.
        yield from _known(
            Metric("seconds_per_gib", "time per GiB stored", "s", "lower", is_time=True), trial.seconds_per_gib
        )


def _convergence(run: Run, trial: TrialSummary) -> Iterator[Figure]:
    interval_s = run.planned.interval_s or 0.0
    if not isinstance(trial.cpu_placement, Missing):
        yield _time_to("threads_settled", "threads settled", interval_s), trial.cpu_placement.settled_s
    if not isinstance(trial.page_residency, Missing):
        yield from _reaches("pages_local", "pages local", trial.page_residency.convergence, interval_s)
    if not isinstance(trial.locality, Missing):
        yield from _reaches("faults_local", "hinting faults local", trial.locality, interval_s)


def _reaches(name: str, label: str, found: Convergence, interval_s: float) -> Iterator[Figure]:
    for reach in found.reaches:
        if reach.target in _TARGETS:
            metric = _time_to(f"{name}_{reach.target * 100:.0f}", f"{reach.target:.0%} of {label}", interval_s)
            yield metric, reach.reached_s
    yield Metric(f"{name}_at_end", f"{label} at the end", "share", "higher"), found.final.share


def _time_to(name: str, label: str, interval_s: float) -> Metric:
    return Metric(TIME_TO + name, f"time to {label}", "s", "lower", is_time=True, step=interval_s)


def _reached_share(metric: Metric, trials: int) -> Metric:
    name, label = metric.name.removeprefix(TIME_TO), metric.label.removeprefix("time to ")
    return Metric(f"reached.{name}", f"trials that came to {label}", "share", "higher", step=1 / trials)


def _moves(moves: Moves, is_timed: bool) -> Iterator[Figure]:
    if not isinstance(moves.latency, Missing):
        yield from _latency("call", "movers' calls", moves.latency)
    yield Metric("pages_left", "pages left behind", "pages", "lower", is_timed, 1.0), float(moves.left.pages)
    for name, label, counted in (
        (FAILURES, "statuses that were errors", moves.status),
        (CALL_ERRORS, "calls that failed", moves.call_errors),
    ):
        yield Metric(name, label, "count", "lower", is_timed, 1.0), float(sum(count for _, count in counted))
        for error, count in counted:
            yield Metric(f"{name}.{error}", f"{label}: {error}", "count", "lower", is_timed, 1.0), float(count)


def _latency(name: str, label: str, latency: Latency) -> Iterator[Figure]:
    for percent, share, fewest in _PERCENTILES:
        if latency.count >= fewest:
            metric = Metric(
                f"{name}_ns.{percent}", f"{label} {percent}", "ns", "lower", is_time=True, relative_step=_BUCKET
            )
            yield metric, percentile(latency, share)
    yield Metric(f"{name}_ns.max", f"{label} max", "ns", "lower", is_time=True, step=1.0), float(latency.max_ns)


def _observed(observation: Observation) -> Iterator[tuple[Metric, float]]:
    migrated = observation.migrated_bytes
    if isinstance(migrated, Missing) or migrated < HUGE_2M:
        return
    if observation.counts is not None:
        yield from _kernel_counts(observation.counts, migrated / HUGE_2M)
    if observation.waits is not None:
        yield from _lock_waits(observation.waits, migrated / HUGE_2M)


def _kernel_counts(counts: KernelCounts, blocks: float) -> Iterator[tuple[Metric, float]]:
    """What the kernel's functions were entered for each 2 MB; `blocks` is how many of these were migrated."""
    for cost in counts.costs:
        if isinstance(cost.per_2mb, Missing):
            continue
        slug = f"kernel.{_slug(cost.name)}"
        yield Metric(slug, cost.name, "per 2 MB", "lower"), cost.per_2mb
        # Parts by function are those of one version.
        for part, count in cost.parts:
            if part in {"unmap", "remap"}:
                yield Metric(f"{slug}.{part}", f"{cost.name}, {part}", "per 2 MB", "lower"), count / blocks
    for path in counts.slow_paths:
        if not isinstance(path.per_2mb, Missing):
            name, label = f"kernel.waits.{path.lock_class}", f"{path.lock_class} not to be had at once"
            yield Metric(name, label, "per 2 MB", "lower"), path.per_2mb


def _lock_waits(report: ContentionReport, blocks: float) -> Iterator[tuple[Metric, float]]:
    rows = [("", "", report.total), *((f".{row.key[0]}", f", {row.key[0]}", row.waits) for row in report.by_class)]
    for name, label, waits in rows:
        yield Metric(LOCK_WAITS + name, f"lock waits{label}", "per 2 MB", "lower"), waits.count / blocks
        metric = Metric(LOCK_WAIT_NS + name, f"time of lock waits{label}", "ns per 2 MB", "lower", is_time=True)
        yield metric, waits.total_ns / blocks
