"""Lists of ids, compared with the lists the kernel itself prints and reads."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numabench.errors import UsageError
from numabench.idset import MAX_ID, format_ids, parse_ids

IDS = st.sets(st.integers(0, MAX_ID), max_size=60)


@given(IDS)
def test_any_set_of_ids_comes_back_from_its_list(ids: set[int]) -> None:
    assert parse_ids(format_ids(ids)) == tuple(sorted(ids))


@given(IDS)
def test_a_list_is_as_short_as_the_kernels_ranges_go_up_and_never_touch(ids: set[int]) -> None:
    ranges = [tuple(int(end) for end in part.split("-")) for part in format_ids(ids).split(",") if part]
    assert all(len(ends) == 1 or ends[0] < ends[1] for ends in ranges)
    assert all(left[-1] + 1 < right[0] for left, right in pairwise(ranges))


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 60)), min_size=1, max_size=8))
def test_ranges_in_any_order_and_overlapping_are_one_set(parts: list[tuple[int, int]]) -> None:
    text = ",".join(f"{low}-{low + more}" for low, more in parts)
    assert set(parse_ids(text)) == {number for low, more in parts for number in range(low, low + more + 1)}


def test_the_kernels_list_of_online_cpus_is_what_it_counts() -> None:
    text = Path("/sys/devices/system/cpu/online").read_text()
    assert len(parse_ids(text)) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert format_ids(parse_ids(text)) == text.strip()


@pytest.mark.parametrize("chosen", [1, 2])
def test_the_kernel_prints_an_affinity_as_we_do(chosen: int) -> None:
    before = os.sched_getaffinity(0)
    cpus = sorted(before)[-chosen:]
    os.sched_setaffinity(0, cpus)
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/thread-self/status").read_text().splitlines())
    finally:
        os.sched_setaffinity(0, before)
    assert format_ids(cpus) == fields["Cpus_allowed_list"].strip()


@pytest.mark.parametrize(
    ("text", "ids"),
    [("", ()), ("\n", ()), ("0", (0,)), ("0-2,8", (0, 1, 2, 8)), (" 3 , 1-2 \n", (1, 2, 3)), ("5-5", (5,))],
)
def test_lists_as_kernels_and_people_write_them(text: str, ids: tuple[int, ...]) -> None:
    assert parse_ids(text) == ids


@pytest.mark.parametrize(
    "text", ["a", "1-", "-1", "3-1", "1,,2", "1,", ",", "1-2-3", "0x1", "1.5", "65536", "0-65536", "1 2", "all", "~1"]
)
def test_what_the_kernel_would_not_print_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a (list|range) of ids"):
        parse_ids(text)
