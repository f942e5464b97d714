"""Whether some nights have another level than the nights before: a test by size, and one by rank that must agree.

The first is a t-test with the noise and the correlation of `noise`; it sees how large a shift is, and takes noise for
normal. The second is Mann and Whitney's exact one (Ann. Math. Stat. 18, 1947); it takes nothing for granted but that
nights of one level could have come in any order, so that a few outliers in a row, or nights that all fell into one of
two modes, are no change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from numabench.analysis.history.noise import Noise

    Floats = NDArray[Any]

# A series of 60 nights that nothing happened to alarms in 1 of 100 cases at most (tests/bench/bench_verdicts.py).
SIZE_LEVEL, RANK_LEVEL = 1.5e-4, 3e-4
# So many are compared by rank; what was longer ago says little of tonight.
COMPARED = 60
_EXACT_AFTER = 8


@dataclass(frozen=True)
class Shift:
    """A level less the one before, its standard error, the degrees of freedom of that, and both two-sided p-values."""

    difference: float
    standard_error: float
    degrees: float
    p: float
    rank_p: float

    @property
    def is_found(self) -> bool:
        """Whether both tests found it."""
        return self.p <= SIZE_LEVEL and self.rank_p <= RANK_LEVEL


def between(before: Floats, after: Floats, reference: Floats, noise: Noise) -> Shift:
    """The shift from one level's nights to the next level's.

    `reference` are nights from before `after`, each brought to the level of `before`: more of them than of one level
    can be compared by rank.
    """
    from scipy.special import stdtr

    from numabench.analysis.history.noise import centre

    difference = centre(after) - centre(before)
    error = noise.deviation * math.sqrt(noise.of_mean(len(before)) + noise.of_mean(len(after)))
    size = abs(difference) / error if error else (math.inf if difference else 0.0)
    p = float(2 * stdtr(noise.degrees, -size))
    # Ranks take longer, and cannot make it a change.
    rank_p = rank_test(reference[-COMPARED:], after[:COMPARED]) if p <= SIZE_LEVEL else 1.0
    return Shift(difference, error, noise.degrees, p, rank_p)


def rank_test(before: Floats, after: Floats) -> float:
    """The two-sided p-value of Mann and Whitney's test; exact up to eight values after, ties to the safe side."""
    import numpy as np

    wins = float((after[:, None] > before[None, :]).sum()) + float((after[:, None] == before[None, :]).sum()) / 2
    lost = min(wins, len(before) * len(after) - wins)
    if len(after) <= _EXACT_AFTER:
        return min(2 * _at_most(len(before), len(after))[math.ceil(lost)], 1.0)
    from scipy.stats import mannwhitneyu

    if np.ptp(np.concatenate([before, after])) == 0:
        return 1.0
    return float(mannwhitneyu(before, after, method="asymptotic").pvalue)


@lru_cache(maxsize=1024)
def _at_most(before: int, after: int) -> tuple[float, ...]:
    """The probability that so many pairs or fewer are lost, by number: from the Gaussian binomial coefficient."""
    import numpy as np

    ways = np.zeros(before * after + 1)
    ways[0] = 1.0
    for place in range(1, after + 1):
        ways[before + place :] -= ways[: max(len(ways) - before - place, 0)].copy()
        for start in range(place):
            ways[start::place] = np.cumsum(ways[start::place])
    return tuple((np.cumsum(ways) / math.comb(before + after, after)).tolist())
