"""Call trees, drawn line by line as the thread's perf and a later perf drew them."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from migration_stacks import FIXTURES, captured

from numabench.analysis import calltree
from numabench.analysis.callchain import Stack, of_comms, through
from numabench.analysis.calltree import Branch, Entry
from numabench.report import calltree_csv, calltree_text

GOLDEN = Path(__file__).parent.parent / "golden/thread-2012.txt"
PERIOD_NS = 2004008  # of the captures' cpu-clock, as perf report's event count has it

LOCK = (
    "perf_trace_sched_switch __schedule schedule schedule_preempt_disabled __mutex_lock_common.isra.6 "
    "__mutex_lock_slowpath mutex_lock"
)
FAULT = (
    "migrate_pages migrate_misplaced_page __do_numa_page.isra.69 handle_pte_fault handle_mm_fault __do_page_fault "
    "do_page_fault page_fault __memset_sse2"
)
REMAP = f"{LOCK} rmap_walk move_to_new_page {FAULT}"
UNMAP = f"{LOCK} page_lock_anon_vma try_to_unmap_anon try_to_unmap {FAULT}"
USER = "worker_thread start_thread"


def stack(frames: str, samples: int, comm: str = "process 0") -> Stack:
    kernel = next((depth for depth, frame in enumerate(frames.split()) if frame.startswith("__memset")), 1)
    return Stack(tuple(frames.split()), samples, samples, comm, "[kernel.kallsyms]", kernel)


# What else was in the recording: 3.57 % of it, and a command of 15 letters, which the column is as wide as.
OTHERS = stack("run_timer_softirq", 370, "numa02_THREAD_A")


def drawn(stacks: list[Stack], form: calltree_text.Form = calltree_text.OF_2012) -> list[str]:
    text = calltree_text.render(calltree.build(stacks, style="fractal"), form)
    return text.split("\n\n")[0].splitlines()


def test_the_threads_stacks_draw_the_mails_tree() -> None:
    """10,000 switches. That the mail draws `--100.00%--` below __memset_sse2 says that a few chains ended there."""
    stacks = [
        stack(f"{REMAP} {USER}", 5059),
        stack(f"{REMAP} worker_thread", 1),
        stack(REMAP, 1),
        stack(f"{UNMAP} {USER}", 4938),
        stack(UNMAP, 1),
    ]
    assert sum(one.samples for one in stacks[:3]) == 5061
    assert sum(one.samples for one in stacks[3:]) == 4939
    assert [f" {line}" for line in drawn([*stacks, OTHERS])] == GOLDEN.read_text().splitlines()


def test_two_whole_stacks_draw_the_mails_tree_in_one_column_to_its_end() -> None:
    """Without chains that end early nothing parts below __memset_sse2: the rest is the mail's, line by line."""
    mail = [line[1:] for line in GOLDEN.read_text().splitlines()]
    lines = drawn([stack(f"{REMAP} {USER}", 5061), stack(f"{UNMAP} {USER}", 4939), OTHERS])
    remap, unmap = (index for index, line in enumerate(mail) if line.endswith("__memset_sse2"))
    one, other = (index for index, line in enumerate(lines) if line.endswith("__memset_sse2"))
    assert lines[: one + 1] == mail[: remap + 1]
    assert [line.split()[-1] for line in lines[one + 1 : one + 3]] == USER.split()
    assert lines[one + 3 : other + 1] == mail[remap + 5 : unmap + 1]
    assert [line.split()[-1] for line in lines[other + 1 :]] == USER.split()


@pytest.mark.parametrize("kernel", ["6.1.192-excl", "6.12.117-excl"])
def test_a_captured_migration_is_drawn_as_perf_report_draws_it(kernel: str) -> None:
    stacks = [replace(one, weight=one.samples * PERIOD_NS) for one in captured(f"{kernel}.movepages")]
    mine = calltree_text.render(calltree.build(stacks)).splitlines()
    with gzip.open(FIXTURES / f"{kernel}.movepages.perf-report.txt.gz", "rt") as file:
        perfs = [line.rstrip() for line in file if not line.startswith("#")]
    # perf report lists the rows below half a percent, too: they have no tree.
    assert len(mine) > 250
    assert perfs[: len(mine)] == mine
    assert all(float(line.split("%")[0]) < 0.5 for line in perfs[len(mine) :] if line)


def test_a_tree_does_not_depend_on_the_order_of_its_stacks() -> None:
    stacks = list(captured("6.12.117-shared.movepages-fork8"))
    before = calltree.build(stacks)
    stacks.sort(key=lambda stack: stack.frames[::-1])
    assert calltree.build(stacks) == before


A, B, C = (
    Stack(tuple(frames), count, count * 10, "c", "d", 1) for frames, count in (("abc", 6), ("ab", 1), ("adc", 3))
)


def test_chains_are_cut_where_they_part_and_where_one_ends() -> None:
    [row] = calltree.build([A, B, C]).entries
    tail = Branch(("c",), 60, 0, ())
    assert row == Entry(
        "c",
        "d",
        "k",
        "a",
        100,
        0,
        (Branch(("a",), 0, 100, (Branch(("b",), 10, 60, (tail,)), Branch(("d", "c"), 30, 0, ()))),),
    )


def test_callers_go_from_the_outermost_down() -> None:
    [row] = calltree.build([A, B, C], order="caller").entries
    assert [branch.frames for branch in row.branches] == [("c",), ("b", "a")]
    assert [branch.frames for branch in row.branches[0].branches] == [("b", "a"), ("d", "a")]


def test_a_threshold_is_of_everything_or_of_the_parent() -> None:
    outer = Stack(("z",), 900, 9000, "c", "d", 1)
    stacks = [A, B, C, outer]
    by_all = calltree.build(stacks, min_share=0.05).entries
    by_parent = calltree.build(stacks, style="fractal", min_share=0.05).entries
    assert [row.branches[0].branches for row in by_all if row.symbol == "a"] == [()] * (len(by_all) - 1)
    assert [row.symbol for row in by_parent] == [row.symbol for row in by_all]
    shares = calltree.build([A, B, C], style="fractal", min_share=0.5).entries[0]
    assert [branch.frames for branch in shares.branches[0].branches] == [("b",)]
    assert shares.branches[0].below == 100


def test_what_fractal_leaves_out_is_named() -> None:
    lines = calltree_text.render(calltree.build([A, B, C], style="fractal", min_share=0.5)).splitlines()
    assert lines == [
        "   100.00%  c  d  [k] a",
        "            |",
        "            ---a",
        "               |",
        "               |--70.00%--b",
        "               |          |",
        "               |           --100.00%--c",
        "                --30.00%--[...]",
        "",
    ]


def test_inclusive_rows_count_recursion_once() -> None:
    stacks = [Stack(("f", "g", "f", "main"), 4, 4, "c", "d", 0), Stack(("main",), 1, 1, "c", "d", 0)]
    tree = calltree.build(stacks, inclusive=True)
    assert [(row.symbol, row.self_weight, row.inclusive_weight) for row in tree.entries] == [
        ("main", 1, 5),
        ("f", 4, 4),
        ("g", 0, 4),
    ]
    assert calltree_csv.render(tree).splitlines()[:2] == [
        "comm,level,symbol,self_weight,inclusive_weight,self_share,inclusive_share",
        "c,.,main,1,5,0.200000,1.000000",
    ]


def test_a_selection_keeps_shares_of_everything() -> None:
    tree = calltree.build(through([A, B, C], "d"), total_weight=100)
    assert calltree_text.render(tree).splitlines()[0] == "    30.00%  c  d  [k] a"
    assert of_comms([A, B, C], ["other"]) == ()


def test_no_stack_draws_nothing_and_a_stack_without_frames_is_unknown() -> None:
    assert calltree_text.render(calltree.build([])) == ""
    text = calltree_text.render(calltree.build([Stack((), 1, 1, "c", "d", 0)]))
    assert text == "   100.00%  c  d  [.] [unknown]\n"


def test_hostile_names_are_escaped() -> None:
    text = calltree_text.render(calltree.build([Stack(("\x1b[31m", "b\nc"), 1, 1, "\x07", "d", 0)]))
    assert all(line.isprintable() for line in text.splitlines())
    assert "b\\nc" in text


def test_a_chain_as_deep_as_perf_records_it_is_drawn() -> None:
    frames = [f"f{depth}" for depth in range(2000)]
    stacks = [Stack(tuple(frames[:depth]), 1, 1, "c", "d", 0) for depth in range(1, 2001)]
    assert calltree_text.render(calltree.build(stacks, min_share=0)).count("\n") > 2000
