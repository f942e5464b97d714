"""Call trees as `perf report` builds them: one entry a function, and below it the chains, cut where they part or end.

The rules are those of perf's util/callchain.c (append_chain, split_add_child, sort_chain_graph_abs and _rel). Of equal
weights perf takes the order of the functions' addresses; here it is that of their names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numabench.analysis.callchain import Stack

Order = Literal["callee", "caller"]
Style = Literal["graph", "fractal"]
_Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Branch:
    """Frames that always come together; `ended` is the weight of the chains that end with the last of them.

    `below` is the weight of those that go on, whether or not their branches were heavy enough to be kept in `branches`.
    """

    frames: tuple[str, ...]
    ended: int
    below: int
    branches: tuple[Branch, ...]

    @property
    def weight(self) -> int:
        """All that passed through here."""
        return self.ended + self.below


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a report: a function of one command, what it weighs itself and with all it called, and its chains.

    Where callers have rows, too, `dso` is empty: it does not tell rows apart. Elsewhere `inclusive_weight` is 0.
    """

    comm: str
    dso: str
    level: str
    symbol: str
    self_weight: int
    inclusive_weight: int
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class CallTree:
    """The rows of a report, heaviest first; every share is one of `total_weight`, or of its parent where `relative`."""

    entries: tuple[Entry, ...]
    total_weight: int
    relative: bool
    inclusive: bool


@dataclass(slots=True)
class _Node:
    ended: int = 0
    children: dict[str, _Node] = field(default_factory=dict)

    def add(self, frames: Iterable[str], weight: int) -> None:
        node = self
        for frame in frames:
            child = node.children.get(frame)
            if child is None:
                child = node.children[frame] = _Node()
            node = child
        node.ended += weight


def build(
    stacks: Iterable[Stack],
    *,
    order: Order = "callee",
    style: Style = "graph",
    min_share: float = 0.005,
    inclusive: bool = False,
    total_weight: int | None = None,
) -> CallTree:
    """The call tree of stacks.

    `order` "callee" goes from the sampled function up to who called it, "caller" from the outermost caller down. Shares
    of "graph" are of everything, of "fractal" each of its parent. Rows below `min_share` (0 to 1) of everything are
    left out, and so are branches below that share of everything ("graph") or of their parent ("fractal"). With
    `inclusive`, functions that only called have rows too, and rows are in the order of what they weigh with all they
    called. `total_weight` is what shares are of, where `stacks` are a selection (perf's `--percentage absolute`).
    """
    kept = tuple(stacks)
    total = sum(stack.weight for stack in kept) if total_weight is None else total_weight
    rows = _rows(kept, order, inclusive)
    entries = [_entry(key, row, style, min_share, total) for key, row in rows.items()]
    shown = [entry for entry in entries if _row_weight(entry, inclusive) >= min_share * total]
    shown.sort(key=lambda entry: (-_row_weight(entry, inclusive), entry.comm, entry.dso, entry.symbol))
    return CallTree(tuple(shown), total, style == "fractal", inclusive)


def _row_weight(entry: Entry, inclusive: bool) -> int:
    return entry.inclusive_weight if inclusive else entry.self_weight


@dataclass(slots=True)
class _Row:
    root: _Node = field(default_factory=_Node)
    self_weight: int = 0
    inclusive_weight: int = 0


def _rows(stacks: Iterable[Stack], order: Order, inclusive: bool) -> dict[_Key, _Row]:
    rows: dict[_Key, _Row] = {}
    for stack in stacks:
        if not inclusive:
            row = rows.setdefault((stack.comm, stack.dso, stack.level, stack.leaf), _Row())
            row.self_weight += stack.weight
            row.root.add(stack.frames if order == "callee" else reversed(stack.frames), stack.weight)
            continue
        rows.setdefault((stack.comm, "", stack.level, stack.leaf), _Row()).self_weight += stack.weight
        for key, depth in _callers(stack, order).items():
            row = rows.setdefault(key, _Row())
            row.inclusive_weight += stack.weight
            row.root.add(stack.frames[depth:] if order == "callee" else stack.frames[depth::-1], stack.weight)
    return rows


def _callers(stack: Stack, order: Order) -> dict[_Key, int]:
    """Every function of a chain once, with where its tree begins: recursion does not count twice."""
    found: dict[_Key, int] = {}
    for depth, frame in enumerate(stack.frames or (stack.leaf,)):
        key = (stack.comm, "", "k" if depth < stack.kernel_frames else ".", frame)
        if order == "caller":
            found[key] = depth
        else:
            found.setdefault(key, depth)
    return found


def _entry(key: _Key, row: _Row, style: Style, min_share: float, total: int) -> Entry:
    threshold = math.floor(min_share * total)
    branches = _branches(row.root, threshold, min_share if style == "fractal" else None)
    return Entry(*key, self_weight=row.self_weight, inclusive_weight=row.inclusive_weight, branches=branches)


def _branches(root: _Node, threshold: int, share: float | None) -> tuple[Branch, ...]:
    """The branches below a node that are heavy enough, heaviest first. Chains may be deeper than Python recurses."""
    ends: list[tuple[_Node, tuple[str, ...], int]] = [(root, (), -1)]
    for parent, (node, _, _) in enumerate(ends):
        ends.extend((*_run(name, child), parent) for name, child in node.children.items())
    found: list[list[Branch]] = [[] for _ in ends]
    kept: tuple[Branch, ...] = ()
    for index in range(len(ends) - 1, -1, -1):
        node, frames, parent = ends[index]
        below = sum(branch.weight for branch in found[index])
        least = threshold if share is None else math.ceil(below * share)
        heavy = [branch for branch in found[index] if branch.weight >= least]
        kept = tuple(sorted(heavy, key=lambda branch: (-branch.weight, branch.frames)))
        if parent >= 0:
            found[parent].append(Branch(frames, node.ended, below, kept))
    return kept


def _run(name: str, node: _Node) -> tuple[_Node, tuple[str, ...]]:
    """The frames from a child on that always come together, and the node of the last."""
    frames = [name]
    while not node.ended and len(node.children) == 1:
        [(name, node)] = node.children.items()
        frames.append(name)
    return node, tuple(frames)
