"""What speaks against one measured trial, judged by what its placement is meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis import convergence, migration
from numabench.analysis.driven_findings import check_moves, check_units, check_victims
from numabench.analysis.finding import BIASES, INVALID, Finding
from numabench.analysis.missing import Missing
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numabench.record import Run, Trial

# A node holds "all" pages of a slice from here on: pages that a thread writes at this moment cannot move.
CONVERGED_SHARE = 0.9
# Bound placements move nothing but what the kernel moves for reasons of its own.
STRAY_SHARE = 0.01
MIN_SCAN_PASSES = 2
# The scanner starts a second after a process (kernel/sched/fair.c, sysctl_numa_balancing_scan_delay).
DEFAULT_SCAN_DELAY_MS = 1000
FAILED_SHARE = 0.1
OTHER_SHARE = 0.05
OTHER_PAGES = 512
STALLED_SHARE = 0.25
SAMPLER_BUSY_SHARE = 0.01
# A sample is lost that comes so much later than planned: in seconds, and in intervals.
LATE_S = 1.0
LATE_INTERVALS = 3


def knob(run: Run, name: str) -> str | None:
    """A knob's value while the trials ran, by the last part of its name."""
    return next((value for key, value in run.machine.knobs.items() if key.rsplit(".", 1)[-1] == name), None)


def workload_pages(run: Run, trial: Trial) -> int:
    """The pages of all slices of a trial."""
    return sum(piece.size_bytes for piece in trial.slices) // run.page_bytes


def scan_passes(run: Run, trial: Trial) -> float | Missing:
    """How often the balancing scanner went over the workload's memory: numa_pte_updates by its pages.

    An upper bound, since the counter is of the whole machine.
    """
    updates, pages = migration.delta(trial, "numa_pte_updates"), workload_pages(run, trial)
    if isinstance(updates, Missing):
        return updates
    return updates / pages if pages else Missing("the workload's memory is not known")


def _check_free_placement(run: Run, trial: Trial) -> Iterator[Finding]:
    """A trial that balancing was free to arrange."""
    if run.planned.has_movers or trial.placement in {"hard", "inverse", "inverse-compat"}:
        return
    residency = convergence.page_residency(trial, run.nodes)
    settled = False
    if not isinstance(residency, Missing):
        final = residency.convergence.final
        settled = final.high >= CONVERGED_SHARE * residency.attainable
        started_settled = residency.convergence.points[0].share >= CONVERGED_SHARE * residency.attainable
        if not settled:
            yield Finding(
                "not-converged",
                INVALID,
                f"at the end {final.share:.1%} of the pages were on the node of the thread that uses them"
                + (f", of {residency.attainable:.1%} that its threads allow" if residency.attainable < 1 else ""),
                "let it run longer (--duration), or find out what keeps the pages",
            )
        if _moved(trial) == 0 and not (settled and started_settled):
            yield _nothing_migrated(INVALID)
        elif _moved(trial) == 0:
            yield _nothing_migrated(BIASES)
    elif _moved(trial) == 0:
        yield _nothing_migrated(BIASES)
    yield from _too_short(run, trial, settled)
    yield from _partial(trial)


def _nothing_migrated(weight: str) -> Finding:
    return Finding(
        "nothing-migrated",
        weight,
        "no page ended on another node than it began on",
        "see that pages begin away from their threads (--start-node), and that balancing had time (--duration)",
    )


def _moved(trial: Trial) -> int | None:
    return None if trial.pages is None else sum(trial.pages.moved.values())


def _too_short(run: Run, trial: Trial, settled: bool) -> Iterator[Finding]:
    passes = scan_passes(run, trial)
    weight = BIASES if settled else INVALID
    clock = trial.clock
    delay_text = knob(run, "scan_delay_ms") or knob(run, "numa_balancing_scan_delay_ms") or ""
    delay_s = (int(delay_text) if delay_text.isdecimal() else DEFAULT_SCAN_DELAY_MS) / 1000
    if clock.go_ns is not None and clock.stop_ns is not None and (clock.stop_ns - clock.go_ns) / NS_PER_S < delay_s:
        yield Finding(
            "too-short",
            weight,
            f"it ended before balancing's first scan, {delay_s:g} s after its start",
            "let it run longer: --duration, --loops",
        )
    elif not isinstance(passes, Missing) and passes < MIN_SCAN_PASSES:
        yield Finding(
            "too-short",
            weight,
            f"balancing's scanner went over the memory {passes:.1f} times, at least {MIN_SCAN_PASSES} are needed",
            "let it run longer (--duration), or scan faster (--scan-size, --scan-period-max)",
        )


def _partial(trial: Trial) -> Iterator[Finding]:
    kernel = migration.kernel_count(trial)
    if isinstance(kernel.failed, Missing) or isinstance(kernel.total, Missing):
        return
    tried = kernel.failed + kernel.total
    if tried and kernel.failed > max(FAILED_SHARE * tried, OTHER_PAGES):
        yield Finding(
            "partial-migration",
            BIASES,
            f"{kernel.failed:,} of {tried:,} page migrations failed (pgmigrate_fail)",
            "see that the target nodes have free memory, and that nothing pins the pages",
        )


def _check_bound_placement(run: Run, trial: Trial) -> Iterator[Finding]:
    """`hard` has its pages local and `inverse` remote, and neither lets any move."""
    if trial.placement not in {"hard", "inverse", "inverse-compat"}:
        return
    moved, known = _moved(trial), 0 if trial.pages is None else sum(trial.pages.before.values())
    if moved and moved > STRAY_SHARE * known:
        yield Finding(
            "baseline-moved",
            INVALID,
            f"{moved:,} of {known:,} pages moved although they are bound",
            "see what moves them: another tool (numad, a cpuset), or memory that ran short on a node",
        )
    residency = convergence.page_residency(trial, run.nodes)
    if isinstance(residency, Missing) or not _tells_placement(run, trial):
        return
    final = residency.convergence.final
    # Of an odd number of nodes the one in the middle mirrors itself: its threads stay local in `inverse`.
    own_mirror = len(run.nodes) % 2 / len(run.nodes)
    is_wrong = final.low > 1 - CONVERGED_SHARE + own_mirror
    if trial.placement == "hard":
        is_wrong = final.high < CONVERGED_SHARE * residency.attainable
    if is_wrong:
        yield Finding(
            "baseline-misplaced",
            INVALID,
            f"{final.share:.1%} of the pages were on the node of their thread, which {trial.placement} does not mean",
            "see that the nodes have room, and that the threads may run where they should",
        )


def _tells_placement(run: Run, trial: Trial) -> bool:
    """Whether a bound placement can be seen in page residency.

    Not of inverse-compat, half of which is local; not of numa01's processes on more than a node each, within which
    threads and pages are free; not of a program of the user's own, whose threads all use all its memory.
    """
    processes = {piece.pid for piece in trial.slices}
    bound_to_halves = len(processes) > 1 and len(run.nodes) > len(processes)
    if trial.placement == "hard" and bound_to_halves:
        return False
    return trial.placement != "inverse-compat" and bool(trial.slices)


def _check_counts(run: Run, trial: Trial) -> Iterator[Finding]:
    disagreement = migration.counts(run, trial).disagreement
    if disagreement is None:
        return
    counted, confirmed = disagreement.kernel_pages, disagreement.confirmed_pages
    if run.planned.has_movers:
        cause = f"the kernel counted {counted:,} pages, and the movers confirmed {confirmed:,}"
        remedy = "see what else migrates (compaction, another process), or whether pages are no longer where they were"
    elif disagreement.is_kernel_more:
        cause = (
            f"the kernel counted {counted:,} pages, {confirmed:,} of the workload's ended elsewhere: others went to "
            "and fro, or belong to other processes"
        )
        remedy = "compare the memory over time; see that no other process is being balanced"
    else:
        cause = f"{confirmed:,} pages ended elsewhere, of which the kernel counted {counted:,}"
        remedy = "see what else moved them (other reasons), or whether counters were read too early"
    yield Finding("counts-disagree", BIASES, cause, remedy)


def _check_contamination(run: Run, trial: Trial) -> Iterator[Finding]:
    kernel = migration.kernel_count(trial)
    total = 0 if isinstance(kernel.total, Missing) else kernel.total
    # Movers' calls are among the other reasons: their pages are compared with what was confirmed.
    if (
        not run.planned.has_movers
        and not isinstance(kernel.other, Missing)
        and kernel.other > max(OTHER_SHARE * total, OTHER_PAGES)
    ):
        yield Finding(
            "contaminated",
            BIASES,
            f"{kernel.other:,} of {total:,} migrations had other reasons than balancing, as compaction has",
            "run on a machine that does nothing else, with memory to spare",
        )
    stalled = _stalled_share(trial)
    if stalled is not None and stalled > STALLED_SHARE:
        yield Finding(
            "contaminated",
            BIASES,
            f"for {stalled:.0%} of the time some task waited for a CPU (/proc/pressure/cpu)",
            "use fewer threads than CPUs, or a machine that does nothing else",
        )


def _stalled_share(trial: Trial) -> float | None:
    """The share of a trial in which some task waited for a CPU."""
    if trial.before is None or trial.after is None or trial.after.t_ns <= trial.before.t_ns:
        return None
    before_us, after_us = trial.before.cpu_stalled_us, trial.after.cpu_stalled_us
    if before_us is None or after_us is None:
        return None
    return (after_us - before_us) * 1000 / (trial.after.t_ns - trial.before.t_ns)


def _check_sampling(run: Run, trial: Trial) -> Iterator[Finding]:
    if trial.sampler.busy_share > SAMPLER_BUSY_SHARE * 1.5:
        yield Finding(
            "sampler-busy",
            BIASES,
            f"sampling took {trial.sampler.busy_share:.1%} of one CPU, more than the {SAMPLER_BUSY_SHARE:.0%} meant",
            "sample less: --interval, --sample-pages",
        )
    with_pages = sum(sample.has_pages for sample in trial.samples)
    # Movers keep count themselves: nothing is judged by where samples found their pages.
    if with_pages < convergence.MIN_SAMPLES and not run.planned.has_movers:
        yield Finding(
            "few-samples",
            BIASES,
            f"{with_pages} of {len(trial.samples)} samples held pages, at least {convergence.MIN_SAMPLES} are needed",
            "let it run longer, or sample fewer pages more often: --sample-pages, --interval",
        )
    late_s = [(sample.t_ns - sample.due_ns) / NS_PER_S for sample in trial.samples if sample.due_ns is not None]
    limit_s = max(LATE_S, LATE_INTERVALS * (run.planned.interval_s or 0.0))
    lost = sum(delay_s > limit_s for delay_s in late_s)
    if lost:
        yield Finding(
            "lost-samples",
            BIASES,
            f"{lost} of {len(trial.samples)} samples came late, up to {max(late_s):.1f} s after they were due",
            "see what kept the harness from running: more threads than CPUs, or other load",
        )


TRIAL_CHECKS: tuple[Callable[[Run, Trial], Iterator[Finding]], ...] = (
    _check_free_placement,
    check_moves,
    check_units,
    check_victims,
    _check_bound_placement,
    _check_counts,
    _check_contamination,
    _check_sampling,
)
