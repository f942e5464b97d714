"""What one cell's figure moved by between nights, beyond what the machine's other cells moved by in the same nights.

How far apart boots of one night are is known from two or three of them, and how far apart nights are from a dozen other
cells: both are poor estimates, and both are shrunk towards what they are over the other cells and the other figures
(Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004, section 6.2). How much figures move for no reason is a model of random
effects over cells (DerSimonian and Laird, Control. Clin. Trials 7, 1986), with the ratio H of Higgins and Thompson
(Stat. Med. 21, 2002): all cells' movements by what their boots let expect. What moves all cells alike is taken out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.analysis.history.shift import Shift

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[Any]
    Nights = tuple[str, ...]
    # By night: the values of each boot.
    Boots = dict[str, tuple[float, ...]]

# Fewer other cells do not say how much cells move.
MIN_CONTROLS = 5
# Fewer figures do not say how much figures differ.
_MIN_FIGURES = 8
# No estimate from the other cells and figures is taken to be worth more.
_MOST_DEGREES = 30.0


@dataclass(frozen=True)
class Prior:
    """What a machine's figures have in common in a night.

    `cells` is what the other cells say of a boot's variance, and `figures` what the other figures say of a figure's
    squared ratio H, which is `ratio` in the middle: both as degrees of freedom.
    """

    cells: float = 0.0
    figures: float = 0.0
    ratio: float = 1.0


@dataclass(frozen=True)
class Contrast:
    """By cell: what its level moved by between some nights and others, with what is known of its boots; NaN where not.

    `weight` is the variance of `difference` by that of a boot, `squares` the sum of the squared residuals of boots,
    `degrees` what that is worth. `is_apart` says that all boots of one side are above all of the other. `floors` are
    the least variances that boots can be known to have.
    """

    difference: Floats
    weight: Floats
    squares: Floats
    degrees: Floats
    is_apart: NDArray[Any]
    floors: Floats

    def known(self) -> NDArray[Any]:
        """Which cells have it."""
        return self.degrees > 0

    def logs(self) -> tuple[Floats, Floats]:
        """The logarithms of the cells' variances, made free of bias, and the variance that chance gives these."""
        import numpy as np
        from scipy.special import digamma, polygamma

        own, free = self._own(), self.degrees[self.known()]
        return np.log(own) - digamma(free / 2) + np.log(free / 2), polygamma(1, free / 2)

    def is_at_floor(self) -> bool:
        """Whether most cells' boots hardly differ."""
        own = self._own()
        return not len(own) or bool((own <= self.floors[self.known()]).mean() > 0.5)

    def _own(self) -> Floats:
        import numpy as np

        at = self.known()
        own: Floats = np.maximum(self.squares[at] / self.degrees[at], self.floors[at])
        return own

    def moderated(self, prior: Prior) -> tuple[Floats, Floats]:
        """The variance of each cell's difference by its boots, and what that is worth; never below what it shows."""
        import numpy as np
        from scipy.special import digamma

        at, own = self.known(), self._own()
        variance, degrees = np.full(len(at), np.nan), np.zeros(len(at))
        shrunk = own
        if prior.cells and len(own):
            half = prior.cells / 2
            middle = math.exp(float(self.logs()[0].mean()) + float(digamma(half)) - math.log(half))
            shrunk = (prior.cells * middle + self.degrees[at] * own) / (prior.cells + self.degrees[at])
        variance[at] = np.maximum(shrunk, own) * self.weight[at]
        degrees[at] = self.degrees[at] + prior.cells
        return variance, degrees

    def ratio(self, variance: Floats, controls: NDArray[Any]) -> tuple[float, int]:
        """The squared ratio H of some cells, and its degrees of freedom."""
        weights, moved = 1 / variance[controls], self.difference[controls]
        common = float(weights @ moved) / float(weights.sum())
        free = len(moved) - 1
        return float(weights @ (moved - common) ** 2) / free, free

    def shift(self, row: int, controls: NDArray[Any], prior: Prior) -> Shift | None:
        """What a cell moved by beyond what `controls` moved by; None where there are too few of these.

        Its `rank_p` is 1 where boots of both sides overlap, and 0 where they do not.
        """
        from scipy.special import stdtr

        others = controls & self.known()
        others[row] = False
        if int(others.sum()) < MIN_CONTROLS or not self.known()[row]:
            return None
        variance, degrees = self.moderated(prior)
        weights = 1 / variance[others]
        total = float(weights.sum())
        ratio, free = self.ratio(variance, others)
        between = max(ratio - 1, 0.0) * free / (total - float(weights @ weights) / total)
        worth = free + prior.figures
        shrunk = (prior.figures * prior.ratio + free * ratio) / worth
        ratio = max(1.0, ratio, shrunk)
        own = float(variance[row])
        error = math.sqrt(max(own * ratio, own + between) + ratio / total)
        free_all = 1 / (1 / worth + 1 / float(degrees[row]))
        difference = float(self.difference[row] - weights @ self.difference[others] / total)
        p = float(2 * stdtr(free_all, -abs(difference) / error))
        return Shift(difference, error, free_all, p, 0.0 if self.is_apart[row] else 1.0)


def contrast(boots: Iterable[Boots], floors: Floats, before: Nights, after: Nights) -> Contrast:
    """The contrast of cells between some nights and others; of those that were measured in all of them."""
    import numpy as np

    rows = [_row(by_night, before, after) for by_night in boots]
    nothing = (math.nan, math.nan, math.nan, 0.0, 0.0)
    columns = np.array([row or nothing for row in rows], float).reshape(-1, 5).T
    return Contrast(columns[0], columns[1], columns[2], columns[3], columns[4] > 0, floors)


def _row(by_night: Boots, before: Nights, after: Nights) -> tuple[float, float, float, float, float] | None:
    if not all(night in by_night for night in (*before, *after)):
        return None
    sides = [[by_night[night] for night in side] for side in (before, after)]
    degrees = sum(len(boots) - 1 for side in sides for boots in side)
    if degrees < 2 or any(sum(map(len, side)) < 2 for side in sides):
        return None
    means = [[math.fsum(boots) / len(boots) for boots in side] for side in sides]
    squares = math.fsum(
        (value - mean) ** 2
        for side, of_side in zip(sides, means, strict=True)
        for boots, mean in zip(side, of_side, strict=True)
        for value in boots
    )
    ends = [(min(map(min, side)), max(map(max, side))) for side in sides]
    return (
        math.fsum(means[1]) / len(after) - math.fsum(means[0]) / len(before),
        sum(sum(1 / len(boots) for boots in side) / len(side) ** 2 for side in sides),
        squares,
        degrees,
        float(ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]),
    )


def prior(figures: Iterable[tuple[Contrast, NDArray[Any]]]) -> Prior:
    """What the figures of one machine have in common in a night; each with the cells that are its controls."""
    import numpy as np
    from scipy.special import digamma, polygamma

    some = [(one, controls & one.known()) for one, controls in figures if not one.is_at_floor()]
    some = [(one, controls) for one, controls in some if controls.sum() >= MIN_CONTROLS]
    if not some:
        return Prior()
    logs = [one.logs() for one, _ in some]
    free = sum(len(own) - 1 for own, _ in logs)
    spread = sum(float(((own - own.mean()) ** 2).sum()) for own, _ in logs) / free
    cells = Prior(_worth(spread - float(np.concatenate([chance for _, chance in logs]).mean()), free))
    if len(some) < _MIN_FIGURES:
        return cells
    ratios = [one.ratio(one.moderated(cells)[0], controls) for one, controls in some]
    half = np.array([free for _, free in ratios]) / 2
    own = np.log([max(ratio, 1e-9) for ratio, _ in ratios]) - digamma(half) + np.log(half)
    figures_ = _worth(float(own.var(ddof=1)) - float(polygamma(1, half).mean()), len(own) - 1)
    middle = float(own.mean()) + float(digamma(figures_ / 2)) - math.log(figures_ / 2)
    return Prior(cells.cells, figures_, math.exp(middle))


def _worth(spread: float, most: float) -> float:
    """The degrees of freedom of what varies so much, as a logarithm, beyond chance; never beyond `most`."""
    return min(2 * _trigamma_inverse(spread) if spread > 0 else math.inf, most, _MOST_DEGREES)


def _trigamma_inverse(value: float) -> float:
    """The x whose trigamma is `value`, by Newton's method (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x
