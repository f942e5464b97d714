"""An interval of the ratio of two medians: boots are drawn anew, then the values within each (hierarchical bootstrap).

Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8; the percentile interval. Few boots
have few different resamples: below five a side the interval is too narrow, which tests/bench says in figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

RESAMPLES = 2000
_TAIL = 0.025


def ratio_interval(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """The 95 % interval of B's median of boots' medians by A's, each boot a sequence of at least one value.

    The draws are seeded by the values, so that the same data has the same interval. None where a resampled median of
    A's is not above 0: there is no ratio to that.
    """
    import numpy as np

    values = np.array([value for side in (a, b) for boot in side for value in boot], np.float64)
    draws = np.random.default_rng(values.view(np.uint32))
    below = _medians(a, resamples, draws)
    above = _medians(b, resamples, draws)
    if below.min() <= 0:
        return None
    low, high = np.quantile(above / below, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def _medians(boots: Sequence[Sequence[float]], resamples: int, draws: Generator) -> NDArray[Any]:
    """The median of boots' medians in each resample."""
    import numpy as np

    sizes = np.array([len(boot) for boot in boots])
    most = int(sizes.max())
    padded = np.array([[*boot, *[np.inf] * (most - len(boot))] for boot in boots])
    chosen = draws.integers(0, len(boots), (resamples, len(boots)))
    size = sizes[chosen][:, :, None]
    inside = (draws.random((resamples, len(boots), most)) * size).astype(np.intp)
    drawn = padded[chosen[:, :, None], inside]
    drawn[np.broadcast_to(np.arange(most) >= size, drawn.shape)] = np.inf
    drawn.sort(axis=2)
    middle = [np.take_along_axis(drawn, place, axis=2)[:, :, 0] for place in ((size - 1) // 2, size // 2)]
    return np.asarray(np.median((middle[0] + middle[1]) / 2, axis=1))
