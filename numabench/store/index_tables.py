"""The tables of a lab's index, and the rows that go into them. All of it is derived from the published directories.

A run's figures are one row: all values behind each other, doubles of this machine's kind, in the order of a layout. A
layout says of which figures how many there are; runs of one cell hardly ever have more than a few. SQLite keeps no
checksums, so that each row has one of its own: `check`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.errors import ResultError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from numabench.fields import Fields

INDEX_FILE = "index.sqlite"
# Another version's index is not read but made anew. 2: boots have stamps, and rows checksums.
VERSION = 2
_TABLES = """
CREATE TABLE nights (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, began_utc TEXT NOT NULL);
CREATE TABLE cells (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, experiment TEXT NOT NULL, machine TEXT NOT NULL,
    kernel TEXT NOT NULL, words TEXT NOT NULL, twin_of TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, label TEXT NOT NULL, unit TEXT NOT NULL, better TEXT NOT NULL,
    is_time INTEGER NOT NULL, step REAL NOT NULL, relative_step REAL NOT NULL, total TEXT NOT NULL,
    sum INTEGER NOT NULL);
CREATE TABLE boots (
    id INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES nights, cell INTEGER NOT NULL REFERENCES cells,
    boot INTEGER NOT NULL, attempt INTEGER NOT NULL, stamp TEXT NOT NULL, UNIQUE (night, cell, boot));
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boots, name TEXT NOT NULL, path TEXT NOT NULL,
    created_utc TEXT NOT NULL, boot_id TEXT NOT NULL, release TEXT NOT NULL, workload TEXT NOT NULL,
    sum INTEGER NOT NULL);
CREATE INDEX runs_of_boot ON runs (boot);
CREATE TABLE layouts (id INTEGER PRIMARY KEY, metrics TEXT NOT NULL UNIQUE);
CREATE TABLE figures (
    cell INTEGER NOT NULL, run INTEGER NOT NULL, layout INTEGER NOT NULL, iterations BLOB NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (cell, run)) WITHOUT ROWID;
"""
_CACHE_KIB = 128 * 1024
# A reader lets go within milliseconds, a writer after a night; then somebody hangs.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class MetricRow:
    """A figure. `name` is `placement/name`, `better` is `higher`, `lower` or `neither`.

    The rest is what `comparison.change.Metric` says of it; where the figure `total` is known and this one is absent,
    it is 0.
    """

    name: str
    label: str
    unit: str
    better: str
    is_time: bool
    step: float
    relative_step: float
    total: str = ""


@dataclass(frozen=True)
class Measured:
    """What the index keeps of a run: `figures` with the value of each in each trial."""

    run_id: str
    created_utc: str
    boot_id: str
    release: str
    workload: str
    figures: tuple[tuple[MetricRow, tuple[float, ...]], ...]


@dataclass(frozen=True)
class CellRow:
    """A cell as its night has it; `words` are those of `numabench run`, `twin_of` the cell that it measures again."""

    name: str
    experiment: str
    machine: str
    kernel: str
    words: tuple[str, ...]
    twin_of: str = ""

    @property
    def is_aa(self) -> bool:
        """Whether it is there to show its machine's own noise."""
        return bool(self.twin_of)


@dataclass(frozen=True)
class BootRow:
    """A published boot of a cell, and its runs with where they are below the lab.

    `stamp` tells what was published from what may be in its place one day.
    """

    cell: str
    boot: int
    attempt: int
    runs: tuple[tuple[str, Measured], ...]
    stamp: str = ""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open an index. Raises `ResultError` where SQLite cannot."""
    with reading(path):
        # Also a reader puts back what a killed writer left half done, where it may write the file.
        uri = f"{path.absolute().as_uri()}?mode={'rw' if read_only else 'rwc'}"
        connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S, isolation_level=None)
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA query_only = {int(read_only)}")
    return connection


class DamagedIndex(ResultError):
    """An index that does not hold what SQLite wrote."""


# What the machine or another process is to blame for. All else that SQLite says is of what is in the file.
_NOT_DAMAGE = frozenset(
    {
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH),
    }
)
_KIND = 0xFF


def broken(path: Path, error: Exception) -> ResultError:
    """What is said of an index that cannot be read or written."""
    if path.is_dir():
        return ResultError(f"{path} is a directory", "move it away: an index is made in its place")
    # Text that is none is no error of SQLite's own, and has no code.
    kind = ResultError if getattr(error, "sqlite_errorcode", -1) & _KIND in _NOT_DAMAGE else DamagedIndex
    what = ascii(str(error))[1:-1]
    return kind(f"cannot use the index {path}: {what}", "make it anew: numabench index LAB --rebuild")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Have what is wrong with an index that is read, or added to, in the block said as `ResultError`.

    What a damaged row holds may be of any type and any size.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise broken(path, error) from error


NOT_WRITTEN = "a row is not what was written"


def checksum(*values: object) -> int:
    """The checksum of a row's values."""
    return zlib.crc32("\0".join(map(str, values)).encode())


def figures_sum(night: str, cell: str, boot: int, layout_sum: int, blob: bytes) -> int:
    """The checksum of a run's figures, and of whose they are. A series asks for thousands of them."""
    return zlib.crc32(blob, zlib.crc32(f"{night}\0{cell}\0{boot}\0{layout_sum}".encode()))


def check(wanted: object, *values: object) -> None:
    """Raise `ValueError` where a row is not what was written."""
    if wanted != checksum(*values):
        raise ValueError(NOT_WRITTEN)


def is_current(connection: sqlite3.Connection) -> bool:
    """Whether an index has the tables of this version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version == VERSION)


def make(connection: sqlite3.Connection) -> None:
    """Make the tables in a new index, all or none; one that has tables stays as it is."""
    if is_current(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def cell_row(name: str, row: Fields) -> CellRow:
    """A cell of a night.json."""
    return CellRow(
        name,
        row.text("experiment", ""),
        row.text("machine"),
        row.text("kernel"),
        tuple(row.texts("words")),
        row.text("twin_of", ""),
    )


def metric_values(metric: MetricRow) -> tuple[object, ...]:
    """A figure's row as SQLite gives it back."""
    return (
        *(metric.name, metric.label, metric.unit, metric.better, int(metric.is_time)),
        *(float(metric.step), float(metric.relative_step), metric.total),
    )


class NightWriter:
    """Writes what a night has published, within the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._night = ""
        self._metrics: dict[str, int] = dict(connection.execute("SELECT name, id FROM metrics"))
        self._cells: dict[str, int] = dict(connection.execute("SELECT name, id FROM cells"))
        self._layouts: dict[str, int] = dict(connection.execute("SELECT metrics, id FROM layouts"))
        self._next_run = (connection.execute("SELECT max(id) FROM runs").fetchone()[0] or 0) + 1

    def night(self, name: str, began_utc: str, cells: Iterable[CellRow]) -> int:
        """The night's number, made where it is new."""
        self._connection.execute(
            "INSERT INTO nights (name, began_utc) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET began_utc = excluded.began_utc",
            (name, began_utc),
        )
        for cell in cells:
            if cell.name not in self._cells:
                row = (cell.name, cell.experiment, cell.machine, cell.kernel, json.dumps(cell.words), cell.twin_of)
                self._cells[cell.name] = self._insert(
                    "INSERT INTO cells (name, experiment, machine, kernel, words, twin_of, sum)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*row, checksum(*row)),
                )
        self._night = name
        ((night,),) = self._connection.execute("SELECT id FROM nights WHERE name = ?", (name,))
        return int(night)

    def boots(self, night: int, rows: Iterable[BootRow]) -> int:
        """Add boots of the night that was made last with their runs and figures; how many runs these were.

        They are of cells that the night has.
        """
        runs: list[tuple[object, ...]] = []
        figures: list[tuple[int, int, int, bytes, int]] = []
        for row in rows:
            cell = self._cells[row.cell]
            boot = self._insert(
                "INSERT INTO boots (night, cell, boot, attempt, stamp) VALUES (?, ?, ?, ?, ?)",
                (night, cell, row.boot, row.attempt, row.stamp),
            )
            for path, run in row.runs:
                number = self._next_run
                self._next_run += 1
                told = (run.run_id, path, run.created_utc, run.boot_id, run.release, run.workload)
                runs.append((number, boot, *told, checksum(*told)))
                blob = array("d", itertools.chain.from_iterable(values for _, values in run.figures)).tobytes()
                layout, text = self._layout(run)
                of_all = figures_sum(self._night, row.cell, row.boot, checksum(text), blob)
                figures.append((cell, number, layout, blob, of_all))
        self._connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", runs)
        # In the order of the table's key, each of its pages is touched once a night.
        figures.sort(key=lambda figure: figure[:2])
        self._connection.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?)", figures)
        return len(runs)

    def drop(self, night: str, boots: Mapping[tuple[str, int], str]) -> int:
        """Remove a night's boots, by cell and number, with all that they have; how many these were.

        One that has another stamp by now is somebody else's, and stays.
        """
        dropped = 0
        for (cell, boot), stamp in boots.items():
            found = self._connection.execute(
                "SELECT boots.id, boots.cell FROM boots JOIN nights ON nights.id = night"
                " JOIN cells ON cells.id = boots.cell"
                " WHERE nights.name = ? AND cells.name = ? AND boot = ? AND stamp = ?",
                (night, cell, boot, stamp),
            ).fetchone()
            if found is not None:
                self._drop(*found)
                dropped += 1
        return dropped

    def _drop(self, boot: int, cell: int) -> None:
        runs = self._connection.execute("SELECT id FROM runs WHERE boot = ?", (boot,)).fetchall()
        self._connection.executemany("DELETE FROM figures WHERE cell = ? AND run = ?", [(cell, run) for (run,) in runs])
        self._connection.execute("DELETE FROM runs WHERE boot = ?", (boot,))
        self._connection.execute("DELETE FROM boots WHERE id = ?", (boot,))

    def drop_night(self, name: str) -> None:
        """Remove a night that has no boots."""
        self._connection.execute(
            "DELETE FROM nights WHERE name = ? AND NOT EXISTS (SELECT 1 FROM boots WHERE night = nights.id)", (name,)
        )

    def drop_cells(self, kept: Collection[str]) -> None:
        """Remove the cells that have no boots, but for some."""
        rows = self._connection.execute(
            "SELECT id, name FROM cells WHERE NOT EXISTS (SELECT 1 FROM boots WHERE boots.cell = cells.id)"
        ).fetchall()
        gone = [(number,) for number, name in rows if name not in kept]
        self._connection.executemany("DELETE FROM figures WHERE cell = ?", gone)
        self._connection.executemany("DELETE FROM cells WHERE id = ?", gone)

    def _layout(self, run: Measured) -> tuple[int, str]:
        text = json.dumps([(self._metric(metric), len(values)) for metric, values in run.figures])
        number = self._layouts.get(text)
        if number is None:
            number = self._layouts[text] = self._insert("INSERT INTO layouts (metrics) VALUES (?)", (text,))
        return number, text

    def _metric(self, metric: MetricRow) -> int:
        number = self._metrics.get(metric.name)
        if number is None:
            row = metric_values(metric)
            number = self._metrics[metric.name] = self._insert(
                "INSERT INTO metrics (name, label, unit, better, is_time, step, relative_step, total, sum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, checksum(*row)),
            )
        return number

    def _insert(self, statement: str, row: tuple[object, ...]) -> int:
        added = self._connection.execute(statement, row).lastrowid
        assert added is not None
        return added


@dataclass(frozen=True)
class Layout:
    """Where in a run's values each figure is: its first and how many, by the figure's number; `sum` is its checksum."""

    places: dict[int, tuple[int, int]]
    sum: int

    @classmethod
    def parse(cls, text: str) -> Layout:
        """A layout as the table has it."""
        places, begin = {}, 0
        for metric, count in json.loads(text):
            places[metric] = (begin, count)
            begin += count
        return cls(places, checksum(text))

    def values(self, blob: bytes, metric: int, total: int | None) -> list[float] | None:
        """A figure's values; as many zeros as `total` has where only that one is there, and None where neither is."""
        place = self.places.get(metric)
        if place is not None:
            return [*memoryview(blob).cast("d")[place[0] : place[0] + place[1]]]
        return None if total not in self.places else [0.0] * self.places[total][1]


def scanned(directory: Path) -> Iterator[Path]:
    """The directories in a directory by name, but for what is not whole; none where there is no directory."""
    try:
        with os.scandir(directory) as entries:
            # What kind it is, a directory's listing says: nothing else is asked of the disk.
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResultError(f"cannot list {directory}: {error.strerror}", "see who may read it") from error
    for name in names:
        yield directory / name
