"""`numabench report RUN`: show a recorded run."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.errors import UsageError
from numabench.units import parse_duration

if TYPE_CHECKING:
    from numabench.record import Run, Sweep

DEFAULT_RESULTS = Path("results")


def report(
    run: Annotated[
        str, typer.Argument(help="A run's or a sweep's directory, its name or the beginning of one, or `last`.")
    ],
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the report's pictures there, too.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Of a run: write it as one HTML file that needs no other.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Of a sweep: write a line for each unit as CSV.")
    ] = None,
    stall_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of a sweep: what p99 of its victims' accesses may be, e.g. 100us."),
    ] = None,
) -> None:
    """Show the report of a recorded run, or of a sweep."""
    from numabench import store

    path = store.find(results, run, having=(store.RUN_FILE, store.SWEEP_FILE))
    if store.is_sweep(path):
        if html is not None:
            raise UsageError("--html is of a run, and this is a sweep", "name one of its runs")
        budget_s = None if stall_budget is None else parse_duration(stall_budget)
        view = SweepView(as_json=as_json, csv=csv, png=png, stall_budget_s=budget_s)
        show_sweep(store.load_sweep(path), view)
        return
    if as_json and str(html) == "-":
        raise UsageError("stdout takes one report at a time", "name a file for --html")
    if csv is not None or stall_budget is not None:
        raise UsageError("--csv and --stall-budget are of a sweep, and this is a run", "leave them out")
    show(store.load(path), as_json=as_json, png=png, html=html)


@dataclass(frozen=True)
class SweepView:
    """How a sweep's report is wanted. `stall_budget_s` takes the place of the sweep's own.

    Raises `UsageError` for two answers on one stdout.
    """

    as_json: bool = False
    csv: Path | None = None
    png: Path | None = None
    stall_budget_s: float | None = None

    def __post_init__(self) -> None:
        if self.as_json and str(self.csv) == "-":
            raise UsageError("--json and --csv - both write to stdout", "write the lines to a file: --csv FILE")


def show_sweep(sweep: Sweep, view: SweepView) -> None:
    """Print a sweep's report on stdout, as text, JSON or CSV, and draw its pictures.

    Raises `ResultError` where pictures or lines cannot be written.
    """
    from numabench.analysis.sweep import summarize

    summary = summarize(sweep, view.stall_budget_s)
    if view.as_json:
        from numabench.report.sweep_json import report as sweep_json

        print(json.dumps(sweep_json(summary), indent=1, allow_nan=False))
    elif str(view.csv) != "-":
        from numabench.report.sweep_text import render

        print_text(render(summary, colour=has_colour()))
    if view.csv is not None:
        from numabench.cli import recordings
        from numabench.report import sweep_csv

        recordings.write(view.csv, (sweep_csv.render(sweep).encode(),))
    if view.png is not None:
        from numabench.report.sweep_png import draw

        for path in draw(summary, view.png):
            print(f"picture: {path}", file=sys.stderr)


def show(run: Run, *, as_json: bool = False, png: Path | None = None, html: Path | None = None) -> None:
    """Print a run's report on stdout, as text or JSON, and draw its pictures into the directory `png`.

    With `html` its page is written there; `-` is stdout, in place of the text. Raises `ResultError` where pictures or
    page cannot be written.
    """
    from numabench.cli import recordings

    if html is None:
        observations = recordings.observations(run)
    else:
        observations, trees = recordings.with_trees(run)
        from numabench.report.html import run_page

        recordings.write(html, (run_page(run, observations, trees).encode(),))
    if as_json:
        from numabench.report.run_json import report as report_json

        print(json.dumps(report_json(run, observations), indent=1, allow_nan=False))
    elif str(html) != "-":
        from numabench.report.run_text import render

        print_text(render(run, colour=has_colour(), observations=observations))
    if png is not None:
        from numabench.report.run_png import draw

        for path in draw(run, png):
            print(f"picture: {path}", file=sys.stderr)


def has_colour() -> bool:
    """Colour is for terminals, and for those who do not decline it (https://no-color.org)."""
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_text(text: str) -> None:
    """Print also where stdout's encoding has no block characters."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
