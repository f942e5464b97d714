"""How much of what was loaded came from another node's memory, by the processor's own counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numabench.perf.stat import Counted

# AMD Zen 3 and 4: fills of the data cache by where they came from (Processor Programming Reference, PMCx044).
_FILLS = (
    ("ls_any_fills_from_sys.mem_io_local", "ls_any_fills_from_sys.mem_io_remote"),
    ("ls_any_fills_from_sys.dram_io_near", "ls_any_fills_from_sys.dram_io_far"),
)
_LOADS, _LOAD_MISSES = "node-loads", "node-load-misses"


@dataclass(frozen=True)
class RemoteAccess:
    """The counts of a pass over all CPUs, and the share of loads from memory that went to another node.

    The share lies from `low_share` to `high_share`: whether node-loads includes node-load-misses is the processor's to
    say (it does on Intel's Sandy Bridge, from Haswell on it counts local loads alone: arch/x86/events/intel/core.c).
    """

    counts: tuple[Counted, ...]
    low_share: float | Missing
    high_share: float | Missing


def reduce(counts: Iterable[Counted]) -> RemoteAccess:
    """The remote access share of a pass."""
    rows = tuple(counts)
    known = {row.event: row.count for row in rows if row.count is not None}
    for local, remote in _FILLS:
        if local in known and remote in known and known[local] + known[remote]:
            share = known[remote] / (known[local] + known[remote])
            return RemoteAccess(rows, share, share)
    if _LOADS not in known or _LOAD_MISSES not in known:
        missing = Missing("this processor counts no loads by node")
        return RemoteAccess(rows, missing, missing)
    loads, misses = known[_LOADS], known[_LOAD_MISSES]
    if not loads + misses:
        none = Missing("nothing was loaded from memory")
        return RemoteAccess(rows, none, none)
    return RemoteAccess(rows, misses / (loads + misses), min(misses / loads, 1.0) if loads else 1.0)
