"""Prefix trees in arrays: many merged to one, sums from the leaves up, and each function counted once a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = 0


@dataclass(frozen=True, eq=False)
class PrefixTree:
    """A tree in which siblings have different names. Node 0 is the root; its `name` is -1, its `parent` itself.

    Nodes are sorted by depth, then parent, then name: those of depth d are `levels[d]` to `levels[d + 1]`, and the
    children of one node stand together.
    """

    parent: NDArray[np.int64]
    name: NDArray[np.int64]
    levels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.parent)

    def depth(self) -> NDArray[np.int64]:
        """The depth of each node, 0 for the root."""
        import numpy as np

        return np.repeat(np.arange(len(self.levels) - 1), np.diff(self.levels))

    def inclusive(self, own: NDArray[Any], add: np.ufunc | None = None) -> NDArray[Any]:
        """The sums over each node and all below it of the rows of `own` (nodes by whatever), or what `add` makes."""
        import numpy as np

        add = add or np.add
        total = own.copy()
        for level in range(len(self.levels) - 2, 0, -1):
            rows = slice(self.levels[level], self.levels[level + 1])
            parents = self.parent[rows]
            first = np.flatnonzero(np.diff(parents, prepend=-1))
            total[parents[first]] = add(total[parents[first]], add.reduceat(total[rows], first, axis=0))
        return total

    def first_of_name(self) -> NDArray[np.bool_]:
        """Which nodes have no ancestor of their own name: the sum over these counts recursion once."""
        import numpy as np

        found = np.ones(len(self), np.bool_)
        found[ROOT] = False
        nodes = np.arange(1, len(self))
        above = self.parent[nodes]
        while len(nodes):
            again = self.name[above] == self.name[nodes]
            found[nodes[again]] = False
            go_on = ~again & (above != ROOT)
            nodes, above = nodes[go_on], self.parent[above[go_on]]
        return found


def depths(parent: NDArray[np.int64], is_root: NDArray[np.bool_]) -> NDArray[np.int16]:
    """The depths in a forest; a root's parent is itself. Trees may be 32,767 deep: perf's chains are not."""
    import numpy as np

    depth = (~is_root).astype(np.int16)
    above = parent.astype(np.int32)
    # Each round looks twice as far up as the one before, and leaves out what has arrived at a root.
    nodes = np.flatnonzero(depth[above])
    while len(nodes):
        further = above[nodes]
        more, above_it = depth[further], above[further]
        depth[nodes] += more
        above[nodes] = above_it
        nodes = nodes[depth[above_it] > 0]
    return depth


def merge(
    parent: NDArray[np.int64], name: NDArray[np.int64], depth: NDArray[np.int16]
) -> tuple[PrefixTree, NDArray[np.int64]]:
    """The tree that nodes of a forest make once all roots, and siblings of one name, are the same node.

    `name` is at least 0 but for roots. The second value has the node that each became.
    """
    import numpy as np

    order = np.argsort(depth, kind="stable")
    deepest = int(depth.max())
    bounds = np.searchsorted(depth[order], np.arange(deepest + 2, dtype=np.int16))
    width = int(name.max()) + 1 if len(name) else 1
    number = np.zeros(len(parent), np.int64)
    parents, names = [np.zeros(1, np.int64)], [np.full(1, -1, np.int64)]
    levels = [0, 1]
    for level in range(1, deepest + 1):
        at = order[bounds[level] : bounds[level + 1]]
        key, inverse = np.unique(number[parent[at]] * width + name[at], return_inverse=True)
        number[at] = levels[-1] + inverse
        parents.append(key // width)
        names.append(key % width)
        levels.append(levels[-1] + len(key))
    return PrefixTree(np.concatenate(parents), np.concatenate(names), tuple(levels)), number


def sum_rows(rows: NDArray[Any], into: NDArray[np.int64], size: int) -> NDArray[Any]:
    """An array of `size` rows: each is the sum of those `rows` that go `into` it."""
    import numpy as np

    total = np.zeros((size, *rows.shape[1:]), rows.dtype)
    if not len(rows):
        return total
    order = np.argsort(into, kind="stable")
    goes = into[order]
    first = np.flatnonzero(np.diff(goes, prepend=-1))
    total[goes[first]] = np.add.reduceat(rows[order], first, axis=0)
    return total
