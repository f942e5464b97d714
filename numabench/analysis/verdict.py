"""Whether a run may be believed: what speaks against it, as data, with cause and remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from numabench.analysis import convergence, migration
from numabench.analysis.missing import Missing
from numabench.analysis.spread import MIN_REPEATS, spread
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numabench.record import Run, Trial

INVALID, BIASES, INFORMS = "invalid", "biases", "informs"
_WEIGHTS = (INVALID, BIASES, INFORMS)

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
UNSTABLE_SHARE = 0.25
SAMPLER_BUSY_SHARE = 0.01
GAP_FACTOR = 3
MIN_GAP_S = 1.0


@dataclass(frozen=True)
class Finding:
    """Something to know about a run's validity.

    `weight`: `invalid` (the run does not answer its question), `biases` (its figures are off, or may be), `informs`.
    `trials` are the numbers of those concerned, none where it is the run.
    """

    code: str
    weight: str
    cause: str
    remedy: str
    placement: str = ""
    trials: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The findings, worst first; a run is valid when none of them makes it invalid."""

    findings: tuple[Finding, ...]

    @property
    def is_valid(self) -> bool:
        """Whether the run answers its question."""
        return all(finding.weight != INVALID for finding in self.findings)

    def codes(self, weight: str) -> tuple[str, ...]:
        """The codes of one weight, each once."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings if finding.weight == weight))


def judge(run: Run) -> Verdict:
    """All that speaks against a run, and what its reader should know."""
    measured = [trial for trial in run.trials if trial.counts]
    found = [
        *_about_ending(run),
        *_about_machine(run),
        *_about_trials(run),
        *_merge(run, measured),
        *_about_repeats(run, measured),
        *(Finding(note.code, INFORMS, note.message, note.remedy) for note in run.notes),
    ]
    return Verdict(tuple(sorted(found, key=lambda finding: _WEIGHTS.index(finding.weight))))


def knob(run: Run, name: str) -> str | None:
    """A knob's value while the trials ran, by the last part of its name."""
    knobs = run.identity.get("knobs")
    values = knobs if isinstance(knobs, dict) else {}
    return next((str(value) for key, value in values.items() if key.rsplit(".", 1)[-1] == name), None)


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


def _about_ending(run: Run) -> Iterator[Finding]:
    if not run.complete:
        yield Finding(
            "incomplete",
            BIASES,
            f"{len(run.trials)} of {run.planned_trials} trials were run: the run is {run.ending.status}"
            + (f" ({run.ending.message})" if run.ending.message else ""),
            "run it again; the trials shown are whole",
        )
    for entry in run.ending.restored:
        if entry.outcome != "restored":
            yield Finding(
                "knob-not-restored",
                INFORMS,
                f"{entry.name} was not put back: " + (entry.message or entry.outcome),
                f"see what {entry.path} should hold",
            )


def _about_machine(run: Run) -> Iterator[Finding]:
    if run.is_guest:
        yield Finding(
            "guest-times",
            INFORMS,
            "it ran in a virtual machine: its times and rates are not performance; counts and placement are real",
            "run it on hardware with as many nodes to learn how fast it is",
        )
    elif run.identity.get("virtualization"):
        yield Finding(
            "virtual-machine",
            INFORMS,
            "this hardware is a virtual machine: its nodes and times are what its host makes of them",
            "see that its nodes are bound to the host's, or run on the host",
        )
    for write in run.knobs:
        if write.outcome in {"denied", "absent"}:
            yield Finding(
                f"knob-{write.outcome}",
                BIASES if write.outcome == "denied" else INFORMS,
                f"{write.name} could not be set to {write.wanted}: " + (write.message or write.outcome),
                "run as root" if write.outcome == "denied" else "this kernel does not have it: nothing to do",
            )
    driver = run.plan.get("driver", migration.AUTONUMA)
    if driver == migration.AUTONUMA and knob(run, "numa_balancing") == "0":
        yield Finding(
            "balancing-off",
            INVALID,
            "kernel.numa_balancing was 0 while the trials ran: the kernel was not asked to migrate anything",
            "run as root, or set it by hand: sysctl kernel.numa_balancing=1",
        )
    yield from _about_load(run)


def _about_load(run: Run) -> Iterator[Finding]:
    """What else ran before the first trial; later ones see the load of those before them."""
    first = run.trials[0] if run.trials else None
    if first is None or first.before is None or not first.before.loadavg:
        return
    cpu = run.identity.get("cpu")
    number = cpu.get("count") if isinstance(cpu, dict) else None
    cpus = number if isinstance(number, int) and number > 0 else 1
    load = first.before.loadavg[0]
    if load > max(1.5, cpus / 2):
        yield Finding(
            "contaminated",
            BIASES,
            f"the load average was {load:.2f} on {cpus} CPUs when the first trial began",
            "run on a machine that does nothing else",
            trials=(first.index,),
        )


def _about_trials(run: Run) -> Iterator[Finding]:
    for trial in run.trials:
        if trial.check is not None and trial.check.wrong_bytes:
            yield Finding(
                "corrupt-data",
                INVALID,
                f"{trial.check.wrong_bytes:,} of {trial.check.checked_bytes:,} bytes held what no thread stored",
                "suspect the kernel's migration, or the machine's memory: keep this directory and report it",
                trial.placement,
                (trial.index,),
            )
        if trial.status != "ok":
            yield Finding(
                "trial-failed",
                BIASES,
                f"{trial.status}: {trial.message}" if trial.message else trial.status,
                "raise --timeout" if trial.status == "timeout" else "mend the cause and run again",
                trial.placement,
                (trial.index,),
            )
    for placement in run.placements:
        if not any(trial.counts and trial.placement == placement for trial in run.trials):
            yield Finding(
                "no-trial", INVALID, "no measured trial went well", "see what ended the trials", placement=placement
            )


def _merge(run: Run, measured: list[Trial]) -> Iterator[Finding]:
    """The findings about single trials; one for all trials of a placement that have it, in the words of the first."""
    found: dict[tuple[str, str, str], list[tuple[Finding, int]]] = {}
    for trial in measured:
        for check in _TRIAL_CHECKS:
            for finding in check(run, trial):
                key = (finding.code, finding.weight, trial.placement)
                found.setdefault(key, []).append((finding, trial.index))
    for (code, weight, placement), entries in found.items():
        trials = tuple(dict.fromkeys(index for _, index in entries))
        yield Finding(code, weight, entries[0][0].cause, entries[0][0].remedy, placement, trials)


def _check_free_placement(run: Run, trial: Trial) -> Iterator[Finding]:
    """A trial that balancing was free to arrange."""
    if trial.placement in {"hard", "inverse", "inverse-compat"}:
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
    if disagreement.is_kernel_more:
        cause = f"the kernel counted {counted:,} pages, {confirmed:,} ended elsewhere: others went to and fro"
        remedy = "compare the memory over time; see that no other process is being balanced"
    else:
        cause = f"{confirmed:,} pages ended elsewhere, of which the kernel counted {counted:,}"
        remedy = "see what else moved them (other reasons), or whether counters were read too early"
    yield Finding("counts-disagree", BIASES, cause, remedy)


def _check_contamination(_run: Run, trial: Trial) -> Iterator[Finding]:
    kernel = migration.kernel_count(trial)
    total = 0 if isinstance(kernel.total, Missing) else kernel.total
    if not isinstance(kernel.other, Missing) and kernel.other > max(OTHER_SHARE * total, OTHER_PAGES):
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
    """The share of a trial in which some task waited for a CPU (Documentation/accounting/psi.rst: total is in us)."""
    if trial.before is None or trial.after is None or trial.after.t_ns <= trial.before.t_ns:
        return None
    totals = [_pressure_total_us(snapshot.pressure) for snapshot in (trial.before, trial.after)]
    if totals[0] is None or totals[1] is None:
        return None
    return (totals[1] - totals[0]) * 1000 / (trial.after.t_ns - trial.before.t_ns)


def _pressure_total_us(pressure: dict[str, object]) -> float | None:
    cpu = pressure.get("cpu")
    some = cpu.get("some") if isinstance(cpu, dict) else None
    total = some.get("total_us") if isinstance(some, dict) else None
    return float(total) if isinstance(total, int | float) else None


def _check_sampling(_run: Run, trial: Trial) -> Iterator[Finding]:
    if trial.sampler.busy_share > SAMPLER_BUSY_SHARE * 1.5:
        yield Finding(
            "sampler-busy",
            BIASES,
            f"sampling took {trial.sampler.busy_share:.1%} of one CPU, more than the {SAMPLER_BUSY_SHARE:.0%} meant",
            "sample less: --interval, --sample-pages",
        )
    gaps_s = [(late.t_ns - early.t_ns) / NS_PER_S for early, late in pairwise(trial.samples)]
    if len(trial.samples) < convergence.MIN_SAMPLES:
        yield Finding(
            "lost-samples",
            BIASES,
            f"{len(trial.samples)} samples were taken, at least {convergence.MIN_SAMPLES} are needed",
            "let it run longer, or sample more often: --interval",
        )
    elif max(gaps_s) > max(GAP_FACTOR * median(gaps_s), MIN_GAP_S):
        yield Finding(
            "lost-samples",
            BIASES,
            f"for {max(gaps_s):.1f} s nothing was sampled, against {median(gaps_s):.2f} s as a rule",
            "see what kept the harness from running: more threads than CPUs, or other load",
        )


_TRIAL_CHECKS: tuple[Callable[[Run, Trial], Iterator[Finding]], ...] = (
    _check_free_placement,
    _check_bound_placement,
    _check_counts,
    _check_contamination,
    _check_sampling,
)


def _about_repeats(run: Run, measured: list[Trial]) -> Iterator[Finding]:
    repeats = Counter(trial.placement for trial in measured)
    for placement in run.placements:
        if 0 < repeats[placement] < MIN_REPEATS:
            yield Finding(
                "few-repeats",
                INFORMS,
                f"{repeats[placement]} measured trial(s): no interval of the mean can be given",
                f"pass --repeats {MIN_REPEATS} or more",
                placement,
            )
        found = [migration.throughput(run, trial) for trial in measured if trial.placement == placement]
        rates = spread(rate.mb_per_s for rate in found if not isinstance(rate, Missing) and rate.mb_per_s is not None)
        if rates is not None and rates.relative > UNSTABLE_SHARE:
            yield Finding(
                "unstable",
                BIASES,
                f"MB/s lies between {rates.low:.1f} and {rates.high:.1f}, {rates.relative:.0%} of its median",
                "add --repeats and --warmup; see what differs between the trials",
                placement,
            )
