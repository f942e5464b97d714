"""Which lock a stack waits for, by name, as far as its call path tells: tracepoints give an address only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.phases import above_lock, lock_wait
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Sequence

_TABLE = SymbolTable()
# The nearest of these above the lock's own functions decides. Names are canonical; each row holds what takes this lock
# itself or has its taking inlined.
_NAMES = (
    (
        "anon_vma",
        (
            "folio_lock_anon_vma_read rmap_walk_anon rmap_walk_anon_lock anon_vma_lock_read anon_vma_lock_write "
            "lock_anon_vma_root unlink_anon_vmas anon_vma_clone anon_vma_fork __anon_vma_prepare "
            # rmap_walk with rmap_walk_anon inlined: on kernels up to 3.13 the remap side of the anon_vma lock
            "rmap_walk"
        ),
    ),
    ("i_mmap", "rmap_walk_file __rmap_walk_file unlink_file_vma vma_interval_tree_insert vma_link unmap_mapping_pages"),
    (
        "mmap_lock",
        (
            "mmap_read_lock mmap_write_lock mmap_read_lock_killable mmap_write_lock_killable lock_mm_and_find_vma "
            "do_user_addr_fault sys_mmap_pgoff vm_mmap_pgoff ksys_mmap_pgoff sys_munmap __vm_munmap vm_munmap "
            "sys_mprotect "
            "do_mprotect_pkey sys_brk do_mbind kernel_mbind do_migrate_pages migrate_to_node task_numa_work do_madvise "
            "madvise_lock dup_mmap exit_mmap sys_mremap do_pages_move add_folio_for_migration do_pages_stat "
            "move_pages_and_store_status"
        ),
    ),
    (
        "page table",
        (
            "pte_offset_map_lock pmd_lock __pmd_trans_huge_lock follow_page_pte page_vma_mapped_walk change_pte_range "
            "remove_migration_pte try_to_migrate_one try_to_unmap_one zap_pte_range copy_pte_range do_numa_page "
            "do_anonymous_page wp_page_copy migration_entry_wait __pte_alloc"
        ),
    ),
    (
        "lru",
        (
            "folio_lruvec_lock folio_lruvec_lock_irq folio_lruvec_lock_irqsave folio_lruvec_relock_irqsave "
            "folio_batch_move_lru folio_isolate_lru release_pages shrink_inactive_list isolate_migratepages_block"
        ),
    ),
    ("zone", "rmqueue_bulk rmqueue free_pcppages_bulk free_one_page free_unref_page __free_pages_ok"),
    ("rcu expedited", "synchronize_rcu_expedited exp_funnel_lock"),
    ("lru_add_drain", "__lru_add_drain_all lru_add_drain_all lru_cache_disable"),
    (
        "run queue",
        (
            "raw_spin_rq_lock_nested try_to_wake_up ttwu_queue ttwu_do_activate __schedule sched_balance_rq "
            "sched_balance_newidle sched_tick sched_balance_update_blocked_averages"
        ),
    ),
    (
        "wait queue",
        (
            "add_wait_queue remove_wait_queue prepare_to_wait finish_wait __wake_up_common_lock "
            "__wake_up_sync_key autoremove_wake_function prepare_to_wait_exclusive"
        ),
    ),
    ("futex bucket", "futex_q_lock futex_wake futex_wait_setup futex_requeue"),
    ("slab node", "___slab_alloc __slab_free get_partial_node __unfreeze_partials"),
)
_NAME_OF = {symbol: name for name, symbols in _NAMES for symbol in symbols.split()}
# A path is searched this far above the lock's functions: further up is whoever wanted something else.
_REACH = 4


def lock_name(kernel_frames: Sequence[str], table: SymbolTable = _TABLE) -> str:
    """The name of the lock that a kernel stack, innermost frame first, waits for; empty where none is told."""
    if lock_wait(table.stack(kernel_frames))[0] == "page lock":
        return "page"
    above = above_lock(kernel_frames, table)
    return next((_NAME_OF[name] for name in table.stack(above[:_REACH]) if name in _NAME_OF), "")
