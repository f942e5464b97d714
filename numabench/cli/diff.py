"""`numabench diff A B`: two runs, or two sets of runs, and what changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli import options, sides
from numabench.errors import Unfit, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.observed import Observation
    from numabench.comparison.diff import Diff
    from numabench.comparison.metrics import Values
    from numabench.comparison.recorded import Recorder
    from numabench.comparison.side import Recorded, Side
    from numabench.perf import Kallsyms, Profile
    from numabench.perf.symbols import SymbolTable
    from numabench.record import Run, Trial

DEFAULT_RESULTS = Path("results")
_SIDE = "RUN[@KERNEL],..."


@dataclass(frozen=True)
class View:
    """How a comparison is wanted."""

    min_share: float = 0.005
    fdr: float = 0.05
    anyway: bool = False
    as_json: bool = False
    csv: Path | None = None
    html: Path | None = None
    names: Path | None = None


def diff(
    a: Annotated[
        str,
        typer.Argument(metavar=_SIDE, help="Runs, or the beginning of their names; @KERNEL takes those of one kernel."),
    ],
    b: Annotated[
        str | None, typer.Argument(metavar=f"[{_SIDE}]", help="The other side. [default: A has two kernels' runs]")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare also what is not comparable, and say so.")] = False,
    least: Annotated[
        float, typer.Option("--min", min=0, max=100, metavar="PERCENT", help="Leave out what weighs less on both.")
    ] = 0.5,
    fdr: Annotated[
        float,
        typer.Option(min=0.1, max=50, metavar="PERCENT", help="So much of all that is called changed may not be."),
    ] = 5.0,
    names: Annotated[Path | None, options.NAMES] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write a line for each row as CSV.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as one page for a browser.")] = None,
) -> None:
    """Compare two kernels, or two settings: what changed of figures, phases, locks and call trees, and how surely.

    `numabench diff SERIES` compares the two kernels of `numabench run --boots 5 --kernel A --kernel B`. Boots are what
    is compared: with one on a side nothing is called changed.
    """
    if as_json and str(csv) == "-":
        raise UsageError("--json and --csv - both take stdout", "name a file for the lines")
    view = View(least / 100, fdr / 100, anyway, as_json, csv, html, names)
    if b is None:
        runs_a, runs_b = sides.two_sides(results, a)
    else:
        runs_a, runs_b = sides.runs_of(results, a), sides.runs_of(results, b)
    show(runs_a, runs_b, view)


def show_sides(runs: Sequence[Run], kernels: Sequence[str]) -> None:
    """Print the comparison of a series' two kernels."""
    first, second = (tuple(run for run in runs if run.boot and run.boot.kernel == kernel) for kernel in kernels)
    show(first, second, View(anyway=True))


def show(runs_a: Sequence[Run], runs_b: Sequence[Run], view: View) -> None:
    """Compare and print on stdout, and write what else was asked for.

    Raises `Unfit` for what is not comparable, and `ResultError` where a file cannot be written.
    """
    found = compare(runs_a, runs_b, view)
    if view.as_json:
        from numabench.report.diff_json import report

        print(json.dumps(report(found), indent=1, allow_nan=False))
    elif str(view.csv) != "-":
        from numabench.cli.report import has_colour, print_text
        from numabench.report.diff_text import render

        width = shutil.get_terminal_size((100, 0)).columns
        print_text(render(found, min_share=view.min_share, width=width, colour=has_colour()))
    if view.csv is not None:
        from numabench.cli import recordings
        from numabench.report import diff_csv

        recordings.write(view.csv, (diff_csv.render(found).encode(),))
    if view.html is not None:
        from numabench.cli import recordings
        from numabench.report.html.diff import diff_page

        recordings.write(view.html, (diff_page(found).encode(),))


def compare(runs_a: Sequence[Run], runs_b: Sequence[Run], view: View) -> Diff:
    """The comparison of two sides' runs, with their passes. Raises `Unfit` unless they are comparable."""
    from numabench.comparison import diff as comparison
    from numabench.comparison.side import Side

    bare_a, bare_b = (Side(sides.side_name(runs), tuple(runs)) for runs in (runs_a, runs_b))
    forbidden = comparison.forbidden(bare_a, bare_b)
    if forbidden and not view.anyway:
        raise Unfit(
            "these are not comparable: " + "; ".join(f"{one.forbids} ({one.a} against {one.b})" for one in forbidden),
            "compare others, or pass --anyway",
        )
    from numabench.cli import recordings
    from numabench.comparison.recorded import Recorder

    table = recordings.table(view.names)
    recorder = Recorder(table)
    a, values_a = _reduced(bare_a, recorder, table)
    b, values_b = _reduced(bare_b, recorder, table)
    return comparison.compare(a, b, values_a, values_b, fdr=view.fdr)


def _reduced(side: Side, recorder: Recorder, table: SymbolTable) -> tuple[Side, tuple[Values, ...]]:
    """A side with its recordings, and the figures of each of its runs: each recording is read once."""
    from numabench.analysis import observed
    from numabench.cli import recordings
    from numabench.comparison import metrics
    from numabench.comparison.side import Side

    recorded: list[Recorded] = []
    values: list[Values] = []
    for run in side.runs:

        def sampled(trial: Trial, profile: Profile, symbols: Kallsyms | None, run: Run = run) -> Observation:
            one = recorder.record(run, trial, profile, symbols)
            if one is not None:
                recorded.append(one)
            return observed.reduce(run, trial, profile, symbols, table=table)

        def counted(trial: Trial, text: str, run: Run = run) -> Observation:
            return observed.reduce_counts(run, trial, text)

        values.append(metrics.values(run, recordings.reduced(run, sampled, counted)))
    return Side(side.name, side.runs, tuple(recorded)), tuple(values)
