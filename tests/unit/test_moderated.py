"""Statistics of many figures over few runs: against scipy, against all assignments by brute force, and known truth."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import special, stats

from numabench.comparison import moderated

NO_SIZE = np.zeros(400)
NO_FLOOR = np.full(400, 1e-12)


def figures(seed: int, runs: int, prior_dof: float, count: int = 400) -> np.ndarray:
    """Normal figures whose variances are drawn as the model has it: 4 of which `prior_dof` degrees are known."""
    some = np.random.default_rng(seed)
    variance = 4 * prior_dof / some.chisquare(prior_dof, count) if math.isfinite(prior_dof) else np.full(count, 4.0)
    return some.standard_normal((runs, count)) * np.sqrt(variance)


def test_adjusted_p_values_are_scipys() -> None:
    p = np.random.default_rng(1).beta(0.4, 1.5, 200)
    assert moderated.adjust(p) == pytest.approx(stats.false_discovery_control(p))
    assert moderated.adjust(np.array([0.2])) == pytest.approx([0.2])
    assert len(moderated.adjust(np.array([]))) == 0


@pytest.mark.parametrize("value", [1e-4, 0.01, 0.3, 1.0, 7.0, 900.0])
def test_the_inverse_of_trigamma(value: float) -> None:
    assert special.polygamma(1, moderated._trigamma_inverse(value)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("prior_dof", [3.0, 8.0, 30.0])
def test_the_prior_is_found_from_variances_that_were_drawn_from_it(prior_dof: float) -> None:
    runs = figures(2, 9, prior_dof, 20_000)
    prior, dof = moderated._prior(runs.var(axis=0, ddof=1), 8, np.zeros(20_000), np.full(20_000, 1e-12))
    assert dof == pytest.approx(prior_dof, rel=0.15)
    assert prior.mean() == pytest.approx(4, rel=0.05)


def test_equal_variances_are_taken_to_be_equal_and_t_is_normal() -> None:
    runs = figures(3, 10, math.inf)
    found = moderated.compare(runs[:5], runs[5:], NO_SIZE, NO_FLOOR)
    assert found.stderr == pytest.approx(2 * math.sqrt(2 / 5), rel=0.1)
    z = found.delta / found.stderr
    assert found.p == pytest.approx(2 * stats.t.sf(np.abs(z), np.minimum(found.dof, 1e9)), abs=1e-6)


def test_variances_that_nothing_is_known_of_give_students_t() -> None:
    some = np.random.default_rng(4)
    runs = some.standard_normal((10, 400)) * np.exp(some.standard_normal(400) * 6)
    found = moderated.compare(runs[:5], runs[5:], NO_SIZE, NO_FLOOR)
    student = stats.ttest_ind(runs[5:], runs[:5])
    assert found.dof[0] == pytest.approx(8, abs=0.5)
    # What varies much outweighs half a degree of freedom of a variance that all have.
    large = runs.var(axis=0) > np.median(runs.var(axis=0))
    assert found.p[large] == pytest.approx(student.pvalue[large], abs=0.02)
    assert found.delta == pytest.approx(runs[5:].mean(axis=0) - runs[:5].mean(axis=0))


@pytest.mark.parametrize("a_side", [3, 5])
def test_p_values_are_uniform_where_nothing_changed(a_side: int) -> None:
    runs = figures(5, 2 * a_side, 6.0, 5000)
    found = moderated.compare(runs[:a_side], runs[a_side:], np.zeros(5000), np.full(5000, 1e-12))
    assert stats.kstest(found.p, "uniform").pvalue > 0.01


def test_a_trend_over_size_is_followed() -> None:
    some = np.random.default_rng(6)
    size = some.uniform(0, 1, 3000)
    runs = some.standard_normal((10, 3000)) * (0.1 + size)
    found = moderated.compare(runs[:5], runs[5:], size, np.full(3000, 1e-12))
    for low in (0.1, 0.4, 0.8):
        chosen = (size >= low) & (size < low + 0.1)
        assert np.median(found.stderr[chosen]) == pytest.approx((0.15 + low) * math.sqrt(2 / 5), rel=0.15)


def test_no_variance_is_below_the_noise_of_counting_and_careful_ones_not_below_their_own() -> None:
    runs = figures(7, 10, 4.0)
    floor = np.full(400, 5.0)
    found = moderated.compare(runs[:5], runs[5:], NO_SIZE, floor)
    assert found.stderr.min() == pytest.approx(math.sqrt(5 * 2 / 5))
    careful = moderated.compare(runs[:5], runs[5:], NO_SIZE, NO_FLOOR, careful=True)
    own = np.sqrt((runs[:5].var(axis=0, ddof=1) + runs[5:].var(axis=0, ddof=1)) / 5)
    assert (careful.stderr >= own * (1 - 1e-9)).all()
    assert set(careful.dof[careful.stderr <= own * (1 + 1e-9)]) == {8.0}


@pytest.mark.parametrize(("of_a", "of_b"), [(3, 3), (4, 3), (5, 5)])
def test_the_greatest_statistic_is_ranked_among_those_of_all_assignments(of_a: int, of_b: int) -> None:
    runs = figures(8, of_a + of_b, 5.0, 40)
    floor, size = np.full(40, 1e-12), np.zeros(40)
    prior, dof = moderated._prior(runs.var(axis=0, ddof=1), of_a + of_b - 1, size, floor)
    rest = of_a + of_b - 2

    def greatest(chosen: tuple[int, ...]) -> float:
        a = runs[list(chosen)]
        b = runs[[row for row in range(of_a + of_b) if row not in chosen]]
        pooled = (a.var(axis=0) * of_a + b.var(axis=0) * of_b) / rest
        variance = prior if math.isinf(dof) else (dof * prior + rest * pooled) / (dof + rest)
        return float(((b.mean(axis=0) - a.mean(axis=0)) ** 2 / variance).max())

    every = [greatest(chosen) for chosen in combinations(range(of_a + of_b), of_a)]
    expected = np.mean(np.array(every) >= every[0] * (1 - 1e-9))
    found = moderated.permute(runs, of_a, size, floor)
    assert found.p == pytest.approx(expected)
    assert found.least == pytest.approx((2 if of_a == of_b else 1) / math.comb(of_a + of_b, of_a))


def test_many_assignments_are_drawn_the_same_way_each_time() -> None:
    runs = figures(9, 20, 5.0, 50)
    runs[10:, 3] += 40
    first, again = (moderated.permute(runs, 10, np.zeros(50), np.full(50, 1e-12)) for _ in range(2))
    assert first == again
    # The mirror image may be among those drawn.
    assert first.p <= 2 / 1000


def test_chance_is_not_rare_more_often_than_it_should_be() -> None:
    low = 0
    for seed in range(300):
        runs = figures(100 + seed, 10, 4.0, 60)
        # Figures that depend on each other, as those of one tree do.
        runs = runs + 3 * runs[:, :1] + 2 * runs[:, 1:2]
        low += moderated.permute(runs, 5, np.zeros(60), np.full(60, 1e-12)).p <= 0.05
    assert stats.binomtest(low, 300, 0.05).pvalue > 0.01
