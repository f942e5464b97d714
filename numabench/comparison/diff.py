"""A whole comparison: whether the sides may be compared, what of their figures changed, and where in the call trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.comparison import comparable, metrics, replication, treediff
from numabench.comparison.replication import FDR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numabench.comparison.change import MetricChange
    from numabench.comparison.comparable import Difference
    from numabench.comparison.metrics import Values
    from numabench.comparison.side import Side
    from numabench.comparison.treediff import TreeDiff


@dataclass(frozen=True)
class Diff:
    """Two sides: what differs about them, what changed, and what must be known to read it.

    `is_forced` says that they are not comparable and were compared anyway; `tree` is None where one was not recorded.
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
) -> Diff:
    """Compare two sides; `values_a` and `values_b` have the figures of each run, in the order of the runs.

    `fdr` is the share of false ones among all that is called changed (Benjamini and Hochberg, 1995). Whether the sides
    may be compared is for the caller to ask first (`forbidden`).
    """
    differences = comparable.differences(a, b)
    tree = None
    if a.recorded and b.recorded:
        tree = treediff.diff(a.recorded, b.recorded, fdr=fdr)
    return Diff(
        a=a,
        b=b,
        differences=differences,
        is_forced=any(one.forbids for one in differences),
        metrics=replication.compare(a, b, values_a, values_b, unreached=_unreached(a, b), fdr=fdr),
        tree=tree,
        notes=tuple(_notes(a, b, tree, fdr)),
    )


def forbidden(a: Side, b: Side) -> tuple[Difference, ...]:
    """What forbids to compare two sides: a difference after which no figure of one says anything about the other's."""
    return tuple(one for one in comparable.differences(a, b) if one.forbids)


def _unreached(a: Side, b: Side) -> frozenset[tuple[str, str]]:
    """The figures that some trial ended before, by placement and name."""
    runs = (*a.runs, *b.runs)
    return frozenset((placement, metric.name) for run in runs for placement, metric in metrics.unreached(run))


def _notes(a: Side, b: Side, tree: TreeDiff | None, fdr: float) -> Iterator[str]:
    if not replication.is_enough(len(a.boots), len(b.boots), fdr):
        yield (
            "Too few boots to call anything changed: what one boot has that another has not cannot be told from what "
            "the kernel does. Figures are descriptive only; make three boots of each or more (numabench run --boots 5)."
        )
    inflation = replication.order_inflation(a, b)
    if inflation is not None and inflation >= replication.OUT_OF_TURN:
        yield (
            "The sides' boots did not take turns, so that drift looks like change: only changes "
            f"{inflation:.1f} times as large as in turns are found. Run them with one command: --kernel A --kernel B."
        )
    if tree is None:
        lacking = [name for name, side in (("A", a), ("B", b)) if not side.recorded]
        verb = "has" if len(lacking) == 1 else "have"
        yield f"{' and '.join(lacking)} {verb} no call graph to compare: record one with --observe cpu."
    else:
        yield from tree.notes
    if any(not one.names for side in (a, b) for one in side.recorded):
        yield "A recording has no kernel symbols beside it: which functions a kernel has is guessed from what was seen."
