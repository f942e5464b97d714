"""`numabench locks FILE|RUN`: what waited for locks, asleep and spinning, and what was off the CPU."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli.report import DEFAULT_RESULTS

if TYPE_CHECKING:
    from numabench.analysis.contention import ContentionReport, SpinReport
    from numabench.analysis.offcpu import OffCpuReport


def locks(
    recording: Annotated[str, typer.Argument(metavar="FILE|RUN", help="A perf.data of yours, or a recorded run.")],
    kallsyms: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A copy of the recorded kernel's /proc/kallsyms.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
) -> None:
    """Show lock contention: exact waits, spinning, and time off the CPU, each as far as it was recorded."""
    from numabench.analysis import contention, offcpu, recorded
    from numabench.cli import recordings
    from numabench.report import locks_text

    waits: ContentionReport | None = None
    spin: SpinReport | None = None
    off_cpu: OffCpuReport | None = None
    pages = 0
    for path in recordings.find(results, recording):
        profile = recordings.load(path, rows=recorded.PAIRED, user=False)
        symbols = recordings.symbols(profile, path, kallsyms)
        chains = recorded.kernel_chains(profile, symbols)
        events, switches = recorded.contention_events(profile), recorded.switches(profile)
        cpu = recorded.cpu_event(profile)
        if events is not None:
            waits = contention.report(contention.pair(events), chains)
        if switches is not None:
            off_cpu = offcpu.report(offcpu.intervals(switches), chains)
        if cpu is not None:
            spin = contention.spin(recorded.stacks(profile, cpu, symbols))
        pages = pages or recorded.migrated_pages(profile)
    print(locks_text.render(waits, spin, off_cpu, pages * 4096), end="")
