"""`numabench callgraph FILE|RUN`: a recording's call graph, drawn as perf draws it or written for other tools."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli import folded as folded_alone
from numabench.cli import options, recordings
from numabench.cli.recordings import DEFAULT_RESULTS
from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.callchain import Stack
    from numabench.perf import Event
    from numabench.perf.symbols import SymbolTable


_MAX_ID = 2**31 - 1


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
    comm: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only threads of this name; repeatable.")
    ] = None,
    tid: Annotated[
        list[int] | None,
        typer.Option(min=0, max=_MAX_ID, metavar="ID", help="Only the thread of this id; repeatable."),
    ] = None,
    phase: Annotated[
        str | None, typer.Option(help="Only this phase of migration, such as unmap or 'tlb flush'.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Only this event.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only chains that this function has a part in.")] = None,
    folded: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write folded chains.")] = None,
    speedscope: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write a speedscope document.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write every function as CSV.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Draw a flame graph.")] = None,
    observed: Annotated[
        str | None, typer.Option(metavar="cpu|sched|lock", help="Which of a run's passes. [default: cpu]")
    ] = None,
    trial: Annotated[int | None, typer.Option(min=1, max=_MAX_ID, help="Which of a run's trials, by number.")] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Of a run's pass the whole machine, not the workload alone.")
    ] = False,
    kallsyms: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A copy of the recorded kernel's /proc/kallsyms.")
    ] = None,
    names: Annotated[Path | None, options.NAMES] = None,
    parity: Annotated[bool, typer.Option("--parity", help="Drop the chains that perf drops, too.")] = False,
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
) -> None:
    """Show where a recording's samples are: the functions, and who called them."""
    _check(least, phase, observed)
    table = recordings.table(names)
    exports = {"folded": folded, "speedscope": speedscope, "csv": csv, "svg": svg}
    wanted = {name: path for name, path in exports.items() if path is not None}
    if [str(path) for path in wanted.values()].count("-") > 1:
        raise UsageError("stdout takes one export at a time", "name files for the others")
    filters = (comm, tid, phase, symbol, observed, trial)
    if set(wanted) == {"folded"} and not any(filters) and not everything:
        folded_alone.export(recording, wanted["folded"], event=event, kallsyms=kallsyms, parity=parity, results=results)
        return
    from numabench.analysis.recorded import stacks

    source = recordings.find(results, recording, observed=observed, trial=trial)
    profile = recordings.load(source.path, threads=bool(tid) or bool(source.pids), parity=parity)
    own = None if everything else recordings.own_groups(profile, source)
    sampled = recordings.sampled(recording, profile, event)
    if wanted:
        recordings.only(recording, sampled)
    symbols = recordings.symbols(profile, source.path, kallsyms or source.kallsyms)
    if source.is_guest and not wanted:
        print("# Of a guest: shares of time are not performance; call paths and phases are real.")
    for found in sampled:
        whole = stacks(profile, found, symbols, select=own)
        of_threads = stacks(profile, found, symbols, select=recordings.of_threads(profile, tid, own)) if tid else whole
        chosen = _select(of_threads, comm, phase, symbol, table)
        if not chosen:
            print(f"numabench: no sample of {found.name} is of what was chosen", file=sys.stderr)
        for name, target in wanted.items():
            text = _exported(name, chosen, whole, found.name)
            recordings.write(target, (text.encode(errors="backslashreplace"),))
        if not wanted:
            _draw(found, whole, chosen, table, str(style), callers, children, least / 100)
    if source.others:
        print(f"numabench: the run has more: {', '.join(source.others)}; see --observed, --trial", file=sys.stderr)


def _check(least: float, phase: str | None, observed: str | None) -> None:
    if not 0 <= least <= 100:
        raise UsageError(f"--min {least} is no percentage", "it is between 0 and 100")
    if observed is not None:
        from numabench.observe.recipes import RECIPES

        if observed not in RECIPES:
            raise UsageError(f"--observed cannot be '{observed}'", f"choose from {', '.join(RECIPES)}")
    if phase is None:
        return
    from numabench.analysis.phases import OUTSIDE, PHASES

    if phase not in {*PHASES, OUTSIDE}:
        raise UsageError(f"there is no phase {phase!a}", "there are " + ", ".join((*PHASES, OUTSIDE)))


def _select(
    stacks: Sequence[Stack], comm: list[str] | None, phase: str | None, symbol: str | None, table: SymbolTable
) -> Sequence[Stack]:
    from numabench.analysis import callchain

    if comm:
        stacks = callchain.of_comms(stacks, comm)
    if symbol is not None:
        stacks = callchain.through(stacks, symbol, table)
    if phase is None:
        return stacks
    from numabench.analysis import phases

    return phases.in_phase(stacks, phase, table)


def _draw(
    event: Event,
    everything: Sequence[Stack],
    chosen: Sequence[Stack],
    table: SymbolTable,
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
    print(phases_text.render(phases.report(everything, table)), end="")
    if tree.entries:
        print(_columns(callers, children))
    print()
    form = calltree_text.OF_2012 if style == Style.FRACTAL else calltree_text.TODAY
    print(calltree_text.render(tree, form), end="")


def _columns(callers: bool, children: bool) -> str:
    """What the columns are, and what is drawn below a row."""
    shares = "with all it called, by itself, command" if children else "by itself, command, binary"
    below = "who called it"
    if callers:
        below = "what it called" if children else "its chains from the outermost caller down"
    return f"# Rows: share {shares}, function; below each {below}"


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
