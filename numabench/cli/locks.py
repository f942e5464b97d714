"""`numabench locks FILE|RUN`: what waited for locks, asleep and spinning, and what was off the CPU."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli import options, recordings
from numabench.cli.recordings import DEFAULT_RESULTS
from numabench.errors import ResultError, UsageError

if TYPE_CHECKING:
    from numabench.analysis.contention import ContentionReport, SpinReport
    from numabench.analysis.kernel_counts import SlowPath
    from numabench.analysis.offcpu import OffCpuReport
    from numabench.perf.symbols import SymbolTable
    from numabench.record import Run


def locks(
    recording: Annotated[str, typer.Argument(metavar="FILE|RUN", help="A perf.data of yours, or a recorded run.")],
    kallsyms: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A copy of the recorded kernel's /proc/kallsyms.")
    ] = None,
    names: Annotated[Path | None, options.NAMES] = None,
    placement: Annotated[str | None, typer.Option(help="Which of a run's placements. [default: the first]")] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Of a run's passes the whole machine, not the workload alone.")
    ] = False,
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
) -> None:
    """Show lock contention: exact waits, spinning, and time off the CPU, each as far as it was recorded."""
    from numabench.report import locks_text
    from numabench.report.run_head import guest_note

    table = recordings.table(names)
    guest = ""
    run = recordings.run_of(results, recording)
    if run is not None and kallsyms is not None:
        raise UsageError("--kallsyms is of a recording, and this is a run, which has its own", "leave it out")
    if run is not None:
        found = _of_run(run, placement, everything, table)
        guest = f"{guest_note(run)}\n\n" if run.is_guest else ""
    elif placement is not None or everything:
        raise UsageError(f"{recording} is a recording, not a run", "--placement and --everything are of a run")
    else:
        found = _of_file(Path(recording), kallsyms, table)
    width = shutil.get_terminal_size((100, 0)).columns
    text = locks_text.render(
        found.waits,
        found.spin,
        found.off_cpu,
        found.slow_paths,
        migrated_bytes=found.migrated_bytes,
        off_cpu_bytes=found.off_cpu_bytes,
        width=width,
    )
    print(guest + text, end="")


@dataclass
class _Sources:
    """What is known of lock waits, from however many recordings."""

    waits: ContentionReport | None = None
    spin: SpinReport | None = None
    off_cpu: OffCpuReport | None = None
    slow_paths: tuple[SlowPath, ...] = ()
    migrated_bytes: int = 0
    off_cpu_bytes: int | None = None


def _of_file(path: Path, kallsyms: Path | None, table: SymbolTable) -> _Sources:
    from numabench.analysis import contention, kernel_counts, offcpu, recorded

    profile = recordings.load(path, rows=recorded.PAIRED, user=False)
    symbols = recordings.symbols(profile, path, kallsyms)
    chains = recorded.kernel_chains(profile, symbols)
    events, switches = recorded.contention_events(profile), recorded.switches(profile)
    cpu = recorded.cpu_event(profile)
    # Base pages are of 4 KiB on x86 alone; a recording does not say of what size they were.
    page_bytes = 4096 if profile.recording.arch in {"x86_64", "i686", "i386"} else 0
    migrated_bytes = recorded.migrated_pages(profile) * page_bytes
    return _Sources(
        waits=None if events is None else contention.report(contention.pair(events), chains, table),
        spin=None if cpu is None else contention.spin(recorded.stacks(profile, cpu, symbols), table),
        off_cpu=None if switches is None else offcpu.report(offcpu.intervals(switches), chains, table),
        slow_paths=kernel_counts.slow_paths(recorded.probed(profile), migrated_bytes),
        migrated_bytes=migrated_bytes,
    )


def _of_run(run: Run, placement: str | None, everything: bool, table: SymbolTable) -> _Sources:
    """The first pass of each kind of a placement."""
    from numabench.analysis.missing import Missing

    name = run.placements[0] if placement is None else placement
    if name not in run.placements:
        raise UsageError(f"{run.path} has no placement '{name}'", f"it has {', '.join(run.placements)}")
    observations = recordings.observations(run, placement=name, everything=everything, table=table)
    if not observations:
        raise ResultError(
            f"{run.path} holds no recording of placement {name}",
            "record one with `numabench run --observe cpu,lock,sched,cost`",
        )
    found = _Sources()
    for observation in observations:
        found.spin = found.spin or observation.spin
        migrated_bytes = 0 if isinstance(observation.migrated_bytes, Missing) else observation.migrated_bytes
        if observation.off_cpu is not None and found.off_cpu is None:
            found.off_cpu, found.off_cpu_bytes = observation.off_cpu, migrated_bytes
        if observation.counts is not None:
            found.slow_paths = found.slow_paths or observation.counts.slow_paths
        if observation.waits is not None and found.waits is None:
            found.waits, found.migrated_bytes = observation.waits, migrated_bytes
    return found
