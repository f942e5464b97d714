"""Functions of page migration that were renamed: former name, successor. Read in the sources of 2.6.32 to 7.2.

Each row is one rename; a function renamed twice has two rows. Rows stand in the order of the migration. The key to an
era is which of the names a kernel has (`numabench.analysis.phases.era`), never its version: stable kernels carry
backports. A change to a row, or to what the rules of `numabench.perf.symbols` do, makes a new VERSION.
"""

from __future__ import annotations

from types import MappingProxyType

VERSION = 3

_ROWS = (
    # The hint fault. __do_numa_page existed in November 2012 only, in the tree of the linux-mm thread.
    ("__do_numa_page", "do_numa_page"),
    ("numa_migrate_prep", "numa_migrate_check"),
    ("migrate_misplaced_page", "migrate_misplaced_folio"),
    ("page_fault", "asm_exc_page_fault"),
    ("do_page_fault", "exc_page_fault"),
    ("__do_page_fault", "do_user_addr_fault"),
    # Drivers.
    ("do_move_page_to_node_array", "do_move_pages_to_node"),
    ("demote_page_list", "demote_folio_list"),
    ("damon_pa_migrate_folio_list", "damon_migrate_folio_list"),
    # Isolation.
    ("isolate_lru_page", "folio_isolate_lru"),
    ("numamigrate_isolate_page", "numamigrate_isolate_folio"),
    ("numamigrate_isolate_folio", "migrate_misplaced_folio_prepare"),
    ("add_page_for_migration", "add_folio_for_migration"),
    ("check_range", "queue_pages_range"),
    ("check_pte_range", "queue_pages_pte_range"),
    ("queue_pages_pte_range", "queue_folios_pte_range"),
    ("queue_pages_pmd", "queue_folios_pmd"),
    ("queue_pages_hugetlb", "queue_folios_hugetlb"),
    ("migrate_page_add", "migrate_folio_add"),
    ("isolate_huge_page", "isolate_hugetlb"),
    ("isolate_hugetlb", "folio_isolate_hugetlb"),
    ("isolate_movable_page", "isolate_movable_ops_page"),
    ("follow_page", "folio_walk_start"),
    ("migrate_prep", "lru_cache_disable"),
    # Allocation of the target.
    ("alloc_misplaced_dst_page", "alloc_misplaced_dst_folio"),
    ("new_page_node", "alloc_migration_target"),
    ("new_node_page", "alloc_migration_target"),
    ("alloc_new_node_page", "alloc_migration_target"),
    ("new_page", "alloc_migration_target_by_mpol"),
    ("alloc_demote_page", "alloc_demote_folio"),
    ("__alloc_pages_nodemask", "__alloc_pages"),
    ("buffered_rmqueue", "rmqueue"),
    # Unmap. try_to_unmap still exists, for reclaim: only below migrate_pages does it mean try_to_migrate.
    ("page_lock_anon_vma", "page_lock_anon_vma_read"),
    ("page_lock_anon_vma_read", "folio_lock_anon_vma_read"),
    ("page_check_address", "page_vma_mapped_walk"),
    ("page_remove_rmap", "folio_remove_rmap_ptes"),
    ("page_not_mapped", "folio_not_mapped"),
    # TLB flush.
    ("pmdp_clear_flush", "pmdp_huge_clear_flush"),
    ("flush_tlb_others", "flush_tlb_multi"),
    ("smp_call_function_many", "smp_call_function_many_cond"),
    ("arch_tlbbatch_add_mm", "arch_tlbbatch_add_pending"),
    # Move and copy.
    ("move_to_new_page", "move_to_new_folio"),
    ("migrate_page", "migrate_folio"),
    ("migrate_folio_extra", "__migrate_folio"),
    ("buffer_migrate_page", "buffer_migrate_folio"),
    ("fallback_migrate_page", "fallback_migrate_folio"),
    ("migrate_page_move_mapping", "folio_migrate_mapping"),
    ("migrate_page_states", "folio_migrate_flags"),
    ("migrate_page_copy", "folio_migrate_copy"),
    ("folio_migrate_copy", "folio_mc_copy"),
    ("folio_copy", "folio_mc_copy"),
    ("page_cpupid_xchg_last", "folio_xchg_last_cpupid"),
    ("__mod_lruvec_page_state", "__lruvec_stat_mod_folio"),
    # Remap.
    ("anon_vma_lock", "anon_vma_lock_read"),
    ("remove_anon_migration_ptes", "remove_migration_ptes"),
    ("remove_file_migration_ptes", "remove_migration_ptes"),
    ("page_add_anon_rmap", "folio_add_anon_rmap_ptes"),
    ("page_add_new_anon_rmap", "folio_add_new_anon_rmap"),
    ("page_move_anon_rmap", "folio_move_anon_rmap"),
    ("page_add_file_rmap", "folio_add_file_rmap_ptes"),
    # Put back.
    ("putback_lru_page", "folio_putback_lru"),
    ("putback_lru_pages", "putback_movable_pages"),
    ("putback_movable_page", "putback_movable_folio"),
    ("putback_movable_folio", "putback_movable_ops_page"),
    ("putback_active_hugepage", "folio_putback_hugetlb"),
    ("lru_cache_add", "folio_add_lru"),
    ("__pagevec_lru_add", "folio_batch_move_lru"),
    ("pagevec_lru_move_fn", "folio_batch_move_lru"),
    ("lru_cache_add_inactive_or_unevictable", "folio_add_lru_vma"),
    ("free_unref_page_list", "free_unref_folios"),
    ("free_huge_page", "free_huge_folio"),
    ("__mem_cgroup_uncharge_list", "__mem_cgroup_uncharge_folios"),
    ("lock_page_memcg", "folio_memcg_lock"),
    ("unlock_page_memcg", "folio_memcg_unlock"),
    ("mlock_new_page", "mlock_new_folio"),
    ("munlock_page", "munlock_folio"),
    ("next_uptodate_page", "next_uptodate_folio"),
    # Waiting for a migration entry, and for a page's lock.
    ("migration_entry_wait_on_locked", "softleaf_entry_wait_on_locked"),
    ("put_and_wait_on_page_locked", "folio_put_wait_locked"),
    ("__lock_page", "__folio_lock"),
    ("__lock_page_killable", "__folio_lock_killable"),
    ("__lock_page_or_retry", "__folio_lock_or_retry"),
    ("wait_on_page_bit", "folio_wait_bit"),
    ("wait_on_page_bit_common", "folio_wait_bit_common"),
    ("wait_on_page_writeback", "folio_wait_writeback"),
    # Locks. The rwsem slow paths became rwsem_*_slowpath in v5.3.
    ("__mutex_lock_common", "__mutex_lock"),
    ("rwsem_down_read_failed", "rwsem_down_read_slowpath"),
    ("rwsem_down_write_failed", "rwsem_down_write_slowpath"),
    ("__rwsem_do_wake", "rwsem_mark_wake"),
    ("_spin_lock", "_raw_spin_lock"),
    ("lock_page_lruvec_irq", "folio_lruvec_lock_irq"),
    ("lock_page_lruvec_irqsave", "folio_lruvec_lock_irqsave"),
    # The scheduler's balancing, softirqs and tick, which interrupt everything: renamed between 6.1 and 6.12.
    ("run_rebalance_domains", "sched_balance_softirq"),
    ("rebalance_domains", "sched_balance_domains"),
    ("load_balance", "sched_balance_rq"),
    ("newidle_balance", "sched_balance_newidle"),
    ("find_busiest_queue", "sched_balance_find_src_rq"),
    ("find_busiest_group", "sched_balance_find_src_group"),
    ("find_idlest_cpu", "sched_balance_find_dst_cpu"),
    ("find_idlest_group", "sched_balance_find_dst_group"),
    ("update_blocked_averages", "sched_balance_update_blocked_averages"),
    ("trigger_load_balance", "sched_balance_trigger"),
    ("scheduler_tick", "sched_tick"),
    ("__do_softirq", "handle_softirqs"),
)

# What some kernels have as a function of its own inside the one it belongs to.
_INNER = (
    ("flush_tlb_func_common", "flush_tlb_func"),
    ("__migration_entry_wait", "migration_entry_wait"),
    ("__rwsem_down_read_failed_common", "rwsem_down_read_failed"),
    ("__rwsem_down_write_failed_common", "rwsem_down_write_failed"),
    ("__pte_offset_map_lock", "pte_offset_map_lock"),
    ("__migrate_folio_unmap", "migrate_folio_unmap"),
    ("__migrate_folio_move", "migrate_folio_move"),
    ("call_rwsem_down_read_failed", "rwsem_down_read_failed"),
    ("call_rwsem_down_write_failed", "rwsem_down_write_failed"),
    ("__rwsem_mark_wake", "rwsem_mark_wake"),
)

RENAMED = MappingProxyType(dict(_ROWS))
RENAMES = MappingProxyType(dict(_ROWS + _INNER))
