"""What there is to say on the morning after a night, for every form that it is told in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.analysis.history.types import Change, SeriesVerdict

OK, FAILED, LOST, BLOCKED = "ok", "failed", "lost", "blocked"
STATES = (OK, FAILED, LOST, BLOCKED)


@dataclass(frozen=True)
class Mover:
    """A function whose share of the CPU's samples, 0 to 1 and with all below it, moved from before to after.

    `ci95` is the interval of the difference, `is_found` says that a test stands behind it. `per_2mb_ns_before` and
    `_after` are nanoseconds for each 2 MiB migrated, None where that is not known.
    """

    name: str
    before: float
    after: float
    ci95: tuple[float, float] | None = None
    is_found: bool = False
    per_2mb_ns_before: float | None = None
    per_2mb_ns_after: float | None = None


@dataclass(frozen=True)
class Graph:
    """The call graphs of the nights around a change, compared: what moved most, heaviest first.

    `path` is the chain of calls along which it moved, from the outermost caller in. `page` is the whole comparison for
    a browser. Where there is none, `missing` says why, and what to do.
    """

    night: str
    movers: tuple[Mover, ...] = ()
    path: tuple[str, ...] = ()
    is_tested: bool = False
    runs_before: int = 0
    runs_after: int = 0
    page: Path | None = None
    missing: str = ""


@dataclass(frozen=True)
class Shift:
    """A figure, and the change of it that is meant."""

    figure: SeriesVerdict
    change: Change


@dataclass(frozen=True)
class Changed:
    """What is new of a cell. `shifts` are of its figures, the main ones first.

    `again` is the command that runs the cell once more, empty where it is not on record; `before` and `after` are the
    runs on both sides.
    """

    cell: str
    shifts: tuple[Shift, ...]
    graph: Graph
    again: tuple[str, ...] = ()
    before: tuple[Path, ...] = ()
    after: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TonightsCell:
    """What became of a cell: its state, and the reason where it is not `ok`. `words` are those of `numabench run`."""

    name: str
    experiment: str
    machine: str
    kernel: str
    words: tuple[str, ...]
    state: str
    reason: str = ""
    twin_of: str = ""


@dataclass(frozen=True)
class Unjudged:
    """How many figures, of how many cells, carry a note that says why less can be said of them."""

    note: str
    figures: int
    cells: int


@dataclass(frozen=True)
class Visible:
    """What a night can show on a machine, from its own A/A cells: by figure (its label) the smallest change, relative.

    Empty where the machine has no such cells, or too few nights of them.
    """

    machine: str
    figures: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Morning:
    """All of it. `nights` is how many there were up to this one, `figures` how many were looked at.

    `ending` is how the night ended, empty where it has not. `worse` alarms; `other` is what is new otherwise, `known`
    what is new and acknowledged. `left_out` are cells that the night's budget had no room for, with the reason.
    """

    lab: str
    night: str
    nights: int
    figures: int
    ending: str
    cells: tuple[TonightsCell, ...]
    worse: tuple[Changed, ...] = ()
    other: tuple[Changed, ...] = ()
    known: tuple[Changed, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    visible: tuple[Visible, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    @property
    def not_ok(self) -> tuple[TonightsCell, ...]:
        """The cells that did not end well."""
        return tuple(cell for cell in self.cells if cell.state != OK)

    def count(self, state: str) -> int:
        """How many cells ended so."""
        return sum(cell.state == state for cell in self.cells)
