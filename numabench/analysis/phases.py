"""Which phase of a page migration a kernel stack belongs to, whom that serves, and whether it waits for a lock.

Functions are inlined and called from the tail, differently in every build, so no rule asks for one exact frame: the
frame nearest to the sampled function that the table knows decides, and where that only says "a reverse-map walk",
whoever asked for the walk does. The names are those of `numabench.perf.symbols`, all raw names of an era lead there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.perf.symbols import SymbolTable, strip

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numabench.analysis.callchain import Stack

UNPLACED = "not placed"
OUTSIDE = "outside migration"
UNMAP, REMAP, WAIT_ENTRY, ENTRY = "unmap", "remap", "wait for migration entry", "entry"
RECEIVED, SCAN = "tlb flush received", "numa scan"

# Whose errand a migration is: the nearest of these above it decides, so that compaction inside a fault is compaction.
# A driver whose frames say nothing by themselves (a page fault, mprotect) is not here.
_DRIVERS = (
    (
        "numa hint fault",
        (
            "do_numa_page do_pmd_numa_page do_huge_pmd_numa_page migrate_misplaced_folio "
            "migrate_misplaced_transhuge_page "
            "migrate_misplaced_folio_prepare numa_migrate_check numa_rebuild_single_mapping numa_rebuild_large_mapping "
            "task_numa_fault mpol_misplaced"
        ),
    ),
    (
        "move_pages",
        (
            "sys_move_pages kernel_move_pages do_pages_move do_pages_stat do_move_pages_to_node "
            "move_pages_and_store_status"
        ),
    ),
    ("mbind", "sys_mbind kernel_mbind do_mbind"),
    ("migrate_pages(2)", "sys_migrate_pages kernel_migrate_pages do_migrate_pages migrate_to_node"),
    ("cpuset", "cpuset_migrate_mm cpuset_migrate_mm_workfn"),
    (
        "compaction",
        (
            "compact_zone compact_node kcompactd_do_work kcompactd try_to_compact_pages __alloc_pages_direct_compact "
            "sysctl_compaction_handler"
        ),
    ),
    ("demotion", "demote_folio_list"),
    ("memory offline", "do_migrate_range offline_pages __offline_pages"),
    ("contiguous allocation", "alloc_contig_range __alloc_contig_migrate_range"),
    (
        "long-term pin",
        (
            "check_and_migrate_movable_pages check_and_migrate_movable_folios collect_longterm_unpinnable_folios "
            "migrate_longterm_unpinnable_folios"
        ),
    ),
    ("damon", "damon_pa_migrate damon_migrate_pages damon_migrate_folio_list"),
    ("memory failure", "soft_offline_page soft_offline_in_use_page"),
    (SCAN, "task_numa_work change_prot_numa"),
)
# The migration itself; a frame here that no phase is nearer than leaves the stack not placed.
_CORE = frozenset(
    [
        "migrate_pages",
        "migrate_pages_sync",
        "migrate_pages_batch",
        "migrate_hugetlbs",
        "unmap_and_move",
        "__unmap_and_move",
        "unmap_and_move_huge_page",
        "migrate_folios_move",
        "migrate_folios_undo",
        "migrate_misplaced_transhuge_page",
    ]
)
_PHASES = (
    (
        "isolate",
        (
            "folio_isolate_lru __isolate_lru_page migrate_misplaced_folio_prepare add_folio_for_migration "
            "__add_folio_for_migration queue_pages_range queue_folios_pte_range queue_folios_pmd queue_folios_hugetlb "
            "check_pmd_range migrate_folio_add isolate_migratepages isolate_migratepages_block "
            "isolate_migratepages_range "
            "folio_isolate_hugetlb isolate_movable_ops_page folio_walk_start follow_page_mask do_pages_stat"
        ),
    ),
    (
        "prepare",
        (
            "lru_cache_disable lru_add_drain_all __lru_add_drain_all lru_add_drain lru_add_drain_cpu "
            "synchronize_rcu_expedited migrate_prep_local"
        ),
    ),
    (
        "allocate",
        (
            "alloc_misplaced_dst_folio alloc_misplaced_dst_page_thp alloc_migration_target "
            "alloc_migration_target_by_mpol "
            "alloc_demote_folio compaction_alloc __alloc_pages __alloc_frozen_pages __folio_alloc "
            "get_page_from_freelist __alloc_pages_slowpath rmqueue"
        ),
    ),
    (
        UNMAP,
        (
            "migrate_folio_unmap try_to_migrate try_to_migrate_one try_to_unmap try_to_unmap_one try_to_unmap_anon "
            "try_to_unmap_file try_to_unmap_ksm set_pmd_migration_entry folio_lock_anon_vma_read folio_get_anon_vma "
            "page_get_anon_vma folio_remove_rmap_ptes folio_remove_rmap_pmd"
        ),
    ),
    (
        "tlb flush",
        (
            "ptep_clear_flush pmdp_huge_clear_flush flush_tlb_page flush_tlb_mm_range flush_tlb_range flush_tlb_multi "
            "flush_tlb_others_ipi kvm_flush_tlb_multi hv_flush_tlb_multi xen_flush_tlb_multi arch_tlbbatch_flush "
            "try_to_unmap_flush try_to_unmap_flush_dirty flush_tlb_batched_pending set_tlb_ubc_flush_pending "
            "broadcast_tlb_flush flush_tlb_func flush_tlb_func_local"
        ),
    ),
    (
        "copy",
        (
            "folio_mc_copy copy_huge_page __copy_gigantic_page copy_highpage copy_mc_highpage copy_page "
            "copy_mc_to_kernel copy_mc_enhanced_fast_string copy_mc_fragile copy_page_regs copy_page_rep "
            "rep_movs_alternative"
        ),
    ),
    (
        "move",
        (
            "move_to_new_folio migrate_folio_move migrate_folio __migrate_folio buffer_migrate_folio "
            "filemap_migrate_folio fallback_migrate_folio folio_migrate_mapping __folio_migrate_mapping "
            "folio_migrate_flags mem_cgroup_migrate"
        ),
    ),
    (
        REMAP,
        (
            "remove_migration_ptes remove_migration_pte remove_migration_pmd folio_add_anon_rmap_ptes "
            "folio_add_anon_rmap_pmd anon_vma_lock_read"
        ),
    ),
    (
        "put back",
        (
            "folio_putback_lru putback_movable_pages putback_movable_ops_page folio_putback_hugetlb migrate_folio_done "
            "migrate_folio_undo_src migrate_folio_undo_dst folio_add_lru folio_batch_move_lru "
            # The old page is freed where its copy is in place.
            "__folio_put __put_page free_unref_page free_unref_folios "
            # What is left of folio_add_lru and of freeing where they are inlined (seen on 7.2.13).
            "__folio_batch_add_and_move __free_frozen_pages free_frozen_page_commit"
        ),
    ),
)
# A kernel thread's loop: it drives what migrates below it, but is asleep when alone.
_LOOPS = frozenset({"kcompactd"})
# Walks of the reverse map: the phase is that of who asked, and remap where he was inlined or called from the tail.
_WALKS = frozenset(
    [
        "rmap_walk",
        "rmap_walk_locked",
        "rmap_walk_anon",
        "rmap_walk_file",
        "__rmap_walk_file",
        "rmap_walk_ksm",
        "rmap_walk_anon_lock",
        "page_vma_mapped_walk",
    ]
)
_WAIT_ENTRY = frozenset(
    ["migration_entry_wait", "pmd_migration_entry_wait", "softleaf_entry_wait_on_locked", "migration_entry_wait_huge"]
)
# What a thread does on its way back to user space, also where an interrupt had brought it into the kernel.
_TASK_WORK = "task_work_run"
# Where an interrupt came in: what is below it has no part in what it interrupted.
_INTERRUPTS = (
    "asm_sysvec_",
    "sysvec_",
    "asm_common_interrupt",
    "common_interrupt",
    "do_IRQ",
    "apic_timer_interrupt",
    "call_function_interrupt",
    "call_function_single_interrupt",
    "smp_call_function_interrupt",
    "smp_invalidate_interrupt",
    "invalidate_interrupt",
    "asm_exc_nmi",
    "__irq_exit_rcu",
    "irq_exit",
)
_TLB_TARGET = frozenset(
    [
        "flush_tlb_func",
        "flush_tlb_func_remote",
        "flush_tlb_local",
        "flush_tlb_one_user",
        "smp_invalidate_interrupt",
        "flush_smp_call_function_queue",
        "__flush_smp_call_function_queue",
        "generic_smp_call_function_interrupt",
        "sysvec_call_function",
        "smp_call_function_interrupt",
    ]
)
# What takes a lock and had to wait, spinning or asleep. The fast paths (mutex_lock, down_read) say nothing by
# themselves: they count where the scheduler is below them, unless they only let others run first.
_LOCK_SLOW = (
    ("mutex", "__mutex_lock_slowpath __mutex_lock mutex_optimistic_spin mutex_spin_on_owner"),
    ("rwsem:R", "rwsem_down_read_slowpath"),
    ("rwsem:W", "rwsem_down_write_slowpath"),
    ("rwsem", "rwsem_down_failed_common rwsem_optimistic_spin rwsem_can_spin_on_owner rwsem_spin_on_owner"),
    (
        "spinlock",
        (
            "queued_spin_lock_slowpath __ticket_spin_lock ticket_spin_lock_wait virt_spin_lock pv_wait_head_or_lock "
            "rt_spin_lock"
        ),
    ),
    ("rwlock", "queued_read_lock_slowpath queued_write_lock_slowpath"),
    ("page lock", "__folio_lock __folio_lock_or_retry folio_wait_bit folio_wait_bit_common __wait_on_bit_lock"),
)
_LOCK_FAST = (
    ("mutex", "mutex_lock mutex_lock_killable mutex_lock_interruptible"),
    ("rwsem:R", "down_read down_read_killable down_read_interruptible"),
    ("rwsem:W", "down_write down_write_killable"),
    ("spinlock", "_raw_spin_lock _raw_spin_lock_irq _raw_spin_lock_irqsave _raw_spin_lock_bh"),
)
_SLEEP = frozenset(["schedule", "__schedule", "schedule_preempt_disabled", "schedule_timeout", "io_schedule"])
_YIELD = frozenset(["__cond_resched", "_cond_resched", "preempt_schedule", "preempt_schedule_common"])
_SPIN = frozenset(
    [
        "mutex_optimistic_spin",
        "mutex_spin_on_owner",
        "rwsem_optimistic_spin",
        "rwsem_spin_on_owner",
        "rwsem_can_spin_on_owner",
        "osq_lock",
        "queued_spin_lock_slowpath",
        "__ticket_spin_lock",
        "ticket_spin_lock_wait",
        "virt_spin_lock",
        "pv_wait_head_or_lock",
        "queued_read_lock_slowpath",
        "queued_write_lock_slowpath",
    ]
)


def _index(rows: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {name: label for label, names in rows for name in names.split()}


_DRIVER_OF = _index(_DRIVERS)
_PHASE_OF = _index(_PHASES)
_SLOW_OF = _index(_LOCK_SLOW)
_FAST_OF = _index(_LOCK_FAST)
PHASES = (ENTRY, *(phase for phase, _ in _PHASES), WAIT_ENTRY, RECEIVED, "scan", UNPLACED)
DRIVERS = tuple(driver for driver, _ in _DRIVERS)
_TABLE = SymbolTable()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kernel stack stands in a migration.

    `driver` is empty where none of the frames tells it. `waits_for` is the class of the lock (`mutex`, `rwsem:R`,
    `rwsem:W`, `spinlock`, `rwlock`, `page lock`) that the stack is held up by, empty where it is not, and `spins` says
    that it burns a CPU meanwhile.
    """

    phase: str
    driver: str = ""
    waits_for: str = ""
    spins: bool = False

    @property
    def in_migration(self) -> bool:
        """Whether the stack belongs to a migration at all."""
        return self.phase != OUTSIDE


def place(kernel_frames: Sequence[str], table: SymbolTable = _TABLE) -> Place:
    """The phase of one kernel stack, its sampled function first; `outside migration` where it has no part in one."""
    frames = table.stack(kernel_frames)
    if _TASK_WORK in frames:
        frames = frames[: frames.index(_TASK_WORK)]
    interrupt = next((depth for depth, frame in reversed(list(enumerate(frames))) if is_interrupt(frame)), None)
    waits_for, spins = lock_wait(frames[:interrupt])
    if interrupt is not None:
        return Place(_interrupt_phase(frames[: interrupt + 1]), "", waits_for, spins)
    driver = next((_DRIVER_OF[frame] for frame in frames if frame in _DRIVER_OF), "")
    if any(frame in _WAIT_ENTRY for frame in frames):
        return Place(WAIT_ENTRY, "", waits_for, spins)
    phase = _phase(frames) if any(frame in _CORE for frame in frames) else _phase_beside(frames, driver)
    return Place(phase, "" if phase == OUTSIDE else driver, waits_for, spins)


def _interrupt_phase(frames: Sequence[str]) -> str:
    """An interrupt has no part in what it came into, but it may deliver another CPU's TLB flush."""
    flushes = any(frame.startswith("flush_tlb") for frame in frames) and any(frame in _TLB_TARGET for frame in frames)
    return RECEIVED if flushes or "smp_invalidate_interrupt" in frames else OUTSIDE


def _phase_beside(frames: Sequence[str], driver: str) -> str:
    """The phase of a stack with a driver and without the migration's core: before it, or after."""
    if driver == SCAN:
        return "scan"
    if any(frame in _DRIVER_OF and frame not in _LOOPS for frame in frames):
        return next((_PHASE_OF[frame] for frame in frames if frame in _PHASE_OF), ENTRY)
    return OUTSIDE


def is_interrupt(frame: str) -> bool:
    """Whether a function, by canonical name, is where an interrupt came in."""
    return frame.startswith(_INTERRUPTS)


def _phase(frames: Sequence[str]) -> str:
    for depth, frame in enumerate(frames):
        if frame in _WALKS:
            return UNMAP if any(_PHASE_OF.get(above) == UNMAP for above in frames[depth:]) else REMAP
        if frame in _CORE:
            return UNPLACED
        if frame in _PHASE_OF:
            return _PHASE_OF[frame]
    return UNPLACED


def lock_wait(frames: Sequence[str]) -> tuple[str, bool]:
    """The class of the lock that a stack of canonical names waits for ("" for none), and whether it spins."""
    asleep = next((depth for depth, frame in enumerate(frames) if frame in _SLEEP), None)
    spins = asleep is None and any(frame in _SPIN for frame in frames)
    slow = [_SLOW_OF[frame] for frame in frames if frame in _SLOW_OF]
    if not slow and asleep is None:
        return ("rwsem" if "osq_lock" in frames else ""), spins
    # Below the scheduler are locks of its own.
    above = () if any(frame in _YIELD for frame in frames) else frames[asleep:]
    fast = [_FAST_OF[frame] for frame in above if frame in _FAST_OF]
    # The innermost decides; a frame that both rwsem modes share leaves it to the next above.
    for name in (*slow, *fast):
        if name != "rwsem":
            return name, spins
    return (slow[0] if slow else ""), spins


def above_lock(kernel_frames: Sequence[str], table: SymbolTable = _TABLE) -> tuple[str, ...]:
    """The raw frames above the lock's (and the scheduler's and tracepoint's) own functions: who wanted the lock.

    The whole stack where none of them is in it, or nothing is above them.
    """
    names = [table.canonical(frame) for frame in kernel_frames]
    depth = 0
    for own in (_is_scheduler_function, is_lock_function):
        while depth < len(names) and own(names[depth]):
            depth += 1
    return tuple(kernel_frames[depth:]) or tuple(kernel_frames)


def _is_scheduler_function(name: str) -> bool:
    return name in _SLEEP or name.startswith(("perf_trace_", "trace_", "__traceiter_", "__bpf_trace_"))


def is_lock_function(name: str) -> bool:
    """Whether a function, by canonical name, is a lock's own: it takes one, waits for it or spins."""
    return name in _SLOW_OF or name in _FAST_OF or name in _SPIN or name == "do_raw_spin_lock"


@dataclass(frozen=True)
class PhaseShare:
    """The stacks of one phase and driver, of those that wait and those that do not; `weight` in the event's unit."""

    phase: str
    driver: str
    waits_for: str
    samples: int
    weight: int


@dataclass(frozen=True)
class PhaseReport:
    """All stacks by phase, heaviest first; `placed_weight` of `migration_weight` were placed, the rest is UNPLACED."""

    shares: tuple[PhaseShare, ...]
    total_weight: int
    migration_weight: int
    unplaced_weight: int

    def weight(self, phase: str, *, waiting: bool | None = None) -> int:
        """The weight of a phase over all drivers; only that which waits for a lock, or does not, where asked."""
        return sum(
            share.weight
            for share in self.shares
            if share.phase == phase and (waiting is None or bool(share.waits_for) == waiting)
        )


def report(stacks: Iterable[Stack], table: SymbolTable = _TABLE) -> PhaseReport:
    """The shares of the phases over all stacks, those outside any migration included in the total only."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    places: dict[tuple[str, ...], Place] = {}
    for stack in stacks:
        where = places.get(stack.kernel)
        if where is None:
            where = places[stack.kernel] = place(stack.kernel, table)
        entry = sums.setdefault((where.phase, where.driver, where.waits_for), [0, 0])
        entry[0] += stack.samples
        entry[1] += stack.weight
    shares = [PhaseShare(*key, samples, weight) for key, (samples, weight) in sums.items()]
    shares.sort(key=lambda share: (-share.weight, share.phase, share.driver, share.waits_for))
    total = sum(share.weight for share in shares)
    outside = sum(share.weight for share in shares if share.phase == OUTSIDE)
    unplaced = sum(share.weight for share in shares if share.phase == UNPLACED)
    return PhaseReport(tuple(shares), total, total - outside, unplaced)


def in_phase(stacks: Iterable[Stack], phase: str, table: SymbolTable = _TABLE) -> tuple[Stack, ...]:
    """The stacks of one phase."""
    return tuple(stack for stack in stacks if place(stack.kernel, table).phase == phase)


_BATCHED, _ONE_BY_ONE = "512 pages, one flush for all", "one page"
# The first row of which the kernel has a name.
_RMAP_LOCK = (
    ("rwsem", ("folio_lock_anon_vma_read", "page_lock_anon_vma_read")),  # since v3.8
    ("mutex", ("lock_anon_vma_root",)),  # v3.0 to v3.7
    ("spinlock", ("page_lock_anon_vma",)),
)
_BATCHING = (
    (_BATCHED, ("migrate_pages_sync",)),  # since v6.3
    ("one page, in lists of 512", ("migrate_pages_batch",)),  # 6.1.y took the first half of the change only
    (_ONE_BY_ONE, ("unmap_and_move", "__unmap_and_move", "migrate_pages")),
)
_UNIT = (
    ("folio", ("move_to_new_folio", "folio_migrate_mapping")),
    ("page", ("move_to_new_page", "migrate_page_move_mapping")),
)
_UNMAP = (
    ("try_to_migrate", ("try_to_migrate", "try_to_migrate_one")),  # since v5.14
    ("try_to_unmap", ("try_to_unmap",)),
)
UNKNOWN_ERA = "unknown"


@dataclass(frozen=True)
class Era:
    """How a kernel migrates, read from the names it has; `unknown` where they do not tell.

    `rmap_lock` is the kind of lock that anon_vma has, `batching` how many pages are unmapped before the TLB is flushed,
    `unit` what is migrated (`page` or `folio`) and `unmap` the function that unmaps it.
    """

    rmap_lock: str
    batching: str
    unit: str
    unmap: str


def era(names: Iterable[str]) -> Era:
    """The era of a kernel by its raw function names, best those of kallsyms; the names seen in stacks tell less.

    Never by its version: 6.1.192 of Debian has migrate_pages_batch without the batched flush, 6.1.0 has neither.
    """
    present = {strip(name) for name in names}
    return Era(*(_first(present, rows) for rows in (_RMAP_LOCK, _BATCHING, _UNIT, _UNMAP)))


def _first(present: Collection[str], rows: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    return next((label for label, names in rows if any(name in present for name in names)), UNKNOWN_ERA)
