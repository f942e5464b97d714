"""Welch's test of a step between two sides, with a linear trend over the order of their boots taken out.

Machines drift: they warm up, their memory fragments. Where boots of both sides take turns a trend is nearly orthogonal
to the step, and taking it out costs one degree of freedom; where all of one side came first, trend and step cannot be
told apart well, and the test says so by its standard error instead of finding changes that are none. The model is
ordinary least squares of (1, side, place in order). Each side's variance is estimated by itself, from the residuals'
expected squares, and the degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946): without the trend this
is Welch's test (Biometrika 34, 1947) to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[Any]

POWER = 0.8


@dataclass(frozen=True)
class Step:
    """B's level less A's, its standard error, the degrees of freedom of that, and the two-sided p-value."""

    difference: float
    standard_error: float
    degrees: float
    p: float


@dataclass(frozen=True)
class _Design:
    """What follows from the order alone; A's boots come first in all of them.

    `weights` make the step from the values, `residual` makes residuals. `squares` are the expected sums of each side's
    squared residuals by the sides' variances, `noise` is the step's variance by them. `diagonal` and `crossed` give the
    mean and the variance of the estimate of that.
    """

    weights: Matrix
    residual: Matrix
    squares: Matrix
    noise: Matrix
    diagonal: Matrix
    crossed: Matrix


def step(
    a: Sequence[float],
    b: Sequence[float],
    places: tuple[tuple[int, ...], tuple[int, ...]] | None,
    floors: tuple[float, float] = (0.0, 0.0),
) -> Step:
    """The step from A's values to B's. `places` are where each was in the order of all; None takes no trend out.

    `floors` are the least standard deviations that the sides' values can be known to have. Both sides need two values,
    and together four where there is a trend.
    """
    import numpy as np
    from scipy.stats import t

    design = _design(len(a), len(b), places)
    values = np.array([*a, *b], float)
    squared = (design.residual @ values) ** 2
    sums = np.array([squared[: len(a)].sum(), squared[len(a) :].sum()])
    variances = np.maximum(np.linalg.solve(design.squares, sums), np.square(floors))
    difference = float(design.weights @ values)
    error = float(np.sqrt(design.noise @ variances))
    spread = float(variances @ design.crossed @ variances)
    degrees = max(float(variances @ design.diagonal) ** 2 / spread, 1.0) if spread else float(len(values) - 2)
    if not error:
        return Step(difference, error, degrees, 0.0 if difference else 1.0)
    return Step(difference, error, degrees, float(2 * t.sf(abs(difference) / error, degrees)))


@lru_cache(maxsize=1024)
def _design(count_a: int, count_b: int, places: tuple[tuple[int, ...], tuple[int, ...]] | None) -> _Design:
    import numpy as np

    sides = np.repeat(np.eye(2), [count_a, count_b], axis=0)
    columns = [np.ones(count_a + count_b), sides[:, 1]]
    if places is not None:
        # By rank: a night between two boots is no larger step than an hour.
        order = np.argsort(np.argsort([*places[0], *places[1]], kind="stable"), kind="stable")
        columns.append(order - order.mean())
    model = np.column_stack(columns)
    solution = np.linalg.pinv(model)
    residual = np.eye(len(model)) - model @ solution
    squares, noise = sides.T @ residual**2 @ sides, sides.T @ solution[1] ** 2
    shares = sides @ np.linalg.solve(squares, noise)
    form = residual @ np.diag(shares) @ residual
    return _Design(solution[1], residual, squares, noise, sides.T @ np.diag(form), sides.T @ form**2 @ sides)


@lru_cache(maxsize=4096)
def detectable(degrees: float, level: float) -> float:
    """The step, in standard errors, that a two-sided t-test at `level` finds in 80 of 100 cases.

    The noncentral t's quantile, by the normal distribution at each of 2,000 equally likely estimates of the deviation:
    scipy's own has no value for few degrees of freedom and a large step. Degrees of freedom are rounded to a tenth.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import ndtr
    from scipy.stats import chi2, t

    degrees = max(round(degrees, 1), 1.0)
    likely = chi2.ppf((np.arange(2000) + 0.5) / 2000, degrees)
    needed = float(t.isf(level / 2, degrees)) * np.sqrt(likely / degrees)

    def found(steps: float) -> float:
        return float(np.mean(ndtr(steps - needed) + ndtr(-steps - needed))) - POWER

    return float(brentq(found, 0.0, float(needed.max()) + 10))


def inflation(places: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
    """By how much the order of boots widens the step's standard error, for the trend that is taken out; 1 at best."""
    import numpy as np

    with_trend = _design(len(places[0]), len(places[1]), places).weights
    without = _design(len(places[0]), len(places[1]), None).weights
    return float(np.linalg.norm(with_trend) / np.linalg.norm(without))
