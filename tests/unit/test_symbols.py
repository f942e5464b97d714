"""One name for a function on every kernel, against the names that 13 kernels' sources define."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from numabench.errors import UsageError
from numabench.perf import symbols
from numabench.perf.symbol_table import RENAMED

FIXTURE = Path(__file__).parent.parent / "fixtures/kernel/symbols.tsv"
KERNELS = ["2.6.32", "3.7", "3.8", "3.14", "4.19", "5.10", "5.15", "6.1.0", "6.1.192", "6.3", "6.12", "6.18", "7.2"]
TABLE = symbols.SymbolTable()


def rows() -> list[dict[str, str]]:
    with FIXTURE.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def kernels_with(name: str) -> set[str]:
    return {kernel for row in rows() if row["symbol"] == name for kernel in KERNELS if row[kernel] in "fm"}


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("move_pages_and_store_status.isra.0", "move_pages_and_store_status"),
        ("link_path_walk.part.0.constprop.0", "link_path_walk"),
        ("__mutex_lock_common.isra.6", "__mutex_lock"),
        ("__mutex_lock.constprop.0", "__mutex_lock"),
        ("do_numa_page.cold", "do_numa_page"),
        ("rmap_walk_anon.llvm.1234567890", "rmap_walk_anon"),
        ("rmap_walk+0x24", "rmap_walk"),
        ("rmap_walk+0x24/0x80", "rmap_walk"),
        ("__x64_sys_move_pages", "sys_move_pages"),
        ("__se_sys_move_pages", "sys_move_pages"),
        ("SyS_move_pages", "sys_move_pages"),
        ("__arm64_sys_mbind", "sys_mbind"),
        ("native_queued_spin_lock_slowpath", "queued_spin_lock_slowpath"),
        ("__pv_queued_spin_lock_slowpath", "queued_spin_lock_slowpath"),
        ("__alloc_pages_noprof", "__alloc_pages"),
        ("__folio_alloc_noprof", "__folio_alloc"),
        ("__do_numa_page.isra.69", "do_numa_page"),
        ("page_lock_anon_vma", "folio_lock_anon_vma_read"),
        ("call_rwsem_down_write_failed", "rwsem_down_write_slowpath"),
        ("numamigrate_isolate_page", "migrate_misplaced_folio_prepare"),
        ("page_add_new_anon_rmap", "folio_add_new_anon_rmap"),
        ("next_uptodate_page", "next_uptodate_folio"),
        ("free_unref_page_list", "free_unref_folios"),
        ("load_balance", "sched_balance_rq"),
        ("scheduler_tick", "sched_tick"),
        ("__do_softirq", "handle_softirqs"),
    ],
)
def test_every_spelling_of_a_function_gets_one_name(raw: str, name: str) -> None:
    assert TABLE.canonical(raw) == name


@pytest.mark.parametrize(
    "name",
    [
        "native_flush_tlb_local",
        "native_safe_halt",
        "do_sys_open",
        "alloc_pages",
        "down_write",
        "mutex_lock",
        "_noprof",
        ".part.0",
        "page.counter",
        "compat_sys_ioctl",
        "x64_sys_call",
        "[unknown]",
        "",
        # One function became two, or two live on beside each other: to give them one name would lie.
        "unmap_and_move",
        "__unmap_and_move",
        "migrate_folio_unmap",
        "migrate_folio_move",
        "migrate_pages_batch",
        "try_to_unmap",
        "release_pages",
        "folios_put_refs",
        "tick_sched_timer",
        "folio_add_lru",
        "page_mapped",
        "homepage_add",
        "prepage",
    ],
)
def test_a_name_that_no_rule_means_stays_as_it_is(name: str) -> None:
    assert TABLE.canonical(name) == name


def test_a_symbol_keeps_its_raw_name() -> None:
    assert TABLE.symbol("rmap_walk.isra.3") == symbols.Symbol("rmap_walk", "rmap_walk.isra.3")


def test_a_canonical_name_leads_back_to_its_former_ones() -> None:
    assert TABLE.former_names("rwsem_down_write_slowpath") == (
        "__rwsem_down_write_failed_common",
        "call_rwsem_down_write_failed",
        "rwsem_down_write_failed",
    )
    assert TABLE.former_names("schedule") == ()


def test_a_cold_part_is_merged_with_its_function_and_recursion_is_not() -> None:
    assert TABLE.stack(["f.cold", "f", "g", "g"]) == ("f", "g", "g")


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["symbol"])
def test_a_canonical_name_is_its_own(row: dict[str, str]) -> None:
    once = TABLE.canonical(row["symbol"])
    assert TABLE.canonical(once) == once


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=RENAMED)
def test_each_rename_is_one_that_the_kernels_made(old: str, new: str) -> None:
    before, after = kernels_with(old), kernels_with(new)
    if not before or not after:
        return  # assembly, or between two of the kernels read
    first_old, first_new = KERNELS.index(min(before, key=KERNELS.index)), KERNELS.index(min(after, key=KERNELS.index))
    assert first_old <= first_new, "the old name came first"
    last_old = max(KERNELS.index(kernel) for kernel in before)
    last_new = max(KERNELS.index(kernel) for kernel in after)
    assert last_old <= last_new, "the new name lived longer"


def test_kernels_share_more_names_once_they_are_canonical() -> None:
    """A function that the oracle lists under one heading on two kernels is mostly found by one name."""
    for older, newer in (("3.14", "7.2"), ("4.19", "7.2"), ("5.15", "6.12"), ("6.1.192", "6.12")):
        raw = [{row["symbol"] for row in rows() if row[kernel] == "f"} for kernel in (older, newer)]
        names = [{TABLE.canonical(symbol) for symbol in vocabulary} for vocabulary in raw]
        assert len(names[0] & names[1]) / len(names[0]) > len(raw[0] & raw[1]) / len(raw[0])
        assert len(names[0] & names[1]) / len(names[0]) > 0.85


def test_a_user_adds_renames(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[rename]\nmy_migrate = "migrate_pages"\ndown_read = "my_down_read"\n')
    table = symbols.load(file)
    assert table.canonical("my_migrate.isra.0") == "migrate_pages"
    assert table.canonical("down_read") == "my_down_read"
    assert table.canonical("page_lock_anon_vma") == "folio_lock_anon_vma_read"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rename", "is not TOML"),
        ("[renames]\n", "is not a table of renames"),
        ("[rename]\na = 1\n", "is not a table of renames"),
        ("rename = 3\n", "is not a table of renames"),
        ('[rename]\na = "b"\nb = "a"\n', "run in a circle"),
        ('[rename]\nfolio_lock_anon_vma_read = "page_lock_anon_vma"\n', "run in a circle"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        symbols.load(file)


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        symbols.load(tmp_path / "none.toml")
