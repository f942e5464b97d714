"""Shares and costs of functions and paths tested over boots: which of them changed, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.comparison.moderated import Moderated, Permuted, adjust, compare, permute

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.comparison.boots import Boots

FEWEST_BOOTS = 3
# The quantile of 95 % intervals.
_TWO_SIDED = 0.975


@dataclass(frozen=True, eq=False)
class Tested:
    """What a test says of each of some rows.

    `half_width` is of the 95 % interval of the share's difference, `changed` whether there is one at the rate asked
    for.
    """

    p: NDArray[np.float64]
    q: NDArray[np.float64]
    half_width: NDArray[np.float64]
    changed: NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """The tests of several tables, None where there was no test; `permutation_p` is over all tables."""

    tables: tuple[Tested | None, ...]
    permutation_p: float | None = None


def compare_shares(tables: Sequence[NDArray[np.float64]], boots: Boots, fdr: float) -> Outcome:
    """Test tables of shares (0 to 1, rows by boots)."""
    import numpy as np
    from scipy import special

    if not _enough(boots):
        return Outcome((None,) * len(tables))
    shares = np.clip(np.concatenate(tables), 0, 1)
    figures = np.arcsin(np.sqrt(shares)).T
    size = figures.mean(axis=0)
    found, permuted = _tests(figures, boots, size, np.full(len(size), boots.noise.mean()), fdr)
    a, b = boots.means(shares)
    middle = (a + b) / 2
    # A step of the arcsine of the root is one of twice the root of p (1 - p) of the share.
    quantile = special.stdtrit(np.minimum(found.dof, 1e9), _TWO_SIDED)
    half_width = quantile * found.stderr * 2 * np.sqrt(middle * (1 - middle))
    return _outcome(tables, found, permuted, half_width, fdr)


def compare_costs(
    costs: Sequence[NDArray[np.float64]], shares: Sequence[NDArray[np.float64]], boots: Boots, fdr: float
) -> Outcome:
    """Test tables of costs (above or equal 0, rows by boots), by ratio; `shares` are those of the same rows.

    No boot's may be unknown: then there is no test.
    """
    import numpy as np

    if not _enough(boots) or np.isnan(boots.cost).any():
        return Outcome((None,) * len(costs))
    cost, share = np.concatenate(costs), np.concatenate(shares)
    # Half a sample more than there is: what was never sampled has no logarithm.
    half_sample = boots.cost.sum(axis=0) / boots.samples / 2
    figures = np.log(cost + half_sample).T
    floor = (1 / (share * boots.samples + 0.5)).mean(axis=1)
    size = np.log(share.mean(axis=1) + 1e-9)
    found, permuted = _tests(figures, boots, size, floor, fdr)
    return _outcome(costs, found, permuted, np.zeros(len(cost)), fdr)


def _enough(boots: Boots) -> bool:
    return min(boots.count_a, boots.count_b) >= FEWEST_BOOTS


def _tests(
    figures: NDArray[np.float64], boots: Boots, size: NDArray[np.float64], floor: NDArray[np.float64], fdr: float
) -> tuple[Moderated, Permuted]:
    """The tests of figures (boots by rows); careful ones where assignments cannot say that it is no chance."""
    permuted = permute(figures, boots.count_a, size, floor)
    a, b = figures[: boots.count_a], figures[boots.count_a :]
    return compare(a, b, size, floor, careful=permuted.least > fdr), permuted


def _outcome(
    tables: Sequence[NDArray[np.float64]],
    found: Moderated,
    permuted: Permuted,
    half_width: NDArray[np.float64],
    fdr: float,
) -> Outcome:
    """The tests adjusted for all that is compared, and no change at all where assignments say it may be chance.

    So few boots may allow for so few assignments that none can be as rare as asked for: then the true one must be the
    most extreme of all.
    """
    import numpy as np

    by_chance = permuted.p > max(fdr, permuted.least * (1 + 1e-9))
    q = adjust(found.p)
    changed = np.zeros(len(q), np.bool_) if by_chance else q <= fdr
    ends = np.cumsum([len(table) for table in tables])[:-1]
    columns = (np.split(column, ends) for column in (found.p, q, half_width, changed))
    return Outcome(tuple(map(Tested, *columns)), permuted.p if permuted.least <= fdr else None)
