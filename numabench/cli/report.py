"""`numabench report RUN`: show a recorded run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from numabench.record import Run

DEFAULT_RESULTS = Path("results")


def report(
    run: Annotated[str, typer.Argument(help="A run's directory, its name or the beginning of one, or `last`.")],
    results: Annotated[Path, typer.Option(help="Where result directories are.")] = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the report's pictures there, too.")] = None,
) -> None:
    """Show the report of a recorded run."""
    from numabench import store

    show(store.load(store.find(results, run)), as_json=as_json, png=png)


def show(run: Run, *, as_json: bool = False, png: Path | None = None) -> None:
    """Print a run's report on stdout, as text or JSON, and draw its pictures into the directory `png`.

    Raises `ResultError` where the pictures cannot be written.
    """
    from numabench.cli import recordings

    observations = recordings.observations(run)
    if as_json:
        from numabench.report.run_json import report as report_json

        print(json.dumps(report_json(run, observations), indent=1, allow_nan=False))
    else:
        from numabench.report.run_text import render

        _print(render(run, colour=_has_colour(), observations=observations))
    if png is not None:
        from numabench.report.run_png import draw

        for path in draw(run, png):
            print(f"picture: {path}", file=sys.stderr)


def _has_colour() -> bool:
    """Colour is for terminals, and for those who do not decline it (https://no-color.org)."""
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _print(text: str) -> None:
    """Print also where stdout's encoding has no block characters."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
