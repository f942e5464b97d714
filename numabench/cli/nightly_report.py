"""`numabench nightly report`: what changed, since which night, where in the call graph, and what to run again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.errors import EXIT_FAILED, EXIT_REGRESSION, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.comparison.diff import Diff
    from numabench.record import Run
    from numabench.report.nightly.morning import Morning

_STDOUT = "-"


def report(
    lab: Annotated[Path, typer.Argument(metavar="LAB.toml", help="The lab's plan: see docs/nightly.md.")],
    night: Annotated[str | None, typer.Option(metavar="DATE", help="The night's name. [default: the last]")] = None,
    site: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the pages go. [default: site, beside the nights]")
    ] = None,
    no_site: Annotated[bool, typer.Option("--no-site", help="Write no pages.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write it as JUnit's XML, for CI.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Write it as Markdown, e.g. to $GITHUB_STEP_SUMMARY.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell what a night has shown: what changed and since when, what failed, and what could not be judged.

    Brings the lab's index and the night's verdict up to date first. Exits with 3 where a figure got worse that nobody
    has acknowledged, else with 1 where a cell is not ok.
    """
    wanted = [str(each) for each in (junit, markdown) if str(each) == _STDOUT] + (["--json"] if as_json else [])
    if len(wanted) > 1:
        raise UsageError("stdout takes one answer at a time", "name a file for the others")
    if no_site and site is not None:
        raise UsageError("--site and --no-site exclude each other", "leave one out")
    morning = _gather(lab, night, site, with_site=not no_site)
    _write(morning, junit, markdown)
    if as_json:
        from numabench.report.nightly.data import report as plain

        print(json.dumps(plain(morning), indent=1, allow_nan=False))
    elif not wanted:
        from numabench.cli.report import has_colour, print_text
        from numabench.report.nightly.text import render

        print_text(render(morning, width=shutil.get_terminal_size((100, 0)).columns, colour=has_colour()))
    if morning.worse:
        raise typer.Exit(EXIT_REGRESSION)
    if morning.not_ok:
        raise typer.Exit(EXIT_FAILED)


def _gather(lab: Path, name: str | None, site: Path | None, *, with_site: bool) -> Morning:
    """The morning; its pages go to `site`, by default beside the nights."""
    from numabench.cli.index import measured
    from numabench.cli.progress import StderrProgress
    from numabench.cli.run_words import run_words
    from numabench.fleet import morning as of_night
    from numabench.fleet import night_file, plan, verdict
    from numabench.fleet import site as of_site
    from numabench.report.site import tree
    from numabench.store.index import open_index

    directory = plan.read(lab, run_words()).directory.resolve()
    chosen = name or night_file.last(directory)
    if not chosen:
        raise UsageError(f"there is no night in {directory} to report", f"run one: numabench nightly run {lab}")
    progress = StderrProgress()
    try:
        found = verdict.bring_up(directory, chosen, measured, progress.say)
        night = night_file.load(night_file.path_of(directory, chosen))
        with open_index(directory) as index:
            morning = of_night.gather(night, found, index, compare, progress.status)
            if with_site and chosen == night_file.last(directory):
                progress.status("writing the site")
                where = site or directory / of_site.SITE
                done = tree.write(where, of_site.gather(morning, found, index))
                progress.say(f"{done.written} of {done.pages} pages written: {where / 'index.html'}")
            elif with_site:
                progress.say(f"the site shows the last night: it stays as it is ({chosen} is not the last)")
    finally:
        progress.clear()
    return morning


def compare(before: Sequence[Run], after: Sequence[Run]) -> Diff:
    """Two sides of a cell's runs compared as `numabench diff --anyway` does."""
    from numabench.cli import diff

    return diff.compare(before, after, diff.View(anyway=True))


def _write(morning: Morning, junit: Path | None, markdown: Path | None) -> None:
    from numabench.cli import recordings

    if junit is not None:
        from numabench.report.nightly import junit as as_junit

        recordings.write(junit, (as_junit.render(morning).encode(),))
    if markdown is not None:
        from numabench.report.nightly import markdown as as_markdown

        recordings.write(markdown, (as_markdown.render(morning).encode(),))
