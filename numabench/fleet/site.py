"""What a lab's pages are made of, read from the index, the nights' journals and the verdict."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.fields import parse
from numabench.fleet import graphs, night_file, publish
from numabench.fleet.ledger import cell_states
from numabench.fleet.log_tail import log_tail
from numabench.fleet.morning import how_it_ended
from numabench.report.nightly.morning import OK, TonightsCell
from numabench.report.nightly.words import rank
from numabench.report.site.lab import CellHistory, FailureLog, Lab, NightSummary, Stay
from numabench.store.trials import read_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.analysis.history.types import NightVerdict, SeriesVerdict
    from numabench.fleet.night_file import Night
    from numabench.report.nightly.morning import Graph, Morning
    from numabench.store.index import CellRow, Index, RunRow

    # By night: what became of each cell, and why.
    States = dict[str, dict[str, tuple[str, str]]]

SITE = "site"
# Logs of so many nights in which a cell failed are shown.
_MOST_LOGS = 6
_PUBLISHED = "published, and its night's own files cannot be read"


def gather(morning: Morning, verdict: NightVerdict, index: Index) -> Lab:
    """All that the pages show of a lab up to the night of a morning. Nights that cannot be read are named."""
    lab = index.lab
    nights: list[NightSummary] = []
    states: States = {}
    read: dict[str, Night] = {}
    for name in index.nights():
        try:
            night = night_file.load(night_file.path_of(lab, name))
            states[name] = cell_states(night, lab)
            nights.append(NightSummary(name, night.began_utc, how_it_ended(night), tuple(night.left_out.items())))
            read[name] = night
        except ResultError as error:
            nights.append(NightSummary(name, unreadable=error.message))
        if name == morning.night:
            break
    figures: defaultdict[str, list[SeriesVerdict]] = defaultdict(list)
    for one in verdict.series:
        figures[one.key.cell].append(one)
    tonight = {cell.name: cell for cell in morning.cells}
    # As the plan has them, and what it has no more at the end.
    order = {name: place for place, name in enumerate(tonight)}
    fresh = {(one.cell, one.graph.night): one.graph for one in (*morning.worse, *morning.other, *morning.known)}
    cells = [
        _history(
            lab,
            tonight.get(row.name) or _absent(row),
            tuple(sorted(figures[row.name], key=lambda one: rank(one.key.metric))),
            _stays(row.name, [night.name for night in nights], states, index.runs_by_night(row.name)),
            (fresh, read),
        )
        for row in sorted(index.cells(), key=lambda row: order.get(row.name, len(order)))
    ]
    return Lab(tuple(nights), tuple(cells), morning)


def _absent(row: CellRow) -> TonightsCell:
    """A cell that was not in the last night."""
    return TonightsCell(row.name, row.experiment, row.machine, row.kernel, row.words, "", "", row.twin_of)


def _stays(cell: str, nights: Sequence[str], states: States, runs: dict[str, tuple[RunRow, ...]]) -> tuple[Stay, ...]:
    found = []
    for night in nights:
        own = runs.get(night, ())
        state, reason = states.get(night, {}).get(cell, (OK, _PUBLISHED) if own else ("", ""))
        if state:
            releases = ", ".join(dict.fromkeys(run.release for run in own))
            # Of old nights the runs may have been pruned.
            runs_left = tuple((run.boot, run.path) for run in own if run.path.is_dir())
            found.append(Stay(night, state, reason, runs_left, releases))
    return tuple(found)


def _history(
    lab: Path,
    cell: TonightsCell,
    figures: tuple[SeriesVerdict, ...],
    stays: tuple[Stay, ...],
    known: tuple[dict[tuple[str, str], Graph], dict[str, Night]],
) -> CellHistory:
    fresh, nights = known
    changed = sorted({change.night for figure in figures for change in figure.changes}, reverse=True)
    found = [fresh.get((cell.name, night)) or graphs.kept(lab, cell.name, night) for night in changed]
    return CellHistory(
        cell,
        figures,
        stays,
        tuple(graph for graph in found if graph is not None and (graph.movers or graph.page or graph.missing)),
        _again(stays),
        tuple(_logs(cell.name, stays, nights)),
    )


def _again(stays: Sequence[Stay]) -> tuple[str, ...]:
    """The command of the newest run."""
    for stay in reversed(stays):
        for _, path in reversed(stay.runs):
            file = path.parents[1] / publish.CELL_FILE
            try:
                return tuple(parse(file, read_bytes(file)).texts("again"))
            except ResultError:
                continue
    return ()


def _logs(cell: str, stays: Sequence[Stay], nights: dict[str, Night]) -> list[FailureLog]:
    """What the last attempts at a cell have said that did not measure it, the newest first."""
    found: list[FailureLog] = []
    for stay in reversed(stays):
        night = nights.get(stay.night)
        if stay.state == OK or night is None:
            continue
        for block in night.blocks:
            if cell not in block.cells or publish.published(night.path, cell, block.boot).is_dir():
                continue
            for attempt in publish.attempts(night.path, block.id)[-1:]:
                text = log_tail(attempt, cell)
                if text:
                    found.append(FailureLog(stay.night, attempt / publish.LOG_FILE, text))
        if len(found) >= _MOST_LOGS:
            break
    return found[:_MOST_LOGS]
