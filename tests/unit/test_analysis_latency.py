"""Percentiles of histograms: against numpy's of the same values, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from driven_run import VICTIM_NS, histogram
from hypothesis import given
from hypothesis import strategies as st

from numabench.analysis.latency import merged, percentile, survival
from numabench.record import Latency

# The widest that a bucket may be, as a share of its lowest value.
ERROR = 1 / 32


def latency_of(values_ns: list[int]) -> Latency:
    printed = histogram(values_ns)
    return Latency(printed["min"], printed["max"], printed["sum"], tuple(map(tuple, printed["counts"])))


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_that_of_the_values_within_the_width_of_a_bucket(values: list[int], share: float) -> None:
    exact = float(np.percentile(values, 100 * share, method="inverted_cdf"))
    assert exact <= percentile(latency_of(values), share) <= exact * (1 + ERROR)


@pytest.mark.parametrize(
    ("share", "low_ns", "high_ns"),
    [(0.5, 1000, 1023), (0.9, 1000, 1023), (0.99, 20_000, 20_479), (0.999, 1_000_000, 1_015_807), (1.0, 30e6, 30e6)],
)
def test_percentiles_of_known_accesses(share: float, low_ns: float, high_ns: float) -> None:
    assert low_ns <= percentile(latency_of(VICTIM_NS), share) <= high_ns


def test_small_times_are_exact() -> None:
    for value in range(64):
        assert percentile(latency_of([value]), 0.5) == value
    assert latency_of(list(range(64))).buckets == tuple((value, 1) for value in range(64))


@given(st.lists(st.lists(st.integers(0, 10**9), max_size=50), max_size=4))
def test_histograms_merged_are_that_of_all_values(parts: list[list[int]]) -> None:
    values = [value for part in parts for value in part]
    assert merged(map(latency_of, parts)) == (latency_of(values) if values else None)


def test_survival_falls_from_one_by_the_counts() -> None:
    assert survival(latency_of([10, 10, 20, 30])) == ((10.0, 1.0), (10.0, 0.5), (20.0, 0.25))
    assert survival(latency_of([7])) == ((7.0, 1.0),)
