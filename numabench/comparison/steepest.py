"""Along which chain of calls a comparison's difference lies, and which functions moved most."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.comparison.change import Verdict
    from numabench.comparison.treediff import NodeChange, TreeDiff

FOUND: frozenset[Verdict] = frozenset(("grown", "shrunk", "appeared", "disappeared"))
# A callee with less than half of what its caller moved is one of several.
_PART = 0.5


def steepest(tree: TreeDiff, *, least: float = 0.005) -> tuple[NodeChange, ...]:
    """The chain of calls along which most moved: from the outermost caller in, each with half of the one above or more.

    It goes through the node whose share grew most: of shares that sum up to one, what one wins others lose. Where
    nothing grew by half of what another shrank it is the one that shrank most. Empty where none moved by `least`.
    """
    nodes = tree.nodes
    if not nodes:
        return ()
    grown = max(range(len(nodes)), key=lambda place: (nodes[place].delta, -nodes[place].depth))
    shrunk = min(range(len(nodes)), key=lambda place: (nodes[place].delta, nodes[place].depth))
    sign, place = (1, grown) if nodes[grown].delta >= -_PART * nodes[shrunk].delta else (-1, shrunk)
    most = sign * nodes[place].delta
    if most < least:
        return ()
    above = place
    while (parent := nodes[above].parent) >= 0 and sign * nodes[parent].delta >= _PART * most:
        above = parent
    chain = [*_between(nodes, above, place)]
    children: dict[int, list[int]] = {}
    for child, node in enumerate(nodes):
        children.setdefault(node.parent, []).append(child)
    while below := children.get(place):
        child = max(below, key=lambda child: sign * nodes[child].delta)
        if sign * nodes[child].delta < _PART * sign * nodes[place].delta:
            break
        chain.append(nodes[child])
        place = child
    return tuple(chain)


def _between(nodes: Sequence[NodeChange], above: int, below: int) -> list[NodeChange]:
    """The nodes from a caller down to one that is below it, both with them."""
    chain = [nodes[below]]
    while below != above:
        below = nodes[below].parent
        chain.append(nodes[below])
    return chain[::-1]


def movers(tree: TreeDiff, most: int, *, least: float = 0.005) -> tuple[NodeChange, ...]:
    """The functions whose share moved most: those that a test found first, at most so many, each by `least` or more."""
    moved = [node for node in tree.functions if abs(node.delta) >= least or node.verdict in FOUND]
    return tuple(sorted(moved, key=lambda node: (node.verdict not in FOUND, -abs(node.delta), node.name))[:most])
