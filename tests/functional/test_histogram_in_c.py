"""The workloads' histogram in C against the values that it counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numabench import process
from numabench.workload import build

HERE = Path(__file__).parent
PARTS = 32
_VALUES = st.lists(st.integers(0, 64) | st.integers(0, 2**40) | st.sampled_from([2**62, 2**63, 2**64 - 1]), min_size=1)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that counts the numbers of its input."""
    program = tmp_path_factory.mktemp("histogram") / "values"
    sources = build.sources_dir()
    flags = [*build.FLAGS, "-fsanitize=undefined", "-fno-sanitize-recover=all", "-I", str(sources)]
    argv = [*build.find_compiler(), *flags, "-o", str(program), str(HERE / "histogram_values.c")]
    argv += [str(sources / "histogram.c"), str(sources / "lines.c"), *build.LIBRARIES]
    process.run(argv, timeout_s=120).check("compiling")
    return str(program)


def count(program: str, values: list[int]) -> dict[str, Any]:
    ended = process.run([program], stdin_text=" ".join(map(str, values)), timeout_s=60)
    return dict(json.loads(ended.check("counting").stdout)["latency"])


def quantile(histogram: dict[str, Any], rank: int) -> int:
    """The lower bound of the bucket that holds the value of that rank, from 0."""
    for low, counted in histogram["counts"]:
        rank -= counted
        if rank < 0:
            return int(low)
    raise AssertionError("fewer values than the rank")


@given(values=_VALUES)
@settings(max_examples=60, deadline=None)
def test_every_rank_is_a_thirty_second_below_its_exact_value_at_most(counting: str, values: list[int]) -> None:
    histogram = count(counting, values)
    assert (histogram["min"], histogram["max"]) == (min(values), max(values))
    assert histogram["sum"] == sum(values) % 2**64
    assert sum(counted for _, counted in histogram["counts"]) == len(values)
    for rank, exact in enumerate(sorted(values)):
        low = quantile(histogram, rank)
        assert low <= exact
        assert (exact - low) * PARTS <= exact


def test_small_values_are_counted_exactly_and_buckets_ascend(counting: str) -> None:
    values = [0, 1, 1, 31, 32, 33, 63, 64, 65, 66, 127, 128, 131, 132]
    expected = Counter(values)
    expected[64] += expected.pop(65)
    expected[128] += expected.pop(131)
    expected[126] += expected.pop(127)
    assert count(counting, values)["counts"] == [[low, expected[low]] for low in sorted(expected)]
