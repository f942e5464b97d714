"""What migrating 2 MB cost the kernel, counted at its functions: reverse-map locks, TLB flushes, page-table walks.

The figures beside them are those of the linux-mm thread of 2012 (Ingo Molnar, 1 Dec 2012): the anon_vma lock taken 1024
times for 2 MB, 512 times to unmap and 512 times to remap, and the TLB flushed 512 times. Reading the lock shared came
in v3.8 (commit 4fc3f1d66b1e), one flush for a batch of pages in v6.3 ("migrate_pages: batch flushing TLB").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.perf.symbol_table import RENAMED
from numabench.perf.symbols import SymbolTable
from numabench.units import HUGE_2M

if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLE = SymbolTable(RENAMED)
THREAD_RMAP_LOCKS, THREAD_FLUSHES = 1024, 512
# The walk over an anonymous page's mappings takes anon_vma's lock once: to unmap through folio_lock_anon_vma_read, to
# remap itself (rmap_walk_anon_lock(), always inlined). Walks for other ends (folio_referenced) take it the first way,
# and those below rmap_walk_locked, when a huge page is split, have it already.
_WALK, _WALK_LOCKED, _UNMAP_LOCK = "rmap_walk_anon", "rmap_walk_locked", "folio_lock_anon_vma_read"
_FLUSHES = ("flush_tlb_mm_range", "arch_tlbbatch_flush")
# Since Linux kernel commit a98a2f0c8ce1 ("mm/rmap: split migration into its own function") (in v5.14).
_UNMAP_WALKS = ("try_to_migrate_one", "try_to_unmap_one")
_REMAP_WALK = "remove_migration_pte"
# What marks pages for a hinting fault, and flushes the TLB for it.
_MARKS = "change_prot_numa"
_SLOW_PATHS = (
    ("rwsem:R", ("rwsem_down_read_slowpath",)),
    ("rwsem:W", ("rwsem_down_write_slowpath",)),
    ("mutex", ("__mutex_lock_slowpath", "__mutex_lock_killable_slowpath", "__mutex_lock_interruptible_slowpath")),
    ("spinlock", ("queued_spin_lock_slowpath",)),
    ("rwlock:R", ("queued_read_lock_slowpath",)),
    ("rwlock:W", ("queued_write_lock_slowpath",)),
    # Not __folio_lock_or_retry, which calls one of these.
    ("page lock", ("__folio_lock", "__folio_lock_killable")),
    ("migration entry", ("softleaf_entry_wait_on_locked",)),
)


@dataclass(frozen=True)
class KernelCost:
    """Something that the kernel did, of the whole machine, and how often for each 2 MB (2 MiB) that it migrated.

    `parts` is what the total is made of; `in_2012` what the thread reported, None where it did not.
    """

    name: str
    total: int | Missing
    per_2mb: float | Missing
    in_2012: int | None
    parts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class SlowPath:
    """How often a lock of one class was not to be had at once, of the whole machine; spinning and sleeping alike.

    `per_2mb` is for each 2 MiB that the kernel migrated meanwhile.
    """

    lock_class: str
    entries: int | Missing
    per_2mb: float | Missing


@dataclass(frozen=True)
class KernelCounts:
    """What a pass counted."""

    costs: tuple[KernelCost, ...]
    slow_paths: tuple[SlowPath, ...]


def reduce(
    counts: Mapping[str, int | None], not_counted: Mapping[str, str], migrated_bytes: int | Missing
) -> KernelCounts:
    """The costs and the slow paths from counts by raw function names (None: perf did not count it).

    `not_counted` has the reasons for functions that could not be probed, `migrated_bytes` what was migrated meanwhile.
    """
    book = _book(counts, not_counted)
    costs = (
        _rmap_locks(book, migrated_bytes),
        _flushes(book, migrated_bytes),
        _walks(book, migrated_bytes),
        _cost("calls of migrate_pages", book, ("migrate_pages",), migrated_bytes, None),
        _cost("ranges marked for hint faults", book, (_MARKS,), migrated_bytes, None),
    )
    return KernelCounts(costs, _slow_paths(book, migrated_bytes))


def slow_paths(counts: Mapping[str, int | None], migrated_bytes: int | Missing) -> tuple[SlowPath, ...]:
    """The slow paths by class from counts by raw function names; none where no slow path is among these."""
    rows = _slow_paths(_book(counts, {}), migrated_bytes)
    return rows if any(not isinstance(row.entries, Missing) for row in rows) else ()


def _slow_paths(book: _Book, migrated_bytes: int | Missing) -> tuple[SlowPath, ...]:
    totals = ((name, book.total(functions)) for name, functions in _SLOW_PATHS)
    return tuple(SlowPath(name, total, _per_2mb(total, migrated_bytes)) for name, total in totals)


@dataclass(frozen=True)
class _Book:
    entries: Mapping[str, int]
    reasons: Mapping[str, str]

    def total(self, names: tuple[str, ...]) -> int | Missing:
        """The entries of those that the kernel has; the reason where it has none."""
        known = [self.entries[name] for name in names if name in self.entries]
        refused = [f"{name}: {self.reasons[name]}" for name in names if name in self.reasons]
        if refused:
            return Missing("; ".join(refused))
        return sum(known) if known else Missing(f"this kernel has no function {' or '.join(names)}")


def _book(counts: Mapping[str, int | None], not_counted: Mapping[str, str]) -> _Book:
    """The counts by canonical name."""
    entries: dict[str, int] = {}
    reasons = {_TABLE.canonical(raw): reason for raw, reason in not_counted.items()}
    for raw, count in counts.items():
        name = _TABLE.canonical(raw)
        if count is None:
            reasons[name] = "perf did not count it"
        else:
            entries[name] = entries.get(name, 0) + count
    return _Book(entries, reasons)


def _per_2mb(total: int | Missing, migrated_bytes: int | Missing) -> float | Missing:
    if isinstance(total, Missing):
        return total
    if isinstance(migrated_bytes, Missing):
        return migrated_bytes
    if migrated_bytes < HUGE_2M:
        return Missing("the kernel migrated less than 2 MB")
    return total / (migrated_bytes / HUGE_2M)


def _cost(
    name: str, book: _Book, functions: tuple[str, ...], migrated_bytes: int | Missing, in_2012: int | None
) -> KernelCost:
    total = book.total(functions)
    parts = tuple((function, book.entries[function]) for function in functions if function in book.entries)
    return KernelCost(name, total, _per_2mb(total, migrated_bytes), in_2012, parts if len(parts) > 1 else ())


def _rmap_locks(book: _Book, migrated_bytes: int | Missing) -> KernelCost:
    walks, unmap = book.total((_WALK,)), book.total((_UNMAP_LOCK,))
    if not isinstance(walks, Missing) and _WALK_LOCKED in book.reasons:
        walks = Missing(f"{_WALK_LOCKED}: {book.reasons[_WALK_LOCKED]}")
    if not isinstance(walks, Missing):
        # Also walks of files' pages are below it: where huge ones of these are split, this is a lower bound.
        walks = max(walks - book.entries.get(_WALK_LOCKED, 0), 0)
    parts: tuple[tuple[str, int], ...] = ()
    if not isinstance(walks, Missing) and not isinstance(unmap, Missing):
        parts = (("unmap", unmap), ("remap", max(walks - unmap, 0)))
    return KernelCost("rmap lock acquisitions", walks, _per_2mb(walks, migrated_bytes), THREAD_RMAP_LOCKS, parts)


def _flushes(book: _Book, migrated_bytes: int | Missing) -> KernelCost:
    """A kernel without the batched flush has none to add; one without the other has flushes that nobody counts."""
    mm_flush = book.total(_FLUSHES[:1])
    if isinstance(mm_flush, Missing):
        return KernelCost("TLB flushes", mm_flush, mm_flush, THREAD_FLUSHES)
    return _cost("TLB flushes", book, _FLUSHES, migrated_bytes, THREAD_FLUSHES)


def _walks(book: _Book, migrated_bytes: int | Missing) -> KernelCost:
    # One that the kernel has and that was not counted is not to be replaced by that of reclaim.
    unmap_walk = next((name for name in _UNMAP_WALKS if name in book.entries or name in book.reasons), _UNMAP_WALKS[0])
    unmap, remap = book.total((unmap_walk,)), book.total((_REMAP_WALK,))
    total: int | Missing = remap
    parts: tuple[tuple[str, int], ...] = ()
    if isinstance(unmap, Missing):
        total = unmap
    elif not isinstance(remap, Missing):
        total, parts = unmap + remap, (("unmap", unmap), ("remap", remap))
    return KernelCost("page-table walks", total, _per_2mb(total, migrated_bytes), None, parts)
