"""Call stacks as a prefix tree: every function once below each of its callers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.perf.extension import checked, ffi, lib, made, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

ROOT = 0


@dataclass(frozen=True)
class CallTree:
    """A prefix tree of call stacks. Node 0 is the root, which is no function; a parent comes before its children.

    `name` has the position in `names` of every node (of the root: `len(names)`). `count` and `period` are a node's own:
    samples taken in it, and the sum of their periods (for a clock event: ns).
    """

    names: tuple[str, ...]
    parent: NDArray[np.uint32]
    name: NDArray[np.uint32]
    count: NDArray[np.uint64]
    period: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.parent)

    def inclusive(self, own: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """Samples of each node and of all below it; `own` replaces `count` by another figure, for example `period`."""
        total = (self.count if own is None else own).tolist()
        parents = self.parent.tolist()
        for node in range(len(total) - 1, 0, -1):
            total[parents[node]] += total[node]
        import numpy as np

        return np.array(total, np.uint64)

    def frames(self, node: int) -> tuple[str, ...]:
        """The stack that ends in a node, the leaf first."""
        found = []
        while node != ROOT:
            found.append(self.names[self.name[node]])
            node = int(self.parent[node])
        return tuple(found)

    def stacks(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Every stack that was sampled, the leaf first, and how often; the empty stack where chains were empty."""
        paths: list[tuple[str, ...]] = [()]
        counts, parents, names = self.count.tolist(), self.parent.tolist(), self.name.tolist()
        if counts[ROOT]:
            yield (), counts[ROOT]
        for node in range(1, len(counts)):
            path = (self.names[names[node]], *paths[parents[node]])
            paths.append(path)
            if counts[node]:
                yield path, counts[node]

    def folded(self) -> Iterator[str]:
        """Lines `outermost;...;leaf count`, as flame graph tools read them; empty stacks are left out."""
        paths = [""]
        counts, parents, names = self.count.tolist(), self.parent.tolist(), self.name.tolist()
        for node in range(1, len(counts)):
            above = paths[parents[node]]
            own = self.names[names[node]].replace(";", ":")
            path = f"{above};{own}" if above else own
            paths.append(path)
            if counts[node]:
                yield f"{path} {counts[node]}"


class NameTable:
    """Names by number, each once, in the order in which they were first asked for."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of a name."""
        return self._numbers.setdefault(name, len(self._numbers))

    def numbers(self, names: Iterable[str]) -> list[int]:
        """The numbers of some names."""
        return [self.number(name) for name in names]

    def names(self) -> tuple[str, ...]:
        """All names by number."""
        return tuple(self._numbers)


@dataclass(frozen=True)
class FrameChains:
    """Chains of named frames, the leaf first: chain i is `frames[starts[i]:starts[i + 1]]`, numbers of names."""

    starts: NDArray[np.uint64]
    frames: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.starts) - 1


class TreeBuilder:
    """A tree that chains are put into."""

    def __init__(self) -> None:
        require()
        self._tree = made(lib.calltree_new(int.from_bytes(os.urandom(8), "little")), lib.calltree_free)

    def insert(self, below: NDArray[np.uint32], chains: NDArray[np.uint32], frames: FrameChains) -> NDArray[np.uint32]:
        """The nodes of the leaves, after `chains[i]` was put below node `below[i]`, its outermost frame first."""
        import numpy as np

        below, chains = (np.ascontiguousarray(numbers, np.uint32) for numbers in (below, chains))
        names = np.ascontiguousarray(frames.frames, np.uint32)
        starts = np.ascontiguousarray(frames.starts, np.uint64)
        nodes = np.empty(len(chains), np.uint32)
        if len(chains) and (chains.max() >= len(frames) or below.max() >= self._size()):
            raise IndexError("no such chain or node")
        checked(
            lib.calltree_insert(
                self._tree,
                ffi.from_buffer("uint32_t[]", below),
                ffi.from_buffer("uint32_t[]", chains),
                len(chains),
                ffi.from_buffer("uint64_t[]", starts),
                ffi.from_buffer("uint32_t[]", names),
                ffi.from_buffer("uint32_t[]", nodes),
            )
        )
        return nodes

    def tree(
        self, names: tuple[str, ...], nodes: NDArray[np.uint32], count: NDArray[np.uint64], period: NDArray[np.uint64]
    ) -> CallTree:
        """The tree, with counts and periods added to some nodes."""
        import numpy as np

        own_count, own_period = (np.zeros(self._size(), np.uint64) for _ in range(2))
        np.add.at(own_count, nodes, count)
        np.add.at(own_period, nodes, period)
        name = self._copy(lib.calltree_names)
        name[ROOT] = len(names)
        return CallTree(names, self._copy(lib.calltree_parents), name, own_count, own_period)

    def _size(self) -> int:
        size = ffi.new("size_t *")
        lib.calltree_parents(self._tree, size)
        return int(size[0])

    def _copy(self, read: Any) -> NDArray[np.uint32]:
        import numpy as np

        size = ffi.new("size_t *")
        items = read(self._tree, size)
        return np.frombuffer(ffi.buffer(items, size[0] * 4), np.uint32).copy()
