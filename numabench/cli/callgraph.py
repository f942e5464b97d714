"""`numabench callgraph FILE|RUN`: a recording's call graph, drawn as perf draws it or written for other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli.report import DEFAULT_RESULTS
from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.callchain import Stack
    from numabench.perf import Event


class Style(StrEnum):
    """What a branch's percentage is of."""

    GRAPH = "graph"
    FRACTAL = "fractal"


def callgraph(
    recording: Annotated[str, typer.Argument(metavar="FILE|RUN", help="A perf.data of yours, or a recorded run.")],
    style: Annotated[
        Style, typer.Option(help="Percentages of everything, or each of its parent as in the linux-mm thread.")
    ] = Style.GRAPH,
    callers: Annotated[
        bool,
        typer.Option("--callers/--callees", help="From the outermost caller down, or from the function sampled up."),
    ] = False,
    children: Annotated[
        bool, typer.Option("--children", help="Rows for callers, too: what each weighs with all it called.")
    ] = False,
    least: Annotated[float, typer.Option("--min", metavar="PERCENT", help="Leave out what weighs less.")] = 0.5,
    comm: Annotated[str | None, typer.Option(help="Only threads of this name.")] = None,
    phase: Annotated[
        str | None, typer.Option(help="Only this phase of migration, such as unmap or 'tlb flush'.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Only this event.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only chains that this function has a part in.")] = None,
    folded: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write folded chains.")] = None,
    speedscope: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write a speedscope document.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write every function as CSV.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Draw a flame graph.")] = None,
    kallsyms: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A copy of the recorded kernel's /proc/kallsyms.")
    ] = None,
    parity: Annotated[bool, typer.Option("--parity", help="Drop the chains that perf drops, too.")] = False,
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
) -> None:
    """Show where a recording's samples are: the functions, and who called them."""
    from numabench.cli import folded as folded_alone
    from numabench.cli import recordings

    _check(least, phase)
    exports = {"folded": folded, "speedscope": speedscope, "csv": csv, "svg": svg}
    wanted = {name: path for name, path in exports.items() if path is not None}
    if set(wanted) == {"folded"} and comm is phase is symbol is None:
        folded_alone.export(recording, wanted["folded"], event=event, kallsyms=kallsyms, parity=parity, results=results)
        return
    from numabench.analysis.recorded import stacks

    sampled = recordings.sampled(results, recording, event=event, parity=parity)
    if wanted:
        recordings.only(recording, sampled)
    for path, profile, found in sampled:
        everything = stacks(profile, found, recordings.symbols(profile, path, kallsyms))
        chosen = _select(everything, comm, phase, symbol)
        for name, target in wanted.items():
            text = _exported(name, chosen, everything, found.name)
            recordings.write(target, (text.encode(errors="backslashreplace"),))
        if not wanted:
            _draw(found, everything, chosen, str(style), callers, children, least / 100)


def _check(least: float, phase: str | None) -> None:
    if not 0 <= least <= 100:
        raise UsageError(f"--min {least} is no percentage", "it is between 0 and 100")
    if phase is None:
        return
    from numabench.analysis.phases import OUTSIDE, PHASES

    if phase not in {*PHASES, OUTSIDE}:
        raise UsageError(f"there is no phase {phase!a}", "there are " + ", ".join((*PHASES, OUTSIDE)))


def _select(stacks: Sequence[Stack], comm: str | None, phase: str | None, symbol: str | None) -> Sequence[Stack]:
    from numabench.analysis import callchain

    if comm is not None:
        stacks = callchain.of_comm(stacks, comm)
    if symbol is not None:
        stacks = callchain.through(stacks, symbol)
    if phase is None:
        return stacks
    from numabench.analysis import phases

    return phases.in_phase(stacks, phase)


def _draw(
    event: Event,
    everything: Sequence[Stack],
    chosen: Sequence[Stack],
    style: str,
    callers: bool,
    children: bool,
    min_share: float,
) -> None:
    from numabench.analysis import calltree, phases
    from numabench.analysis.callchain import total_samples, total_weight
    from numabench.report import calltree_text, phases_text
    from numabench.report.escape import escape
    from numabench.units import format_count

    tree = calltree.build(
        chosen,
        order="caller" if callers else "callee",
        style="fractal" if style == Style.FRACTAL else "graph",
        min_share=min_share,
        inclusive=children,
        total_weight=total_weight(everything),
    )
    of = format_count(total_samples(everything))
    shown = "" if len(chosen) == len(everything) else f"{format_count(total_samples(chosen))} of "
    print(f"# {shown}{of} samples of {escape(event.name)}")
    print(phases_text.render(phases.report(everything)), end="")
    print()
    form = calltree_text.OF_2012 if style == Style.FRACTAL else calltree_text.TODAY
    print(calltree_text.render(tree, form), end="")


def _exported(name: str, chosen: Sequence[Stack], everything: Sequence[Stack], event: str) -> str:
    import json

    if name == "folded":
        from numabench.report.folded import folded

        return folded(chosen)
    if name == "speedscope":
        from numabench.report.speedscope import document

        return json.dumps(document(chosen, event), separators=(",", ":")) + "\n"
    if name == "svg":
        from numabench.report import flamegraph_svg

        return flamegraph_svg.render(chosen, event)
    from numabench.analysis import calltree
    from numabench.analysis.callchain import total_weight
    from numabench.report import calltree_csv

    total = total_weight(everything)
    return calltree_csv.render(calltree.build(chosen, inclusive=True, min_share=0, total_weight=total))
