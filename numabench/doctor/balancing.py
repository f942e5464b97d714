"""Who migrates pages besides the run: automatic balancing, tiering, and what moves them already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor.finding import BIASES, BLOCKS, INFORMS, RUN_SETS_IT, Finding, Fine, by_state
from numabench.drivers import catalog as drivers
from numabench.idset import format_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen

BALANCING, MIGRATION = "balancing", "migration now"
KNOB = "kernel.numa_balancing"
_SOURCE = "Documentation/admin-guide/sysctl/kernel.rst"
_TIERING = 2
# 1 MB/s: balancing may take that much of whoever asks.
MIN_PAGES_PER_S = 256


def check_balancing(context: Context) -> Iterator[Seen]:
    """Whether automatic balancing is there, and as the run needs it."""
    value = context.knobs.get(KNOB)
    found = [*_absent(context, value), *_setting(context, value), *_tiers(context, value)]
    yield from found
    if not found:
        yield Fine(BALANCING, f"{KNOB} {value}" + ("" if context.needs.has_set_knobs else "; runs set what they need"))


def _absent(context: Context, value: str | None) -> Iterator[Finding]:
    if value is None:
        yield Finding(
            "no-balancing",
            BLOCKS if context.needs.driver == drivers.AUTONUMA else INFORMS,
            BALANCING,
            f"this kernel has no {KNOB}",
            "it never migrates by itself: workloads that wait for that (numa01, numa02, memset) cannot be run; "
            "drivers can",
            "boot a kernel with CONFIG_NUMA_BALANCING, run in a guest (--lab), or take a driver: numabench run "
            "pingpong",
            _SOURCE,
        )


def _setting(context: Context, value: str | None) -> Iterator[Finding]:
    """What a run could not set for itself, or was told to leave alone."""
    needs = context.needs
    if value is None or not needs.has_set_knobs:
        return
    if needs.driver == drivers.AUTONUMA and value == "0":
        yield Finding(
            "balancing-off",
            BIASES,
            BALANCING,
            f"{KNOB} is 0",
            "the kernel is not asked to migrate anything: the run will not be valid",
            f"leave out --no-tune and --balancing 0, run as root, or: sudo sysctl {KNOB}=1",
            _SOURCE,
        )
    if needs.driver != drivers.AUTONUMA and value != "0":
        yield Finding(
            "balancing-on",
            BIASES,
            BALANCING,
            f"{KNOB} is {value}",
            "the kernel moves pages, too, and marks them for hint faults, while the driver does",
            f"leave out --no-tune, run as root, or: sudo sysctl {KNOB}=0",
            _SOURCE,
        )


def _tiers(context: Context, value: str | None) -> Iterator[Finding]:
    if value is not None and value.isdecimal() and int(value) & _TIERING:
        yield Finding(
            "tiering-on",
            INFORMS if context.is_left_to_run else BIASES,
            BALANCING,
            f"{KNOB} is {value}: hot pages are promoted to faster memory",
            "pages migrate by how often they are used, not by who uses them, and up to a rate limit",
            RUN_SETS_IT
            if context.is_left_to_run
            else f"{by_state(KNOB, '1')}; leave it where tiering is what is measured",
            _SOURCE,
        )
    if context.knobs.get("mm.numa.demotion_enabled", "0").lower() in {"1", "true"}:
        tiers = {node.memory_tier for node in context.topology.nodes if node.memory_tier is not None}
        is_tiered = len(tiers) > 1
        yield Finding(
            "demotion-on",
            BIASES if is_tiered and not context.is_left_to_run else INFORMS,
            BALANCING,
            "mm.numa.demotion_enabled is on" + ("" if is_tiered else ", and all nodes are in one tier"),
            "reclaim moves pages to a slower node instead of dropping them, which is counted as migration",
            RUN_SETS_IT if context.is_left_to_run else by_state("mm.numa.demotion_enabled", "false"),
            "Documentation/ABI/testing/sysfs-kernel-mm-numa",
        )
    slow = _slower_nodes(context)
    if slow:
        yield Finding(
            "several-memory-tiers",
            INFORMS,
            BALANCING,
            f"node {format_ids(slow)} is in a slower memory tier than others",
            "a migration to it and one from it do not take the same time, and balancing treats both differently",
            "choose nodes of one tier: --nodes LIST (numabench topology shows tiers)",
            "Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers",
        )


def _slower_nodes(context: Context) -> list[int]:
    tiers = {node.id: node.memory_tier for node in context.served_nodes if node.memory_tier is not None}
    return [node for node, tier in tiers.items() if tier > min(tiers.values())]


def check_migration(context: Context) -> Iterator[Seen]:
    """Whether pages are being migrated while nothing was asked for."""
    sample = context.sample
    migrated, balanced = sample.counted("pgmigrate_success"), sample.counted("numa_pages_migrated")
    scanned = sample.counted("compact_migrate_scanned")
    if not sample.elapsed_s or not sample.after.vmstat:
        return
    most = max(migrated, balanced)
    if most < MIN_PAGES_PER_S * sample.elapsed_s:
        yield Fine(MIGRATION, f"{most:,} pages in {sample.elapsed_s:.2g} s")
        return
    by = f", {balanced:,} of them by balancing" if balanced else ""
    compacted = "; memory is being compacted" if scanned else ""
    yield Finding(
        "already-migrating",
        BIASES,
        MIGRATION,
        f"{most:,} pages migrated in {sample.elapsed_s:.2g} s{by}{compacted}",
        "the kernel's counts of a run have the others' pages, too, and its locks and memory bandwidth are shared with "
        "them",
        "end what has just allocated or moved much memory (pidstat -r 1), wait, or for balancing: "
        f"sudo sysctl {KNOB}=0",
        "Documentation/mm/page_migration.rst",
    )
