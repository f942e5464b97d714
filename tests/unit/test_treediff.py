"""Call trees compared: against sums over dictionaries of paths, and with what is known to differ."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench import tree_runs
from migration_stacks import captured

from numabench.analysis.callchain import Stack
from numabench.analysis.phases import place
from numabench.comparison.boots import of_recordings
from numabench.comparison.kernel_tree import TreeBuilder
from numabench.comparison.moderated import adjust, compare
from numabench.comparison.prefix_tree import depths, merge
from numabench.comparison.side import Recorded
from numabench.comparison.tested import compare_shares
from numabench.comparison.treediff import NodeChange, TreeDiff, diff
from numabench.perf.symbols import SymbolTable

Path_ = tuple[str, ...]
BUILDER = TreeBuilder()
NAMES = [f"f{number}" for number in range(7)]
SYMBOLS = Path(__file__).parent.parent / "fixtures/kernel/symbols.tsv"
MIB = 1 << 20


def chains(seed: int, count: int) -> dict[Path_, int]:
    """Chains of few names, so that paths meet and functions call themselves; the outermost first."""
    some = np.random.default_rng(seed)
    paths = (tuple(NAMES[one] for one in some.integers(len(NAMES), size=some.integers(1, 9))) for _ in range(count))
    return {path: int(some.integers(1, 400)) for path in paths}


def recording(
    paths: dict[Path_, int], number: int, names: set[str] | None = None, migrated: int | None = None, boot: str = ""
) -> Recorded:
    stacks = [Stack(path[::-1], samples, 10 * samples, kernel_frames=len(path)) for path, samples in paths.items()]
    known = None if names is None else frozenset(names)
    return Recorded(f"run {number}", boot or f"boot {number}", 1, BUILDER.of_stacks(stacks), migrated, known)


def paths_of(found: TreeDiff) -> dict[Path_, NodeChange]:
    """Every row by the names from the outermost caller down."""
    paths: list[Path_] = []
    for row in found.nodes:
        paths.append((*(paths[row.parent] if row.parent >= 0 else ()), row.name))
        assert row.depth == len(paths[-1]) - 1
    assert len(set(paths)) == len(paths)
    return dict(zip(paths, found.nodes, strict=True))


def shares(sides: list[dict[Path_, int]], keeps: set[str], key: str) -> dict[object, float]:
    """Means over runs of inclusive shares of paths or functions, on the names that are kept, by brute force."""
    total: dict[object, float] = {}
    for paths in sides:
        every = sum(paths.values())
        for path, samples in paths.items():
            kept = tuple(name for name in path if name in keeps)
            prefixes = {kept[: depth + 1] for depth in range(len(kept))}
            for one in prefixes if key == "path" else set(kept):
                total[one] = total.get(one, 0) + samples / every / len(sides)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_those_of_sums_over_paths(seed: int) -> None:
    sides = [[chains(1000 * seed + 10 * side + run, 60) for run in range(2 + side)] for side in range(2)]
    lacks_a, lacks_b = {"f3"}, ({"f5", "f1"} if seed % 3 else set())
    # What one kernel lacks it cannot have run.
    for side, lacks in zip(sides, (lacks_a, lacks_b), strict=True):
        for number, paths in enumerate(side):
            cleaned: dict[Path_, int] = {}
            for path, samples in paths.items():
                left = tuple(name for name in path if name not in lacks) or ("f0",)
                cleaned[left] = cleaned.get(left, 0) + samples
            side[number] = cleaned
    vocabularies = set(NAMES) - lacks_a, set(NAMES) - lacks_b
    keeps = vocabularies[0] & vocabularies[1]
    a, b = (
        [recording(paths, 10 * number + run, names) for run, paths in enumerate(side)]
        for number, (side, names) in enumerate(zip(sides, vocabularies, strict=True))
    )
    found = diff(a, b, min_share=0)
    for rows, key in ((paths_of(found), "path"), ({row.name: row for row in found.functions}, "function")):
        expected = shares(sides[0], keeps, key), shares(sides[1], keeps, key)
        assert set(rows) == set(expected[0]) | set(expected[1])
        for one, row in rows.items():
            assert row.share_a == pytest.approx(expected[0].get(one, 0.0))
            assert row.share_b == pytest.approx(expected[1].get(one, 0.0))
            assert row.delta == pytest.approx(row.share_b - row.share_a)
    folded = {one.name: one for one in found.folded}
    assert set(folded) == set(NAMES) - keeps
    for name, one in folded.items():
        side = 0 if name in vocabularies[0] else 1
        assert one.side == "ab"[side]
        assert one.verdict == "not comparable"
        assert one.share == pytest.approx(shares(sides[side], set(NAMES), "function")[name])
        own = [sum(count for path, count in run.items() if path[-1] == name) / sum(run.values()) for run in sides[side]]
        assert one.self_share == pytest.approx(np.mean(own))
    for side in range(2):
        whole = [
            sum(count for path, count in run.items() if set(path) <= keeps) / sum(run.values()) for run in sides[side]
        ]
        assert found.whole_share[side] == pytest.approx(np.mean(whole))
    assert found.samples_a == sum(sum(run.values()) for run in sides[0])


@pytest.mark.parametrize("seed", range(4))
def test_what_is_its_own_and_what_is_below_make_a_node(seed: int) -> None:
    a, b = ([recording(chains(seed + 10 * side, 80), side, set(NAMES))] for side in range(2))
    found = diff(a, b, min_share=0)
    for number, row in enumerate(found.nodes):
        below = [other for other in found.nodes if other.parent == number]
        assert row.share_a == pytest.approx(row.self_a + sum(other.share_a for other in below))
        assert row.share_b == pytest.approx(row.self_b + sum(other.share_b for other in below))
        assert row.parent < number
    assert sum(row.share_a for row in found.nodes if row.parent < 0) == pytest.approx(1)
    assert sum(row.share_b for row in found.phases) == pytest.approx(1)


def test_a_node_has_the_phase_of_all_that_is_below_it() -> None:
    stacks = captured("6.1.192-excl.movepages-fork8")
    expected: dict[Path_, set[str]] = {}
    for stack in stacks:
        [(path, _)] = BUILDER.of_stacks([stack]).chains().items()
        where = place(stack.kernel)
        phase = f"{where.phase}, waiting for {where.waits_for}" if where.waits_for else where.phase
        for depth in range(len(path)):
            expected.setdefault(path[: depth + 1], set()).add(phase)
    some = Recorded("run", "boot", 1, BUILDER.of_stacks(stacks), None, None)
    found = paths_of(diff([some], [some], min_share=0))
    assert {path: row.phase for path, row in found.items()} == {
        path: next(iter(phases)) if len(phases) == 1 else "" for path, phases in expected.items()
    }


def test_rows_below_the_least_share_are_left_out_with_all_below_them() -> None:
    a = [recording({("f0",): 9000, ("f0", "f1"): 900, ("f0", "f1", "f2"): 100}, 0, set(NAMES))]
    found = diff(a, a, min_share=0.05)
    assert [row.name for row in found.nodes] == ["f0", "f1"]
    assert found.nodes[1].share_a == pytest.approx(0.1)


def test_a_forest_becomes_one_tree_whatever_the_order_of_its_nodes() -> None:
    # Two trees, r(a(b), c) and r(c, a(b(d))), each with a parent before its children.
    parent = np.array([0, 0, 1, 0, 4, 4, 4, 6, 7])
    name = np.array([-1, 0, 1, 2, -1, 2, 0, 1, 3])
    is_root = np.array([True, False, False, False, True, False, False, False, False])
    depth = depths(parent, is_root)
    assert depth.tolist() == [0, 1, 2, 1, 0, 1, 1, 2, 3]
    tree, number = merge(parent, name, depth)
    assert len(tree) == 5
    assert number.tolist() == [0, 1, 3, 2, 0, 2, 1, 3, 4]
    assert tree.depth().tolist() == [0, 1, 1, 2, 3]
    own = np.bincount(number, np.arange(9.0))
    assert tree.inclusive(own).tolist() == [36.0, 6.0 + 1 + 2 + 7 + 8, 3.0 + 5, 2.0 + 7 + 8, 8.0]


def test_absent_from_a_recording_is_not_absent_from_its_kernel() -> None:
    some = np.random.default_rng(1)
    side_a = [{("f0",): 9000 + int(some.integers(100)), ("f0", "f1"): 1000} for _ in range(5)]
    side_b = [{("f0",): 8000 + int(some.integers(100)), ("f0", "f1"): 1000, ("f0", "f2"): 1000} for _ in range(5)]

    def compared(names: set[str] | None) -> TreeDiff:
        a = [recording(paths, number, names) for number, paths in enumerate(side_a)]
        b = [recording(paths, 10 + number, set(NAMES)) for number, paths in enumerate(side_b)]
        return diff(a, b)

    has_it = compared(set(NAMES))
    assert paths_of(has_it)["f0", "f2"].verdict == "appeared"
    assert paths_of(has_it)["f0", "f1"].verdict == "no change found"
    assert has_it.folded == ()
    assert has_it.notes == ()
    lacks_it = compared(set(NAMES) - {"f2"})
    assert ("f0", "f2") not in paths_of(lacks_it)
    assert [(one.name, one.side) for one in lacks_it.folded] == [("f2", "b")]
    # Its samples are its caller's.
    assert paths_of(lacks_it)["f0",].self_b == pytest.approx(0.9, abs=0.01)
    # Nobody knows whether the kernel has what was not sampled.
    not_known = compared(None)
    assert ("f0", "f2") not in paths_of(not_known)
    assert any("A's kernel were not saved" in note for note in not_known.notes)


def test_the_other_way_round_is_the_opposite() -> None:
    some = np.random.default_rng(2)
    workload = tree_runs.workload(some, tree_runs.CAPTURES[0])
    node = int(np.argmin(np.abs(workload.inclusive() - 0.05)))
    other = workload.with_share(node, 0.15)
    a = [workload.run(some, number) for number in range(5)]
    b = [other.run(some, number) for number in range(5, 10)]
    there, back = paths_of(diff(a, b)), paths_of(diff(b, a))
    opposite = {"grown": "shrunk", "shrunk": "grown", "appeared": "disappeared", "disappeared": "appeared"}
    assert set(there) == set(back)
    assert any(row.verdict == "grown" for row in there.values())
    for path, row in there.items():
        assert back[path].verdict == opposite.get(row.verdict, row.verdict)
        assert back[path].delta == pytest.approx(-row.delta)
        assert back[path].q == pytest.approx(row.q)


def test_fewer_than_three_boots_have_no_verdict_and_boots_are_what_counts() -> None:
    some = np.random.default_rng(3)
    workload = tree_runs.workload(some, tree_runs.CAPTURES[0])
    runs = [workload.run(some, number) for number in range(10)]
    for a, b, boots in (
        (runs[:2], runs[5:], (2, 5)),
        (runs[:5], runs[5:6], (5, 1)),
        ([replace(run, boot_id="one") for run in runs[:5]], runs[5:], (1, 5)),
    ):
        found = diff(a, b)
        rows = (*found.nodes, *found.functions, *found.phases)
        assert (found.boots_a, found.boots_b) == boots
        assert (found.runs_a, found.runs_b) == (len(a), len(b))
        assert rows
        assert {row.verdict for row in rows} == {row.cost_verdict for row in rows} == {"insufficient"}
        assert all(row.p is None and row.q is None and row.ci95 is None for row in rows)
        assert found.permutation_p is None
        assert any("not a verdict" in note for note in found.notes)


def test_recordings_of_one_boot_are_averaged() -> None:
    a = [recording({("f0",): 900, ("f1",): 100}, 0, boot="x"), recording({("f0",): 30, ("f1",): 70}, 1, boot="x")]
    b = [recording({("f0",): 50, ("f1",): 50}, 2)]
    found = diff([*a, *b], b)
    # Boot x has 0.1 and 0.7 on average, the other 0.5.
    assert paths_of(found)["f1",].share_a == pytest.approx((0.4 + 0.5) / 2)
    # A run whose boot is not known has one of its own; runs of one boot on two sides are not one.
    no_boot = [replace(one, boot_id="") for one in a]
    assert diff(no_boot, b).boots_a == 2


def test_the_noise_of_counting_is_less_where_a_boot_was_recorded_more_than_once() -> None:
    some = [recording({("f0",): 100}, number, boot=boot) for number, boot in enumerate("xxy")]
    boots = of_recordings(some, some[:1], np.array([400, 100, 100, 50]), np.ones(4))
    # The variance of the arcsine of the root of a share is a quarter of that of one sample.
    assert boots.noise == pytest.approx([(1 / 1600 + 1 / 400) / 4, 1 / 400, 1 / 200])
    assert boots.samples.tolist() == [500, 100, 50]


def test_what_other_assignments_of_boots_show_as_well_is_chance() -> None:
    some = np.random.default_rng(6)
    boots = of_recordings(
        *([recording({("f0",): 10**6}, 10 * side + n) for n in range(5)] for side in range(2)),
        np.full(10, 10**6),
        np.ones(10),
    )
    usual = 0.1 + 0.002 * some.standard_normal((60, 10))
    usual[0, 5:] += 0.01
    alone = compare_shares([usual], boots, 0.05)
    assert alone.tables[0] is not None
    assert alone.tables[0].changed.tolist() == [True] + [False] * 59
    # Other figures now part the boots otherwise, and further.
    for row in range(1, 13):
        others = some.permutation(10)
        usual[row, others[:5]] += 0.01
        usual[row, others[5:]] -= 0.01
    among_others = compare_shares([usual], boots, 0.05)
    assert among_others.permutation_p is not None
    assert among_others.permutation_p > 0.05
    assert among_others.tables[0] is not None
    assert among_others.tables[0].q[0] < 0.05
    assert not among_others.tables[0].changed.any()


def test_three_against_three_have_too_few_assignments_to_trust_in_shrunk_variances() -> None:
    some = np.random.default_rng(7)
    boots = of_recordings(
        *([recording({("f0",): 10**6}, 10 * side + number) for number in range(3)] for side in range(2)),
        np.full(6, 10**6),
        np.ones(6),
    )
    shares = 0.1 + some.standard_normal((60, 6)) * 0.002 * np.exp(some.standard_normal((60, 1)))
    found = compare_shares([shares[:20], shares[20:]], boots, 0.05)
    figures = np.arcsin(np.sqrt(shares)).T
    expected = compare(figures[:3], figures[3:], figures.mean(axis=0), np.full(60, 2.5e-7), careful=True)
    assert found.permutation_p is None
    tables = [table for table in found.tables if table is not None]
    assert np.concatenate([table.p for table in tables]) == pytest.approx(expected.p)
    # Both tables are one family.
    assert np.concatenate([table.q for table in tables]) == pytest.approx(adjust(expected.p))


def test_which_boots_a_path_was_seen_in_does_not_decide_whether_it_is_shown() -> None:
    boots = [recording({("f0",): 10_000}, number, set(NAMES)) for number in range(5)]
    once = recording({("f0",): 9970, ("f0", "f1"): 30}, 9, set(NAMES))
    assert [row.name for row in diff([*boots, once], boots, min_share=0.001).nodes] == ["f0"]
    assert [row.name for row in diff([*boots, once], boots, min_share=0.0002).nodes] == ["f0", "f1"]


def test_costs_are_of_2_mib_that_were_migrated() -> None:
    a = [recording({("f0",): 60, ("f0", "f1"): 40}, number, set(NAMES), migrated=4 * MIB) for number in range(3)]
    b = [recording({("f0",): 60, ("f0", "f1"): 20}, 10 + n, set(NAMES), migrated=8 * MIB) for n in range(3)]
    rows = paths_of(diff(a, b))
    assert rows["f0", "f1"].per_2mb_a == pytest.approx(40 * 10 / 2)
    assert rows["f0", "f1"].per_2mb_b == pytest.approx(20 * 10 / 4)
    # Where one recording does not tell, the mean is of the others, and nothing is tested.
    unknown = [replace(a[0], migrated_bytes=None), *a[1:]]
    rows = paths_of(diff(unknown, b))
    assert rows["f0",].per_2mb_a == pytest.approx(100 * 10 / 2)
    assert {row.cost_verdict for row in rows.values()} == {"not comparable"}
    nobody = [replace(one, migrated_bytes=None) for one in a]
    assert {row.per_2mb_a for row in paths_of(diff(nobody, b)).values()} == {None}


def test_a_function_that_gets_slower_shrinks_the_others_shares_but_not_their_costs() -> None:
    some = np.random.default_rng(4)
    usual = {("f0",): 300, ("f0", "f1"): 200, ("f0", "f2"): 500}

    def run(number: int, factor: float) -> Recorded:
        paths = {
            path: int(some.poisson(20 * samples * (factor if path[-1] == "f2" else 1)))
            for path, samples in usual.items()
        }
        return recording(paths, number, set(NAMES), migrated=64 * MIB)

    rows = paths_of(diff([run(number, 1) for number in range(5)], [run(10 + number, 3) for number in range(5)]))
    assert (rows["f0", "f2"].verdict, rows["f0", "f2"].cost_verdict) == ("grown", "grown")
    assert (rows["f0", "f1"].verdict, rows["f0", "f1"].cost_verdict) == ("shrunk", "no change found")


def split_kernels() -> tuple[list[Recorded], list[Recorded]]:
    """6.1.0, which unmaps and moves in one function, and 6.12, which has two: the same work, as each samples it."""
    old = ("sys_move_pages", "do_pages_move", "migrate_pages", "unmap_and_move", "__unmap_and_move")
    new = ("sys_move_pages", "x", "do_pages_move", "migrate_pages", "migrate_pages_sync", "migrate_pages_batch")
    with_names = {
        "6.1.0": [(*old, "try_to_migrate"), (*old, "move_to_new_folio"), (*old, "remove_migration_ptes")],
        "6.12": [
            (*new, "migrate_folio_unmap", "try_to_migrate"),
            (*new, "migrate_folio_move", "move_to_new_folio"),
            (*new, "migrate_folio_move", "remove_migration_ptes"),
        ],
    }
    some = np.random.default_rng(5)
    table = SymbolTable()
    with SYMBOLS.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    sides = []
    for number, (kernel, paths) in enumerate(with_names.items()):
        names = {table.canonical(row["symbol"]) for row in rows if row[kernel] == "f"} | ({"x"} if number else set())
        runs = [
            {path: int(some.poisson(weight)) for path, weight in zip(paths, (4000, 3000, 2000), strict=True)}
            for _ in range(5)
        ]
        sides.append([recording(run, 10 * number + place, names) for place, run in enumerate(runs)])
    return sides[0], sides[1]


def test_a_function_that_became_two_meets_them_below_their_caller() -> None:
    found = diff(*split_kernels())
    above = ("sys_move_pages", "do_pages_move", "migrate_pages")
    rows = paths_of(found)
    for name in ("try_to_migrate", "move_to_new_folio", "remove_migration_ptes"):
        row = rows[*above, name]
        assert row.verdict == "no change found"
        assert row.share_a == pytest.approx(row.share_b, abs=0.02)
    assert {(one.name, one.side) for one in found.folded} == {
        ("unmap_and_move", "a"),
        ("__unmap_and_move", "a"),
        ("x", "b"),
        ("migrate_pages_sync", "b"),
        ("migrate_pages_batch", "b"),
        ("migrate_folio_unmap", "b"),
        ("migrate_folio_move", "b"),
    }
    assert found.whole_share == (0.0, 0.0)
    assert found.kept_frames == (pytest.approx(4 / 6), pytest.approx(4 / 8))


def noisy(capture: str, seed: int, names: frozenset[str] | None = None, boots: int = 5) -> list[Recorded]:
    """Boots that differ from a capture as real ones do."""
    some = np.random.default_rng(seed)
    workload = tree_runs.workload(some, capture)
    usual = replace(workload, usual=workload.tree.samples.astype(float))
    runs = [usual.run(some, seed * 100 + number) for number in range(boots)]
    return [replace(run, names=names or run.names) for run in runs]


@pytest.mark.parametrize("kernel", ["6.1.192", "6.12.117"])
def test_a_lock_made_exclusive_again_shows_both_of_its_paths(kernel: str) -> None:
    """The thread's question: waiting in the unmap step and in the remap step, of kernels that differ in one lock."""
    captures = [f"{kernel}-{mode}.movepages-fork8" for mode in ("shared", "excl")]
    every = frozenset().union(*(BUILDER.of_stacks(captured(capture)).names for capture in captures))
    found = diff(*(noisy(capture, seed, every) for seed, capture in enumerate(captures)))
    waits = [(path, row) for path, row in paths_of(found).items() if path[-1] == "[waits for rwsem:W]"]
    called = {path[-2]: row.verdict for path, row in waits if row.share_b > 0.05}
    assert called == {"folio_lock_anon_vma_read": "appeared", "rmap_walk_anon": "appeared"}
    by_phase = {row.name: row for row in found.phases}
    for phase in ("unmap", "remap"):
        row = by_phase[f"{phase}, waiting for rwsem:W"]
        assert (row.verdict, row.cost_verdict) == ("appeared", "appeared")
        assert row.share_a == 0
        assert row.share_b > 0.09
    functions = {row.name: row.verdict for row in found.functions}
    assert functions["[waits for rwsem:W]"] == "appeared"
    assert functions["folio_lock_anon_vma_read"] == "grown"
    assert found.permutation_p == pytest.approx(2 / 252)


def test_two_kernels_meet_where_functions_were_renamed() -> None:
    table = SymbolTable()
    with SYMBOLS.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    sides = []
    for kernel, column in (("6.1.192", "6.1.192"), ("6.12.117", "6.12")):
        capture = f"{kernel}-shared.movepages-fork8"
        seen = BUILDER.of_stacks(captured(capture)).names
        has = {table.canonical(row["symbol"]) for row in rows if row[column] == "f"}
        sides.append(noisy(capture, 7, frozenset(has.union(seen))))
    found = diff(*sides)
    functions = {row.name: row for row in found.functions}
    copied = functions["__migrate_folio"]
    assert copied.raw_a == ("migrate_folio_extra",)
    assert copied.raw_b == ("__migrate_folio.constprop.0",)
    assert functions["folio_remove_rmap_ptes"].raw_a == ("page_remove_rmap",)
    # 6.12 flushes once for 512 pages what 6.1 flushes for each.
    assert {row.name: row.verdict for row in found.phases}["tlb flush"] == "shrunk"
    assert found.kept_frames[0] > 0.9
    assert found.kept_frames[1] > 0.7


def test_a_side_without_recordings_is_refused() -> None:
    with pytest.raises(ValueError, match="without recordings"):
        diff([], [recording({("f0",): 1}, 0)])
