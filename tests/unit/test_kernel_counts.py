"""What 2 MB cost by counts worked out by hand, and which functions a kernel has counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from numabench.analysis import kernel_counts, remote_access
from numabench.analysis.kernel_counts import KernelCost, SlowPath
from numabench.analysis.missing import Missing
from numabench.observe.counted import functions
from numabench.perf.stat import Counted

MIB = 1 << 20
FIXTURES = Path(__file__).parents[1] / "fixtures"
# 4 MB of 4K pages, moved as v6.1 does: each page unmapped, flushed for and remapped by itself.
COUNTS: dict[str, int | None] = {
    "rmap_walk_anon": 2048,
    "folio_lock_anon_vma_read": 1024,
    "try_to_migrate_one": 1024,
    "try_to_unmap_one": 77,
    "remove_migration_pte": 1026,
    "flush_tlb_mm_range": 1030,
    "arch_tlbbatch_flush": 2,
    "migrate_pages": 2,
    "change_prot_numa": 0,
    "rwsem_down_read_slowpath": 5,
    "rwsem_down_write_slowpath": 0,
    "__mutex_lock_slowpath": 3,
    "__mutex_lock_killable_slowpath": 1,
    "__mutex_lock_interruptible_slowpath": 0,
    "native_queued_spin_lock_slowpath": 7,
    "__pv_queued_spin_lock_slowpath": 0,
}


def costs(counts: dict[str, int | None], refused: dict[str, str] | None = None, mib: int = 4) -> dict[str, KernelCost]:
    return {cost.name: cost for cost in kernel_counts.reduce(counts, refused or {}, mib * MIB).costs}


def test_each_2_mb_has_its_locks_flushes_and_walks() -> None:
    found = costs(COUNTS)
    assert found["rmap lock acquisitions"] == KernelCost(
        "rmap lock acquisitions", 2048, 1024.0, 1024, (("unmap", 1024), ("remap", 1024))
    )
    assert found["TLB flushes"] == KernelCost(
        "TLB flushes", 1032, 516.0, 512, (("flush_tlb_mm_range", 1030), ("arch_tlbbatch_flush", 2))
    )
    # Where migration has a walk of its own to unmap, those of reclaim are none of its.
    assert found["page-table walks"] == KernelCost(
        "page-table walks", 2050, 1025.0, None, (("unmap", 1024), ("remap", 1026))
    )
    assert found["calls of migrate_pages"].per_2mb == 1.0


def test_walks_below_a_lock_that_is_held_take_none() -> None:
    found = costs({**COUNTS, "rmap_walk_locked": 48})["rmap lock acquisitions"]
    assert (found.total, found.parts) == (2000, (("unmap", 1024), ("remap", 976)))


def test_before_5_14_migration_unmaps_by_the_walk_of_reclaim_and_locks_under_another_name() -> None:
    old = {name: count for name, count in COUNTS.items() if name != "try_to_migrate_one"}
    del old["folio_lock_anon_vma_read"]
    found = costs({**old, "page_lock_anon_vma_read": 1024, "try_to_unmap_one": 1000})
    assert found["page-table walks"].parts == (("unmap", 1000), ("remap", 1026))
    assert found["rmap lock acquisitions"].parts == (("unmap", 1024), ("remap", 1024))


def test_a_row_that_the_kernel_does_not_let_be_counted_says_why() -> None:
    few = {"rmap_walk_anon": None, "flush_tlb_mm_range": 3}
    found = costs(few, {"arch_tlbbatch_flush": "the kernel allows no probe there"})
    assert found["rmap lock acquisitions"].total == Missing("rmap_walk_anon: perf did not count it")
    flushes = found["TLB flushes"].total
    assert isinstance(flushes, Missing)
    assert "arch_tlbbatch_flush: the kernel allows no probe there" in flushes.reason
    marked = found["ranges marked for hint faults"].per_2mb
    assert isinstance(marked, Missing)
    assert "no function change_prot_numa" in marked.reason


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize(
    ("function", "row"),
    [("try_to_migrate_one", "page-table walks"), ("rmap_walk_locked", "rmap lock acquisitions")],
)
def test_what_was_not_counted_is_not_replaced_by_another_function_or_by_zero(
    function: str, row: str, refused: bool
) -> None:
    counts = dict(COUNTS)
    counts.pop(function, None)
    reasons = {function: "the kernel allows no probe there"} if refused else {}
    found = costs(counts if refused else {**counts, function: None}, reasons)[row].total
    assert isinstance(found, Missing)
    assert function in found.reason


def test_batched_flushes_alone_are_not_all_flushes() -> None:
    without = {name: count for name, count in COUNTS.items() if name != "flush_tlb_mm_range"}
    assert isinstance(costs(without)["TLB flushes"].total, Missing)
    no_batches = {name: count for name, count in COUNTS.items() if name != "arch_tlbbatch_flush"}
    assert costs(no_batches)["TLB flushes"].total == 1030


def test_less_than_2_mb_has_no_cost_per_2_mb_but_its_total() -> None:
    found = costs(COUNTS, mib=1)["TLB flushes"]
    assert found.total == 1032
    assert isinstance(found.per_2mb, Missing)


def test_slow_paths_are_added_up_by_the_class_of_lock() -> None:
    found = {row.lock_class: row.entries for row in kernel_counts.reduce(COUNTS, {}, 4 * MIB).slow_paths}
    assert (found["rwsem:R"], found["rwsem:W"], found["mutex"], found["spinlock"]) == (5, 0, 4, 7)
    assert isinstance(found["page lock"], Missing)


def test_a_recording_without_probes_has_no_slow_paths_and_one_with_them_has() -> None:
    assert kernel_counts.slow_paths({}, MIB) == ()
    assert kernel_counts.slow_paths({"vfs_read": 4}, 4 * MIB) == ()
    assert SlowPath("rwsem:R", 9, 4.5) in kernel_counts.slow_paths({"rwsem_down_read_slowpath": 9}, 4 * MIB)


KALLSYMS = b"""\
ffffffff81000000 T _text
ffffffff81000010 t rmap_walk_anon
ffffffff81000020 T page_lock_anon_vma_read
ffffffff81000030 t try_to_migrate_one.constprop.0
ffffffff81000040 t try_to_migrate_one.constprop.0.cold
ffffffff81000050 T __pfx_flush_tlb_mm_range
ffffffff81000060 T flush_tlb_mm_range
ffffffff81000070 T native_queued_spin_lock_slowpath
ffffffff81000080 D migrate_pages
ffffffff81000090 T __migrate_pages_not_this
ffffffffc0000000 t rmap_walk_anon\t[module]
"""


def test_functions_are_found_by_whatever_name_this_kernel_has_for_them() -> None:
    assert functions(KALLSYMS) == (
        "rmap_walk_anon",
        "page_lock_anon_vma_read",
        "try_to_migrate_one.constprop.0",
        "flush_tlb_mm_range",
        "native_queued_spin_lock_slowpath",
    )


def symbols_of(kernel: str) -> bytes:
    """The functions of a kernel in symbols.tsv, as its kallsyms would have them."""
    lines = (FIXTURES / "kernel" / "symbols.tsv").read_text().splitlines()
    column = lines[0].split("\t").index(kernel)
    names = (row[2] for row in (line.split("\t") for line in lines[1:]) if row[column] == "f")
    return "".join(f"ffffffff81000000 t {name}\n" for name in names).encode()


@pytest.mark.parametrize("kernel", ["4.19", "5.10", "5.15", "6.1.0", "6.1.192", "6.3", "6.12", "6.18", "7.2"])
def test_every_kernel_since_4_19_has_what_tells_the_cost(kernel: str) -> None:
    counts: dict[str, int | None] = dict.fromkeys(functions(symbols_of(kernel)), 1)
    for name, cost in costs(counts).items():
        assert not isinstance(cost.per_2mb, Missing), name


def counted(**counts: int | None) -> list[Counted]:
    return [Counted(name.replace("_", "-"), count, 1.0) for name, count in counts.items()]


def test_the_share_of_remote_loads_has_bounds_where_node_loads_is_ambiguous() -> None:
    found = remote_access.reduce(counted(node_loads=300, node_load_misses=100))
    assert found.low_share == pytest.approx(0.25)
    assert found.high_share == pytest.approx(1 / 3)


def test_the_share_of_remote_fills_is_exact() -> None:
    rows = [
        Counted("ls_any_fills_from_sys.mem_io_local", 30, 1.0),
        Counted("ls_any_fills_from_sys.mem_io_remote", 10, 1.0),
        *counted(node_loads=1, node_load_misses=1),
    ]
    found = remote_access.reduce(rows)
    assert (found.low_share, found.high_share) == (0.25, 0.25)


def test_what_was_not_counted_has_no_share() -> None:
    for rows in (counted(node_loads=3, node_load_misses=None), counted(node_loads=0, node_load_misses=0), []):
        assert isinstance(remote_access.reduce(rows).low_share, Missing)
