"""What a night's verdict says of a lab whose history is known, and what may be said of it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from lab_nights import AGAIN, CELL, FIGURE, publish, write_lab, write_night

from numabench import store
from numabench.analysis.history.night import Known
from numabench.analysis.history.types import SeriesKey
from numabench.cli.index import measured
from numabench.errors import ResultError, UsageError
from numabench.fleet import acknowledged, ledger, night_file, verdict
from numabench.fleet.outcome import FAILED, Outcome
from numabench.store import index

if TYPE_CHECKING:
    from pathlib import Path

KEY = SeriesKey(CELL, FIGURE)
NIGHTS, SLOWER_FROM = 24, 20
CELLS = {CELL: ("ok", "")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two boots a night; the last four nights take a tenth longer."""
    path = tmp_path_factory.mktemp("lab")
    seconds = 10 * np.exp(np.random.default_rng(1).normal(0, 0.01, (NIGHTS, 2)))
    seconds[SLOWER_FROM:] *= 1.1
    names = write_lab(path, seconds.tolist())
    index.update(path, measured)
    return path, names


def test_a_slower_kernel_is_told_with_its_night_and_size(lab: tuple[Path, list[str]]) -> None:
    path, nights = lab
    found = verdict.judge(path, nights[-1], CELLS)
    one = next(series for series in found.series if series.key == KEY)
    (change,) = one.changes
    assert KEY in found.regressions
    assert (change.night, change.direction) == (nights[SLOWER_FROM], "worse")
    assert change.ratio == pytest.approx(1.1, abs=0.02)
    assert [len(point.boots) for point in one.points] == [2] * NIGHTS
    assert found.cells == CELLS
    # As the night before the change saw it.
    before = verdict.judge(path, nights[SLOWER_FROM - 1], {})
    assert (before.night, before.regressions) == (nights[SLOWER_FROM - 1], ())


def test_a_verdict_is_read_as_it_was_written(lab: tuple[Path, list[str]]) -> None:
    path, nights = lab
    found = verdict.judge(path, nights[-1], CELLS)
    verdict.write(path, found)
    assert verdict.read(path, nights[-1]) == found
    file = path / "nights" / nights[-1] / verdict.VERDICT_FILE
    plain = json.loads(file.read_text())
    assert plain == {"schema_version": 1, **json.loads(json.dumps(dataclasses.asdict(found)))}
    for damaged, message in (
        ({**plain, "schema_version": 99}, "schema version 99"),
        ({**plain, "regressions": [3]}, "regressions"),
        ({**plain, "cells": {CELL: ["ok"]}}, "cells"),
    ):
        file.write_text(json.dumps(damaged))
        with pytest.raises(ResultError, match=message):
            verdict.read(path, nights[-1])
    with pytest.raises(ResultError, match=r"verdict\.json"):
        verdict.read(path, nights[0])


def test_a_change_names_the_runs_around_it_and_the_command_for_one_more(lab: tuple[Path, list[str]]) -> None:
    path, nights = lab
    found = verdict.judge(path, nights[-1], {})
    (change,) = next(series for series in found.series if series.key == KEY).changes
    with index.open_index(path) as opened:
        around = verdict.around(opened, KEY, change, nights=2)
    assert [run.name[:10] for run in around.before] == [night for night in nights[18:20] for _ in "12"]
    assert [run.name[:10] for run in around.after] == [night for night in nights[20:22] for _ in "12"]
    assert all(store.load(run).run_id == run.name for run in (*around.before, *around.after))
    assert around.again == tuple(AGAIN)


def test_a_change_that_is_known_alarms_no_more(lab: tuple[Path, list[str]]) -> None:
    path, nights = lab
    file = path / acknowledged.ACKNOWLEDGED_FILE
    file.write_text("# ours\n")
    reason = 'the "pool" \\ was halved\n\x7f é'
    known = Known(CELL, "*", nights[SLOWER_FROM], reason)
    acknowledged.add(path, known)
    acknowledged.add(path, known)
    other = Known(CELL, FIGURE, nights[0], "noise")
    acknowledged.add(path, other)
    assert acknowledged.read(path) == (known, other)
    assert file.read_text().startswith("# ours\n")
    found = verdict.judge(path, nights[-1], {})
    assert not found.regressions
    assert {change.acknowledged for series in found.series for change in series.changes} == {reason}
    file.unlink()
    assert acknowledged.read(path) == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"night": "2020-01-01"}, "no night '2020-01-01'"),
        ({"cell": "numa02"}, f"no cell 'numa02'.*{CELL}"),
        ({"metric": "mb"}, "no figure 'mb'"),
        ({"reason": " "}, "reason"),
    ],
)
def test_what_the_lab_does_not_have_is_not_acknowledged(
    lab: tuple[Path, list[str]], wrong: dict[str, str], message: str
) -> None:
    path, nights = lab
    known = dataclasses.replace(Known(CELL, FIGURE, nights[SLOWER_FROM], "why"), **wrong)
    with pytest.raises(UsageError, match=message):
        acknowledged.add(path, known)
    assert not (path / acknowledged.ACKNOWLEDGED_FILE).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[change]\n", "line 1"),
        ("change = 3\n", "list of tables"),
        ('[[change]]\ncell = "a"\n', "change 1: 'metric'"),
        ('[[change]]\ncell = "a"\nmetric = "b"\nnight = 3\nreason = "d"\n', "change 1: 'night'"),
        ('[[change]]\ncell = "a"\nmetric = "b"\nnight = "c"\nreason = "d"\nby = "e"\n', "unknown key 'by'"),
    ],
)
def test_a_file_that_people_broke_is_told_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / acknowledged.ACKNOWLEDGED_FILE).write_text(text)
    with pytest.raises(ResultError, match=message):
        acknowledged.read(tmp_path)


def test_what_a_machine_can_show_comes_from_its_own_twins(tmp_path: Path) -> None:
    twin, other = "twin.v6.box.5e6f7a8b", "other.v6.box.9c0d1e2f"
    draws = np.random.default_rng(2)
    for day in range(1, 19):
        night = write_night(tmp_path, f"2026-11-{day:02}", (CELL, twin, other), twins=(twin,))
        for cell, noise in ((CELL, 0.01), (twin, 0.01), (other, 0.2)):
            publish(night, 10 * float(np.exp(draws.normal(0, noise))), cell=cell)
    index.update(tmp_path, measured)
    smallest = verdict.smallest_visible(tmp_path, "box")
    assert 0.01 < smallest[FIGURE] < 0.12
    assert verdict.smallest_visible(tmp_path, "elsewhere") == {}
    with pytest.raises(UsageError, match="2026-12-01"):
        verdict.judge(tmp_path, "2026-12-01", {})


def test_a_night_is_brought_up_from_what_is_on_the_disk(tmp_path: Path) -> None:
    (first, second) = write_lab(tmp_path, [[10.0, 10.1], [10.2]])
    night = night_file.load(tmp_path / "nights" / second)
    book = ledger.Ledger(night, tmp_path)
    book.end_cell(night.blocks[0], CELL, Outcome(FAILED, "out of memory"))
    told: list[str] = []
    found = verdict.bring_up(tmp_path, second, measured, told.append)
    assert found == verdict.read(tmp_path, second)
    assert [len(point.boots) for point in next(one for one in found.series if one.key == KEY).points] == [2, 1]
    assert (found.cells, told) == ({CELL: (FAILED, "out of memory")}, [])
    # Another boot, and one that cannot be read.
    publish(tmp_path / "nights" / first, 10.0, boot=3)
    (publish(tmp_path / "nights" / second, 10.0, boot=2) / "cell.json").write_text("{")
    again = verdict.bring_up(tmp_path, second, measured, told.append)
    assert [len(point.boots) for point in next(one for one in again.series if one.key == KEY).points] == [3, 1]
    assert len(told) == 1
    assert "boot-02" in told[0]
    with pytest.raises(UsageError, match=f"2020-01-01.*{second}"):
        verdict.bring_up(tmp_path, "2020-01-01", measured, told.append)
