"""Several boots of one command: their order, their names, and how their runs are found again."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
import synthetic_run
from hypothesis import given
from hypothesis import strategies as st

from numabench import store
from numabench.cli import sides
from numabench.cli.boots import as_option, from_option
from numabench.errors import ResultError, UsageError
from numabench.lab import boots
from numabench.record import BootTurn

if TYPE_CHECKING:
    from pathlib import Path

SERIES = "20261125T070000Z-pingpong-1a2b3c"
OLD, NEW, SWITCHED = "6.1.0-56-amd64", "6.12.95-amd64", "6.12.95-amd64 anon_vma_excl"


def test_two_kernels_take_turns_abba() -> None:
    order = "".join(turn.kernel for turn in boots.turns(SERIES, ["A", "B"], 4))
    assert order == "ABBAABBA"


@given(st.integers(1, 6), st.integers(1, 20))
def test_every_kernel_boots_as_often_and_over_whole_blocks_at_the_same_mean_place(kernels: int, blocks: int) -> None:
    names = [f"k{number}" for number in range(kernels)]
    turns = boots.turns(SERIES, names, 2 * blocks)
    places = {name: [turn.turn for turn in turns if turn.kernel == name] for name in names}
    assert {len(found) for found in places.values()} == {2 * blocks}
    assert len({statistics.fmean(found) for found in places.values()}) == 1


def test_names_of_boots_sort_as_they_ran_and_are_names_of_runs(tmp_path: Path) -> None:
    names = [boots.run_id(turn) for turn in boots.turns(SERIES, ["A", "B"], 60)]
    assert names == sorted(names)
    store.create(tmp_path, names[0]).discard()


def test_a_turn_comes_through_the_guests_command_line() -> None:
    turn = boots.turns(SERIES, [NEW, SWITCHED], 1)[1]
    assert from_option(as_option(turn)) == turn
    assert from_option(None) is None
    for text in ("", "[]", "{}", '{"series": 1}'):
        with pytest.raises(UsageError, match="not what numabench passes on"):
            from_option(text)


def write_series(results: Path, kernels: list[str], series: str = SERIES) -> list[str]:
    """A run for each boot, on kernels in the order given."""
    names = []
    for number, kernel in enumerate(kernels, 1):
        turn = BootTurn(series, number, len(kernels), kernel)
        names.append(boots.run_id(turn))
        record: dict[str, Any] = synthetic_run.run_record()
        record |= {"run_id": names[-1], "boot": asdict(turn)}
        record["identity"]["kernel"]["release"] = kernel.split()[0]
        record["identity"]["boot_id"] = f"boot-{number}"
        synthetic_run.write(results, record, run_id=names[-1])
    return names


def names_of(runs: tuple[store.Run, ...]) -> list[str]:
    return [run.run_id for run in runs]


def test_a_series_means_all_its_runs_and_last_means_the_last_series(tmp_path: Path) -> None:
    names = write_series(tmp_path, [OLD, NEW, NEW, OLD])
    alone = synthetic_run.write(tmp_path, run_id="20260101T000000Z-numa02-000000")
    assert [path.name for path in store.find_all(tmp_path, SERIES)] == names
    assert [path.name for path in store.find_all(tmp_path, "last")] == names
    assert [path.name for path in store.find_all(tmp_path, names[1])] == [names[1]]
    assert store.find_all(tmp_path, str(alone)) == (alone,)
    with pytest.raises(ResultError, match="there is no run 'nothing'"):
        store.find_all(tmp_path, "nothing")


def test_a_kernel_of_a_series_is_found_by_its_beginning_which_ends_where_a_number_does(tmp_path: Path) -> None:
    names = write_series(tmp_path, [OLD, NEW, NEW, OLD])
    assert names_of(sides.runs_of(tmp_path, f"{SERIES}@6.1")) == [names[0], names[3]]
    assert names_of(sides.runs_of(tmp_path, f"{SERIES}@6.12")) == [names[1], names[2]]
    assert names_of(sides.runs_of(tmp_path, f"{names[1]},{names[0]},{names[1]}")) == [names[1], names[0]]
    with pytest.raises(ResultError, match=r"none of the runs .* ran on kernel '7.2' .they ran on 6.1.0-56-amd64, 6.12"):
        sides.runs_of(tmp_path, f"{SERIES}@7.2")


def test_one_kernel_with_and_without_a_parameter_are_two(tmp_path: Path) -> None:
    names = write_series(tmp_path, [NEW, SWITCHED, SWITCHED, NEW])
    assert names_of(sides.runs_of(tmp_path, f"{SERIES}@{NEW}")) == [names[0], names[3]]
    assert names_of(sides.runs_of(tmp_path, f"{SERIES}@6.12 anon_vma_excl")) == [names[1], names[2]]
    first, second = sides.two_sides(tmp_path, SERIES)
    assert (names_of(first), names_of(second)) == ([names[0], names[3]], [names[1], names[2]])
    assert [sides.side_name(runs) for runs in (first, second)] == [NEW, SWITCHED]


@pytest.mark.parametrize("kernels", [[OLD, OLD], [OLD, NEW, SWITCHED]], ids=["one", "three"])
def test_one_word_has_two_kernels_or_is_refused(tmp_path: Path, kernels: list[str]) -> None:
    write_series(tmp_path, kernels)
    with pytest.raises(UsageError, match=rf"has runs on {len(set(kernels))} kernels? .*, and two are compared"):
        sides.two_sides(tmp_path, SERIES)


def test_what_a_boot_that_was_cut_off_left_is_put_aside_and_kept(tmp_path: Path) -> None:
    for number in range(1, 4):
        path = synthetic_run.write(tmp_path, end=None, run_id="arm-b1")
        (path / "mark").write_text(str(number), encoding="utf-8")
        store.hide(path)
    assert sorted((entry / "mark").read_text(encoding="utf-8") for entry in tmp_path.iterdir()) == ["1", "2", "3"]
    assert all(entry.name.startswith(".") for entry in tmp_path.iterdir())
