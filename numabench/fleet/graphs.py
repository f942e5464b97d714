"""The call graphs of the nights around a change, compared once and kept beside that night: recordings are slow to read.

LAB/nights/NIGHT/graphs/CELL.json is what moved most, CELL.html the whole comparison. Both are derived, and made anew
where other runs are to be compared.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench import __version__, store
from numabench.comparison.steepest import FOUND, movers, steepest
from numabench.errors import NumabenchError, ResultError
from numabench.fields import parse
from numabench.fleet import night_file
from numabench.report.html import diff_page
from numabench.report.nightly.morning import Graph, Mover
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import fsync_directory, refuse, replace, write_durably

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numabench.comparison.diff import Diff
    from numabench.comparison.treediff import NodeChange, TreeDiff
    from numabench.fields import Fields
    from numabench.record import Run

    # Compares two sides' runs with their recordings.
    Compare = Callable[[Sequence[Run], Sequence[Run]], Diff]

GRAPHS = "graphs"
# 1: the first.
SCHEMA_VERSION = 1
_MOST_MOVERS = 12
_RECIPE = "cpu"
_CLOCKS = ("cpu-clock", "task-clock")


@dataclass(frozen=True)
class _Asked:
    """What is to be compared, as far as another answer would have to be found for another of it."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    numabench: str = __version__


def kept(lab: Path, cell: str, night: str) -> Graph | None:
    """The comparison that was made of a cell around a change in a night, whichever runs it is of; None without one."""
    file = _file(lab, cell, night)
    try:
        return _read(parse(file, read_bytes(file)), file, night)
    except ResultError:
        return None


def compared(lab: Path, cell: str, night: str, runs: tuple[Sequence[Path], Sequence[Path]], compare: Compare) -> Graph:
    """The call graphs of the runs before and after a cell changed in a night, as it is kept or made anew.

    What cannot be compared is told in the graph. Raises `ResultError` where the night's directory cannot be written.
    """
    file = _file(lab, cell, night)
    before, after = (tuple(path.name for path in side) for side in runs)
    asked = _Asked(before, after)
    try:
        fields = parse(file, read_bytes(file))
        if _asked(fields) == asked:
            return _read(fields, file, night)
    except ResultError:
        # There is none, or one that cannot be read: it is derived.
        pass
    graph = _make(file, night, runs, compare)
    file.parent.mkdir(exist_ok=True)
    plain = {name: value for name, value in dataclasses.asdict(graph).items() if name not in {"page", "night"}}
    replace(file, {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(asked), **plain})
    return graph


def _file(lab: Path, cell: str, night: str) -> Path:
    return night_file.path_of(lab, night) / GRAPHS / f"{cell}.json"


def _make(file: Path, night: str, runs: tuple[Sequence[Path], Sequence[Path]], compare: Compare) -> Graph:
    page = file.with_suffix(".html")
    try:
        before, after = (tuple(run for run in map(store.load, side) if _is_recorded(run)) for side in runs)
        if not before or not after:
            which = [name for name, side in (("before", before), ("after", after)) if not side]
            return Graph(night, missing=_unrecorded(" and ".join(which)))
        found = compare(before, after)
    except NumabenchError as error:
        return Graph(night, missing=f"the runs cannot be compared: {error}")
    if found.tree is None:
        return Graph(night, missing="the recordings have no samples of the workload's own threads")
    _write(page, diff_page(found).encode())
    in_ns = all(_is_clock(run) for run in (*before, *after))
    chain = steepest(found.tree)
    return Graph(
        night,
        movers=tuple(_mover(node, in_ns) for node in movers(found.tree, _MOST_MOVERS)),
        path=tuple(node.name for node in chain),
        is_tested=_is_tested(found.tree),
        runs_before=len(before),
        runs_after=len(after),
        page=page,
    )


def _unrecorded(sides: str) -> str:
    return (
        f'the runs {sides} have no recording of the CPU; to have one of each night, add observe = "cpu" to the '
        "experiment's options"
    )


def _is_recorded(run: Run) -> bool:
    return any(
        trial.observed is not None
        and trial.observed.recipe == _RECIPE
        and trial.observed.file is not None
        and trial.observed.file.exists()
        for trial in run.trials
    )


def _is_clock(run: Run) -> bool:
    """Whether the run's samples weigh nanoseconds."""
    events = [
        event
        for trial in run.trials
        if trial.observed and trial.observed.recipe == _RECIPE
        for event in trial.observed.events
    ]
    return any(event.split(":")[0] in _CLOCKS for event in events)


def _is_tested(tree: TreeDiff) -> bool:
    return any(node.verdict != "insufficient" for node in tree.functions)


def _mover(node: NodeChange, in_ns: bool) -> Mover:
    costs = (node.per_2mb_a, node.per_2mb_b) if in_ns else (None, None)
    return Mover(node.name, node.share_a, node.share_b, node.ci95, node.verdict in FOUND, *costs)


def _write(page: Path, text: bytes) -> None:
    partial = page.with_name(f".tmp-{page.name}")
    try:
        page.parent.mkdir(exist_ok=True)
        write_durably(partial, text)
        partial.rename(page)
        fsync_directory(page.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        refuse(page, error)


def _asked(fields: Fields) -> _Asked:
    return _Asked(tuple(fields.texts("before")), tuple(fields.texts("after")), fields.text("numabench", ""))


def _read(fields: Fields, file: Path, night: str) -> Graph:
    check_version(fields, SCHEMA_VERSION)
    page = file.with_suffix(".html")
    missing = fields.text("missing", "")
    return Graph(
        night=night,
        movers=tuple(_read_mover(row) for row in fields.rows("movers")),
        path=tuple(fields.texts("path")),
        is_tested=fields.fields.get("is_tested") is True,
        runs_before=fields.count("runs_before", 0),
        runs_after=fields.count("runs_after", 0),
        page=None if missing or not page.exists() else page,
        missing=missing,
    )


def _read_mover(row: Fields) -> Mover:
    bounds = row.numbers("ci95") if row.fields.get("ci95") is not None else ()
    return Mover(
        name=row.text("name"),
        before=row.number("before", 0.0),
        after=row.number("after", 0.0),
        ci95=(bounds[0], bounds[1]) if len(bounds) == 2 else None,
        is_found=row.fields.get("is_found") is True,
        per_2mb_ns_before=row.optional_quantity("per_2mb_ns_before"),
        per_2mb_ns_after=row.optional_quantity("per_2mb_ns_after"),
    )
