"""Trees of shares against sums over the chains themselves, and against the call tree that is held against perf."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import synthetic_pages
from migration_stacks import captured

from numabench.analysis import calltree, phases, share_tree
from numabench.analysis.callchain import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.analysis.share_tree import ShareTree
    from numabench.record import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return synthetic_pages.run(tmp_path)


@pytest.fixture
def tree(run: Run) -> ShareTree:
    stacks = captured(synthetic_pages.EXCLUSIVE)
    return share_tree.of_stacks("cpu", run.trials[-1], "ns", synthetic_pages.MIGRATED_BYTES, stacks)


def test_a_node_weighs_what_all_chains_through_it_weigh(tree: ShareTree) -> None:
    stacks = captured(synthetic_pages.EXCLUSIVE)
    paths: list[tuple[str, ...]] = []
    for node in tree.nodes:
        paths.append((*(paths[node.parent] if node.parent >= 0 else ()), node.name))
    assert len(set(paths)) == len(paths)
    for node, path in zip(tree.nodes, paths, strict=True):
        through = [stack for stack in stacks if stack.frames[::-1][: len(path)] == path]
        assert node.weight == sum(stack.weight for stack in through)
        assert node.self_weight == sum(stack.weight for stack in through if len(stack.frames) == len(path))
        seen = {phases.place(stack.kernel).phase for stack in through}
        assert node.phase == (seen.pop() if len(seen) == 1 else "")


def test_functions_weigh_what_the_call_tree_says(tree: ShareTree) -> None:
    rows = calltree.build(captured(synthetic_pages.EXCLUSIVE), inclusive=True, min_share=0).entries
    wanted: dict[tuple[str, bool], list[int]] = {}
    for row in rows:
        sums = wanted.setdefault((row.symbol, row.level == "k"), [0, 0])
        sums[0] += row.inclusive_weight
        sums[1] += row.self_weight
    assert {(row.name, row.is_kernel): [row.weight, row.self_weight] for row in tree.functions} == wanted


def test_recursion_counts_once_for_a_function_and_each_time_for_a_node(run: Run) -> None:
    found = share_tree.of_stacks("cpu", run.trials[0], "ns", 0, [Stack(("f", "f", "main"), 2, 6, kernel_frames=2)])
    assert [(node.name, node.parent, node.weight, node.self_weight) for node in found.nodes] == [
        ("main", -1, 6, 0),
        ("f", 0, 6, 0),
        ("f", 1, 6, 6),
    ]
    assert [(row.name, row.weight, row.self_weight) for row in found.functions] == [("f", 6, 6), ("main", 6, 0)]


def test_what_is_waited_for_stands_below_who_waits(run: Run) -> None:
    slept, off = share_tree.of_waits(synthetic_pages.observations(run)[0])
    assert (slept.of, slept.total, slept.count, off.of, off.total) == ("lock", 60_000, 30, "sched", 360_000)
    names = {node.name: node for node in slept.nodes}
    assert names["[rwsem:W anon_vma]"].self_weight == 20_000
    assert slept.nodes[0].name == "migrate_pages"
