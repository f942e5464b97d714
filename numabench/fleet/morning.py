"""The morning after a night, gathered from its verdict, its journal and the index."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from numabench.analysis.history.night import is_regression, smallest_by_figure
from numabench.errors import ResultError
from numabench.fleet import graphs, journal, quarantine
from numabench.fleet.plan import GUEST
from numabench.fleet.verdict import around
from numabench.report.nightly.morning import Changed, Graph, Morning, Shift, TonightsCell, Unjudged, Visible
from numabench.report.nightly.words import is_main, label, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numabench.analysis.history.types import NightVerdict, SeriesVerdict
    from numabench.fleet.graphs import Compare
    from numabench.fleet.night_file import Night
    from numabench.store.index import CellRow, Index

_DONE = "done"
# How many figures of a machine say what can be seen on it.
_MOST_VISIBLE = 4


def gather(night: Night, verdict: NightVerdict, index: Index, compare: Compare, say: Callable[[str], None]) -> Morning:
    """All that there is to say of a night, with the call graphs around what is new in it.

    `say` is told what takes long. Raises `ResultError` where something cannot be read or written.
    """
    lab, ending = index.lab, how_it_ended(night)
    new = [Shift(series, change) for series in verdict.series for change in series.changes if change.is_new]
    new.sort(key=lambda shift: (not is_regression(shift.change), rank(shift.figure.key.metric)))
    shown: dict[tuple[str, str], Graph] = {}

    def changed(shifts: Iterable[Shift], *, with_graph: bool = True) -> tuple[Changed, ...]:
        by_cell: defaultdict[str, list[Shift]] = defaultdict(list)
        for shift in shifts:
            by_cell[shift.figure.key.cell].append(shift)
        return tuple(
            _changed(lab, index, tuple(own), shown, (compare, say) if with_graph else None) for own in by_cell.values()
        )

    return Morning(
        lab=night.lab,
        night=night.name,
        nights=index.nights().index(night.name) + 1,
        figures=len(verdict.series),
        ending=ending,
        cells=tuple(_cell(night, name, outcome) for name, outcome in verdict.cells.items()),
        worse=changed(shift for shift in new if is_regression(shift.change)),
        other=changed(shift for shift in new if not is_regression(shift.change) and not shift.change.acknowledged),
        known=changed((shift for shift in new if shift.change.acknowledged), with_graph=False),
        unjudged=_unjudged(verdict.series),
        visible=_visible(
            verdict.series, index.cells(), list(dict.fromkeys(one.machine for one in night.cells.values()))
        ),
        left_out=tuple(night.left_out.items()),
        notes=tuple(_notes(lab, ending)),
        caveats=tuple(_caveats(night)),
    )


def how_it_ended(night: Night) -> str:
    """How a night ended, empty where it has not. Raises `ResultError` where its journal is damaged."""
    kinds = {"night-begun", "night-ended"}
    told = [event for event in journal.read(night.path / journal.JOURNAL_FILE) if event.text("event") in kinds]
    # One that was gone on with since has not.
    return told[-1].text("how") if told and told[-1].text("event") == "night-ended" else ""


def _cell(night: Night, name: str, outcome: tuple[str, str]) -> TonightsCell:
    cell = night.cells[name]
    return TonightsCell(name, cell.experiment, cell.machine, cell.kernel, cell.words, *outcome, cell.twin_of)


def _changed(
    lab: Path,
    index: Index,
    shifts: tuple[Shift, ...],
    shown: dict[tuple[str, str], Graph],
    how: tuple[Compare, Callable[[str], None]] | None,
) -> Changed:
    first = shifts[0]
    cell, night = first.figure.key.cell, first.change.night
    try:
        runs = around(index, first.figure.key, first.change)
    except ResultError as error:
        # Runs may have been taken away; what changed is told all the same.
        return Changed(cell, shifts, Graph(night, missing=f"the runs cannot be read: {error}"))
    if (cell, night) not in shown:
        if how is None:
            shown[cell, night] = graphs.kept(lab, cell, night) or Graph(night, missing="not compared")
        else:
            compare, say = how
            say(f"comparing the call graphs of {cell} around {night}")
            shown[cell, night] = graphs.compared(lab, cell, night, (runs.before, runs.after), compare)
    return Changed(cell, shifts, shown[cell, night], runs.again, runs.before, runs.after)


def _unjudged(series: Sequence[SeriesVerdict]) -> tuple[Unjudged, ...]:
    cells: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in series:
        for note in one.notes:
            cells[note][one.key.cell] += 1
    return tuple(Unjudged(note, found.total(), len(found)) for note, found in sorted(cells.items()))


def _visible(series: Sequence[SeriesVerdict], cells: Sequence[CellRow], machines: Sequence[str]) -> tuple[Visible, ...]:
    """Of each machine what its A/A cells and what they are the twins of can show."""
    found = []
    for machine in machines:
        twins = [cell for cell in cells if cell.machine == machine and cell.is_aa]
        own = {name for cell in twins for name in (cell.name, cell.twin_of)}
        judged = [one for one in series if one.key.cell in own and is_main(one.key.metric)]
        names = {one.key.metric: label(one.label, one.key.metric) for one in judged}
        smallest = smallest_by_figure(judged)
        # What only doubling would show is no help.
        ranked = sorted((metric for metric in smallest if smallest[metric] < 1), key=rank)[:_MOST_VISIBLE]
        found.append(Visible(machine, tuple((names[metric], smallest[metric]) for metric in ranked)))
    return tuple(found)


def _notes(lab: Path, ending: str) -> list[str]:
    notes = []
    if not ending:
        notes.append(
            "The night has not ended: it is running, or was cut off. `numabench nightly run LAB.toml --resume` goes on "
            "with it."
        )
    elif ending != _DONE:
        notes.append(f"The night ended before its end: {ending}.")
    notes += [
        f"{entry.kernel} is in quarantine on {entry.machine} and not booted there, since {entry.since_utc}: {entry.why}"
        for entry in quarantine.read(lab)
    ]
    return notes


def _caveats(night: Night) -> Iterator[str]:
    guests = sorted({cell.machine for cell in night.cells.values() if night.machines[cell.machine].kind == GUEST})
    if guests:
        yield (
            f"{', '.join(guests)}: what was measured in a guest is no performance. Counts, statuses and shares are "
            "real, its times and rates are the emulation's."
        )
