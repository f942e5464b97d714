"""The site as files: each written only where it has changed, whole at any moment, and none left that is no page.

A mark in the site's directory says that it is one: nothing is ever written, or taken away, where there is none.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.report.nightly.morning import Shift
from numabench.report.site import cell, names, night, overview

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.report.site.lab import CellHistory, Lab, Stay

MARK = ".numabench-site"
_PARTIAL = ".tmp-"


@dataclass(frozen=True)
class Written:
    """How many pages there are, how many of them were written, and how many were taken away."""

    pages: int
    written: int
    removed: int


def write(site: Path, lab: Lab) -> Written:
    """Bring the pages of a lab up to date in a directory, made where there is none.

    Raises `ResultError` where it cannot be written, or has files that are no site's.
    """
    # Unlike Path.resolve() it takes a loop.
    site = Path(os.path.realpath(site))
    try:
        _claim(site)
        written = 0
        pages: set[Path] = set()
        for page, text in _pages(lab, site):
            pages.add(page)
            written += _write(site / page, text)
        # What leads to the others comes last.
        written += _write(site / names.INDEX, overview.render(lab, _states(lab)).encode())
        removed = _remove_others(site, pages)
    except OSError as error:
        raise ResultError(f"cannot write the site {site}: {error.strerror}", "name a place with --site DIR") from error
    return Written(len(pages) + 1, written, removed)


def _claim(site: Path) -> None:
    site.mkdir(parents=True, exist_ok=True)
    mark = site / MARK
    if mark.exists():
        return
    if any(site.iterdir()):
        raise ResultError(f"{site} has files that are not the site's", "name an empty directory with --site DIR")
    mark.write_bytes(b"The pages in this directory are made by `numabench nightly report`, and taken away by it.\n")


def _states(lab: Lab) -> dict[str, list[str]]:
    """The states of each night's cells."""
    found: dict[str, list[str]] = {one.name: [] for one in lab.nights}
    for history in lab.cells:
        for stay in history.stays:
            found[stay.night].append(stay.state)
    return found


def _pages(lab: Lab, site: Path) -> Iterator[tuple[Path, bytes]]:
    """Every page but the first."""
    stays: defaultdict[str, list[tuple[CellHistory, Stay]]] = defaultdict(list)
    began: defaultdict[str, list[Shift]] = defaultdict(list)
    for history in lab.cells:
        yield names.cell_page(history.cell.name), cell.render(lab, history, site).encode()
        for graph in history.graphs:
            if graph.page is not None:
                yield names.graph_page(history.cell.name, graph.night), graph.page.read_bytes()
        for stay in history.stays:
            stays[stay.night].append((history, stay))
        for figure in history.figures:
            for change in figure.changes:
                began[change.night].append(Shift(figure, change))
    values = night.Values(lab.cells)
    for one in lab.nights:
        text = night.render(lab, one, night.InIt(stays[one.name], began[one.name], values.of(one.name)), site)
        yield names.night_page(one.name), text.encode()


def _write(file: Path, text: bytes) -> bool:
    """Write a page unless it is as it was; whether it was written."""
    try:
        if file.read_bytes() == text:
            return False
    except FileNotFoundError:
        file.parent.mkdir(exist_ok=True)
    partial = file.with_name(f"{_PARTIAL}{file.name}")
    try:
        partial.write_bytes(text)
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return True


def _remove_others(site: Path, pages: set[Path]) -> int:
    """Take away the pages that are none any more, and what a writer that was killed has left half done."""
    removed = 0
    for directory in (names.CELLS, names.NIGHTS, names.GRAPHS):
        for file in (site / directory).glob("*.html"):
            if file.name.startswith(_PARTIAL) or file.relative_to(site) not in pages:
                file.unlink()
                removed += 1
    (site / f"{_PARTIAL}{names.INDEX}").unlink(missing_ok=True)
    return removed
