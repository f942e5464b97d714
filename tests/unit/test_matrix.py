"""The matrix of a sweep: its axes, its cells, its order."""

from __future__ import annotations

from collections import Counter

import pytest

from numabench.errors import UsageError
from numabench.experiment import matrix
from numabench.record import SweepAxis, SweepCell


def test_options_with_lists_are_axes_and_the_others_are_in_every_cell() -> None:
    axes, same = matrix.split(
        [("--batch", "1,8"), ("--nodes", "0,1"), ("--verify", None), ("--pages", "4k, thp"), ("--size", "8M")]
    )
    assert axes == (SweepAxis("batch", ("1", "8")), SweepAxis("pages", ("4k", "thp")))
    assert same == ("--nodes", "0,1", "--verify", "--size", "8M")


@pytest.mark.parametrize(
    "options",
    [
        [("--size", "1M"), ("--size", "1M,2M")],
        [("--size", "1M,2M"), ("--size", "1M")],
        [("--size", "1M,2M"), ("--size", "4M,8M")],
        [("--size", "1M"), ("--size", "2M")],
        [("--nodes", "2"), ("--nodes", "0,1")],
        [("--verify", None), ("--verify", None)],
    ],
)
def test_an_option_that_is_there_twice_is_refused(options: list[tuple[str, str | None]]) -> None:
    """Of two the last would win in every cell, and the report would name another value than what ran."""
    with pytest.raises(UsageError, match=f"{options[0][0]} is there twice"):
        matrix.split([("--batch", "1,8"), *options])


@pytest.mark.parametrize(
    ("option", "values", "told"),
    [
        ("--batch", "8,1,08", "--batch has 8 and 08, which are the same"),
        ("--batch", "8,+8", "--batch has 8 and +8"),
        ("--mover-on", "all,0,00", "--mover-on has 0 and 00"),
        ("--size", "1G,1024M", "--size has 1G and 1024M"),
        ("--size", "64k,0.5m,65536", "--size has 64k and 65536"),
        ("--batch", "1,1", "--batch has 1 twice"),
        ("--size", "8M,8M", "--size has 8M twice"),
    ],
)
def test_values_that_mean_the_same_are_refused(option: str, values: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        matrix.split([(option, values)])
    assert told in refused.value.message


def test_values_that_only_look_alike_are_taken() -> None:
    (batch, size, pages), _ = matrix.split([("--batch", "1,10,100"), ("--size", "1K,1M,1"), ("--pages", "64k,4k")])
    assert (batch.values, size.values, pages.values) == (("1", "10", "100"), ("1K", "1M", "1"), ("64k", "4k"))


def test_a_list_that_is_one_value_is_taken_and_one_where_none_may_be_is_refused() -> None:
    _, same = matrix.split([("--nodes", "0,1"), ("--obstacles", "pinned:1,ksm:2"), ("--churn", "fork,write")])
    assert same[1::2] == ("0,1", "pinned:1,ksm:2", "fork,write")
    with pytest.raises(UsageError, match="--duration may not have a list"):
        matrix.split([("--duration", "1s,2s")])


def test_cells_are_every_combination() -> None:
    axes = (SweepAxis("batch", ("1", "8")), SweepAxis("pages", ("4k", "thp")))
    found = matrix.cells("pingpong", axes, ("--verify",))
    assert [cell.values for cell in found] == [("1", "4k"), ("1", "thp"), ("8", "4k"), ("8", "thp")]
    assert found[2] == SweepCell(
        ("8", "4k"), ("run", "pingpong", "--batch", "8", "--pages", "4k", "--verify", "--repeats", "1")
    )
    assert matrix.cells("pingpong", (), ()) == (SweepCell((), ("run", "pingpong", "--repeats", "1")),)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_every_repeat_has_each_cell_once(seed: int) -> None:
    order = matrix.turns(7, 3, seed)
    assert len(order) == 21
    for repeat in range(3):
        block = order[7 * repeat : 7 * repeat + 7]
        assert {of for _, of in block} == {repeat + 1}
        assert sorted(cell for cell, _ in block) == list(range(7))
    assert order == matrix.turns(7, 3, seed)


def test_the_order_is_shuffled_anew_in_each_repeat() -> None:
    """Over many seeds each cell comes first as often as any other: 1,000 of 5,000, within five deviations."""
    first = Counter(matrix.turns(5, 1, seed)[0][0] for seed in range(5000))
    assert all(abs(count - 1000) < 5 * (5000 * 0.2 * 0.8) ** 0.5 for count in first.values())
    blocks = {tuple(cell for cell, of in matrix.turns(8, 4, 1) if of == repeat) for repeat in range(1, 5)}
    assert len(blocks) == 4


def test_all_pairs_are_taken_once_or_both_ways() -> None:
    assert matrix.pair_axis("all", (0, 1, 3), both_ways=False).values == ("0>1", "0>3", "1>3")
    assert matrix.pair_axis("all", (0, 1), both_ways=True).values == ("0>1", "1>0")
    assert matrix.pair_axis("1>0, 0>3", (), both_ways=False).values == ("1>0", "0>3")


def test_a_pair_names_its_nodes_and_where_pages_begin() -> None:
    (cell,) = matrix.cells("pingpong", (SweepAxis("pair", ("3>1",)),), ())
    assert cell.argv == ("run", "pingpong", "--nodes", "1,3", "--start-node", "3", "--repeats", "1")


@pytest.mark.parametrize("text", ["", "0", "0-1", "0>1>2", "a>b", "0>", "0>0", "0>1,0>1", "0>1,00>1", "-1>0"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        matrix.pair_axis(text, (), both_ways=False)


def test_all_pairs_of_one_node_are_none() -> None:
    with pytest.raises(UsageError, match="needs two nodes"):
        matrix.pair_axis("all", (0,), both_ways=True)


def test_too_many_units_are_refused_without_making_one() -> None:
    """The product of these axes would fill the memory long before it was counted."""
    axes = [SweepAxis(name, tuple(map(str, range(1000)))) for name in matrix.AXES]
    with pytest.raises(UsageError, match=r"1,000,000,\S+ cells in 1 repeat are more than 100,000 units"):
        matrix.check_units(axes, 1)
    with pytest.raises(UsageError, match="1,000 cells in 101 repeats are more"):
        matrix.check_units(axes[:1], 101)
    matrix.check_units(axes[:1], 100)
    matrix.check_units((), 1)
    assert matrix.first_cell("pingpong", axes[:4], ()).values == ("0", "0", "0", "0")


def test_too_many_pairs_are_refused_without_making_one() -> None:
    with pytest.raises(UsageError, match=r"--pairs all of 1,000,000,000 nodes are more than 100,000 units"):
        matrix.pair_axis("all", range(10**9), both_ways=True)
    assert len(matrix.pair_axis("all", range(8), both_ways=True).values) == 56


def test_a_units_name_is_a_file_name_that_sorts() -> None:
    assert matrix.unit_name(7, ("0>1", "thp", "../x")) == "0007-0_1-thp-.._x"
    assert len(matrix.unit_name(7, ("value",) * 50)) <= 64


def test_an_option_goes_with_its_value() -> None:
    assert matrix.without(("--nodes", "4", "--size", "8M"), "--nodes") == ("--size", "8M")
