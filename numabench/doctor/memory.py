"""How memory is managed: swap, huge pages, merging, reclaim, and what counts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor import files
from numabench.doctor.finding import BIASES, INFORMS, RUN_SETS_IT, WITH_QUIET, Finding, Fine, by_state
from numabench.units import KIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen

SWAP, MANAGEMENT = "swap", "memory management"
_KSM = "/sys/kernel/mm/ksm"


def check_swap(context: Context) -> Iterator[Seen]:
    """Whether pages may go to swap instead of to a node."""
    fields = files.numbers(context.root.read_or_none("/proc/meminfo"), ":")
    if "SwapTotal" not in fields:
        return
    total_bytes = fields["SwapTotal"] * KIB
    used_bytes = total_bytes - fields.get("SwapFree", 0) * KIB
    if not total_bytes:
        yield Fine(SWAP, "none")
        return
    moving = context.sample.counted("pswpin") + context.sample.counted("pswpout")
    now = f", and {moving:,} pages went in or out in {context.sample.elapsed_s:.1f} s" if moving else ""
    yield Finding(
        "swap-on",
        BIASES,
        SWAP,
        f"{format_bytes(total_bytes)} of swap are on, {format_bytes(used_bytes)} in use{now}",
        "where a node runs short its pages go to swap instead of to a node: they are missing from what was migrated, "
        "and their way to the disk and back is in the times",
        "sudo swapoff -a (back: sudo swapon -a)",
        "Documentation/admin-guide/sysctl/vm.rst",
    )


def check_management(context: Context) -> Iterator[Seen]:
    """Huge pages, merging, reclaim of zones, overcommitment, frozen counters."""
    found = [*_thp(context), *_ksm(context), *_reclaim(context), *_overcommit(context), *_frozen(context)]
    yield from found
    if not found:
        thp = context.knobs.get("thp.enabled", "absent")
        yield Fine(MANAGEMENT, f"THP {thp}, no pages are merged, no zones are reclaimed first")


def _thp(context: Context) -> Iterator[Finding]:
    if context.knobs.get("thp.enabled") == "always" and context.needs.balances:
        yield Finding(
            "thp-always",
            BIASES,
            MANAGEMENT,
            "transparent huge pages are used everywhere (always)",
            "how much memory is in pages of 2 MiB is luck, and differs from run to run: one huge page migrates as 512 "
            "at once, and khugepaged migrates pages, too, while it makes them",
            "numabench run --thp never (or --thp always) chooses for its own memory; for all: "
            + by_state("thp.enabled", "madvise"),
            "Documentation/admin-guide/mm/transhuge.rst",
        )


def _ksm(context: Context) -> Iterator[Finding]:
    if context.knobs.get("ksm.run") != "1":
        return
    shared = files.number(context.root, f"{_KSM}/pages_sharing")
    across = context.knobs.get("ksm.merge_across_nodes")
    yield Finding(
        "ksm-running",
        INFORMS if context.is_left_to_run else BIASES,
        MANAGEMENT,
        "equal pages are being merged (ksmd)" + (f": {shared:,} pages share others" if shared else ""),
        "ksmd takes CPU time and mmap_lock; merged pages are not moved without MPOL_MF_MOVE_ALL"
        + (", and come from any node" if across == "1" else ""),
        RUN_SETS_IT if context.is_left_to_run else by_state("ksm.run", "0"),
        "Documentation/admin-guide/mm/ksm.rst",
    )


def _reclaim(context: Context) -> Iterator[Finding]:
    mode = context.knobs.get("vm.zone_reclaim_mode", "0")
    if mode != "0":
        yield Finding(
            "zone-reclaim",
            BIASES,
            MANAGEMENT,
            f"vm.zone_reclaim_mode is {mode}",
            "a full node reclaims its page cache before memory is taken elsewhere: first touches are slower, and lie "
            "otherwise than on most machines",
            WITH_QUIET,
            "Documentation/admin-guide/sysctl/vm.rst",
        )


def _overcommit(context: Context) -> Iterator[Finding]:
    if context.knobs.get("vm.overcommit_memory") != "2":
        return
    fields = files.numbers(context.root.read_or_none("/proc/meminfo"), ":")
    left_bytes = (fields.get("CommitLimit", 0) - fields.get("Committed_AS", 0)) * KIB
    yield Finding(
        "overcommit-strict",
        BIASES if left_bytes < context.needs.memory_bytes else INFORMS,
        MANAGEMENT,
        f"vm.overcommit_memory is 2, and {format_bytes(max(left_bytes, 0))} can still be promised",
        "mappings beyond that fail with ENOMEM, however much memory is free; forked families promise theirs once each",
        by_state("vm.overcommit_memory", "0"),
        "Documentation/mm/overcommit-accounting.rst",
    )


def _frozen(context: Context) -> Iterator[Finding]:
    if context.knobs.get("vm.numa_stat") == "0":
        yield Finding(
            "numastat-frozen",
            INFORMS if context.is_left_to_run else BIASES,
            MANAGEMENT,
            "vm.numa_stat is 0",
            "numa_hit, numa_miss and their like stand still: what nodes allocated is not known",
            RUN_SETS_IT if context.is_left_to_run else by_state("vm.numa_stat", "1"),
            "Documentation/admin-guide/sysctl/vm.rst",
        )
