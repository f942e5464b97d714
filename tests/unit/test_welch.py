"""The test of a step: against scipy, against least squares by another way, and against simulation."""

from __future__ import annotations

import math
import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from numabench.comparison import welch
from numabench.comparison.replication import is_enough

VALUES = st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=2, max_size=9)


@given(VALUES, VALUES)
@settings(max_examples=150, deadline=None)
def test_without_a_trend_it_is_welchs_test(a: list[float], b: list[float]) -> None:
    found = welch.step(a, b, None)
    if np.var(a) + np.var(b) < 1e-9:
        return
    with warnings.catch_warnings():
        # Of a side without spread scipy warns that it may have lost digits.
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = stats.ttest_ind(b, a, equal_var=False)
    assert found.difference == pytest.approx(np.mean(b) - np.mean(a), abs=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert found.degrees == pytest.approx(max(expected.df, 1.0), rel=1e-6)


def places(order: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(tuple(place for place, side in enumerate(order) if side == name) for name in "AB")  # type: ignore[return-value]


@pytest.mark.parametrize("order", ["ABBAABBAAB", "AAAAABBBBB", "ABABABABAB", "AABAABBB", "BAAAAAAB"])
def test_the_step_with_a_trend_is_that_of_least_squares(order: str) -> None:
    draws = np.random.default_rng(3)
    values = draws.normal(size=len(order))
    is_b = np.array([side == "B" for side in order])
    model = np.column_stack([np.ones(len(order)), is_b, np.arange(len(order))])
    expected = np.linalg.lstsq(model, values, rcond=None)[0][1]
    found = welch.step(values[~is_b].tolist(), values[is_b].tolist(), places(order))
    assert found.difference == pytest.approx(expected)


@pytest.mark.parametrize("order", ["ABBAABBAAB", "AAAAABBBBB", "AAABBBBBB"])
def test_a_linear_drift_changes_nothing(order: str) -> None:
    draws = np.random.default_rng(4)
    values = draws.normal(size=len(order))
    drifted = values + 3.7 * np.arange(len(order))
    is_b = np.array([side == "B" for side in order])
    still, moved = (welch.step(one[~is_b].tolist(), one[is_b].tolist(), places(order)) for one in (values, drifted))
    assert moved.p == pytest.approx(still.p)
    assert moved.difference == pytest.approx(still.difference)


@pytest.mark.parametrize("order", ["ABBAABBAAB", "AAAAABBBBB", "ABBAAB", "AAABBBBBB"])
@pytest.mark.parametrize("deviations", [(1.0, 1.0), (0.5, 2.0)])
def test_the_standard_error_is_what_simulation_shows(order: str, deviations: tuple[float, float]) -> None:
    draws = np.random.default_rng(5)
    is_b = np.array([side == "B" for side in order])
    steps = [
        welch.step(values[~is_b].tolist(), values[is_b].tolist(), places(order))
        for values in draws.normal(size=(3000, len(order))) * np.where(is_b, deviations[1], deviations[0])
    ]
    spread = float(np.std([step.difference for step in steps]))
    told = math.sqrt(np.mean([step.standard_error**2 for step in steps]))
    assert told == pytest.approx(spread, rel=0.08)


def test_boots_that_all_agree_are_taken_to_spread_by_the_floor() -> None:
    found = welch.step([5.0] * 5, [6.0] * 5, places("ABBAABBAAB"), (0.5, 0.5))
    assert found.standard_error == pytest.approx(0.5 * math.sqrt(2 / 5), rel=0.02)
    assert found.degrees == pytest.approx(7, rel=0.05)
    assert 0.005 < found.p < 0.05


@pytest.mark.parametrize("degrees", [3.0, 4.4, 7.0, 17.0, 60.0])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_the_detectable_step_has_the_power_that_scipys_noncentral_t_gives_it(degrees: float, level: float) -> None:
    shift = welch.detectable(degrees, level)
    critical = stats.t.isf(level / 2, degrees)
    power = stats.nct.sf(critical, degrees, shift) + stats.nct.cdf(-critical, degrees, shift)
    assert power == pytest.approx(0.8, abs=0.002)


def test_the_detectable_step_is_there_also_where_scipy_has_none() -> None:
    assert 10 < welch.detectable(1.0, 0.05) < 30
    assert welch.detectable(1.0, 0.001) > welch.detectable(1.0, 0.05)


def test_boots_that_take_turns_lose_hardly_anything_to_the_trend() -> None:
    assert welch.inflation(places("ABBAABBAAB")) < 1.05
    assert 1.8 < welch.inflation(places("AAAAABBBBB")) < 2.2


def chance_of_a_split(boots_a: int, boots_b: int, share: float) -> float:
    """Brute force: all outcomes of boots in mode 1 with that probability."""
    whole, found = boots_a + boots_b, 0.0
    for ones in range(whole + 1):
        for chosen in combinations(range(whole), ones):
            in_a = sum(boot < boots_a for boot in chosen)
            if (in_a, ones - in_a) in {(boots_a, 0), (0, boots_b)}:
                found += share**ones * (1 - share) ** (whole - ones)
    return found


@pytest.mark.parametrize(("boots_a", "boots_b"), [(2, 2), (2, 3), (2, 4), (3, 3), (3, 5), (4, 4)])
def test_enough_boots_are_those_that_luck_rarely_splits(boots_a: int, boots_b: int) -> None:
    worst = max(chance_of_a_split(boots_a, boots_b, share) for share in np.linspace(0.01, 0.99, 99))
    bound = 2 * (boots_a**boots_a) * (boots_b**boots_b) / (boots_a + boots_b) ** (boots_a + boots_b)
    assert worst <= bound * (1 + 1e-9)
    assert is_enough(boots_a, boots_b, 0.05) == (bound <= 0.05)
    if boots_a == boots_b:
        assert worst == pytest.approx(bound)


def test_one_boot_is_never_enough() -> None:
    assert not is_enough(1, 1000)
    assert not is_enough(0, 5)
