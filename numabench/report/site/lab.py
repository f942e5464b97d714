"""What the pages of a lab are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.analysis.history.types import SeriesVerdict
    from numabench.report.nightly.morning import Graph, Morning, TonightsCell


@dataclass(frozen=True)
class Stay:
    """What became of a cell in a night: its state, why, its runs with their boots, and the kernel that they ran on."""

    night: str
    state: str
    reason: str = ""
    runs: tuple[tuple[int, Path], ...] = ()
    release: str = ""


@dataclass(frozen=True)
class FailureLog:
    """The end of what an attempt that failed has printed of a cell."""

    night: str
    file: Path
    text: str


@dataclass(frozen=True)
class CellHistory:
    """A cell over nights. `cell` is as of the last night, its state empty where it was not in it.

    `figures` are sorted, the main ones first; `stays` are oldest first; `graphs` are the comparisons around its changes
    that there are; `again` runs it once more.
    """

    cell: TonightsCell
    figures: tuple[SeriesVerdict, ...]
    stays: tuple[Stay, ...]
    graphs: tuple[Graph, ...] = ()
    again: tuple[str, ...] = ()
    logs: tuple[FailureLog, ...] = ()


@dataclass(frozen=True)
class NightSummary:
    """A night: how it ended (empty where it has not), and of what it had no room for, why.

    `unreadable` says why nothing else is known of it.
    """

    name: str
    began_utc: str = ""
    ending: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    unreadable: str = ""


@dataclass(frozen=True)
class Lab:
    """All of it; nights are oldest first, the last is that of the morning."""

    nights: tuple[NightSummary, ...]
    cells: tuple[CellHistory, ...]
    morning: Morning
