"""What nights of one level differ by for no reason: how much, and whether neighbours resemble each other.

Values beyond the tenth of each end count as that tenth (winsorizing: Tukey and McLaughlin, Sankhya A 25, 1963), so that
rare outliers do not hide a change; two modes stay, and make the noise as large as they are apart. The correlation of
neighbouring nights is taken for that of an AR(1) process, with its estimate's bias put back (Kendall, Biometrika 41,
1954), and everything that is judged by a mean of nights is judged with its variance in such a process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[Any]

WINSORIZED = 0.1
# Beyond it a level cannot be told from its own wandering.
_MOST_CORRELATED = 0.9
# What is told as a correlation is beyond so many standard errors of none.
_NOTED_ERRORS = 2.0
# Fewer cannot be told to have two modes, or to be correlated.
MIN_NOTED = 15
_MIN_MODE_SHARE = 0.1


@dataclass(frozen=True)
class Noise:
    """The standard deviation of a night's value, the degrees of freedom that it is known to, and the correlation.

    `correlation` is that of neighbouring nights, 0 to 0.9; `is_noted` whether it is beyond what chance makes.
    """

    deviation: float
    degrees: float
    correlation: float
    is_noted: bool

    def of_mean(self, nights: int) -> float:
        """The variance of the mean of so many nights in a row, by that of one."""
        return _of_mean(nights, round(self.correlation, 3))


def centre(values: Floats) -> float:
    """The mean without the tenth of each end."""
    import numpy as np

    outer = int(WINSORIZED * len(values))
    return float(np.sort(values)[outer : len(values) - outer].mean())


def estimate(levels: Sequence[Floats], floor: float) -> Noise | None:
    """The noise of values in one or more levels, each in the order of nights. None below three more than levels.

    `floor` is the least deviation that the values can be known to have (what rounding hides).
    """
    import numpy as np

    own = [values - centre(values) for values in levels if len(values)]
    count = sum(map(len, own))
    free = count - len(own)
    if free < 3:
        return None
    ordered = np.sort(np.concatenate(own))
    outer = int(WINSORIZED * count)
    low, high = ordered[outer], ordered[count - 1 - outer]
    clipped = [np.clip(values, low, high) for values in own]
    squares = math.fsum(float(values @ values) for values in clipped)
    products = math.fsum(float(values[1:] @ values[:-1]) for values in clipped)
    raw = products / squares if squares else 0.0
    correlation = min(max(raw + (1 + 3 * raw) / free, 0.0), _MOST_CORRELATED)
    # Neighbours that resemble each other spread less than their process does.
    seen = 1 - _of_mean(count, round(correlation, 3))
    variance = squares / free / _winsorized_variance(outer / count) / (seen * count / (count - 1))
    square = correlation * correlation
    return Noise(
        deviation=max(math.sqrt(variance), floor),
        degrees=max((free - 2 * outer) * (1 - square) / (1 + square), 2.0),
        correlation=correlation,
        is_noted=count >= MIN_NOTED and raw > _NOTED_ERRORS / math.sqrt(count),
    )


def is_bimodal(values: Floats) -> bool:
    """Whether values fall into two groups, each of a tenth of them or more; below fifteen there is no telling.

    The statistic is Engelman and Hartigan's (JASA 64, 1969), its limit from simulation: of normal values 1 in 200 are
    beyond it, of 15 as of 180.
    """
    import numpy as np

    count = len(values)
    if count < MIN_NOTED:
        return False
    ordered = np.sort(values)
    ordered = ordered - ordered.mean()
    sums, squares = np.cumsum(ordered), np.cumsum(ordered * ordered)
    left = np.arange(1, count)
    within = squares[-1] - sums[:-1] ** 2 / left - sums[:-1] ** 2 / (count - left)
    least = max(math.ceil(_MIN_MODE_SHARE * count), 2)
    best = max(float(within[least - 1 : count - least].min()), 1e-12 * float(squares[-1]))
    return float(squares[-1]) - best > best * (1.75 + 6 / math.sqrt(count) + 50 / count)


@lru_cache(maxsize=65536)
def _of_mean(nights: int, correlation: float) -> float:
    pairs = math.fsum((nights - gap) * correlation**gap for gap in range(1, nights))
    return (nights + 2 * pairs) / nights**2


@lru_cache(maxsize=1024)
def _winsorized_variance(share: float) -> float:
    """That of the standard normal distribution with so large a share of each end brought in."""
    from scipy.stats import norm

    if not share:
        return 1.0
    limit = float(norm.isf(share))
    return float((1 - 2 * share) - 2 * limit * norm.pdf(limit) + 2 * share * limit**2)
