"""Whether a run may be believed: what speaks against it, as data, with cause and remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import migration
from numabench.analysis.driven_findings import lost_write
from numabench.analysis.finding import BIASES, INFORMS, INVALID, WEIGHTS, Finding
from numabench.analysis.spread import MIN_REPEATS, spread
from numabench.analysis.trial_findings import TRIAL_CHECKS, knob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numabench.analysis.observed import Observation
    from numabench.record import Run, Trial

UNSTABLE_SHARE = 0.25
# Of a recording, beyond which what is missing may change what the rest says.
LOST_SHARE, UNSYMBOLISED_SHARE = 0.001, 0.01
BALANCING = "numa_balancing"


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


def judge(run: Run, observations: Sequence[Observation] = ()) -> Verdict:
    """All that speaks against a run and against what its passes recorded, and what its reader should know."""
    measured = [trial for trial in run.trials if trial.counts]
    found = [
        *_about_ending(run),
        *_about_machine(run),
        *_about_changed_knobs(run, measured),
        *_about_trials(run),
        *_merge(run, measured),
        *_about_repeats(run, measured),
        *_about_observations(observations),
        *(Finding(note.code, INFORMS, note.message, note.remedy) for note in run.notes),
    ]
    return Verdict(tuple(sorted(found, key=lambda finding: WEIGHTS.index(finding.weight))))


def _about_ending(run: Run) -> Iterator[Finding]:
    if run.is_running:
        yield Finding(
            "incomplete",
            BIASES,
            f"{len(run.trials)} of {run.planned_trials} trials were run so far: the run is still going",
            "wait for its end; the trials shown are whole",
        )
    elif not run.complete:
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
    elif run.machine.virtualization:
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
                "run as root, outside a container"
                if write.outcome == "denied"
                else "this kernel does not have it: nothing to do",
            )
    if not run.planned.has_movers and knob(run, BALANCING) == "0":
        yield Finding(
            "balancing-off",
            INVALID,
            "kernel.numa_balancing was 0 while the trials ran: the kernel was not asked to migrate anything",
            _how_to_balance(run),
        )
    if run.planned.has_movers and knob(run, BALANCING) not in (None, "0"):
        yield Finding(
            "balancing-on",
            BIASES,
            f"kernel.numa_balancing was {knob(run, BALANCING)} while the trials ran: the kernel moves pages, too, and "
            f"marks them for hint faults, while driver {run.planned.driver} does",
            "run as root, without --no-tune, or set it by hand: sysctl kernel.numa_balancing=0",
        )
    yield from _about_load(run)


def _how_to_balance(run: Run) -> str:
    """What to do where balancing was off, by what left it so."""
    by_hand = "set it by hand: sysctl kernel.numa_balancing=1"
    wanted = run.planned.knobs
    if wanted is not None and BALANCING not in map(_last_word, wanted):
        return f"leave out --no-tune, or {by_hand}"
    if any(_last_word(write.name) == BALANCING and write.wanted == "0" for write in run.knobs):
        return "leave out --balancing 0"
    return f"run as root, outside a container, or {by_hand}"


def _about_changed_knobs(run: Run, measured: list[Trial]) -> Iterator[Finding]:
    """Knobs that at a trial's end were not what the run had set or found."""
    for name in dict.fromkeys(name for trial in measured for name in trial.knobs):
        kept = _kept_values(run, name)
        changed = [trial for trial in measured if kept and trial.knobs.get(name, kept[0]) not in kept]
        if changed:
            found = ", ".join(dict.fromkeys(trial.knobs[name] for trial in changed))
            yield Finding(
                "knob-changed",
                INVALID if _last_word(name) == BALANCING else BIASES,
                f"{name} was {kept[0]} when the trials began, and somebody else had made it {found} by the end of some",
                "see what sets it (numad, tuned, another benchmark), and run again",
                trials=tuple(trial.index for trial in changed),
            )


def _kept_values(run: Run, name: str) -> tuple[str, ...]:
    """The values that a knob may have without anybody else's doing: what the run set, as the kernel took it."""
    found = run.machine.knobs.get(name)
    for write in run.knobs:
        if write.name == name and write.outcome in {"set", "kept"}:
            # A message says that the kernel made another value of it, which is the one that was read afterwards.
            return (write.wanted, found) if write.message and found is not None else (write.wanted,)
    return () if found is None else (found,)


def _last_word(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _about_load(run: Run) -> Iterator[Finding]:
    """What else ran before the first trial; later ones see the load of those before them."""
    first = run.trials[0] if run.trials else None
    if first is None or first.before is None or not first.before.loadavg:
        return
    cpus = max(run.machine.cpu_count, 1)
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
        if trial.wrong_words:
            yield lost_write(trial)
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


def _about_observations(observations: Sequence[Observation]) -> Iterator[Finding]:
    """Recordings that lack more than may be left out of account."""
    for observation in observations:
        quality, trial = observation.quality, observation.trial
        missed = trial.observed.missed if trial.observed else {}
        if missed:
            worst = max(missed, key=missed.__getitem__)
            yield Finding(
                "counts-missed",
                BIASES,
                f"probes missed entries of {len(missed)} functions, {missed[worst]:,} of {worst}",
                "take these counts as lower bounds",
                trial.placement,
                (trial.index,),
            )
        if quality is None:
            continue
        told = (
            (
                "recording-lost",
                quality.lost_share > LOST_SHARE,
                f"{quality.lost:,} of {quality.samples + quality.lost:,} samples of {observation.recipe} were lost",
                "sample less often (--frequency), or give the machine a CPU that the workload does not use",
            ),
            (
                "recording-throttled",
                quality.throttled > 0,
                f"the kernel held back the sampling of {observation.recipe} {quality.throttled:,} times",
                "sample less often (--frequency), or raise kernel.perf_cpu_time_max_percent",
            ),
            (
                "recording-unsymbolised",
                (quality.unsymbolised_share or 0) > UNSYMBOLISED_SHARE,
                f"{quality.unsymbolised_share or 0:.1%} of the kernel's frames in {observation.recipe} have no symbol",
                "see that the run's kallsyms file is of the boot that was recorded",
            ),
            (
                "recording-cut",
                quality.is_truncated,
                f"the recording of {observation.recipe} ends early",
                "see whether the disk was full, and run again",
            ),
        )
        for code, is_so, cause, remedy in told:
            if is_so:
                yield Finding(code, BIASES, cause, remedy, trial.placement, (trial.index,))


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
        found = [migration.rate(run, trial) for trial in measured if trial.placement == placement]
        rates = spread(rate for rate in found if rate is not None)
        if rates is not None and rates.relative > UNSTABLE_SHARE:
            yield Finding(
                "unstable",
                BIASES,
                f"MB/s lies between {rates.low:.1f} and {rates.high:.1f}, {rates.relative:.0%} of its median",
                "add --repeats and --warmup; see what differs between the trials",
                placement,
            )
