"""Which of the kernel's functions are counted to tell what a migration costs, by the names that this kernel has."""

from __future__ import annotations

import re

from numabench.perf.symbol_table import RENAMED
from numabench.perf.symbols import SymbolTable

# Canonical names (numabench.perf.symbols); what kernels called them otherwise, and with which suffixes, leads here.
# numabench.analysis.kernel_counts says what each of them stands for.
COUNTED = (
    *("rmap_walk_anon", "rmap_walk_locked", "folio_lock_anon_vma_read"),
    *("try_to_migrate_one", "try_to_unmap_one", "remove_migration_pte"),
    *("flush_tlb_mm_range", "arch_tlbbatch_flush"),
    *("migrate_pages", "change_prot_numa"),
    *("rwsem_down_read_slowpath", "rwsem_down_write_slowpath"),
    *("__mutex_lock_slowpath", "__mutex_lock_killable_slowpath", "__mutex_lock_interruptible_slowpath"),
    *("queued_spin_lock_slowpath", "queued_read_lock_slowpath", "queued_write_lock_slowpath"),
    *("__folio_lock", "__folio_lock_killable", "softleaf_entry_wait_on_locked"),
)
_TEXT_SYMBOL = re.compile(rb"^[0-9a-f]+ [tTwW] (\S+)$", re.MULTILINE)


def functions(kallsyms: bytes) -> tuple[str, ...]:
    """The raw names of the functions to count, of the kernel itself and not of modules, in the order of `COUNTED`."""
    # A function inside of a counted one is not counted once more.
    table = SymbolTable(RENAMED)
    wanted = {name: place for place, name in enumerate(COUNTED)}
    # The names that lead to a counted one are few: only those are worth normalising, of more than a hundred thousand.
    known = {former for name in COUNTED for former in (name, *table.former_names(name))}
    stems = re.compile("|".join(sorted(map(re.escape, known), key=len, reverse=True)))
    found = {}
    for match in _TEXT_SYMBOL.finditer(kallsyms):
        raw = match[1].decode("ascii", "replace")
        # A part that was split off is not entered where the function is.
        if ".cold" in raw or ".part." in raw or raw.startswith(("__pfx_", "__cfi_")) or not stems.search(raw):
            continue
        place = wanted.get(table.canonical(raw))
        if place is not None:
            found[raw] = place
    return tuple(sorted(found, key=lambda raw: (found[raw], raw)))
