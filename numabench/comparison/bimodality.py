"""Whether values fall into two groups: the best split in two, by the variance between and within its halves.

The statistic is Engelman and Hartigan's (JASA 64, 1969). The limit is from simulation: of three boots with three
values, normal between and within boots, 1 in 20 is beyond it, and hardly any of five boots with three.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.comparison.change import Metric

MIN_VALUES = 9
BETWEEN_BY_WITHIN = 9.0
# A group is not one outlier.
_MIN_GROUP_SHARE = 0.2


def is_bimodal(values: Sequence[float], metric: Metric) -> bool:
    """Whether values fall into two groups; below nine there is no telling. Neighbouring steps are no two groups."""
    if len(values) < MIN_VALUES:
        return False
    is_positive = min(values) > 0
    ordered = sorted(math.log(value) if is_positive else value for value in values)
    middle = sorted(values)[len(values) // 2]
    grain = math.hypot(metric.step / middle, metric.relative_step) if is_positive else metric.step
    rounding = len(values) * grain**2 / 12
    total = _squares(ordered)
    least = max(math.ceil(_MIN_GROUP_SHARE * len(values)), 2)
    within = min(
        _squares(ordered[:place]) + _squares(ordered[place:]) for place in range(least, len(values) - least + 1)
    )
    return total - within > BETWEEN_BY_WITHIN * max(within, rounding, 1e-12 * total)


def _squares(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)
