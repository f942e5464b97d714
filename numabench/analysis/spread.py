"""The spread of a figure over repeats: its median, its extremes, and from three repeats on an interval of its mean."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MIN_REPEATS = 3
# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_Z95 = 1.959964


@dataclass(frozen=True)
class Spread:
    """Some values of one figure, in the order of their trials; `ci95` is None below three of them."""

    values: tuple[float, ...]
    median: float
    low: float
    high: float
    ci95: tuple[float, float] | None

    @property
    def relative(self) -> float:
        """From the lowest to the highest as a share of the median; 0 where the median is."""
        return (self.high - self.low) / self.median if self.median else 0.0


def t95(degrees: int) -> float:
    """The two-sided 95 % quantile of Student's t.

    Above 30 degrees of freedom the first two terms of its Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5).
    """
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = _Z95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def spread(values: Iterable[float]) -> Spread | None:
    """The spread of some values, None of none.

    The interval is of the mean of the values' logarithms, taken back: rates and times are skewed, and an interval of
    a rate must not reach below zero. There is none where a value is not above zero.
    """
    found = tuple(values)
    if not found:
        return None
    return Spread(found, statistics.median(found), min(found), max(found), _interval(found))


def _interval(values: tuple[float, ...]) -> tuple[float, float] | None:
    if len(values) < MIN_REPEATS or min(values) <= 0:
        return None
    logs = [math.log(value) for value in values]
    center = statistics.fmean(logs)
    half = t95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(center - half), math.exp(center + half)
