"""How a sweep's cells lie in tables and panels: rows, columns, and a table for what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.sweep import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.sweep import CellFigures, PairFigures, SweepSummary
    from numabench.record import SweepAxis

PAIR = "pair"
# What is told apart by tables, and not within one, as long as there is anything else for the columns.
_OF_TABLES = ("pages", "driver", PAIR)


@dataclass(frozen=True)
class Table:
    """Some cells by the values of two axes; an axis is None where the sweep has no more of them.

    `fixed` are the other axes' values, which all of the table share; `cells` are by (row, column), "" where there is
    no such axis.
    """

    fixed: tuple[tuple[str, str], ...]
    rows: SweepAxis | None
    columns: SweepAxis | None
    cells: dict[tuple[str, str], CellFigures]


@dataclass(frozen=True)
class PairTable:
    """What was moved between each two nodes, by (source, target), where the other axes have the values of `fixed`.

    `stalls` has the victims' cells by the pair that was asked for.
    """

    fixed: tuple[tuple[str, str], ...]
    pairs: dict[tuple[int, int], PairFigures]
    stalls: dict[tuple[int, int], CellFigures]

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes that any pair has."""
        return tuple(sorted({node for pair in (*self.pairs, *self.stalls) for node in pair}))


def fixed_text(fixed: Sequence[tuple[str, str]]) -> str:
    """`driver move_pages, pages 4k`."""
    return ", ".join(f"{name} {value}" for name, value in fixed)


def tables(summary: SweepSummary) -> tuple[Table, ...]:
    """The cells as tables: batch down, threads across; where an axis is not there, another takes its place."""
    axes = {axis.name: axis for axis in summary.sweep.axes}
    rows = axes.get(BATCH) or next((axis for name, axis in axes.items() if name not in _OF_TABLES), None)
    rows = rows or next(iter(axes.values()), None)
    left = {name: axis for name, axis in axes.items() if rows is None or name != rows.name}
    columns = left.get("threads") or next((axis for name, axis in left.items() if name not in _OF_TABLES), None)
    columns = columns or next(iter(left.values()), None)
    found: dict[tuple[tuple[str, str], ...], dict[tuple[str, str], CellFigures]] = {}
    for cell in summary.cells:
        values = dict(zip(axes, cell.cell.values, strict=True))
        place = tuple(values.pop(axis.name) if axis is not None else "" for axis in (rows, columns))
        found.setdefault(tuple(values.items()), {})[place[0], place[1]] = cell
    return tuple(Table(fixed, rows, columns, cells) for fixed, cells in found.items())


def pair_tables(summary: SweepSummary) -> tuple[PairTable, ...]:
    """The cells by pairs of nodes; none where the sweep has none of them."""
    names = [axis.name for axis in summary.sweep.axes]
    if PAIR not in names:
        return ()
    found: dict[tuple[tuple[str, str], ...], PairTable] = {}
    for cell in summary.cells:
        values = dict(zip(names, cell.cell.values, strict=True))
        source, _, target = values.pop(PAIR).partition(">")
        table = found.setdefault(tuple(values.items()), PairTable(tuple(values.items()), {}, {}))
        table.stalls[int(source), int(target)] = cell
        for pair in cell.pairs:
            # Of a ping-pong that was asked for both ways each direction is there twice: the one that begins with it.
            if (pair.source, pair.target) == (int(source), int(target)) or (
                pair.source,
                pair.target,
            ) not in table.pairs:
                table.pairs[pair.source, pair.target] = pair
    return tuple(found.values())
