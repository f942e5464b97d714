"""A whole comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numabench.comparison.change import MetricChange
    from numabench.comparison.comparable import Difference
    from numabench.comparison.side import Side
    from numabench.comparison.treediff import TreeDiff


@dataclass(frozen=True)
class Diff:
    """Two sides: what differs about them, what changed, and what must be known to read it.

    `is_forced` says that they are not comparable and were compared anyway. `tree` is None where no side was recorded.
    """

    a: Side
    b: Side
    differences: tuple[Difference, ...]
    is_forced: bool
    metrics: tuple[MetricChange, ...]
    tree: TreeDiff | None
    notes: tuple[str, ...]
