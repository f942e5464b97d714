"""How often the comparison of call trees calls a change that is none, how often it finds one, and what it costs.

    python tests/bench/bench_tree_calibration.py [--seed 1] [--splits 1000] [--planted 400] [--record 24]

Same against same: recordings of one workload (`tree_runs.py`) on two sides, and the share of such comparisons in which
anything is said to have changed, with what a pooled z test of proportions with Benjamini-Hochberg says beside it.
Planted: a path of 1 to 10 % of all samples gets 2 points more, or where it has 3 % and more in half of the cases 2
points less. Cost: CPU seconds and memory of ten recordings against ten with 40,000 nodes each.

`--record` records so many runs of one mix of work on this machine, and splits those; it needs the right to (perf).
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

# The threads that numpy's linear algebra starts spin for a while, and would count as ours.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from bench import tree_runs
from scipy import special

from numabench import perf, process
from numabench.comparison.forest import unify
from numabench.comparison.moderated import adjust
from numabench.comparison.recorded import Recorder
from numabench.comparison.side import Recorded
from numabench.comparison.treediff import MIN_SHARE, TreeDiff, diff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NODES, RUNS = 40_000, 10
SHARES = (0.01, 0.02, 0.05, 0.1)
POINTS = 0.02
FREQUENCY_HZ = 9999
WORK = """
for i in 1 2 3; do
    find /usr/lib/python3 -type f | head -300 | xargs cat
    perf bench sched messaging -g 2 -l 100
    perf bench sched pipe -l 5000
    for i in $(seq 12); do sh -c 'ls /usr/lib'; done
done > /dev/null 2>&1
"""


def changed(found: TreeDiff) -> tuple[bool, bool, bool]:
    """Whether a node changed its share, whether anything did, and whether any cost did."""
    rows = (*found.nodes, *found.functions, *found.phases)
    unchanged = {"no change found"}
    return (
        any(row.verdict not in unchanged for row in found.nodes),
        any(row.verdict not in unchanged for row in rows),
        any(row.cost_verdict not in unchanged for row in rows),
    )


def pooled(a: Sequence[Recorded], b: Sequence[Recorded]) -> int:
    """The nodes that a z test of proportions calls when all samples of a side are taken as one recording."""
    forest = unify((*a, *b))
    inclusive = forest.tree.inclusive(forest.own)[1:] * forest.samples
    inclusive = inclusive[inclusive.sum(axis=1) >= MIN_SHARE * forest.samples.sum()]
    counts = inclusive[:, : len(a)].sum(axis=1), inclusive[:, len(a) :].sum(axis=1)
    totals = forest.samples[: len(a)].sum(), forest.samples[len(a) :].sum()
    share = (counts[0] + counts[1]) / sum(totals)
    error = np.sqrt(share * (1 - share) * (1 / totals[0] + 1 / totals[1]))
    z = (counts[1] / totals[1] - counts[0] / totals[0]) / np.maximum(error, 1e-12)
    return int((adjust(2 * special.ndtr(-np.abs(z))) <= 0.05).sum())


def same_against_same(
    draw: Callable[[int], tuple[Sequence[Recorded], Sequence[Recorded]]], splits: int
) -> tuple[np.ndarray, float]:
    """How often something changed: a node's share, any share, any cost, one for the z test; and that test's nodes."""
    called, nodes = np.zeros(4), []
    for _ in range(splits):
        a, b = draw(splits)
        nodes.append(pooled(a, b))
        called += [*changed(diff(a, b)), nodes[-1] > 0]
    return called / splits, float(np.mean(nodes))


def made_up(random: np.random.Generator, a_side: int) -> Callable[[int], tuple[list[Recorded], list[Recorded]]]:
    numbers = iter(range(1 << 30))

    def draw(_: int) -> tuple[list[Recorded], list[Recorded]]:
        workload = tree_runs.workload(random, tree_runs.CAPTURES[next(numbers) % len(tree_runs.CAPTURES)])
        runs = [workload.run(random, number) for number in range(2 * a_side)]
        return runs[:a_side], runs[a_side:]

    return draw


def split(
    random: np.random.Generator, runs: Sequence[Recorded], a_side: int
) -> Callable[[int], tuple[list[Recorded], list[Recorded]]]:
    def draw(_: int) -> tuple[list[Recorded], list[Recorded]]:
        chosen = [runs[number] for number in random.permutation(len(runs))[: 2 * a_side]]
        return chosen[:a_side], chosen[a_side:]

    return draw


def path_of(row: int, found: TreeDiff) -> tuple[str, ...]:
    """The names from a row of a comparison up to its outermost caller."""
    names = []
    while row >= 0:
        names.append(found.nodes[row].name)
        row = found.nodes[row].parent
    return tuple(names)


def planted(random: np.random.Generator, a_side: int) -> tuple[float, bool]:
    """The share of a path that gets 2 points more or less on the other side, and whether that is found."""
    while True:
        workload = tree_runs.workload(random, tree_runs.CAPTURES[int(random.integers(len(tree_runs.CAPTURES)))])
        inclusive = workload.inclusive()
        paths = np.flatnonzero((inclusive >= SHARES[0]) & (inclusive < SHARES[-1]))
        if len(paths):
            break
    node = int(random.choice(paths))
    share = float(inclusive[node])
    grows = share < 0.03 or random.random() < 0.5
    other = workload.with_share(node, share + (POINTS if grows else -POINTS))
    a = [workload.run(random, number) for number in range(a_side)]
    b = [other.run(random, number) for number in range(a_side, 2 * a_side)]
    found = diff(a, b)
    path = []
    while node:
        path.append(workload.tree.names[workload.tree.name[node]])
        node = int(workload.tree.parent[node])
    expected = {"grown", "appeared"} if grows else {"shrunk", "disappeared"}
    is_found = any(
        row.verdict in expected and path_of(number, found) == tuple(path)
        for number, row in enumerate(found.nodes)
        if row.name == path[0]
    )
    return share, is_found


def record(directory: Path, runs: int) -> list[Recorded]:
    """Runs of one mix of work on this machine."""
    recorder, symbols, found = Recorder(), perf.Kallsyms.read("/proc/kallsyms"), []
    for number in range(runs):
        path = directory / f"{number}.data"
        options = ("-q", "-m", "1024", "-e", "cpu-clock", "-F", str(FREQUENCY_HZ), "-g", "-o", str(path))
        process.run(("perf", "record", *options, "--", "sh", "-c", WORK), timeout_s=120).check("perf record")
        tree = recorder.tree(perf.load(path), symbols)
        assert tree is not None
        found.append(Recorded(f"run {number}", f"run {number}", 1, tree, 1 << 28, recorder.vocabulary(symbols)))
    return found


def cost(random: np.random.Generator) -> None:
    tree = tree_runs.large(random, NODES)
    runs = [
        tree_runs.recorded(tree_runs.sampled(tree, random.poisson(tree.samples + 0.1 * (tree.name >= 0))), number)
        for number in range(2 * RUNS)
    ]
    print(f"{RUNS} against {RUNS} recordings with {len(tree):,} nodes each, {runs[0].tree.samples.sum():,} samples")
    for least in (MIN_SHARE, 0.0001, 0.0):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        found = diff(runs[:RUNS], runs[RUNS:], min_share=least)
        spent = time.process_time() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            f"  rows from {least:.2%} on: {len(found.nodes):6,} nodes, {spent:.2f} CPU s, peak memory +{grown:.0f} MiB"
        )


def tell(label: str, called: np.ndarray, nodes: float) -> None:
    node, anything, of_cost, z = 100 * called
    print(f"  {label:24} {node:8.1f} % {anything:8.1f} % {of_cost:8.1f} % {z:10.1f} %, {nodes:.0f} nodes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--planted", type=int, default=400)
    parser.add_argument("--record", type=int, default=0)
    asked = parser.parse_args()
    random = np.random.default_rng(asked.seed)
    print(f"seed {asked.seed}")
    cost(random)
    print("same against same, share of comparisons with a false change")
    print(f"  {'':24} {'a node':>10} {'anything':>10} {'a cost':>10} {'pooled z test: a node, how many':>12}")
    for a_side in (3, 4, 5, 8):
        tell(f"made up, {a_side} against {a_side}", *same_against_same(made_up(random, a_side), asked.splits))
    if asked.record:
        with tempfile.TemporaryDirectory() as directory:
            runs = record(Path(directory), asked.record)
        for a_side in (3, 5):
            tell(f"recorded, {a_side} against {a_side}", *same_against_same(split(random, runs, a_side), asked.splits))
    print(f"a path gets {POINTS * 100:.0f} points more or less, share of {asked.planted} that were found")
    bands = [f"of {low:.0%} to {high:.0%}" for low, high in itertools.pairwise(SHARES)]
    print(f"  {'':24} {'all':>10} " + " ".join(f"{band:>12}" for band in bands))
    for a_side in (3, 4, 5, 8):
        found = np.array([planted(random, a_side) for _ in range(asked.planted)])
        band = np.searchsorted(SHARES, found[:, 0], "right") - 1
        rates = [100 * found[band == number, 1].sum() / max((band == number).sum(), 1) for number in range(len(bands))]
        print(
            f"  {a_side} against {a_side}".ljust(27)
            + f"{100 * found[:, 1].mean():9.1f} % "
            + " ".join(f"{rate:10.1f} %" for rate in rates)
        )


if __name__ == "__main__":
    main()
