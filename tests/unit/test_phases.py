"""The phase of a stack: written ones of every era, and captured ones against shares measured apart from this code."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from migration_stacks import captured

from numabench.analysis import phases
from numabench.analysis.phases import OUTSIDE, UNPLACED, Place

SYMBOLS = Path(__file__).parent.parent / "fixtures/kernel/symbols.tsv"

FAULT_2012 = (
    "migrate_pages migrate_misplaced_page __do_numa_page.isra.69 handle_pte_fault handle_mm_fault __do_page_fault "
    "do_page_fault page_fault"
)
ASLEEP_2012 = (
    "perf_trace_sched_switch __schedule schedule schedule_preempt_disabled __mutex_lock_common.isra.6 "
    "__mutex_lock_slowpath mutex_lock"
)
SYSCALL_5 = "kernel_move_pages __x64_sys_move_pages do_syscall_64 entry_SYSCALL_64_after_hwframe"
CORE_4_19 = f"unmap_and_move migrate_pages do_move_pages_to_node {SYSCALL_5}"
MOVE_6_1 = (
    "migrate_pages_batch migrate_pages move_pages_and_store_status.isra.0 __x64_sys_move_pages x64_sys_call "
    "do_syscall_64 entry_SYSCALL_64_after_hwframe"
)
NODE_7_2 = (
    "migrate_pages_batch migrate_pages_sync migrate_pages migrate_to_node do_migrate_pages kernel_migrate_pages "
    "__x64_sys_migrate_pages do_syscall_64"
)
MOVE_6_12 = (
    "migrate_pages_batch migrate_pages_sync migrate_pages move_pages_and_store_status __x64_sys_move_pages "
    "x64_sys_call do_syscall_64 entry_SYSCALL_64_after_hwframe"
)
MOVE_6_18 = MOVE_6_12.replace("migrate_pages_batch", "migrate_folios_move migrate_pages_batch")
HINT_6_18 = "migrate_pages migrate_misplaced_folio __handle_mm_fault handle_mm_fault do_user_addr_fault exc_page_fault"

STACKS = (
    # The linux-mm thread of November 2012: mutex, both sides asleep in it.
    (f"{ASLEEP_2012} rmap_walk move_to_new_page {FAULT_2012}", Place("remap", "numa hint fault", "mutex")),
    (
        f"{ASLEEP_2012} page_lock_anon_vma try_to_unmap_anon try_to_unmap {FAULT_2012}",
        Place("unmap", "numa hint fault", "mutex"),
    ),
    # 2.6.32: a ticket spinlock.
    (
        (
            "__ticket_spin_lock _spin_lock page_lock_anon_vma try_to_unmap_anon try_to_unmap migrate_pages "
            "do_move_page_to_node_array sys_move_pages system_call_fastpath"
        ),
        Place("unmap", "move_pages", "spinlock", spins=True),
    ),
    (
        (
            "remove_anon_migration_ptes remove_migration_ptes move_to_new_page migrate_pages "
            "do_move_page_to_node_array sys_move_pages system_call_fastpath"
        ),
        Place("remap", "move_pages"),
    ),
    # 3.8: rwsem, taken for reading.
    (
        (
            "call_rwsem_down_read_failed down_read page_lock_anon_vma_read try_to_unmap_anon try_to_unmap "
            "migrate_pages "
            "migrate_misplaced_page do_numa_page handle_pte_fault"
        ),
        Place("unmap", "numa hint fault", "rwsem:R"),
    ),
    # 4.19: one walk for both sides, told apart by who asked for it.
    (
        (
            f"rwsem_spin_on_owner rwsem_down_write_failed call_rwsem_down_write_failed down_write rmap_walk_anon "
            f"remove_migration_ptes {CORE_4_19}"
        ),
        Place("remap", "move_pages", "rwsem:W", spins=True),
    ),
    (f"page_vma_mapped_walk try_to_unmap_one rmap_walk_anon try_to_unmap {CORE_4_19}", Place("unmap", "move_pages")),
    (
        (
            "smp_call_function_many native_flush_tlb_others flush_tlb_mm_range ptep_clear_flush try_to_unmap_one "
            f"rmap_walk_anon rmap_walk try_to_unmap {CORE_4_19}"
        ),
        Place("tlb flush", "move_pages"),
    ),
    (f"copy_page_rep migrate_page_copy migrate_page move_to_new_page {CORE_4_19}", Place("copy", "move_pages")),
    # 5.15: try_to_migrate.
    (
        f"page_remove_rmap try_to_migrate_one rmap_walk_anon rmap_walk try_to_migrate {CORE_4_19}",
        Place("unmap", "move_pages"),
    ),
    # 6.1.0: folios; 6.1.192: remove_migration_ptes called from the tail, migrate_folio_move inlined.
    (f"folio_lock_anon_vma_read rmap_walk_anon rmap_walk try_to_migrate {CORE_4_19}", Place("unmap", "move_pages")),
    (
        f"rwsem_spin_on_owner rwsem_down_write_slowpath down_write rmap_walk_anon rmap_walk {MOVE_6_1}",
        Place("remap", "move_pages", "rwsem:W", spins=True),
    ),
    (
        (
            f"rwsem_spin_on_owner rwsem_down_write_slowpath down_write folio_lock_anon_vma_read rmap_walk_anon "
            f"try_to_migrate {MOVE_6_1}"
        ),
        Place("unmap", "move_pages", "rwsem:W", spins=True),
    ),
    (
        f"osq_lock rwsem_down_write_slowpath down_write rmap_walk {MOVE_6_1}",
        Place("remap", "move_pages", "rwsem:W", spins=True),
    ),
    (f"_raw_spin_unlock_irqrestore folio_add_lru {MOVE_6_1}", Place("put back", "move_pages")),
    # The old page is freed when its copy is in place, with migrate_folio_done inlined (seen on 6.1.192).
    (f"_raw_spin_unlock free_unref_page {MOVE_6_1}", Place("put back", "move_pages")),
    (f"__mem_cgroup_uncharge __folio_put {MOVE_6_1}", Place("put back", "move_pages")),
    # 7.2
    (f"_raw_spin_trylock __free_frozen_pages {NODE_7_2}", Place("put back", "migrate_pages(2)")),
    (f"__list_add_valid_or_report free_frozen_page_commit {NODE_7_2}", Place("put back", "migrate_pages(2)")),
    (f"__folio_batch_add_and_move {NODE_7_2}", Place("put back", "migrate_pages(2)")),
    (f"folio_unlock {NODE_7_2}", Place("not placed", "migrate_pages(2)")),
    # 6.12
    (
        (
            f"smp_call_function_many_cond on_each_cpu_cond_mask native_flush_tlb_multi arch_tlbbatch_flush "
            f"try_to_unmap_flush {MOVE_6_12}"
        ),
        Place("tlb flush", "move_pages"),
    ),
    (
        (
            "copy_mc_enhanced_fast_string folio_mc_copy __migrate_folio.constprop.0 move_to_new_folio "
            f"migrate_folio_move {MOVE_6_12}"
        ),
        Place("copy", "move_pages"),
    ),
    (
        f"folio_migrate_flags __migrate_folio move_to_new_folio migrate_folio_move {MOVE_6_12}",
        Place("move", "move_pages"),
    ),
    (
        (
            f"get_page_from_freelist __alloc_pages_noprof __folio_alloc_noprof alloc_migration_target "
            f"migrate_folio_unmap {MOVE_6_12}"
        ),
        Place("allocate", "move_pages"),
    ),
    # 6.18 and a hint fault whose do_numa_page is inlined.
    (f"remove_migration_pte rmap_walk_anon rmap_walk migrate_folio_move {MOVE_6_18}", Place("remap", "move_pages")),
    (
        f"try_to_migrate_one rmap_walk_anon try_to_migrate migrate_pages_batch {HINT_6_18}",
        Place("unmap", "numa hint fault"),
    ),
    (
        "folio_isolate_lru migrate_misplaced_folio_prepare __handle_mm_fault handle_mm_fault exc_page_fault",
        Place("isolate", "numa hint fault"),
    ),
    # 7.2: the victim of a migration.
    (
        (
            "__schedule schedule io_schedule softleaf_entry_wait_on_locked do_swap_page __handle_mm_fault "
            "handle_mm_fault do_user_addr_fault"
        ),
        Place("wait for migration entry"),
    ),
    (
        "__schedule schedule io_schedule put_and_wait_on_page_locked __migration_entry_wait do_swap_page",
        Place("wait for migration entry"),
    ),
    # Other drivers.
    (
        (
            "isolate_migratepages_block compact_zone compact_zone_order try_to_compact_pages "
            "__alloc_pages_direct_compact "
            "__alloc_pages_slowpath __handle_mm_fault do_user_addr_fault"
        ),
        Place("isolate", "compaction"),
    ),
    ("try_to_migrate migrate_pages_batch migrate_pages compact_zone kcompactd kthread", Place("unmap", "compaction")),
    ("compaction_alloc migrate_folio_unmap migrate_pages kcompactd kthread", Place("allocate", "compaction")),
    ("migrate_pages_batch migrate_pages demote_folio_list shrink_folio_list kswapd", Place(UNPLACED, "demotion")),
    ("queue_folios_pte_range walk_pgd_range do_mbind __x64_sys_mbind", Place("isolate", "mbind")),
    ("try_to_migrate migrate_pages do_migrate_pages kernel_migrate_pages", Place("unmap", "migrate_pages(2)")),
    ("change_pte_range change_protection change_prot_numa task_numa_work task_work_run", Place("scan", "numa scan")),
    ("flush_tlb_mm_range change_protection change_prot_numa task_numa_work", Place("scan", "numa scan")),
    (
        f"__schedule schedule exp_funnel_lock synchronize_rcu_expedited lru_cache_disable {SYSCALL_5}",
        Place("prepare", "move_pages"),
    ),
    # An interrupt has no part in what it came into, but for the TLB flush that it delivers.
    (
        (
            f"flush_tlb_func __flush_smp_call_function_queue generic_smp_call_function_interrupt "
            "__sysvec_call_function "
            f"sysvec_call_function asm_sysvec_call_function copy_page folio_copy {MOVE_6_1}"
        ),
        Place("tlb flush received"),
    ),
    (
        f"clockevents_program_event sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt {MOVE_6_1}",
        Place(OUTSIDE),
    ),
    # Work left for the way back to the user is no interrupt's, wherever that way began; what interrupts it is.
    (
        (
            "vm_normal_page change_prot_numa task_numa_work task_work_run exit_to_user_mode_prepare "
            "irqentry_exit_to_user_mode irqentry_exit sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt"
        ),
        Place("scan", "numa scan"),
    ),
    (
        (
            "clockevents_program_event sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt change_prot_numa "
            "task_numa_work task_work_run exit_to_user_mode_prepare irqentry_exit asm_sysvec_apic_timer_interrupt"
        ),
        Place(OUTSIDE),
    ),
    # An interrupt that comes into a thread that spins does not spin.
    (
        (
            "update_sd_lb_stats.constprop.0 find_busiest_group load_balance handle_softirqs irq_exit_rcu "
            "sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt rwsem_spin_on_owner rwsem_down_write_slowpath "
            f"down_write rmap_walk_anon rmap_walk {MOVE_6_1}"
        ),
        Place(OUTSIDE),
    ),
    (f"__do_softirq irq_exit do_IRQ ret_from_intr copy_page_rep migrate_page_copy {CORE_4_19}", Place(OUTSIDE)),
    # Whoever takes a lock may let others run first, and the scheduler has locks of its own: neither is a wait for this.
    (f"finish_task_switch.isra.0 __schedule __cond_resched down_read {SYSCALL_5}", Place("entry", "move_pages")),
    (
        f"_raw_spin_lock raw_spin_rq_lock_nested __schedule schedule synchronize_rcu_expedited {SYSCALL_5}",
        Place("prepare", "move_pages"),
    ),
    (
        f"__schedule schedule rwsem_down_read_slowpath down_read folio_lock_anon_vma_read try_to_migrate {MOVE_6_1}",
        Place("unmap", "move_pages", "rwsem:R"),
    ),
    # A hint fault whose do_numa_page is inlined, before it migrates.
    (
        "mpol_misplaced __handle_mm_fault handle_mm_fault do_user_addr_fault exc_page_fault asm_exc_page_fault",
        Place("entry", "numa hint fault"),
    ),
    # 3.14 and 5.10: huge pages have a migration of their own.
    (
        (
            "copy_page_rep migrate_page_copy migrate_misplaced_transhuge_page do_huge_pmd_numa_page handle_mm_fault "
            "__do_page_fault do_page_fault page_fault"
        ),
        Place("copy", "numa hint fault"),
    ),
    (
        "mutex_lock new_page_node migrate_pages do_move_page_to_node_array SyS_move_pages system_call_fastpath",
        Place("allocate", "move_pages"),
    ),
    # 5.15
    (
        (
            "rwsem_down_read_slowpath down_read page_lock_anon_vma_read rmap_walk_anon rmap_walk try_to_migrate "
            f"{CORE_4_19}"
        ),
        Place("unmap", "move_pages", "rwsem:R"),
    ),
    (f"remove_migration_pte rmap_walk_anon rmap_walk remove_migration_ptes {CORE_4_19}", Place("remap", "move_pages")),
    (f"copy_page copy_huge_page migrate_page_copy move_to_new_page {CORE_4_19}", Place("copy", "move_pages")),
    # What only looks like migration.
    ("clear_page_erms __alloc_pages __folio_alloc vma_alloc_folio __handle_mm_fault exc_page_fault", Place(OUTSIDE)),
    ("try_to_unmap shrink_folio_list shrink_lruvec kswapd", Place(OUTSIDE)),
    ("change_pte_range change_protection mprotect_fixup __x64_sys_mprotect", Place(OUTSIDE)),
    ("rmap_walk_anon folio_referenced shrink_folio_list kswapd", Place(OUTSIDE)),
    ("copy_page wp_page_copy handle_pte_fault exc_page_fault", Place(OUTSIDE)),
    ("folio_add_lru do_anonymous_page handle_mm_fault", Place(OUTSIDE)),
    ("__schedule schedule kcompactd kthread", Place(OUTSIDE)),
    ("", Place(OUTSIDE)),
)


@pytest.mark.parametrize(("frames", "expected"), STACKS, ids=[" < ".join(f.split()[:6]) for f, _ in STACKS])
def test_a_stack_of_every_era_belongs_to_its_phase(frames: str, expected: Place) -> None:
    assert phases.place(frames.split()) == expected


def test_a_page_lock_inside_a_migration_is_a_wait() -> None:
    frames = f"__schedule schedule io_schedule folio_wait_bit_common __folio_lock migrate_folio_unmap {MOVE_6_12}"
    assert phases.place(frames.split()) == Place("unmap", "move_pages", "page lock")


# Shares of all samples in percent, measured on the same captures by a classifier that is not this one.
MEASURED = {
    "6.1.192-excl": {("tlb flush", False): 32.2, ("unmap", True): 17.9, ("remap", True): 14.3, ("unmap", False): 9.0,
                     ("remap", False): 5.7, ("copy", False): 2.5},
    "6.1.192-shared": {("tlb flush", False): 39.5, ("unmap", False): 20.1, ("remap", False): 14.6, ("unmap", True): 0,
                       ("remap", True): 0},
    "6.12.117-excl": {("copy", False): 23.6, ("unmap", False): 19.1, ("remap", True): 11.5, ("unmap", True): 9.9},
    "6.12.117-shared": {("copy", False): 30.3, ("unmap", False): 23.0, ("remap", False): 16.8,
                        ("tlb flush", False): 1.2,
                        ("unmap", True): 0, ("remap", True): 0},
}  # fmt: skip


@pytest.mark.parametrize("kernel", MEASURED)
def test_the_shares_of_captured_migrations_are_those_measured_apart(kernel: str) -> None:
    report = phases.report(captured(f"{kernel}.movepages-fork8"))
    for (phase, waiting), percent in MEASURED[kernel].items():
        found = report.weight(phase, waiting=waiting) * 100 / report.total_weight
        assert found == pytest.approx(percent, abs=1.1), (phase, waiting)


@pytest.mark.parametrize("kernel", MEASURED)
@pytest.mark.parametrize("load", ["movepages-fork8", "numahint"])
def test_little_of_a_captured_migration_is_not_placed(kernel: str, load: str) -> None:
    report = phases.report(captured(f"{kernel}.{load}"))
    drivers = {share.driver for share in report.shares if share.phase not in {OUTSIDE, "tlb flush received"}}
    assert drivers <= {"move_pages"} if load == "movepages-fork8" else drivers <= {"numa hint fault", "numa scan"}
    assert report.unplaced_weight <= 0.07 * report.migration_weight
    assert sum(share.weight for share in report.shares) == report.total_weight


def test_the_reader_locked_kernel_waits_for_no_anon_vma_and_the_writer_locked_one_does() -> None:
    shared, excl = (phases.report(captured(f"6.12.117-{arm}.movepages-fork8")) for arm in ("shared", "excl"))
    assert shared.weight("unmap", waiting=True) == shared.weight("remap", waiting=True) == 0
    assert excl.weight("unmap", waiting=True)
    assert excl.weight("remap", waiting=True)


def test_stacks_of_one_phase_are_picked() -> None:
    stacks = captured("6.12.117-shared.movepages-fork8")
    picked = phases.in_phase(stacks, "copy")
    assert sum(stack.samples for stack in picked) == phases.report(stacks).weight("copy")


def names_of(kernel: str) -> list[str]:
    with SYMBOLS.open() as file:
        return [row["symbol"] for row in csv.DictReader(file, delimiter="\t") if row[kernel] == "f"]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("2.6.32", ("spinlock", "one page", "page", "try_to_unmap")),
        ("3.7", ("mutex", "one page", "page", "try_to_unmap")),
        ("3.8", ("rwsem", "one page", "page", "try_to_unmap")),
        ("5.10", ("rwsem", "one page", "page", "try_to_unmap")),
        ("5.15", ("rwsem", "one page", "page", "try_to_migrate")),
        ("6.1.0", ("rwsem", "one page", "folio", "try_to_migrate")),
        ("6.1.192", ("rwsem", "one page, in lists of 512", "folio", "try_to_migrate")),
        ("6.3", ("rwsem", "512 pages, one flush for all", "folio", "try_to_migrate")),
        ("7.2", ("rwsem", "512 pages, one flush for all", "folio", "try_to_migrate")),
    ],
)
def test_the_era_is_read_from_the_names_a_kernel_has(kernel: str, expected: tuple[str, ...]) -> None:
    assert phases.era(names_of(kernel)) == phases.Era(*expected)


def test_an_era_that_no_name_tells_is_unknown() -> None:
    assert phases.era(["schedule"]) == phases.Era("unknown", "unknown", "unknown", "unknown")
