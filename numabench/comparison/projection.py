"""Two kernels' call trees on the names that both kernels have: what one lacks is its caller's, and is listed apart.

A stack joins only where each of its names does, and of two kernels few do (callers are inlined, split, added); a tree
projected on what both have loses frames, and no samples. A function that is absent from a recording is not absent from
its kernel: what a kernel has is told by its saved kallsyms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.comparison.prefix_tree import ROOT, PrefixTree, merge, sum_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.comparison.side import Recorded


@dataclass(frozen=True)
class Vocabulary:
    """The names that a side's kernel has; those that were seen alone where `is_whole` is not so."""

    names: frozenset[str]
    is_whole: bool


def vocabulary(recordings: Sequence[Recorded]) -> Vocabulary:
    """The names that the kernel of a side's recordings has."""
    seen = frozenset().union(*(recording.tree.names for recording in recordings))
    told = [recording.names for recording in recordings if recording.names is not None]
    if len(told) < len(recordings):
        return Vocabulary(seen, is_whole=False)
    # What runs of one side differ in (a module) is not what the side has; what was seen is in no doubt.
    return Vocabulary(frozenset.intersection(*told) | seen, is_whole=True)


def in_both(names: Iterable[str], a: frozenset[str], b: frozenset[str]) -> list[bool]:
    """Which names both kernels have; those in brackets stand for what every kernel has."""
    return [name.startswith("[") or (name in a and name in b) for name in names]


@dataclass(frozen=True, eq=False)
class Projected:
    """A tree of what both kernels have, the node that each of the whole tree's became, and what that keeps.

    `whole` says of each of the whole tree's nodes whether no frame of its path was left out, `kept_frames` how many
    of the `frames` of its path are left.
    """

    tree: PrefixTree
    number: NDArray[np.int64]
    whole: NDArray[np.bool_]
    frames: NDArray[np.int64]
    kept_frames: NDArray[np.int64]


def project(tree: PrefixTree, keeps: NDArray[np.bool_]) -> Projected:
    """The tree of those names alone (`keeps`, by the name's number); a node of another becomes its caller's."""
    import numpy as np

    kept = np.ones(len(tree), np.bool_)
    kept[1:] = keeps[tree.name[1:]]
    depth = tree.depth()
    if kept.all():
        return Projected(tree, np.arange(len(tree)), kept, depth, depth)
    # Of each node the nearest that is kept, itself or above it, and how deep that is then.
    nearest = np.arange(len(tree))
    left = np.zeros(len(tree), np.int64)
    for level in range(1, len(tree.levels) - 1):
        rows = slice(tree.levels[level], tree.levels[level + 1])
        above = tree.parent[rows]
        nearest[rows] = np.where(kept[rows], nearest[rows], nearest[above])
        left[rows] = left[above] + kept[rows]
    nodes = np.flatnonzero(kept)
    place = np.zeros(len(tree), np.int64)
    place[nodes] = np.arange(len(nodes))
    above = place[nearest[tree.parent[nodes]]]
    projected, number = merge(above, tree.name[nodes], left[nodes].astype(np.int16))
    return Projected(projected, number[place[nearest]], left == depth, depth, left)


def shares_by_name(
    tree: PrefixTree, inclusive: NDArray[np.float64], own: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sums by name (rows 0 to `size`) with all below, recursion counted once, and of the function alone."""
    import numpy as np

    first = np.flatnonzero(tree.first_of_name())
    with_below = sum_rows(inclusive[first], tree.name[first], size)
    nodes = np.arange(ROOT + 1, len(tree))
    return with_below, sum_rows(own[nodes], tree.name[nodes], size)
