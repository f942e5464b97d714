"""What a night's verdict says of a lab whose history is known, and what may be said of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from lab_nights import AGAIN, CELL, FIGURE, publish, write_lab, write_night

from numabench import store
from numabench.analysis.history.night import Known
from numabench.analysis.history.types import KernelId, SeriesKey
from numabench.cli.index import measured
from numabench.errors import ResultError, UsageError
from numabench.fleet import acknowledged, ledger, night_file, verdict
from numabench.fleet.kernel_ids import KernelIds
from numabench.fleet.night_file import NightKernel
from numabench.fleet.outcome import FAILED, Outcome
from numabench.fleet.plan import INSTALLED
from numabench.store import index

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.analysis.history.types import NightVerdict

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
    assert verdict.read(path, nights[-1]) == verdict.without_points(found)
    file = path / "nights" / nights[-1] / verdict.VERDICT_FILE
    plain = json.loads(file.read_text())
    assert plain == {"schema_version": 1, **json.loads(json.dumps(dataclasses.asdict(verdict.without_points(found))))}
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


def test_a_file_that_an_entry_cannot_be_added_to_stays_as_it_is(lab: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, nights = lab
    shutil.copy(path / index.INDEX_FILE, tmp_path)
    file = tmp_path / acknowledged.ACKNOWLEDGED_FILE
    inline = f'change = [{{cell = "{CELL}", metric = "*", night = "{nights[0]}", reason = "ours"}}]\n'
    file.write_text(inline)
    (before,) = acknowledged.read(tmp_path)
    with pytest.raises(ResultError, match=r"\[\[change\]\]"):
        acknowledged.add(tmp_path, dataclasses.replace(before, night=nights[1]))
    assert file.read_text() == inline
    assert not list(tmp_path.glob(".tmp-*"))


def test_reasons_that_are_given_at_once_are_all_kept(lab: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, nights = lab
    shutil.copy(path / index.INDEX_FILE, tmp_path)
    children = []
    for night in nights[:8]:
        child = os.fork()
        if not child:
            try:
                for number in range(5):
                    acknowledged.add(tmp_path, Known(CELL, FIGURE, night, f"reason {number}"))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len(set(acknowledged.read(tmp_path))) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[change]\n", "line 1"),
        ("change = 3\n", "list of tables"),
        ('[[change]]\ncell = "a"\n', "change 1: 'metric'"),
        ('[[chnage]]\ncell = "a"\n', "unknown key 'chnage'"),
        ('[[change]]\ncell = "a"\nmetric = "b"\nnight = 3\nreason = "d"\n', "change 1: 'night'"),
        ('[[change]]\ncell = "a"\nmetric = "b"\nnight = "c"\nreason = "d"\nby = "e"\n', "unknown key 'by'"),
    ],
)
def test_a_file_that_people_broke_is_told_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / acknowledged.ACKNOWLEDGED_FILE).write_text(text)
    with pytest.raises(ResultError, match=message):
        acknowledged.read(tmp_path)


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NightVerdict]:
    """Two nights of three kernels and three workloads, twice a cell's twin; one kernel is another in the second."""
    path = tmp_path_factory.mktemp("young")
    cells = [f"{what}.{kernel}.box" for what in ("numa02", "b", "c") for kernel in ("v6", "next", "v6-aa")]
    draws = np.random.default_rng(2)
    for day, slower in enumerate((1.0, 1.5), 1):
        switch = () if day == 1 else ("anon_vma_excl",)
        kernels = [NightKernel("next", INSTALLED, "", "6.13", parameters=switch)]
        twins = [cell for cell in cells if "-aa" in cell]
        night = write_night(path, f"2026-11-{day:02}", cells, twins, kernels, boots=3)
        for cell in cells:
            for boot in (1, 2, 3):
                by = slower if cell == "b.next.box" else 1.0
                publish(night, by * 10 * float(np.exp(draws.normal(0, 0.01))), boot, cell)
        for kernel in ("v6", "next", "v6-aa"):
            attest(night, kernel, f"quiet BOOT_IMAGE=/{day} {' '.join(switch if kernel == 'next' else ())}")
    found = verdict.bring_up(path, "2026-11-02", measured, pytest.fail)
    assert {key.cell for key in found.regressions} == {"b.next.box"}
    return path, found


def attest(night: Path, kernel: str, cmdline: str) -> None:
    told = {"kernel": kernel, "machine": "box", "release": "6.13", "build_id": "", "cmdline": cmdline, "wrong": []}
    attempt = night / "attempts" / f"b01.box.{kernel}.a1"
    attempt.mkdir()
    (attempt / "attempt.json").write_text(json.dumps(told))


def test_the_second_night_names_the_cell_and_what_of_its_kernel_is_another(young: tuple[Path, NightVerdict]) -> None:
    path, found = young
    changes = {one.key: one.changes for one in found.series if one.changes}
    assert SeriesKey("b.next.box", FIGURE) in changes
    assert {key.cell for key in changes} == {"b.next.box"}
    (change,) = changes[SeriesKey("b.next.box", FIGURE)]
    assert (change.judged_by, change.direction, change.kernel) == ("boots", "worse", "with anon_vma_excl")
    assert change.ratio == pytest.approx(1.5, rel=0.05)
    assert verdict.read(path, "2026-11-02") == verdict.without_points(found)


def test_what_a_machine_can_show_comes_from_its_own_twins(young: tuple[Path, NightVerdict], tmp_path: Path) -> None:
    path, _ = young
    smallest = verdict.smallest_visible(path)
    assert smallest.keys() == {"box"}
    assert 0.01 < smallest["box"][FIGURE] < 1
    # Without a twin, or a verdict, there is none.
    night = write_lab(tmp_path, [[10.0, 10.1]] * 20)[-1]
    assert verdict.smallest_visible(tmp_path) == {}
    verdict.bring_up(tmp_path, night, measured, pytest.fail)
    assert verdict.smallest_visible(tmp_path) == {}


def test_what_was_not_attested_is_no_kernel_that_is_known(young: tuple[Path, NightVerdict], tmp_path: Path) -> None:
    path, _ = young
    known = KernelIds(path)
    assert known("2026-11-01", "numa02.v6.box") == KernelId("6.13", "", ("quiet",))
    assert known("2026-11-01", "no.such.cell") is None
    assert known("2026-12-01", "numa02.v6.box") is None
    night = write_night(tmp_path, "2026-11-01")
    assert KernelIds(tmp_path)("2026-11-01", CELL) is None
    attest(night, "v6", "quiet")
    file = night / "attempts" / "b01.box.v6.a1" / "attempt.json"
    right = file.read_text()
    assert KernelIds(tmp_path)("2026-11-01", CELL) == KernelId("6.13", "", ("quiet",))
    for wrong in ("{", json.dumps({**json.loads(right), "wrong": ["its release"]})):
        file.write_text(wrong)
        assert KernelIds(tmp_path)("2026-11-01", CELL) is None


def test_a_night_that_the_index_does_not_have_is_told(lab: tuple[Path, list[str]]) -> None:
    with pytest.raises(UsageError, match="2026-12-01"):
        verdict.judge(lab[0], "2026-12-01", {})


def test_a_night_is_brought_up_from_what_is_on_the_disk(tmp_path: Path) -> None:
    (first, second) = write_lab(tmp_path, [[10.0, 10.1], [10.2]])
    night = night_file.load(tmp_path / "nights" / second)
    book = ledger.Ledger(night, tmp_path)
    book.end_cell(night.blocks[0], CELL, Outcome(FAILED, "out of memory"))
    told: list[str] = []
    found = verdict.bring_up(tmp_path, second, measured, told.append)
    assert verdict.without_points(found) == verdict.read(tmp_path, second)
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
