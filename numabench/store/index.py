"""A lab's index: every figure of every night in SQLite, derived from the published directories, made anew at will.

A published directory never changes, so a boot that is in the index is not read again, unless its cell.json is another
than it was: a night may have been taken away, and measured once more. Each night is one transaction: who is killed
leaves the index as it was before that night or after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from numabench.errors import ResultError
from numabench.fields import parse
from numabench.store import boot_values
from numabench.store import index_tables as tables
from numabench.store.files import CELL_FILE, NIGHT_FILE, NIGHT_SCHEMA_VERSION, NIGHTS
from numabench.store.index_tables import INDEX_FILE, BootRow, CellRow, DamagedIndex, Layout, Measured, MetricRow
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import fsync_directory, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    # By night: the median of each boot.
    Levels = tuple[tuple[str, tuple[float, ...]], ...]
    _Figures = tuple[str, int, int, bytes, int]

__all__ = [
    "INDEX_FILE",
    "VALUE_COLUMNS",
    "CellRow",
    "Counts",
    "Index",
    "Measured",
    "MetricRow",
    "night_names",
    "open_index",
    "update",
]

_NIGHT = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.(\d+))?")
_BOOT = re.compile(r"boot-(\d+)")


@dataclass(frozen=True)
class Counts:
    """What an update added; `unreadable` are the boots that could not be read, with the reason: it tries them again.

    `removed` are the boots that were in the index, and are gone or have become others since.
    """

    nights: int = 0
    boots: int = 0
    runs: int = 0
    removed: int = 0
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRow:
    """A run of a cell in a night; `path` is its directory."""

    run_id: str
    path: Path
    boot: int
    attempt: int
    boot_id: str
    created_utc: str
    release: str
    workload: str


_RUN = "runs.sum, boots.boot, attempt, runs.name, path, created_utc, boot_id, release, workload"
VALUE_COLUMNS = (
    *("run_id", "attempt", "boot_id", "machine", "kernel", "workload"),
    *("metric", "unit", "iteration", "value", "night", "cell"),
)


def night_names(lab: Path) -> tuple[str, ...]:
    """The nights of a lab, oldest first. Raises `ResultError` where there is no lab."""
    if not (lab / NIGHTS).is_dir():
        raise ResultError(f"{lab} is not a lab: it has no directory {NIGHTS}", "name the lab's directory")
    names = (path.name for path in tables.scanned(lab / NIGHTS) if _NIGHT.fullmatch(path.name))
    return tuple(sorted((name for name in names if (lab / NIGHTS / name / NIGHT_FILE).is_file()), key=_order))


def _order(night: str) -> tuple[str, int]:
    """What sorts nights by time: the second night of a date comes after the first, the tenth after the ninth."""
    date, _, number = night.partition(".")
    return date, int(number or 1)


def update(lab: Path, metrics_of: Callable[[Path], Measured], *, anew: bool = False) -> Counts:
    """Bring a lab's index up to what is published, making it where there is none; `anew` makes all of it anew.

    `metrics_of` reads a run's directory. An index that is damaged or of another version is made anew, too. Raises
    `ResultError` where the index cannot be written, or the lab not be read; a boot that cannot be read is counted and
    left out.
    """
    names = night_names(lab)
    path = lab / INDEX_FILE
    if path.is_dir():
        raise tables.broken(path, IsADirectoryError())
    if not anew:
        with contextlib.suppress(DamagedIndex), _opened(path) as connection:
            # In its place at once: one that is cut off is gone on with, and two who begin at once make one.
            with tables.reading(path):
                tables.make(connection)
                is_current = tables.is_current(connection)
            if is_current:
                return _add(connection, lab, names, metrics_of)
    return _rebuild(lab, names, metrics_of)


def _rebuild(lab: Path, names: tuple[str, ...], metrics_of: Callable[[Path], Measured]) -> Counts:
    """Make an index beside the old one, and put it in its place when it is whole."""
    partial = lab / f".tmp-{os.getpid()}-{INDEX_FILE}"
    try:
        for old in lab.glob(f".tmp-*-{INDEX_FILE}*"):
            if not _is_alive(old.name.split("-")[1]):
                old.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        with _opened(partial) as connection:
            # Nobody else sees it, and one that is cut off is not gone on with.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            tables.make(connection)
            counts = _add(connection, lab, names, metrics_of)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        (lab / f"{INDEX_FILE}-journal").unlink(missing_ok=True)
        partial.replace(lab / INDEX_FILE)
        fsync_directory(lab)
    except OSError as error:
        refuse(lab / INDEX_FILE, error)
    finally:
        partial.unlink(missing_ok=True)
    return counts


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _opened(path: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    connection = tables.connect(path, read_only=read_only)
    try:
        yield connection
    except sqlite3.Error as error:
        raise tables.broken(path, error) from error
    finally:
        connection.close()


def _add(
    connection: sqlite3.Connection, lab: Path, names: tuple[str, ...], metrics_of: Callable[[Path], Measured]
) -> Counts:
    nights = boots = runs = 0
    unreadable: list[str] = []
    file = lab / INDEX_FILE
    with tables.reading(file):
        before = set(connection.execute("SELECT name FROM nights").fetchall())
        removed = _drop_nights(connection, lab)
        is_less = before != set(connection.execute("SELECT name FROM nights").fetchall())
    if is_less:
        _keep_cells(connection, lab, names)
    for name in names:
        with tables.reading(file):
            known = _known(connection, name)
            has_night = _has_night(connection, name)
        there = {(boot.cell, boot.boot): boot for boot in _published(lab / NIGHTS / name)}
        gone = {key: stamp for key, stamp in known.items() if key not in there or there[key].stamp != stamp}
        new = [boot for key, boot in there.items() if known.get(key) != boot.stamp]
        if not new and not gone and has_night:
            continue
        try:
            night = _night(lab / NIGHTS / name)
            rows = list(_read(lab, new, {cell.name for cell in night[1]}, metrics_of, unreadable))
        except ResultError as error:
            unreadable.append(error.message)
            night, rows = None, []
        with tables.reading(file), _transaction(connection) as writer:
            removed += writer.drop(name, gone)
            if night is None:
                continue
            # Somebody else may have added them meanwhile.
            known = _known(connection, name)
            rows = [row for row in rows if (row.cell, row.boot) not in known]
            runs += writer.boots(writer.night(name, *night), rows)
        nights += bool(rows)
        boots += len(rows)
    return Counts(nights, boots, runs, removed, tuple(unreadable))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[tables.NightWriter]:
    """All that is done in the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield tables.NightWriter(connection)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _drop_nights(connection: sqlite3.Connection, lab: Path) -> int:
    """Take the nights that are no more there out of the index; how many boots these had."""
    removed = 0
    for (name,) in connection.execute("SELECT name FROM nights").fetchall():
        if not (lab / NIGHTS / name / NIGHT_FILE).is_file():
            with _transaction(connection) as writer:
                removed += writer.drop(name, _known(connection, name))
                writer.drop_night(name)
    return removed


def _keep_cells(connection: sqlite3.Connection, lab: Path, names: Iterable[str]) -> None:
    """Take the cells out that only nights had which are no more there."""
    planned: set[str] = set()
    for name in names:
        # What cannot be read is told when it is added.
        with contextlib.suppress(ResultError):
            planned |= {cell.name for cell in _night(lab / NIGHTS / name)[1]}
    with _transaction(connection) as writer:
        writer.drop_cells(planned)


def _has_night(connection: sqlite3.Connection, night: str) -> bool:
    return connection.execute("SELECT 1 FROM nights WHERE name = ?", (night,)).fetchone() is not None


def _known(connection: sqlite3.Connection, night: str) -> dict[tuple[str, int], str]:
    """The boots of a night that are in the index, with their stamps."""
    rows = connection.execute(
        "SELECT cells.name, boot, stamp FROM boots JOIN nights ON nights.id = night JOIN cells ON cells.id = cell"
        " WHERE nights.name = ?",
        (night,),
    )
    return {(cell, boot): stamp for cell, boot, stamp in rows}


def _night(path: Path) -> tuple[str, list[CellRow]]:
    """When a night began, and its cells."""
    fields = parse(path / NIGHT_FILE, read_bytes(path / NIGHT_FILE))
    check_version(fields, NIGHT_SCHEMA_VERSION)
    cells = fields.object("cells")
    return fields.text("began_utc", ""), [tables.cell_row(name, cells.object(name)) for name in cells.fields]


@dataclass(frozen=True)
class _Published:
    """A published boot; `stamp` tells its cell.json from any other, and is empty where it has none."""

    cell: str
    boot: int
    path: Path
    stamp: str


def _published(night: Path) -> Iterator[_Published]:
    for cell in tables.scanned(night / "cells"):
        for path in tables.scanned(cell):
            match = _BOOT.fullmatch(path.name)
            if match:
                yield _Published(cell.name, int(match[1]), path, _stamp(path / CELL_FILE))


def _stamp(file: Path) -> str:
    try:
        stat = file.stat()
    except OSError:
        return ""
    return f"{stat.st_mtime_ns} {stat.st_size}"


def _read(
    lab: Path,
    boots: list[_Published],
    cells: Collection[str],
    metrics_of: Callable[[Path], Measured],
    unreadable: list[str],
) -> Iterator[BootRow]:
    for boot in boots:
        path = boot.path
        if boot.cell not in cells:
            unreadable.append(f"{path}: its night has no such cell")
            continue
        try:
            record = parse(path / CELL_FILE, read_bytes(path / CELL_FILE))
            runs = tuple((str(run.relative_to(lab)), kept) for run, kept in boot_values.of_boot(path, metrics_of))
            yield BootRow(boot.cell, boot.boot, record.count("attempt", 0), runs, boot.stamp)
        except ResultError as error:
            unreadable.append(error.message)


def open_index(lab: Path) -> Index:
    """Open a lab's index for reading; it is a context manager. Raises `ResultError` where there is none to be read."""
    path = lab / INDEX_FILE
    if not path.exists():
        raise ResultError(f"{lab} has no index", f"make it: numabench index {lab}")
    connection = tables.connect(path, read_only=True)
    try:
        with tables.reading(path):
            is_current = tables.is_current(connection)
    except ResultError:
        connection.close()
        raise
    if not is_current:
        connection.close()
        raise ResultError(f"{path} is of another version of numabench", f"make it anew: numabench index {lab}")
    return Index(lab, connection)


class Index:
    """A lab's index, open for reading."""

    def __init__(self, lab: Path, connection: sqlite3.Connection) -> None:
        self.lab = lab
        self._connection = connection
        self._layouts: dict[int, Layout] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        return tables.reading(self.lab / INDEX_FILE)

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._reading():
            return self._connection.execute(query, values).fetchall()

    def nights(self) -> tuple[str, ...]:
        """The nights, oldest first."""
        with self._reading():
            return tuple(sorted((name for (name,) in self._rows("SELECT name FROM nights")), key=_order))

    def cells(self) -> tuple[CellRow, ...]:
        """All cells of all nights, by name."""
        rows = self._rows("SELECT sum, name, experiment, machine, kernel, words, twin_of FROM cells ORDER BY name")
        with self._reading():
            for row in rows:
                tables.check(*row)
            return tuple(
                CellRow(name, experiment, machine, kernel, tuple(json.loads(words)), twin_of)
                for _, name, experiment, machine, kernel, words, twin_of in rows
            )

    def metrics(self, cell: str) -> tuple[MetricRow, ...]:
        """The figures that a cell has had in some night, by name."""
        used = {
            number
            for (layout,) in self._rows(
                "SELECT DISTINCT layout FROM figures WHERE cell = (SELECT id FROM cells WHERE name = ?)", cell
            )
            for number in self._layout(layout).places
        }
        return tuple(row for number, row in self._metrics().items() if number in used)

    def _metrics(self) -> dict[int, MetricRow]:
        """All figures by their number, in the order of their names."""
        rows = self._rows(
            "SELECT id, sum, name, label, unit, better, is_time, step, relative_step, total FROM metrics ORDER BY name"
        )
        with self._reading():
            for row in rows:
                tables.check(*row[1:])
            return {
                number: MetricRow(name, label, unit, better, bool(is_time), step, relative_step, total)
                for number, _, name, label, unit, better, is_time, step, relative_step, total in rows
            }

    def _layout(self, number: int) -> Layout:
        found = self._layouts.get(number)
        if found is None:
            with self._reading():
                ((text,),) = self._rows("SELECT metrics FROM layouts WHERE id = ?", number)
                found = self._layouts[number] = Layout.parse(text)
        return found

    def runs(self, cell: str, night: str) -> tuple[RunRow, ...]:
        """The runs of a cell in a night, by boot."""
        rows = self._rows(
            f"SELECT {_RUN} FROM runs"  # noqa: S608  a constant
            " JOIN boots ON boots.id = runs.boot WHERE cell = (SELECT id FROM cells WHERE name = ?)"
            " AND night = (SELECT id FROM nights WHERE name = ?) ORDER BY boots.boot, runs.name",
            cell,
            night,
        )
        return tuple(self._run(*row) for row in rows)

    def _run(self, of_all: int, boot: int, attempt: int, *told: str) -> RunRow:
        """A run from the columns `_RUN`."""
        with self._reading():
            tables.check(of_all, *told)
            run_id, path, created_utc, boot_id, release, workload = told
            return RunRow(run_id, self.lab / path, boot, attempt, boot_id, created_utc, release, workload)

    def runs_by_night(self, cell: str) -> dict[str, tuple[RunRow, ...]]:
        """All runs of a cell, by night and boot; nights without one are left out."""
        rows = self._rows(
            f"SELECT nights.name, {_RUN}"  # noqa: S608  a constant
            " FROM runs JOIN boots ON boots.id = runs.boot JOIN nights ON nights.id = boots.night"
            " WHERE boots.cell = (SELECT id FROM cells WHERE name = ?) ORDER BY boots.boot, runs.name",
            cell,
        )
        found: dict[str, list[RunRow]] = {}
        for night, *row in rows:
            found.setdefault(night, []).append(self._run(*row))
        return {night: tuple(runs) for night, runs in found.items()}

    def series(self, cell: str, metric: str) -> Levels:
        """A cell's figure by night, oldest first: the medians of each boot's values, boots in order.

        A part of a total that a run did not see is 0 in it.
        """
        numbers = {row.name: number for number, row in self._metrics().items()}
        if metric not in numbers:
            return ()
        row = self._metrics()[numbers[metric]]
        return self._series(self._figures(cell), numbers[metric], numbers.get(row.total))

    def every_series(self, cell: str) -> Iterator[tuple[MetricRow, Levels]]:
        """All of a cell's figures as `series` gives each, by name; the cell is read once."""
        metrics = self._metrics()
        numbers = {row.name: number for number, row in metrics.items()}
        figures = self._figures(cell)
        used = {number for figure in figures for number in self._layout(figure[2]).places}
        for number, row in metrics.items():
            if number in used:
                yield row, self._series(figures, number, numbers.get(row.total))

    def _figures(self, cell: str) -> list[_Figures]:
        """Night, boot, layout, values and checksum of each of a cell's runs, which are what was written."""
        rows = self._rows(
            # What lost its run or its night by damage is not left out unseen.
            "SELECT nights.name, boots.boot, layout, iterations, figures.sum FROM figures"
            " LEFT JOIN runs ON runs.id = figures.run LEFT JOIN boots ON boots.id = runs.boot"
            " LEFT JOIN nights ON nights.id = boots.night"
            " WHERE figures.cell = (SELECT id FROM cells WHERE name = ?)",
            cell,
        )
        with self._reading():
            for night, boot, layout, blob, of_all in rows:
                if of_all != tables.figures_sum(night, cell, boot, self._layout(layout).sum, blob):
                    raise ValueError(tables.NOT_WRITTEN)
        return rows

    def _series(self, figures: Sequence[_Figures], metric: int, total: int | None) -> Levels:
        by_night: dict[str, dict[int, list[float]]] = {}
        for night, boot, layout, blob, _ in figures:
            values = self._layout(layout).values(blob, metric, total)
            if values is not None:
                by_night.setdefault(night, {}).setdefault(boot, []).extend(values)
        return tuple(
            (night, tuple(statistics.median(boots[boot]) for boot in sorted(boots)))
            for night, boots in sorted(by_night.items(), key=lambda item: _order(item[0]))
        )

    def values(self, night: str) -> Iterator[tuple[str | int | float, ...]]:
        """Every value of every trial in a night, a row each: `VALUE_COLUMNS`."""
        metrics = self._metrics()
        rows = self._rows(
            "SELECT runs.name, attempt, boot_id, machine, kernel, workload, cells.name, layout, iterations,"
            " boots.boot, figures.sum"
            " FROM figures JOIN runs ON runs.id = figures.run JOIN boots ON boots.id = runs.boot"
            " JOIN nights ON nights.id = boots.night JOIN cells ON cells.id = figures.cell WHERE nights.name = ?",
            night,
        )
        for run_id, attempt, boot_id, machine, kernel, workload, cell, number, blob, boot, of_all in rows:
            layout = self._layout(number)
            with self._reading():
                if of_all != tables.figures_sum(night, cell, boot, layout.sum, blob):
                    raise ValueError(tables.NOT_WRITTEN)
            run = (run_id, attempt, boot_id, machine, kernel, workload)
            for metric in layout.places:
                own = metrics[metric]
                for iteration, value in enumerate(layout.values(blob, metric, None) or ()):
                    yield (*run, own.name, own.unit, iteration, value, night, cell)
