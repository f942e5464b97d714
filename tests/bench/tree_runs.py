"""Made-up recordings of one workload on one kernel that differ as real ones do, and what is planted in them.

The call chains are those that were captured in guests (tests/fixtures/migration). A run has a factor of its own for
everything below each function, so that what is below one caller rises and falls together; how much a function varies is
drawn once for a workload, and a few vary much. Then its samples are drawn. Of 24 real recordings of one thing on a
shared machine, `bench_tree_calibration.py --record 24` shows the spread over runs that these have to compare with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from migration_stacks import captured

from numabench.comparison.kernel_tree import NO_PHASE, KernelTree, TreeBuilder
from numabench.comparison.prefix_tree import merge
from numabench.comparison.side import Recorded

CAPTURES = (
    "6.12.117-shared.movepages-fork8",
    "6.1.192-shared.movepages-fork8",
    "6.12.117-shared.numahint",
    "6.1.192-excl.movepages",
)
SAMPLES = 15_000
NS_PER_SAMPLE = 200_000
MIGRATED_BYTES = 256 << 20
# Of the logarithm of each function's factor: the usual standard deviation, and how far functions differ in it.
USUAL, FEW_VARY_MUCH = 0.02, 0.9


@dataclass(frozen=True, eq=False)
class Workload:
    """What is usual: `usual` is a weight for each node of `tree`, `varies` the deviation of its factor's logarithm."""

    tree: KernelTree
    usual: np.ndarray
    varies: np.ndarray

    def inclusive(self) -> np.ndarray:
        """The usual share of each node and all below it."""
        total = self.usual / self.usual.sum()
        for node in range(len(total) - 1, 0, -1):
            total[self.tree.parent[node]] += total[node]
        return total

    def below(self, node: int) -> np.ndarray:
        """Which nodes are a node or below it."""
        found = np.zeros(len(self.usual), bool)
        found[node] = True
        for child in range(node + 1, len(found)):
            found[child] = found[self.tree.parent[child]]
        return found

    def with_share(self, node: int, share: float) -> Workload:
        """The same with all at and below a node at another share, and all else as it was to each other."""
        below = self.below(node)
        usual = self.usual / self.usual.sum()
        usual = np.where(below, usual * share / usual[below].sum(), usual * (1 - share) / usual[~below].sum())
        return replace(self, usual=usual)

    def run(self, random: np.random.Generator, number: int, samples: int = SAMPLES) -> Recorded:
        """One more run, in a boot of its own."""
        factor = random.standard_normal(len(self.usual)) * self.varies
        for node in range(1, len(factor)):
            factor[node] += factor[self.tree.parent[node]]
        likely = self.usual * np.exp(factor)
        drawn = random.multinomial(int(samples * np.exp(0.1 * random.standard_normal())), likely / likely.sum())
        migrated = int(MIGRATED_BYTES * np.exp(0.05 * random.standard_normal()) * drawn.sum() / samples)
        return recorded(sampled(self.tree, drawn), number, migrated)


def workload(random: np.random.Generator, capture: str) -> Workload:
    """A workload with the chains of a capture."""
    tree = TreeBuilder().of_stacks(captured(capture))
    # What was sampled once may be anything from rare to not so rare.
    usual = np.where(tree.samples > 0, random.gamma(tree.samples + 0.5), 0)
    return Workload(tree, usual, USUAL * np.exp(FEW_VARY_MUCH * random.standard_normal(len(tree))))


def sampled(tree: KernelTree, samples: np.ndarray) -> KernelTree:
    """A tree with other samples."""
    phase = np.where(samples > 0, tree.phase, NO_PHASE)
    by_phase = np.bincount(np.maximum(tree.phase, 0), samples * (tree.phase >= 0), len(tree.phases)).astype(np.int64)
    return replace(
        tree,
        samples=samples,
        weight=samples * NS_PER_SAMPLE,
        phase=phase,
        phase_samples=by_phase,
        phase_weight=by_phase * NS_PER_SAMPLE,
    )


def recorded(tree: KernelTree, number: int, migrated: int | None = MIGRATED_BYTES) -> Recorded:
    """A recording of a boot of its own."""
    return Recorded(f"run {number}", f"boot {number}", 1, tree, migrated, frozenset(tree.names))


def large(random: np.random.Generator, nodes: int, functions: int = 4000) -> KernelTree:
    """A tree of a million samples of a busy kernel's shape: as many nodes, up to about 80 deep, few of them heavy."""
    above = np.zeros(2 * nodes, np.int64)
    depth = np.zeros(2 * nodes, np.int16)
    for node in range(1, 2 * nodes):
        # Mostly below what came shortly before, so that paths are long.
        above[node] = random.integers(max(0, node - 400), node) if random.random() < 0.8 else random.integers(node)
        depth[node] = depth[above[node]] + 1
    names = random.integers(functions, size=2 * nodes)
    whole, _ = merge(above, np.where(depth > 0, names, -1), depth)
    parent, name = whole.parent[:nodes], whole.name[:nodes]
    heavy = np.minimum(random.pareto(1.0, nodes) * 2, 20_000)
    heavy[0] = 0
    samples = random.poisson(heavy)
    return KernelTree(
        names=tuple(f"function_{number}" for number in range(functions)),
        parent=parent.astype(np.int32),
        name=name.astype(np.int32),
        samples=samples,
        weight=samples * NS_PER_SAMPLE,
        phase=np.where(samples > 0, 0, NO_PHASE).astype(np.int32),
        phases=("outside migration",),
        phase_samples=np.array([samples.sum()]),
        phase_weight=np.array([samples.sum() * NS_PER_SAMPLE]),
        raw_names={},
    )
