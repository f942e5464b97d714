"""How a trial's memory is spread over nodes, over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from numabench.record import Sample, Trial

ELSEWHERE = -1


@dataclass(frozen=True)
class NodeMemory:
    """Bytes on each of `nodes` at each time (seconds since GO), estimated from sampled pages.

    The last node is `ELSEWHERE` (-1): nodes outside the plan. `is_scaled` is False where slice sizes are not known;
    then the numbers are shares of all sampled pages.
    """

    nodes: tuple[int, ...]
    times_s: tuple[float, ...]
    amounts: tuple[tuple[float, ...], ...]
    is_scaled: bool

    def of_node(self, node: int) -> tuple[float, ...]:
        """One node's amounts over time."""
        column = self.nodes.index(node)
        return tuple(row[column] for row in self.amounts)


def node_memory(trial: Trial, nodes: tuple[int, ...]) -> NodeMemory | Missing:
    """Memory per node over a trial. Pages that are nowhere yet count for no node, by their share of all sampled."""
    if trial.clock.go_ns is None:
        return Missing("the trial had no GO")
    sampled = [sample for sample in trial.samples if sample.has_pages]
    if not sampled:
        return Missing("no pages were sampled")
    scaled = all(trial.slice_bytes(sample, 0) is not None for sample in sampled)
    return NodeMemory(
        nodes=(*nodes, ELSEWHERE),
        times_s=tuple(max(sample.t_ns - trial.clock.go_ns, 0) / NS_PER_S for sample in sampled),
        amounts=tuple(_amounts(trial, sample, len(nodes) + 1, scaled) for sample in sampled),
        is_scaled=scaled,
    )


def _amounts(trial: Trial, sample: Sample, columns: int, scaled: bool) -> tuple[float, ...]:
    totals = [0.0] * columns
    found_pages = sum(sum(row) for row in sample.pages)
    present = found_pages / (found_pages + sum(sample.status.values()))
    for number, row in enumerate(sample.pages):
        found = sum(row)
        factor = present * (trial.slice_bytes(sample, number) or 0) / found if scaled and found else 1 / found_pages
        for column, pages in enumerate(row):
            totals[column] += pages * factor
    return tuple(totals)
