"""The kernel's part of a recording's call chains as a tree that can be compared with other kernels'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.phases import place
from numabench.comparison.frames import USER, At, Frames
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.analysis.callchain import Stack

NO_PHASE, SEVERAL_PHASES = -1, -2


@dataclass(frozen=True, eq=False)
class KernelTree:
    """A prefix tree: every function once below each of its callers, names as in `numabench.comparison.frames`.

    Node 0 is the root and no function, its `name` -1; parents come before their children. `name` has the position in
    `names` of every node, `samples` and `weight` what was sampled in the node itself, weight in the event's unit (ns
    for cpu-clock). `phase` is the position in `phases` of that, NO_PHASE where nothing was sampled and SEVERAL_PHASES
    where it is of several. `phase_samples` and `phase_weight` are by phase ("remap, waiting for rwsem:R").
    `raw_names` are the kernel's own names of each.
    """

    names: tuple[str, ...]
    parent: NDArray[np.int32]
    name: NDArray[np.int32]
    samples: NDArray[np.int64]
    weight: NDArray[np.int64]
    phase: NDArray[np.int32]
    phases: tuple[str, ...]
    phase_samples: NDArray[np.int64]
    phase_weight: NDArray[np.int64]
    raw_names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.parent)

    def chains(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """Samples and weight of every chain that has any, the outermost frame first."""
        paths: list[tuple[str, ...]] = [()]
        parents, names = self.parent.tolist(), self.name.tolist()
        paths.extend((*paths[parents[node]], self.names[names[node]]) for node in range(1, len(self)))
        own = zip(self.samples.tolist(), self.weight.tolist(), strict=True)
        return {path: both for path, both in zip(paths, own, strict=True) if any(both)}


class TreeBuilder:
    """Makes trees; what it finds out about a chain's phase serves all of them."""

    def __init__(self, table: SymbolTable | None = None) -> None:
        self.table = table or SymbolTable()
        self._frames = Frames(self.table)
        self._phases: dict[tuple[str, ...], str] = {}

    def of_stacks(self, stacks: Iterable[Stack]) -> KernelTree:
        """The tree of stacks; their user frames are left out."""
        numbers: dict[tuple[str, ...], int] = {(): 0}
        parents, names, samples, weights = [0], [""], [0], [0]
        for stack in stacks:
            chain = stack.kernel
            missing = next(depth for depth in range(len(chain) + 1) if chain[depth:] in numbers)
            for depth in range(missing - 1, -1, -1):
                numbers[chain[depth:]] = len(parents)
                parents.append(numbers[chain[depth + 1 :]])
                names.append(chain[depth])
                samples.append(0)
                weights.append(0)
            samples[numbers[chain]] += stack.samples
            weights[numbers[chain]] += stack.weight
        return self.of_arrays(parents, range(len(names)), names, samples, weights)

    def of_arrays(
        self,
        parents: Sequence[int],
        numbers: Sequence[int],
        names: Sequence[str],
        samples: Sequence[int],
        weights: Sequence[int],
    ) -> KernelTree:
        """The tree of a `numabench.perf.CallTree` of kernel frames, taken apart: `names` has the raw ones.

        What the root has itself was sampled outside of the kernel.
        """
        tree = _Growing()
        known = [At()]
        chains: list[tuple[str, ...]] = [()]
        for node in range(len(parents)):
            if node:
                raw = names[numbers[node]]
                at = self._frames.step(known[parents[node]], raw)
                tree.raw_names.setdefault(at.shown[-1], set()).add(raw)
                known.append(at)
                chains.append((raw, *chains[parents[node]]))
            if samples[node] or weights[node]:
                tree.add(known[node].shown or (USER,), samples[node], weights[node], self._phase(chains[node]))
        return tree.done()

    def _phase(self, chain: tuple[str, ...]) -> str:
        found = self._phases.get(chain)
        if found is None:
            where = place(chain, self.table)
            found = f"{where.phase}, waiting for {where.waits_for}" if where.waits_for else where.phase
            self._phases[chain] = found
        return found


class _Growing:
    """A tree while nodes are added to it."""

    def __init__(self) -> None:
        self.raw_names: dict[str, set[str]] = {}
        self._nodes: dict[tuple[str, ...], int] = {(): 0}
        self._parents, self._numbers = [0], [-1]
        self._samples, self._weights, self._phase_of = [0], [0], [NO_PHASE]
        self._names: dict[str, int] = {}
        self._phases: dict[str, list[int]] = {}
        self._phase_numbers: dict[str, int] = {}

    def add(self, path: tuple[str, ...], samples: int, weight: int, phase: str) -> None:
        """Add what was sampled in a function; `path` has the outermost frame first."""
        node = self._node(path)
        self._samples[node] += samples
        self._weights[node] += weight
        sums = self._phases.setdefault(phase, [0, 0])
        sums[0] += samples
        sums[1] += weight
        number = self._phase_numbers.setdefault(phase, len(self._phase_numbers))
        before = self._phase_of[node]
        self._phase_of[node] = number if before in {NO_PHASE, number} else SEVERAL_PHASES

    def _node(self, path: tuple[str, ...]) -> int:
        found = self._nodes.get(path)
        if found is not None:
            return found
        known = next(depth for depth in range(len(path) - 1, -1, -1) if path[:depth] in self._nodes)
        for depth in range(known, len(path)):
            self._nodes[path[: depth + 1]] = len(self._parents)
            self._parents.append(self._nodes[path[:depth]])
            self._numbers.append(self._names.setdefault(path[depth], len(self._names)))
            self._samples.append(0)
            self._weights.append(0)
            self._phase_of.append(NO_PHASE)
        return len(self._parents) - 1

    def done(self) -> KernelTree:
        """The tree as arrays."""
        import numpy as np

        sums = np.array(list(self._phases.values()), np.int64).reshape(-1, 2)
        return KernelTree(
            names=tuple(self._names),
            parent=np.array(self._parents, np.int32),
            name=np.array(self._numbers, np.int32),
            samples=np.array(self._samples, np.int64),
            weight=np.array(self._weights, np.int64),
            phase=np.array(self._phase_of, np.int32),
            phases=tuple(self._phases),
            phase_samples=sums[:, 0],
            phase_weight=sums[:, 1],
            raw_names={name: tuple(sorted(self.raw_names.get(name, ()))) for name in self._names},
        )
