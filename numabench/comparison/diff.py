"""A whole comparison: whether the sides may be compared, what of their figures changed, and where in the call trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.comparison import comparable, replication, treediff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.comparison.change import MetricChange
    from numabench.comparison.comparable import Difference
    from numabench.comparison.metrics import Values
    from numabench.comparison.side import Side
    from numabench.comparison.treediff import TreeDiff

FDR = 0.05
# Fewer boots make an interval, and fewer recordings a verdict, that nobody should act on.
_FEW_BOOTS, _FEW_RECORDINGS = 2, 3


@dataclass(frozen=True)
class Diff:
    """Two sides: what differs about them, what changed, and what must be known to read it.

    `is_forced` says that they are not comparable and were compared anyway. `tree` is None where a side was not recorded.
    """

    a: Side
    b: Side
    differences: tuple[Difference, ...]
    is_forced: bool
    metrics: tuple[MetricChange, ...]
    tree: TreeDiff | None
    notes: tuple[str, ...]


def compare(
    a: Side,
    b: Side,
    values_a: Sequence[Values],
    values_b: Sequence[Values],
    *,
    fdr: float = FDR,
    min_share: float = 0.0,
) -> Diff:
    """Compare two sides; `values_a` and `values_b` have the figures of each run, in the order of the runs.

    `fdr` is the share of false ones among all that is called changed (Benjamini and Hochberg, 1995). Whether the sides
    may be compared is for the caller to ask first (`forbidden`).
    """
    differences = comparable.differences(a, b)
    tree = None
    if a.recorded and b.recorded:
        tree = treediff.diff(a.recorded, b.recorded, fdr=fdr, min_share=min_share)
    return Diff(
        a=a,
        b=b,
        differences=differences,
        is_forced=any(one.forbids for one in differences),
        metrics=replication.compare(a, b, values_a, values_b, fdr=fdr),
        tree=tree,
        notes=tuple(_notes(a, b, tree)),
    )


def forbidden(a: Side, b: Side) -> tuple[Difference, ...]:
    """What forbids to compare two sides: a difference after which no figure of one says anything about the other's."""
    return tuple(one for one in comparable.differences(a, b) if one.forbids)


def _notes(a: Side, b: Side, tree: TreeDiff | None) -> list[str]:
    notes = []
    fewest = min(len(a.boots), len(b.boots))
    if fewest < _FEW_BOOTS:
        notes.append(
            "One boot on a side: what one boot has that another would not have cannot be told from what the kernel "
            "does. Figures are descriptive only; make more boots (numabench run --boots 5 --kernel A --kernel B)."
        )
    if tree is None:
        lacking = " and ".join(name for name, side in (("A", a), ("B", b)) if not side.recorded)
        notes.append(f"{lacking} has no call graph to compare: record one with --observe cpu.")
    elif min(tree.runs_a, tree.runs_b) < _FEW_RECORDINGS:
        notes.append(
            "Fewer than 3 boots with call graphs on a side: the trees are a picture, nothing in them has a verdict."
        )
    if any(not one.names for side in (a, b) for one in side.recorded):
        notes.append(
            "A recording has no kernel symbols beside it: which functions a kernel has is guessed from what was seen."
        )
    return notes
