"""What two sides' recordings are shown as: rows of the call tree, of functions and of phases, by boots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.comparison.prefix_tree import ROOT
from numabench.comparison.projection import shares_by_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.comparison.boots import Boots
    from numabench.comparison.forest import Forest


@dataclass(frozen=True, eq=False)
class Table:
    """Rows to be shown: shares and costs by boots, and who they are; `parents` are rows, -1 for none."""

    names: list[str]
    parents: list[int]
    depths: list[int]
    phases: list[str]
    shares: NDArray[np.float64]
    own: NDArray[np.float64]
    costs: NDArray[np.float64]


def tables(forest: Forest, boots: Boots, min_share: float) -> tuple[Table, Table, Table]:
    """The tree, its functions and the phases: of each what weighs at least `min_share`, 0 to 1, of all samples."""
    inclusive = forest.tree.inclusive(forest.own)
    by_name, own_by_name = shares_by_name(forest.tree, inclusive, forest.own, len(forest.names))
    of_phase = [forest.phases[number] if number >= 0 else "" for number in forest.phase_below().tolist()]
    return (
        _tree_table(forest, inclusive, of_phase, boots, min_share),
        _flat_table(forest.names, by_name, own_by_name, boots, min_share),
        _flat_table(forest.phases, forest.phase_shares, forest.phase_shares, boots, min_share),
    )


def _tree_table(
    forest: Forest, inclusive: NDArray[np.float64], of_phase: list[str], boots: Boots, min_share: float
) -> Table:
    """The nodes that weigh enough, parents first, and of one parent's the heaviest first."""
    import numpy as np

    shares = inclusive @ boots.average
    heavy = _heavy(shares, min_share)
    heavy[ROOT] = False
    weights = np.maximum(*boots.means(shares))
    nodes = np.flatnonzero(heavy)
    # The lightest first, as they are taken from the end of a list.
    nodes = nodes[np.argsort(weights[nodes], kind="stable")]
    below: dict[int, list[int]] = {}
    for node, parent in zip(nodes.tolist(), forest.tree.parent[nodes].tolist(), strict=True):
        below.setdefault(parent, []).append(node)
    order: list[int] = []
    parents: list[int] = []
    waiting = [(node, -1) for node in below.get(ROOT, ())]
    while waiting:
        node, parent = waiting.pop()
        waiting.extend((child, len(order)) for child in below.get(node, ()))
        order.append(node)
        parents.append(parent)
    depth = forest.tree.depth()
    return Table(
        names=[forest.names[number] for number in forest.tree.name[order].tolist()],
        parents=parents,
        depths=(depth[order] - 1).tolist(),
        phases=[of_phase[node] for node in order],
        shares=shares[order],
        own=forest.own[order] @ boots.average,
        costs=inclusive[order] @ boots.cost,
    )


def _flat_table(
    names: Sequence[str],
    inclusive: NDArray[np.float64],
    own: NDArray[np.float64],
    boots: Boots,
    min_share: float,
) -> Table:
    import numpy as np

    shares = inclusive @ boots.average
    rows = np.flatnonzero(_heavy(shares, min_share))
    rows = rows[np.argsort(-np.maximum(*boots.means(shares[rows])), kind="stable")]
    order = rows.tolist()
    return Table(
        names=[names[row] for row in order],
        parents=[-1] * len(order),
        depths=[0] * len(order),
        phases=[""] * len(order),
        shares=shares[rows],
        own=own[rows] @ boots.average,
        costs=inclusive[rows] @ boots.cost,
    )


def _heavy(shares: NDArray[np.float64], min_share: float) -> NDArray[np.bool_]:
    """What is worth a row: never which side it is of, which would make tests of what is left too bold."""
    found: NDArray[np.bool_] = (shares.mean(axis=1) >= min_share) & (shares.max(axis=1) > 0)
    return found
