"""A comparison as CSV: a line for each figure, phase, function and node, and for what only one kernel has."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.comparison.diff import Diff
    from numabench.comparison.treediff import NodeChange

HEAD = (
    *("kind", "placement", "name", "unit", "a", "b", "change", "low95", "high95", "p", "q", "verdict"),
    *("self_a", "self_b", "per_2mb_a_ns", "per_2mb_b_ns", "phase", "raw_a", "raw_b"),
)


def render(diff: Diff) -> str:
    """The lines; what is not known is empty.

    `change` is B by A for figures, and B less A for shares (0 to 1); `low95` and `high95` are of it. A node's name is
    its path, frames separated by `;`, the outermost first.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for one in diff.metrics:
        interval = one.ci95 or ("", "")
        values = (one.median_a, one.median_b, one.ratio, *interval, one.p, one.q, one.verdict)
        writer.writerow(("figure", one.placement, one.metric.name, one.metric.unit, *map(_cell, values), *[""] * 7))
    if diff.tree is not None:
        writer.writerows(_row("phase", node, node.name) for node in diff.tree.phases)
        writer.writerows(_row("function", node, node.name) for node in diff.tree.functions)
        paths = _paths(diff.tree.nodes)
        writer.writerows(_row("node", node, path) for node, path in zip(diff.tree.nodes, paths, strict=True))
        for only in diff.tree.folded:
            shares = (only.share, "") if only.side == "a" else ("", only.share)
            own = (only.self_share, "") if only.side == "a" else ("", only.self_share)
            writer.writerow(
                ("only in one", "", only.name, "share", *shares, *[""] * 5, "not comparable", *own, *[""] * 5)
            )
    return text.getvalue()


def _paths(nodes: Sequence[NodeChange]) -> list[str]:
    paths: list[str] = []
    for node in nodes:
        paths.append(node.name if node.parent < 0 else f"{paths[node.parent]};{node.name}")
    return paths


def _row(kind: str, node: NodeChange, name: str) -> tuple[object, ...]:
    interval = node.ci95 or ("", "")
    costs = (node.self_a, node.self_b, node.per_2mb_a, node.per_2mb_b)
    return (
        *(kind, "", name, "share", node.share_a, node.share_b, node.delta, *interval),
        *map(_cell, (node.p, node.q, node.verdict, *costs, node.phase)),
        *(" ".join(node.raw_a), " ".join(node.raw_b)),
    )


def _cell(value: object) -> object:
    return "" if value is None else value
