"""Which nights' runs and recordings a lab keeps: the newest so many, and whatever a verdict refers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.history.levels import NEW_NIGHTS, SHORTEST
from numabench.errors import ResultError
from numabench.fleet import acknowledged, ledger, night_file, quarantine, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numabench.fleet.plan import Retention


@dataclass(frozen=True)
class Kept:
    """What is to stay of a lab's nights, which are given oldest first.

    `old_runs` are the nights whose runs may go, `old_recordings` those whose recordings may. But `nights` stay whole,
    each for a reason, and so do the cells in `cells`, pairs of a night and a cell. `judged` are the nights whose
    verdicts that was read from.
    """

    old_runs: tuple[str, ...]
    old_recordings: tuple[str, ...]
    nights: dict[str, str]
    cells: frozenset[tuple[str, str]]
    judged: tuple[str, ...]


def kept(lab: Path, retention: Retention) -> Kept:
    """What a lab's rule and its verdicts keep.

    Raises `ResultError` where a verdict, acknowledged.toml or quarantine.json cannot be read: then nothing is known of
    what they refer to.
    """
    names = night_file.names(lab)
    old_runs = _older(names, retention.nights)
    old_recordings = _older(names, retention.recordings)
    old = max(old_runs, old_recordings, key=len)
    cells = _referred(lab, names) if old else frozenset()
    return Kept(old_runs, old_recordings, _whole_nights(lab, old), cells, _judged(lab, names))


def _older(names: tuple[str, ...], count: int | None) -> tuple[str, ...]:
    return () if count is None else names[: max(len(names) - count, 0)]


def _whole_nights(lab: Path, names: Iterable[str]) -> dict[str, str]:
    found = {}
    evidence = {entry.night: f"{entry.kernel} is in quarantine for it" for entry in quarantine.read(lab)}
    for name in names:
        reason = evidence.get(name) or _open(lab, name)
        if reason:
            found[name] = reason
    return found


def _open(lab: Path, name: str) -> str:
    """Why a night may not have ended; empty where it has."""
    path = night_file.path_of(lab, name)
    if path.is_symlink():
        return "it is a symbolic link"
    try:
        night = night_file.load(path)
        book = ledger.Ledger(night, lab)
    except ResultError as error:
        return f"it cannot be read: {error.message}"
    left = sum(len(book.open_cells(block)) for block in night.blocks)
    return f"{left} of its cells have not ended (numabench nightly run --resume --night {name})" if left else ""


def _referred(lab: Path, names: Sequence[str]) -> frozenset[tuple[str, str]]:
    """The cells' nights around what is listed as a change, and around what is acknowledged as one.

    A change alarms for a week, so that the verdicts of the last week are those which may still be looked at; the newest
    lists every change of the history, too.
    """
    found: set[tuple[str, str]] = set()
    for name in _judged(lab, names):
        for series in verdict.read(lab, name).series:
            for change in series.changes:
                measured = [point.night for point in series.points]
                for nights in (measured, _published(lab, names, series.key.cell)):
                    found |= {(night, series.key.cell) for night in _around(nights, change.night, 0)}
    for known in acknowledged.read(lab):
        # As nights are added, a change's first night may move by so many.
        nights = _published(lab, names, known.cell)
        found |= {(night, known.cell) for night in _around(nights, known.night, SHORTEST)}
    return frozenset(found)


def _judged(lab: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The nights of the last week that have a verdict, or the last one before."""
    have = [name for name in names if (night_file.path_of(lab, name) / verdict.VERDICT_FILE).exists()]
    return tuple([name for name in have if name in names[-NEW_NIGHTS:]] or have[-1:])


def _published(lab: Path, names: Sequence[str], cell: str) -> list[str]:
    return [name for name in names if (night_file.path_of(lab, name) / night_file.CELLS / cell).is_dir()]


def _around(nights: Sequence[str], first: str, slack: int) -> list[str]:
    """The nights that a comparison around a change takes, as `verdict.around` does, with some more on either side."""
    place = sum(_order(night) < _order(first) for night in nights)
    count = verdict.NIGHTS_AROUND + slack
    return [*nights[max(place - count, 0) : place], *nights[place : place + count]]


def _order(night: str) -> tuple[str, int]:
    date, _, number = night.partition(".")
    return date, int(number) if number.isdecimal() else 1
