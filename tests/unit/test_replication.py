"""What changed between sides, on values whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_ind
from simulated_boots import PLACEMENT, Setting, by_run, draw, order, sides

from numabench.comparison.change import Metric, MetricChange
from numabench.comparison.replication import boot_places, compare, order_inflation
from numabench.comparison.side import Side

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = Metric("mb_per_s", "throughput", "MB/s", "higher", is_time=True)
PAGES = Metric("pages_left", "pages left behind", "pages", "lower", step=1.0)
FOUND = {"grown", "shrunk"}


def change(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], metric: Metric = RATE, letters: str = ""
) -> MetricChange:
    """What became of one metric; each of A's and B's runs is a boot."""
    side_a, side_b = sides(letters or ("ABBA" * max(len(a), len(b)))[: 2 * len(a)])
    told = [[{(PLACEMENT, metric): tuple(boot)} if boot else {} for boot in side] for side in (a, b)]
    (found,) = compare(side_a, side_b, *told)
    return found


def test_a_change_is_told_with_all_its_values() -> None:
    a = [[100.0, 102.0, 90.0], [104.0, 103.0, 105.0], [99.0, 98.0, 97.0]]
    b = [[200.0, 201.0, 203.0], [210.0, 190.0, 205.0], [195.0, 196.0, 197.0]]
    found = change(a, b)
    assert found.a == tuple(map(tuple, a))
    assert found.b == tuple(map(tuple, b))
    assert (found.median_a, found.median_b, found.ratio) == (100.0, 201.0, 2.01)
    assert found.verdict == "grown"
    assert found.approximate_ci
    assert found.ci95 is not None
    assert found.ci95[0] < 2.01 < found.ci95[1]
    assert found.p == found.q
    assert found.smallest_ratio is not None
    assert 1.01 < found.smallest_ratio < 1.5


def test_down_is_shrunk() -> None:
    assert change([[10.0], [10.1], [10.2], [9.9]], [[5.0], [5.1], [4.9], [5.2]]).verdict == "shrunk"


def test_two_boots_of_equals_are_no_change() -> None:
    found = change([[10.0], [11.0], [10.5], [10.2]], [[10.1], [10.9], [10.4], [10.3]])
    assert found.verdict == "no change found"
    assert found.ci95 is not None
    assert found.ci95[0] <= 1 <= found.ci95[1]


@pytest.mark.parametrize("boots", [1, 2])
def test_too_few_boots_are_only_described(boots: int) -> None:
    found = change([[100.0] * 15] * boots, [[300.0] * 15] * boots)
    assert (found.verdict, found.p, found.q, found.smallest_ratio) == ("insufficient", None, None, None)
    assert found.ratio == 3.0
    assert (found.ci95 is None) == (boots == 1)


def test_many_values_of_one_boot_do_not_make_up_for_boots() -> None:
    draws = np.random.default_rng(1)
    found = change([draws.normal(100, 1, 200).tolist()], [draws.normal(150, 1, 200).tolist()])
    assert found.verdict == "insufficient"


def test_runs_of_one_boot_are_one_boot() -> None:
    a, b = sides("ABBAAB")
    one_boot = Side("A", tuple(replace(run, identity={**run.identity, "boot_id": "the same"}) for run in a.runs))
    told = [{(PLACEMENT, RATE): (100.0 + number,)} for number in range(3)]
    (found,) = compare(one_boot, b, told, told)
    assert found.a == ((100.0, 101.0, 102.0),)
    assert found.verdict == "insufficient"


def test_a_count_without_any_spread_that_changed_is_found() -> None:
    assert change([[0.0]] * 5, [[100.0]] * 5, PAGES).verdict == "grown"
    assert change([[512.0]] * 3, [[16.0]] * 3, PAGES).verdict == "shrunk"
    found = change([[0.0]] * 5, [[100.0]] * 5, PAGES)
    assert (found.ratio, found.ci95, found.median_b) == (None, None, 100.0)


def test_a_count_that_differs_by_its_step_is_no_certainty() -> None:
    found = change([[5.0]] * 3, [[6.0]] * 3, PAGES)
    assert found.p is not None
    assert 0.005 < found.p < 0.2
    certain = change([[5.0]] * 3, [[60.0]] * 3, PAGES)
    assert certain.p is not None
    assert certain.p < 0.001


def test_nothing_is_sure_to_less_than_a_thousandth() -> None:
    assert change([[1000.0]] * 5, [[1000.5]] * 5).verdict == "no change found"
    assert change([[1000.0]] * 5, [[1010.0]] * 5).verdict == "grown"


def test_values_that_all_agree_are_no_change_and_do_not_count_among_those_compared() -> None:
    a, b = sides("ABBAABBAAB")
    draws = np.random.default_rng(7)
    values = draws.normal(100, 1, (5, 2))
    told_a = [{(PLACEMENT, RATE): (values[n, 0],), (PLACEMENT, PAGES): (0.0,)} for n in range(5)]
    told_b = [{(PLACEMENT, RATE): (values[n, 1] * 1.05,), (PLACEMENT, PAGES): (0.0,)} for n in range(5)]
    rate, pages = compare(a, b, told_a, told_b)
    assert (pages.p, pages.q, pages.verdict) == (1.0, 1.0, "no change found")
    assert rate.q == rate.p


def test_zeros_among_the_values_are_compared_as_they_are() -> None:
    found = change([[0.0], [3.0], [1.0], [2.0]], [[500.0], [510.0], [490.0], [505.0]], PAGES)
    assert found.verdict == "grown"
    assert found.ratio == 502.5 / 1.5
    assert found.ci95 is None
    assert found.p is not None
    assert found.p < 1e-4


def test_sides_may_have_unequal_numbers_of_boots() -> None:
    a, b = [[100.0], [101.0], [99.0]], [[120.0], [121.0], [119.0], [122.0], [118.0], [120.0]]
    told = [[{(PLACEMENT, RATE): tuple(boot)} for boot in side] for side in (a, b)]
    (found,) = compare(*sides("ABBABBABB"), *told)
    assert found.verdict == "grown"
    assert found.approximate_ci


def test_what_one_side_does_not_have_is_not_comparable() -> None:
    found = change([[1.0], [2.0], [3.0]], [[], [], []])
    assert (found.verdict, found.median_b, found.ratio, found.q) == ("not comparable", None, None, None)


def test_a_boot_without_a_value_is_shown_and_does_not_count() -> None:
    found = change([[1.0], [], [1.1], [], [1.2]], [[1.0], [1.1], [1.2], [1.1], [1.0]])
    assert found.a == ((1.0,), (), (1.1,), (), (1.2,))
    assert found.verdict == "no change found"
    assert found.approximate_ci


def test_what_trials_ended_before_has_no_verdict() -> None:
    a, b = sides("ABBAAB")
    told = [{(PLACEMENT, RATE): (1.0,)}] * 3, [{(PLACEMENT, RATE): (9.0,)}] * 3
    (found,) = compare(a, b, *told, unreached={(PLACEMENT, RATE.name)})
    assert (found.verdict, found.ratio, found.p) == ("not comparable", 9.0, None)


def test_the_q_values_are_those_of_scipy() -> None:
    draws = np.random.default_rng(9)
    values_a, values_b = draw(Setting(5, 3), draws, metrics=12)
    values_b[:3] *= 1.04
    changes = compare(*sides("ABBAABBAAB"), by_run(values_a), by_run(values_b))
    expected = false_discovery_control([change.p for change in changes])
    assert [change.q for change in changes] == pytest.approx(expected.tolist())
    assert {change.metric.name for change in changes if change.verdict in FOUND} == {
        change.metric.name for change, q in zip(changes, expected, strict=True) if q < 0.05
    }


def test_the_order_is_that_of_time_not_of_the_arguments() -> None:
    a, b = sides("ABBAAB")
    shuffled = Side("A", (a.runs[2], a.runs[0], a.runs[1]))
    assert boot_places(a, b) == ((0, 3, 4), (1, 2, 5))
    assert boot_places(shuffled, b) == ((4, 0, 3), (1, 2, 5))


def test_boots_out_of_turn_are_told_by_their_price() -> None:
    in_turn, blocked = order_inflation(*sides("ABBAAB")), order_inflation(*sides("AAABBB"))
    assert in_turn is not None
    assert in_turn < 1.05
    assert blocked is not None
    assert blocked > 1.5
    assert order_inflation(*sides("AB")) is None


def test_an_interval_is_only_approximate_below_five_boots_and_where_boots_took_no_turns() -> None:
    def is_approximate(letters: str) -> bool:
        values = [[100.0 + boot] for boot in range(len(letters) // 2)]
        return change(values, values, letters=letters).approximate_ci

    assert not is_approximate("ABBAABBAAB")
    assert is_approximate("ABBAABBA")
    assert is_approximate("AAAAABBBBB")


def share_found(setting: Setting, comparisons: int, factor: float = 1.0) -> tuple[float, float]:
    """In how many comparisons of simulated boots a change is found, and in how many Welch's test of all values does."""
    draws = np.random.default_rng([11, *repr(setting).encode()])
    a, b = sides(order(setting))
    found = pooled = 0
    for _ in range(comparisons):
        values_a, values_b = draw(setting, draws)
        values_b = values_b * factor
        (one,) = compare(a, b, by_run(values_a), by_run(values_b), resamples=0)
        found += one.verdict in FOUND
        pooled += ttest_ind(np.log(values_a).ravel(), np.log(values_b).ravel(), equal_var=False).pvalue < 0.05
    return found / comparisons, pooled / comparisons


@pytest.mark.parametrize(
    "setting",
    [
        Setting(5, 3),
        Setting(5, 3, drift=0.04),
        Setting(3, 5),
        Setting(5, 3, noise="bimodal"),
        Setting(3, 5, "blocked", 0.04),
    ],
    ids=repr,
)
def test_equals_are_rarely_found_to_have_changed(setting: Setting) -> None:
    # At a true rate of 5 % more than 7.8 % of 500 has a probability of 0.003.
    found, pooled = share_found(setting, 500)
    assert found <= 0.078
    assert pooled > 0.078


def test_a_step_of_five_percent_is_found_despite_a_drift_of_four() -> None:
    found, _ = share_found(Setting(5, 3, drift=0.04), 200, 1.05)
    assert found > 0.9


def test_the_smallest_ratio_told_is_found_in_about_80_of_100() -> None:
    setting = Setting(5, 3)
    draws = np.random.default_rng(12)
    told = []
    for _ in range(200):
        values_a, values_b = draw(setting, draws)
        (one,) = compare(*sides(order(setting)), by_run(values_a), by_run(values_b), resamples=0)
        told.append(one.smallest_ratio)
    found, _ = share_found(setting, 300, float(np.median(told)))
    assert 0.72 < found < 0.9
