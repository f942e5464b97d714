"""Many figures at once, a few runs of two sides: which of them differ.

The variance of each over so few runs is a poor estimate, so it is moderated: shrunk towards what figures of its size
have (Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression", section 6.2; the
trend over size as in limma-trend, Law et al. 2014), and never taken to be below the noise of counting. P-values are
adjusted by Benjamini and Hochberg 1995. Since figures of one tree depend on each other, and runs on what else a machine
does, no model of that is trusted alone: the greatest statistic is compared with what it is when the runs are assigned
to the sides in all other ways (Westfall and Young 1993, max-T), which is exact when nothing changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# All assignments are tried up to so many, beyond that a sample of them.
_EXACT = 2000
_SAMPLE = 1000
# Statistics held at one time: so many stay in a CPU's cache.
_AT_ONCE = 200_000
# A trend over size has so many terms and needs so many figures, else all are taken to vary alike.
_TERMS, _FOR_TREND = 3, 30
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Moderated:
    """Two sides' means of each figure compared.

    `delta` is B's mean less A's, `stderr` its standard error, `dof` the degrees of freedom of `t` and `p`.
    """

    delta: NDArray[np.float64]
    stderr: NDArray[np.float64]
    dof: NDArray[np.float64]
    p: NDArray[np.float64]


def compare(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    size: NDArray[np.float64],
    floor: NDArray[np.float64],
    *,
    careful: bool = False,
) -> Moderated:
    """Compare figures (columns) over runs (rows), at least two a side.

    `size` is what a figure's variance may depend on, `floor` the least that the variance of one run's can be. With
    `careful` no variance is taken to be below what the figure itself showed.
    """
    import numpy as np
    from scipy import special

    rest = len(a) + len(b) - 2
    variance = (((a - a.mean(axis=0)) ** 2).sum(axis=0) + ((b - b.mean(axis=0)) ** 2).sum(axis=0)) / rest
    shrunk, dof = _shrink(variance, rest, size, floor)
    if careful:
        dof = np.where(variance > shrunk, rest, dof)
        shrunk = np.maximum(shrunk, variance)
    stderr = np.sqrt(shrunk * (1 / len(a) + 1 / len(b)))
    delta = b.mean(axis=0) - a.mean(axis=0)
    t = np.divide(delta, stderr, out=np.zeros_like(delta), where=stderr > 0)
    # Where the prior has all the weight, dof is infinite and t is normal.
    p = np.where(np.isinf(dof), 2 * special.ndtr(-np.abs(t)), 2 * special.stdtr(np.minimum(dof, 1e9), -np.abs(t)))
    return Moderated(delta, stderr, dof, p)


def _shrink(
    variance: NDArray[np.float64], rest: int, size: NDArray[np.float64], floor: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances moderated and floored, and their degrees of freedom."""
    import numpy as np

    prior, prior_dof = _prior(variance, rest, size, floor)
    is_exact = math.isinf(prior_dof)
    shrunk = prior if is_exact else (prior_dof * prior + rest * variance) / (prior_dof + rest)
    return np.maximum(shrunk, floor), np.full(len(variance), prior_dof + rest)


def _prior(
    variance: NDArray[np.float64], rest: int, size: NDArray[np.float64], floor: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """What a figure of each one's size varies by, and what that is worth in degrees of freedom (limma's fitFDist)."""
    import numpy as np
    from scipy import special

    # Without a single sample there is no variance, and its logarithm says nothing.
    logs = np.log(np.maximum(variance, floor * 1e-2 + _TINY))
    trend = _trend(logs, size)
    residual = logs - trend
    spread = float(residual @ residual) / max(len(logs) - _TERMS, 1) - float(special.polygamma(1, rest / 2))
    shift = special.digamma(rest / 2) - math.log(rest / 2)
    if spread <= 0:
        return np.exp(trend - shift), math.inf
    dof = 2 * _trigamma_inverse(spread)
    return np.exp(trend - shift + special.digamma(dof / 2) - math.log(dof / 2)), dof


def _trend(logs: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the logarithms of variances are at each size: a parabola.

    A figure far from all others in size would have the parabola bend to it, and if it changed, hide that: the more
    a figure could do so (its leverage), the less it counts.
    """
    import numpy as np

    if len(logs) < _FOR_TREND or np.ptp(size) == 0:
        return np.full(len(logs), logs.mean())
    terms = np.polynomial.chebyshev.chebvander(2 * (size - size.min()) / np.ptp(size) - 1, _TERMS - 1)
    orthogonal, _ = np.linalg.qr(terms)
    leverage = (orthogonal**2).sum(axis=1)
    weight = np.maximum(1 - leverage, 0)
    factors = np.linalg.lstsq(terms * weight[:, None], logs * weight, rcond=None)[0]
    trend: NDArray[np.float64] = terms @ factors
    return trend


def _trigamma_inverse(value: float) -> float:
    """The x whose trigamma is `value`, by Newton's method (Smyth 2004, appendix)."""
    from scipy import special

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


def adjust(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The false discovery rate at which each of some p-values would be found (Benjamini-Hochberg)."""
    import numpy as np

    order = np.argsort(p)[::-1]
    ranks = np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(p[order] * len(p) / ranks), 1)
    return adjusted


@dataclass(frozen=True)
class Permuted:
    """How the greatest statistic stands among those of all other assignments of runs to sides.

    `p` is the share of assignments in which it is as great, `least` the smallest `p` that so few runs can give.
    """

    p: float
    least: float


def permute(
    runs: NDArray[np.float64], of_a: int, size: NDArray[np.float64], floor: NDArray[np.float64], seed: int = 0
) -> Permuted:
    """Compare the greatest statistic with those of other assignments; the first `of_a` rows are A's.

    All assignments where they are few, else a thousand drawn by `seed`. The prior is that of the variance over all
    runs, which no assignment changes: when nothing changed, all of them are equally likely to come first.
    """
    import numpy as np

    count, of_b = len(runs), len(runs) - of_a
    centred = runs - runs.mean(axis=0)
    squares = (centred**2).sum(axis=0)
    prior, prior_dof = _prior(squares / (count - 1), count - 1, size, floor)
    signs = _assignments(count, of_a, seed)
    # The greatest t² of each assignment. What varies within its sides is what varies at all, less what the difference
    # explains.
    if math.isinf(prior_dof):
        constant, slope = prior, 0.0
    else:
        freedom = prior_dof + count - 2
        constant, slope = (prior_dof * prior + squares) / freedom, of_a * of_b / count / freedom
    least = np.maximum(floor, _TINY)
    greatest = np.empty(len(signs))
    step = max(1, _AT_ONCE // max(runs.shape[1], 1))
    for first in range(0, len(signs), step):
        delta2 = signs[first : first + step] @ centred
        delta2 *= delta2
        variance = delta2 * -slope
        variance += constant
        np.maximum(variance, least, out=variance)
        delta2 /= variance
        greatest[first : first + step] = delta2.max(axis=1)
    ahead = greatest >= greatest[0] * (1 - 1e-9)
    return Permuted(float(ahead.mean()), 1 / _distinct(count, of_a))


def _distinct(count: int, of_a: int) -> int:
    """How many assignments there are: the mirror image of one has the same statistic and is the same."""
    return math.comb(count, of_a) // (2 if 2 * of_a == count else 1)


def _assignments(count: int, of_a: int, seed: int) -> NDArray[np.float64]:
    """Rows that give the mean of B less that of A, the true assignment first."""
    from itertools import combinations

    import numpy as np

    distinct = _distinct(count, of_a)
    if distinct <= _EXACT:
        # In order, all that have the first run come first, and the others are their mirror images.
        chosen = np.array(list(combinations(range(count), of_a))[:distinct])
    else:
        random = np.random.default_rng(seed)
        drawn = [random.permutation(count)[:of_a] for _ in range(_SAMPLE - 1)]
        chosen = np.array([np.arange(of_a), *drawn])
    signs = np.full((len(chosen), count), 1 / (count - of_a))
    np.put_along_axis(signs, chosen, -1 / of_a, axis=1)
    return signs
