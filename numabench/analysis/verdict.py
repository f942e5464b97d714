"""Whether a run may be believed: what speaks against it, as data, with cause and remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import migration
from numabench.analysis.finding import BIASES, INFORMS, INVALID, WEIGHTS, Finding
from numabench.analysis.missing import Missing
from numabench.analysis.spread import MIN_REPEATS, spread
from numabench.analysis.trial_findings import TRIAL_CHECKS, knob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.record import Run, Trial

UNSTABLE_SHARE = 0.25


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
    return Verdict(tuple(sorted(found, key=lambda finding: WEIGHTS.index(finding.weight))))


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
        for check in TRIAL_CHECKS:
            for finding in check(run, trial):
                key = (finding.code, finding.weight, trial.placement)
                found.setdefault(key, []).append((finding, trial.index))
    for (code, weight, placement), entries in found.items():
        trials = tuple(dict.fromkeys(index for _, index in entries))
        yield Finding(code, weight, entries[0][0].cause, entries[0][0].remedy, placement, trials)


def _about_repeats(run: Run, measured: list[Trial]) -> Iterator[Finding]:
    repeats = Counter(trial.placement for trial in measured)
    few = [placement for placement in run.placements if 0 < repeats[placement] < MIN_REPEATS]
    if few:
        yield Finding(
            "few-repeats",
            INFORMS,
            f"fewer than {MIN_REPEATS} measured trials of {', '.join(few)}: no interval of the mean can be given",
            f"pass --repeats {MIN_REPEATS} or more",
        )
    for placement in run.placements:
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
