"""The call trees of many recordings on one tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.comparison.kernel_tree import NO_PHASE
from numabench.comparison.prefix_tree import PrefixTree, depths, merge, sum_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.comparison.kernel_tree import KernelTree
    from numabench.comparison.side import Recorded

_ANY_PHASE = 1 << 30


@dataclass(frozen=True, eq=False)
class Forest:
    """Recordings on one tree whose nodes' names are positions in `names`.

    `own` has for every node (row) and recording (column) the share, 0 to 1, of the recording's weight that was sampled
    in the node itself. `low_phase` and `high_phase` are the least and greatest position in `phases` of what was sampled
    there; `phase_shares` (rows) are by phase. `samples` and `weight` are of whole recordings.
    """

    tree: PrefixTree
    names: tuple[str, ...]
    own: NDArray[np.float64]
    low_phase: NDArray[np.int64]
    high_phase: NDArray[np.int64]
    phases: tuple[str, ...]
    phase_shares: NDArray[np.float64]
    samples: NDArray[np.int64]
    weight: NDArray[np.float64]

    def projected(self, tree: PrefixTree, number: NDArray[np.int64]) -> Forest:
        """The same on another tree, `number` having the node that each node became."""
        import numpy as np

        if tree is self.tree:
            return self
        low = np.full(len(tree), _ANY_PHASE)
        high = np.full(len(tree), NO_PHASE)
        np.minimum.at(low, number, self.low_phase)
        np.maximum.at(high, number, self.high_phase)
        own = sum_rows(self.own, number, len(tree))
        return Forest(tree, self.names, own, low, high, self.phases, self.phase_shares, self.samples, self.weight)

    def phase_below(self) -> NDArray[np.int64]:
        """The phase of all that was sampled at and below each node, NO_PHASE where it is of several."""
        import numpy as np

        low = self.tree.inclusive(self.low_phase, np.minimum)
        high = self.tree.inclusive(self.high_phase, np.maximum)
        return np.where(low == high, low, NO_PHASE)


def unify(recordings: Sequence[Recorded]) -> Forest:
    """Put recordings, at least one, on one tree."""
    import numpy as np

    trees = [recording.tree for recording in recordings]
    names: dict[str, int] = {}
    phases: dict[str, int] = {}
    name, phase = _numbered(trees, names, phases)
    starts = np.cumsum([0, *map(len, trees)])
    parent = np.concatenate([tree.parent.astype(np.int64) + start for tree, start in zip(trees, starts, strict=False)])
    is_root = np.zeros(len(parent), np.bool_)
    is_root[starts[:-1]] = True
    whole, number = merge(parent, name, depths(parent, is_root))
    of = np.repeat(np.arange(len(trees)), np.diff(starts))
    weights = [_weight(tree) for tree in trees]
    totals = np.array([max(weight.sum(), 1) for weight in weights], np.float64)
    own = np.zeros((len(whole), len(trees)))
    # No tree has a node twice.
    own[number, of] = np.concatenate([weight / total for weight, total in zip(weights, totals, strict=True)])
    low, high = np.full(len(whole), _ANY_PHASE), np.full(len(whole), NO_PHASE)
    placed = phase != NO_PHASE
    np.minimum.at(low, number[placed], phase[placed])
    np.maximum.at(high, number[placed], phase[placed])
    return Forest(
        tree=whole,
        names=tuple(names),
        own=own,
        low_phase=low,
        high_phase=high,
        phases=tuple(phases),
        phase_shares=_phase_shares(trees, phases, totals),
        samples=np.array([tree.samples.sum() for tree in trees]),
        weight=totals,
    )


def _numbered(
    trees: Sequence[KernelTree], names: dict[str, int], phases: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The names and phases of all trees' nodes by their positions in `names` and `phases`, which it fills.

    Negative ones (the root's name, no phase, several) stay as they are.
    """
    import numpy as np

    columns: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for tree in trees:
        for column, own, words, known in (
            (columns[0], tree.name, tree.names, names),
            (columns[1], tree.phase, tree.phases, phases),
        ):
            numbers = np.array([known.setdefault(word, len(known)) for word in words], np.int64)
            column.append(np.where(own < 0, own, numbers[np.maximum(own, 0)]) if len(numbers) else own.astype(np.int64))
    return np.concatenate(columns[0]), np.concatenate(columns[1])


def _weight(tree: KernelTree) -> NDArray[np.int64]:
    """What shares are of; an event without periods counts."""
    return tree.weight if tree.weight.any() else tree.samples


def _phase_shares(
    trees: Sequence[KernelTree], phases: dict[str, int], totals: NDArray[np.float64]
) -> NDArray[np.float64]:
    import numpy as np

    shares = np.zeros((len(phases), len(trees)))
    for number, tree in enumerate(trees):
        of_phase = tree.phase_weight if tree.weight.any() else tree.phase_samples
        shares[[phases[phase] for phase in tree.phases], number] = of_phase / totals[number]
    return shares
