"""Which cells a night has, in which boots, and what falls out of its budget."""

from __future__ import annotations

import collections
import datetime
import re
import time
from typing import TYPE_CHECKING

import pytest
from fleet_nights import cell, night
from hypothesis import given, settings
from hypothesis import strategies as st

from numabench.cli.run_words import run_words
from numabench.errors import ResultError
from numabench.fleet import cells, history, night_file, plan, prepare
from numabench.fleet.plan import HERE, SLURM, MachinePlan
from numabench.fleet.plan_text import Outlook

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.fleet.cells import Cell

LAB = """\
[kernels.a]
cached = "6.1"
[kernels.b]
cached = "6.12"
[kernels.now]
running = true
[machines.vm]
guest = { nodes = 2 }
[machines.box]
here = true
[[experiment]]
name = "batches"
workload = "pingpong"
options = { batch = [8, 64] }
boots = 4
machines = "vm"
aa = true
"""
BOX = {"box": MachinePlan("box", HERE, reboot=("kexec",))}
NO_HISTORY = cells.Durations({}, {})


def read(tmp_path: Path, text: str) -> plan.LabPlan:
    (tmp_path / "lab.toml").write_text(text)
    return plan.read(tmp_path / "lab.toml", run_words())


def test_kernels_take_turns_so_that_a_drift_meets_all_alike(tmp_path: Path) -> None:
    lab = read(tmp_path, LAB)
    order = cells.blocks(cells.all_cells(lab), lab.machines, seed=5)
    assert [block.boot for block in order] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    # The mean place of each kernel, of an even number of boots, is the same.
    places = collections.defaultdict(list)
    for place, block in enumerate(order):
        places[block.kernel].append(place)
    assert {kernel: sum(found) / len(found) for kernel, found in places.items()} == dict.fromkeys(
        ("a", "a-aa", "b"), 5.5
    )
    assert len({block.id for block in order}) == len(order)


def test_a_twin_is_the_first_kernel_once_more(tmp_path: Path) -> None:
    measured = cells.all_cells(read(tmp_path, LAB))
    by_id = {one.id: one for one in measured}
    twins = [one for one in measured if one.is_aa]
    assert [(one.kernel, by_id[one.twin_of].kernel, one.words == by_id[one.twin_of].words) for one in twins] == [
        ("a-aa", "a", True),
        ("a-aa", "a", True),
    ]
    assert collections.Counter(one.kernel for one in measured) == {"a": 2, "a-aa": 2, "b": 2}


def test_a_boot_has_each_of_its_cells_once_in_one_order_for_all_kernels(tmp_path: Path) -> None:
    lab = read(tmp_path, LAB.replace("batch = [8, 64]", "batch = [1, 2, 4, 8, 16, 32, 64]"))
    measured = {one.id: one for one in cells.all_cells(lab)}
    orders = collections.defaultdict(set)
    for block in cells.blocks(measured.values(), lab.machines, seed=5):
        orders[block.boot].add(tuple(measured[name].words for name in block.cells))
        assert len(set(block.cells)) == 7
        assert {measured[name].kernel for name in block.cells} == {block.kernel}
    assert all(len(order) == 1 for order in orders.values())
    assert len({order for orders_of_boot in orders.values() for order in orders_of_boot}) == 4


def test_the_seed_decides_which_kernel_is_first(tmp_path: Path) -> None:
    lab = read(tmp_path, LAB)
    measured = cells.all_cells(lab)
    firsts = {cells.blocks(measured, lab.machines, seed)[0].kernel for seed in range(40)}
    assert firsts == {"a", "a-aa", "b"}
    assert cells.blocks(measured, lab.machines, 3) == cells.blocks(measured, lab.machines, 3)


def test_an_id_is_that_of_what_is_measured_and_of_nothing_else(tmp_path: Path) -> None:
    ids = {one.id for one in cells.all_cells(read(tmp_path, LAB))}
    other = LAB.replace("boots = 4", "boots = 2\nrepeats = 9\npriority = 3").replace(
        "batch = [8, 64]", "batch = [64, 8]"
    )
    assert {one.id for one in cells.all_cells(read(tmp_path, other))} == ids
    reordered = LAB.replace("options = {", 'options = { order = "random",')
    swapped = LAB.replace("options = { batch = [8, 64] }", 'options = { batch = [8, 64], order = "random" }')
    assert [one.id for one in cells.all_cells(read(tmp_path, reordered))] == [
        one.id for one in cells.all_cells(read(tmp_path, swapped))
    ]
    assert not ids & {one.id for one in cells.all_cells(read(tmp_path, reordered))}


def test_experiments_may_have_different_numbers_of_boots() -> None:
    measured = [cell("often", boots=3), cell("once", boots=1)]
    order = cells.blocks(measured, BOX, 1)
    assert [sorted(block.cells) for block in order] == [
        ["often.now.box", "once.now.box"],
        ["often.now.box"],
        ["often.now.box"],
    ]


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60), st.integers(1, 3), st.booleans()), max_size=12)


@given(rows=ROWS, budget_s=st.integers(0, 3000))
@settings(max_examples=60, deadline=None)
def test_what_is_kept_fits_and_what_falls_out_did_not(rows: list[tuple[int, int, int, bool]], budget_s: int) -> None:
    measured: list[Cell] = []
    for number, (priority, guess_s, boots, both) in enumerate(rows):
        measured += [
            cell(f"e{number}", [str(number)], kernel=kernel, priority=priority, guess_s=guess_s, boots=boots)
            for kernel in (("a", "b") if both else ("a",))
        ]
    kept, left_out = cells.fit(measured, BOX, NO_HISTORY, float(budget_s))
    assert [one.id for one in kept] == [one.id for one in measured if one.id not in left_out]
    assert cells.duration_s(kept, BOX, NO_HISTORY) <= budget_s
    # All kernels of a row stay or fall together, and each that fell would not have fitted to what is above it.
    for number in range(len(rows)):
        own = [one for one in measured if one.experiment == f"e{number}"]
        assert len({one.id in left_out for one in own}) == 1
        if own[0].id in left_out:
            above = [one for one in kept if one.priority >= own[0].priority]
            assert cells.duration_s([*above, *own], BOX, NO_HISTORY) > budget_s


def test_a_machine_of_slurms_has_a_budget_of_its_own() -> None:
    machines = {**BOX, "far": MachinePlan("far", SLURM)}
    measured = [cell("x", guess_s=100), cell("x", machine="far", guess_s=100)]
    kept, left_out = cells.fit(measured, machines, NO_HISTORY, 450.0)
    assert len(kept) == 2
    assert not left_out
    (one,) = cells.fit([*measured, cell("y", ["y"], guess_s=100)], machines, NO_HISTORY, 450.0)[1].items()
    assert one == ("y.now.box", "with its 1 kernels it takes 100 s more, and of the budget of 7 min 30 s 50 s are left")


def test_a_night_is_read_as_it_was_written_and_never_written_twice(tmp_path: Path) -> None:
    made = night(tmp_path, cell("x", boots=2), cell("y", ["sleep", "1"]), reboot=("kexec",))
    assert night_file.load(made.path) == made
    with pytest.raises(ResultError, match="is there already"):
        night_file.create(made)
    assert night_file.names(tmp_path) == ("2026-11-25",)
    assert night_file.new_name(tmp_path, "2026-11-25") == "2026-11-25.2"
    text = (made.path / "night.json").read_text()
    (made.path / "night.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(ResultError, match="schema version 2"):
        night_file.load(made.path)


def test_nights_of_one_date_are_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    for name in ("2026-11-25", "2026-11-25.2", "2026-11-25.10", "2026-11-24", ".tmp-2026-11-26", "2026-11-27"):
        (tmp_path / "nights" / name).mkdir(parents=True)
        if name != "2026-11-27":
            (tmp_path / "nights" / name / "night.json").touch()
    assert night_file.names(tmp_path) == ("2026-11-24", "2026-11-25", "2026-11-25.2", "2026-11-25.10")


def test_an_outlook_says_what_is_a_guess_and_what_falls_out(tmp_path: Path) -> None:
    lab = read(tmp_path, "[night]\nbudget = '60m'\nseed = 1\n" + LAB)
    known = next(one.id for one in cells.all_cells(lab))
    durations = cells.Durations({known: 12.0}, {"vm": 9.0})
    smallest = {"default/mb_per_s": 0.034, "default/cost.a": 0.5, "default/cost.b": 0.06}
    told = Outlook(lab, prepare.choose(lab, durations), durations, {"vm": smallest}, {}).text()
    assert re.search(rf"^  {re.escape(known)} +12 s$", told, re.MULTILINE)
    assert re.search(r"^  batches-64\.b\.vm\.\w+ +~100 s$", told, re.MULTILINE)
    assert "  boot 9 s" in told
    assert "  vm: mb_per_s 3.4%, in the middle of 3 figures 6.0%" in told
    assert "left out:" not in told
    short = read(tmp_path, "[night]\nbudget = '20m'\nseed = 1\n" + LAB)
    told = Outlook(short, prepare.choose(short, durations), durations, {}, {"a": "it is gone"}).text()
    assert told.startswith("kernel a cannot be had, its cells will be blocked: it is gone\n")
    assert "left out:\n  batches-64.a.vm." in told
    assert "  vm: no A/A history yet" in told
    assert history.durations(tmp_path) == cells.Durations({}, {})


@pytest.mark.parametrize(
    ("began", "ends"),
    [
        ("2026-10-24T22:00:00+02:00", "2026-10-25T06:00:00+00:00"),
        ("2027-03-27T22:00:00+01:00", "2027-03-28T05:00:00+00:00"),
    ],
)
def test_a_deadline_is_of_the_wall_clock_also_where_summer_time_begins_or_ends(
    began: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert prepare.deadline("07:00", datetime.datetime.fromisoformat(began)) == ends
    finally:
        monkeypatch.undo()
        time.tzset()
