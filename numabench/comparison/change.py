"""What became of one figure from side A to side B, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# `grown` and `shrunk` are found by a test at the false discovery rate asked for; `no change found` is its absence, with
# the smallest change that could have been found beside it; `insufficient` has too few boots or runs to test anything.
Verdict = Literal["grown", "shrunk", "no change found", "insufficient", "appeared", "disappeared", "not comparable"]


@dataclass(frozen=True)
class Metric:
    """A figure of a run: `name` is its key, `label` what people read, `unit` that of its values.

    `better` says which way is good, `neither` where that is not said; `is_time` whether it depends on the clock, so
    that in a guest it is no performance. Its values come in steps of `step`, in its unit (1 for a count), or of
    `relative_step`, a share of the value (1/32 for a histogram's buckets); 0 where there are none.
    """

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower", "neither"] = "neither"
    is_time: bool = False
    step: float = 0.0
    relative_step: float = 0.0


@dataclass(frozen=True)
class MetricChange:
    """One figure on both sides. `a` and `b` have a tuple of values for each boot, none left out.

    A boot without a value has an empty tuple, and does not count where boots are counted. `ratio` is the median of B's
    boots' medians by that of A's (None where A's is not above 0 or there is none), `ci95` an interval of it
    (hierarchical bootstrap; None below two boots a side), `approximate_ci` whether that is too narrow: below five boots
    a side, or where these did not take turns. `p` is of Welch's test, with a trend over the boots, of the logarithms of
    the boots' medians (of the medians themselves where one is not above 0), `q` after Benjamini-Hochberg over all that
    was compared; None where nothing was tested.
    `smallest_ratio` is the smallest change, as a ratio above 1, that this data would have shown in 80 of 100 cases,
    were it alone. `bimodal` says that the values of a side fall into two groups. `not comparable` is what one side does
    not have, or what not all of its trials came to.
    """

    metric: Metric
    placement: str
    a: tuple[tuple[float, ...], ...]
    b: tuple[tuple[float, ...], ...]
    median_a: float | None
    median_b: float | None
    ratio: float | None
    ci95: tuple[float, float] | None
    approximate_ci: bool
    p: float | None
    q: float | None
    smallest_ratio: float | None
    bimodal: tuple[bool, bool]
    verdict: Verdict
