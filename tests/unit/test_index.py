"""A lab's index holds what its directories hold, whatever happened to it meanwhile."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import sys
from typing import TYPE_CHECKING

import pytest
from lab_nights import CELL, FIGURE, dates, everything, publish, write_lab, write_night

from numabench import process, store
from numabench.cli.index import measured
from numabench.comparison import metrics
from numabench.errors import CannotRun, ResultError
from numabench.report import parquet
from numabench.store import index, index_tables
from numabench.store.index import Measured, MetricRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS = [[10.0, 12.0, 11.0], [10.5], [20.0, 21.0]]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    write_lab(tmp_path, ROWS)
    return tmp_path


def test_the_index_has_every_figure_of_every_run(lab: Path) -> None:
    assert index.update(lab, measured) == index.Counts(nights=3, boots=6, runs=6)
    with index.open_index(lab) as opened:
        assert opened.nights() == tuple(dates(3))
        (cell,) = opened.cells()
        assert (cell.name, cell.machine, cell.kernel, cell.words, cell.is_aa) == (CELL, "box", "v6", ("numa02",), False)
        names = set()
        for night in opened.nights():
            for run in opened.runs(CELL, night):
                loaded = store.load(run.path)
                assert (run.run_id, run.attempt) == (loaded.run_id, 2)
                assert run.boot_id == loaded.identity["boot_id"]
                for (placement, metric), values in metrics.values(loaded).items():
                    names.add(f"{placement}/{metric.name}")
                    by_night = dict(opened.series(CELL, f"{placement}/{metric.name}"))
                    assert statistics.median(values) == by_night[night][run.boot - 1]
        assert {row.name for row in opened.metrics(CELL)} == names
        series = opened.series(CELL, FIGURE)
    assert [[round(10 * value, 6) for value in boots] for _, boots in series] == ROWS


def test_only_what_is_new_is_read(lab: Path) -> None:
    read = []

    def seen(path: Path) -> Measured:
        read.append(path)
        return measured(path)

    index.update(lab, seen)
    assert index.update(lab, seen) == index.Counts()
    assert len(read) == 6
    publish(lab / "nights" / dates(3)[1], 11.0, boot=2)
    (lab / "nights" / dates(3)[1] / "cells" / CELL / ".tmp-boot-03").mkdir()
    assert index.update(lab, seen) == index.Counts(nights=1, boots=1, runs=1)
    assert len(read) == 7
    write_night(lab, "2026-12-01")
    assert index.update(lab, seen).nights == 0
    added = everything(lab)
    assert index.update(lab, measured, anew=True).boots == 7
    assert everything(lab) == added


def test_what_is_gone_or_was_measured_again_is_no_more_in_the_index(lab: Path) -> None:
    first, second, third = dates(3)
    index.update(lab, measured)
    read: list[Path] = []

    def seen(path: Path) -> Measured:
        read.append(path)
        return measured(path)

    shutil.rmtree(lab / "nights" / first)
    publish(write_night(lab, first), 15.0)
    (lab / "nights" / second).rename(lab / "nights" / "2026-12-01")
    shutil.rmtree(lab / "nights" / third / "cells" / CELL / "boot-01")
    assert index.update(lab, seen) == index.Counts(nights=2, boots=2, runs=2, removed=5)
    assert len(read) == 2
    with index.open_index(lab) as opened:
        assert opened.series(CELL, FIGURE) == (
            (first, (pytest.approx(1.5),)),
            (third, (pytest.approx(2.1),)),
            ("2026-12-01", (pytest.approx(1.05),)),
        )
    left = everything(lab)
    assert index.update(lab, seen) == index.Counts()
    index.update(lab, measured, anew=True)
    assert everything(lab) == left
    # The last of a cell goes with it.
    shutil.rmtree(lab / "nights")
    (lab / "nights").mkdir()
    assert index.update(lab, measured) == index.Counts(removed=3)
    assert everything(lab) == [(), ()]


def test_a_boot_that_is_another_and_cannot_be_read_leaves_the_index(lab: Path) -> None:
    index.update(lab, measured)
    file = lab / "nights" / dates(3)[1] / "cells" / CELL / "boot-01" / "cell.json"
    file.write_text("{")
    counts = index.update(lab, measured)
    assert (counts.boots, counts.removed, len(counts.unreadable)) == (0, 1, 1)
    with index.open_index(lab) as opened:
        assert dates(3)[1] not in dict(opened.series(CELL, FIGURE))


def test_an_index_that_is_damaged_or_of_another_version_is_made_anew(lab: Path) -> None:
    index.update(lab, measured)
    wanted = everything(lab)
    file = lab / index.INDEX_FILE
    for damaged in (b"", b"not SQLite" * 1000, file.read_bytes()[:5000]):
        file.write_bytes(damaged)
        with pytest.raises(ResultError, match=r"index"):
            everything(lab)
        assert index.update(lab, measured).runs == 6
        assert everything(lab) == wanted
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ResultError, match="another version"):
        index.open_index(lab)
    assert index.update(lab, measured).runs == 6
    assert everything(lab) == wanted
    assert not list(lab.glob(".tmp-*"))


def _damages(whole: bytes, count: int) -> Iterator[bytes]:
    """The same with some bytes in a row others, anywhere."""
    draws = random.Random(3)  # noqa: S311  no secret
    for _ in range(count):
        size = draws.choice((1, 1, 4, 64, 512))
        place = draws.randrange(len(whole) - size)
        yield whole[:place] + draws.randbytes(size) + whole[place + size :]


def test_damage_anywhere_is_told_or_changes_nothing(lab: Path) -> None:
    index.update(lab, measured)
    wanted = everything(lab)
    file = lab / index.INDEX_FILE
    whole = file.read_bytes()
    told = 0
    for damaged in _damages(whole, 150):
        file.write_bytes(damaged)
        try:
            assert everything(lab) == wanted
        except ResultError as error:
            assert "--rebuild" in str(error.hint) or "another version" in error.message  # noqa: PT017
            told += 1
    assert told > 20
    # And what puts a schema in disorder does not stop who makes it anew.
    for damaged in (whole.replace(b"CREATE TABLE nights", b"CREATE TABLE \xffights"), whole[:100] + b"\xff" * 4000):
        file.write_bytes(damaged)
        for anew in (False, True):
            file.write_bytes(damaged)
            index.update(lab, measured, anew=anew)
            assert everything(lab) == wanted
    file.unlink()
    file.mkdir()
    for anew in (False, True):
        with pytest.raises(ResultError, match="is a directory"):
            index.update(lab, measured, anew=anew)


def _killed(lab: Path, arrange: Callable[[], None]) -> bool:
    """Whether an update in another process that `arrange` prepared was killed before its end."""
    child = os.fork()
    if not child:
        try:
            arrange()
            index.update(lab, measured)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in {0, signal.SIGKILL}
    return status == signal.SIGKILL


def _kill_after(steps: int) -> Callable[[], None]:
    """Have SQLite kill the process after so many steps of its machine, wherever these are."""

    def arrange() -> None:
        connect = index_tables.connect

        def connected(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
            connection = connect(path, read_only=read_only)
            connection.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), steps)
            return connection

        index_tables.connect = connected

    return arrange


def test_who_is_killed_anywhere_leaves_an_index_that_goes_on(lab: Path) -> None:
    killed, steps = 0, 20
    while _killed(lab, _kill_after(steps)):
        killed += 1
        steps = int(steps * 1.4)
        if not (lab / index.INDEX_FILE).stat().st_size:
            continue
        # A night is in it with all that it had, or not at all.
        with index.open_index(lab) as opened:
            counted = [len(opened.runs(CELL, night)) for night in opened.nights()]
        assert counted == [len(row) for row in ROWS][: len(counted)]
        with sqlite3.connect(lab / index.INDEX_FILE) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert killed > 5
    left = everything(lab)
    index.update(lab, measured, anew=True)
    assert everything(lab) == left


def test_two_updates_at_once_add_everything_once(lab: Path) -> None:
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                index.update(lab, measured)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    added = everything(lab)
    assert index.update(lab, measured, anew=True).runs == 6
    assert everything(lab) == added


def test_a_run_that_cannot_be_read_is_told_and_tried_again(lab: Path) -> None:
    broken = lab / "nights" / dates(3)[1] / "cells" / CELL / "boot-01"
    (file,) = broken.glob("runs/*/run.json")
    whole = file.read_text()
    file.write_text(whole[:100])
    first = index.update(lab, measured)
    assert (first.boots, len(first.unreadable)) == (5, 1)
    assert str(file) in first.unreadable[0]
    command = [sys.executable, "-m", "numabench", "index", str(lab), "--json"]
    told = process.run(command)
    assert told.exit_status == 1
    assert str(file) in told.stderr
    assert json.loads(told.stdout)["boots"] == 0
    file.write_text(whole)
    told = process.run(command)
    assert (told.exit_status, told.stderr) == (0, "")
    assert json.loads(told.stdout) == {
        "nights": 1,
        "boots": 1,
        "runs": 1,
        "removed": 0,
        "unreadable": [],
        "parquet_files": 0,
    }


def test_what_is_no_lab_or_has_no_index_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="is not a lab"):
        index.update(tmp_path, measured)
    (tmp_path / "nights").mkdir()
    with pytest.raises(ResultError, match="has no index"):
        index.open_index(tmp_path)
    assert index.update(tmp_path, measured) == index.Counts()
    assert everything(tmp_path) == [(), ()]


def test_a_night_of_a_newer_numabench_is_left_out_and_told(lab: Path) -> None:
    file = lab / "nights" / dates(3)[0] / "night.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99}))
    counts = index.update(lab, measured)
    assert counts.boots == 3
    assert "schema version 99" in counts.unreadable[0]


def test_nights_of_one_date_are_in_their_order(tmp_path: Path) -> None:
    names = ["2026-11-25", "2026-11-25.2", "2026-11-25.10", "2026-11-26"]
    for name in reversed(names):
        publish(write_night(tmp_path, name), 10.0)
    index.update(tmp_path, measured)
    with index.open_index(tmp_path) as opened:
        assert opened.nights() == tuple(names)
        assert [night for night, _ in opened.series(CELL, FIGURE)] == names


def test_a_part_that_a_run_did_not_see_is_none_of_its_total(tmp_path: Path) -> None:
    total = MetricRow("default/failures", "failures", "count", "lower", False, 1.0, 0.0)
    part = MetricRow("default/failures.EBUSY", "failures: EBUSY", "count", "lower", False, 1.0, 0.0, total.name)
    figures = {
        "2026-11-01": ((total, (0.0, 0.0, 0.0)),),
        "2026-11-02": ((total, (4.0, 6.0, 5.0)), (part, (4.0, 6.0, 5.0))),
        "2026-11-03": (),
    }
    for name in figures:
        publish(write_night(tmp_path, name), 10.0)
    index.update(tmp_path, lambda path: Measured("run", "", "", "", "", figures[path.parents[3].parent.name]))
    with index.open_index(tmp_path) as opened:
        assert opened.series(CELL, part.name) == (("2026-11-01", (0.0,)), ("2026-11-02", (5.0,)))
        assert dict(opened.every_series(CELL))[part] == opened.series(CELL, part.name)
        assert opened.series(CELL, "default/other") == ()
        assert opened.series("other", total.name) == ()


def test_parquet_has_a_row_a_value(lab: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="it is an extra")
    target = tmp_path / "parquet"
    told = process.run([sys.executable, "-m", "numabench", "index", str(lab), "--parquet", str(target)])
    assert (told.exit_status, told.stderr) == (0, "")
    frame = pandas.concat(pandas.read_parquet(file) for file in sorted(target.iterdir()))
    assert tuple(frame.columns) == index.VALUE_COLUMNS
    with index.open_index(lab) as opened:
        rows = [row for night in opened.nights() for row in opened.values(night)]
    assert [tuple(row) for row in frame.itertuples(index=False)] == rows
    own = frame[frame.metric == FIGURE].groupby("night").value.median() * 10
    assert own.tolist() == pytest.approx([11.0, 10.5, 20.5])


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CannotRun, match=r"numabench\[parquet\]"):
        parquet.require()
