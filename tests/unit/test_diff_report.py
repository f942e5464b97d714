"""What a comparison says in text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import synthetic_run

from numabench import store
from numabench.comparison.change import Metric, MetricChange
from numabench.comparison.comparable import Difference
from numabench.comparison.diff import Diff
from numabench.comparison.side import Side
from numabench.comparison.treediff import Folded, NodeChange, TreeDiff
from numabench.report import diff_csv, diff_json, diff_text

if TYPE_CHECKING:
    from pathlib import Path

MB = Metric("mb_per_s", "MB/s confirmed", "MB/s", "higher", is_time=True)


def node(name: str, parent: int, a: float, b: float, verdict: str = "no change found") -> NodeChange:
    return NodeChange(
        name=name,
        parent=parent,
        depth=0 if parent < 0 else 1,
        share_a=a,
        share_b=b,
        self_a=a / 2,
        self_b=b / 2,
        delta=b - a,
        ci95=(b - a - 0.01, b - a + 0.01),
        p=0.01,
        q=0.02,
        per_2mb_a=a * 1e6,
        per_2mb_b=b * 1e6,
        phase="unmap",
        verdict=verdict,  # type: ignore[arg-type]
        raw_a=(f"{name}.isra.0",),
        raw_b=(name,),
    )


NODES = (
    node("[syscall move_pages]", -1, 0.9, 0.95),
    node("try_to_migrate", 0, 0.2, 0.5, "grown"),
    node("rmap_walk", 0, 0.3, 0.31),
    node("down_write", 1, 0.001, 0.002),
    node("copy", 0, 0.002, 0.003),
    node("tiny but changed", 2, 0.0001, 0.003, "appeared"),
)


@pytest.fixture
def diff(tmp_path: Path) -> Diff:
    run = store.load(synthetic_run.write(tmp_path))
    change = MetricChange(
        *(MB, "default", ((100.0,), (110.0,)), ((200.0,), (210.0,)), 105.0, 205.0, 1.952),
        *((1.8, 2.1), True, 0.001, 0.002, 1.3, (False, True), "grown"),
    )
    tree = TreeDiff(
        nodes=NODES,
        functions=NODES[1:3],
        phases=(node("unmap, waiting for rwsem:W", -1, 0.0, 0.18, "grown"),),
        folded=(Folded("unmap_and_move", "a", 0.4, 0.01),),
        runs_a=3,
        runs_b=3,
        samples_a=12_000,
        samples_b=13_000,
        whole_share=(0.5, 0.6),
        kept_frames=(0.8, 0.9),
        permutation_p=None,
    )
    differences = (Difference("kernel", "6.1", "6.12"), Difference("THP", "never", "always", "pages of other sizes"))
    return Diff(Side("old", (run,)), Side("new", (run,)), differences, True, (change,), tree, ("one boot on a side",))


def test_the_text_has_every_part_with_both_sides_figures(diff: Diff) -> None:
    text = diff_text.render(diff)
    for words in (
        "A                 old: 1 run in 1 boot, 1 measured trial, 0 call graphs",
        "not comparable and were compared anyway",
        "kernel: 6.1  ->  6.12",
        "not comparable: pages of other sizes",
        "grown; B in two groups",
        "18.0 %    +18.0",
        "50.0 % and 60.0 % every frame could be compared",
        "unmap_and_move",
        "one boot on a side",
    ):
        assert words in text, words
    [row] = [line for line in text.splitlines() if "MB/s confirmed" in line]
    assert row.split()[3:9] == ["105", "205", "1.95", "~1.80..2.10", "0.002", "grown;"]


def test_the_tree_has_what_is_heavy_and_what_changed_with_all_above_it_heaviest_first(diff: Diff) -> None:
    text = diff_text.render(diff, min_share=0.1)
    rows = [line for line in text.splitlines() if "--" in line]
    left = min(row.index("--") for row in rows) - 1
    drawn = [row[left:].rstrip() for row in rows]
    assert drawn == [
        "`--[syscall move_pages]",
        "   |--try_to_migrate  [grown]",
        "   `--rmap_walk",
        "      `--tiny but changed  [appeared]",
    ]


def test_a_tree_deeper_than_python_recurses_is_drawn(diff: Diff) -> None:
    assert diff.tree is not None
    deep = tuple(node(f"f{depth}", depth - 1, 0.5, 0.5) for depth in range(5000))
    text = diff_text.render(replace(diff, tree=replace(diff.tree, nodes=deep)))
    assert "--f4999" in text


def test_hostile_names_do_not_reach_the_terminal(diff: Diff) -> None:
    assert diff.tree is not None
    hostile = node("\x1b[2J\nevil", -1, 0.5, 0.5, "grown")
    only = Folded("\x1b]0;t\x07", "b", 0.1, 0.1)
    tree = replace(diff.tree, nodes=(hostile,), functions=(hostile,), phases=(hostile,), folded=(only,))
    text = diff_text.render(replace(diff, tree=tree, notes=("\x1b[31m",)))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\nevil" not in text


def test_csv_has_a_line_for_each_row_with_paths_of_nodes(diff: Diff) -> None:
    rows = list(csv.DictReader(io.StringIO(diff_csv.render(diff))))
    kinds = [row["kind"] for row in rows]
    assert kinds == ["figure", "phase", "function", "function", *["node"] * 6, "only in one"]
    assert rows[0]["change"] == "1.952"
    assert rows[0]["low95"] == "1.8"
    assert rows[9]["name"] == "[syscall move_pages];rmap_walk;tiny but changed"
    assert rows[9]["raw_a"] == "tiny but changed.isra.0"
    assert (rows[-1]["a"], rows[-1]["b"], rows[-1]["verdict"]) == ("0.4", "", "not comparable")


def test_json_has_every_node_and_figure(diff: Diff) -> None:
    document = json.loads(json.dumps(diff_json.report(diff), allow_nan=False))
    assert (document["kind"], document["schema_version"]) == ("numabench-diff", 1)
    assert document["a"]["runs"][0]["run_id"] == synthetic_run.RUN_ID
    assert document["metrics"][0]["ci95"] == [1.8, 2.1]
    assert [one["name"] for one in document["tree"]["nodes"]] == [one.name for one in NODES]
    assert document["differences"][1]["forbids"] == "pages of other sizes"
