"""The interval of a ratio, against a bootstrap written as a loop, and whether values fall into two groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numabench.comparison.bimodality import is_bimodal
from numabench.comparison.bootstrap import ratio_interval
from numabench.comparison.change import Metric

RATE, COUNT = Metric("rate", "rate", "MB/s"), Metric("count", "count", "pages", step=1.0)


def by_loop(a: list[list[float]], b: list[list[float]], resamples: int, seed: int) -> tuple[float, float]:
    draws = np.random.default_rng(seed)

    def middle(boots: list[list[float]]) -> float:
        chosen = [boots[n] for n in draws.integers(0, len(boots), len(boots))]
        return float(np.median([np.median(draws.choice(boot, len(boot))) for boot in chosen]))

    ratios = [middle(b) / middle(a) for _ in range(resamples)]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3, 3), (5, 2, 4, 1, 3, 3)])
def test_the_interval_is_that_of_a_loop(sizes: tuple[int, ...]) -> None:
    draws = np.random.default_rng(1)
    a = [draws.normal(draws.normal(100, 8), 3, size).tolist() for size in sizes]
    b = [draws.normal(draws.normal(120, 8), 3, size).tolist() for size in reversed(sizes)]
    found, expected = ratio_interval(a, b, 20_000), by_loop(a, b, 3000, seed=2)
    assert found == pytest.approx(expected, rel=0.015)
    # All values as if they were of one boot make another, narrower one.
    flat = by_loop([[value for boot in a for value in boot]], [[value for boot in b for value in boot]], 1000, seed=2)
    assert found is not None
    assert flat[1] - flat[0] < 0.75 * (found[1] - found[0])


def test_the_same_values_have_the_same_interval_and_no_global_state() -> None:
    a, b = [[1.0, 2.0], [1.5, 1.2]], [[2.0], [2.5, 2.1]]
    assert ratio_interval(a, b) == ratio_interval(a, b)
    # Nor on the number of the boots alone: other values are drawn otherwise.
    draws = np.random.default_rng(4).normal(100, 1, (2, 4, 3))
    scaled = ratio_interval((2 * draws[0]).tolist(), (2 * draws[1]).tolist())
    assert scaled != ratio_interval(draws[0].tolist(), draws[1].tolist())
    assert scaled == pytest.approx(ratio_interval(draws[0].tolist(), draws[1].tolist()), rel=0.01)


def test_values_that_all_agree_have_an_interval_without_width() -> None:
    assert ratio_interval([[4.0]] * 3, [[6.0, 6.0]] * 3) == (1.5, 1.5)


def test_there_is_no_ratio_to_nothing() -> None:
    assert ratio_interval([[0.0], [0.0], [5.0]], [[1.0], [2.0], [3.0]]) is None


def test_two_modes_are_seen() -> None:
    draws = np.random.default_rng(1)
    one, other = draws.normal(100, 1, 8), draws.normal(110, 1, 7)
    assert is_bimodal([*one, *other], RATE)
    assert not is_bimodal(draws.normal(100, 1, 15).tolist(), RATE)


def test_an_outlier_is_no_second_mode() -> None:
    values = np.random.default_rng(2).normal(100, 1, 14)
    assert not is_bimodal([*values, 500.0], RATE)


def test_neighbouring_counts_are_no_two_modes() -> None:
    assert not is_bimodal([5.0, 6.0] * 8, COUNT)
    assert not is_bimodal([0.0, 1.0] * 8, COUNT)
    assert is_bimodal([0.0, 0.0, 400.0, 400.0] * 4, COUNT)
    assert not is_bimodal([0.0] * 20, COUNT)


def test_few_values_have_no_modes() -> None:
    assert not is_bimodal([1.0] * 4 + [100.0] * 4, RATE)


def test_normal_boots_are_rarely_taken_for_two_modes() -> None:
    draws = np.random.default_rng(3)
    flagged = 0
    for _ in range(400):
        boots = draws.normal(0, 0.015, (5, 1)) + draws.normal(0, 0.01, (5, 3))
        flagged += is_bimodal((100 * np.exp(boots)).ravel().tolist(), RATE)
    assert flagged <= 6


@given(st.lists(st.integers(1, 10**9), min_size=9, max_size=40), st.integers(-20, 20))
def test_modes_do_not_depend_on_the_unit(values: list[int], power: int) -> None:
    told = [float(value) for value in values]
    assert is_bimodal([math.ldexp(value, power) for value in told], RATE) == is_bimodal(told, RATE)
