"""Nodes: enough of them, with memory and CPUs, and free memory on each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from numabench.doctor import files
from numabench.doctor.finding import BIASES, BLOCKS, INFORMS, Finding, Fine
from numabench.drivers import catalog as drivers
from numabench.idset import format_ids
from numabench.units import KIB, MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen
    from numabench.host.topology import Node

NODES, MEMORY = "nodes", "free memory"
# Of a node's memory: beyond it the page cache is what a migration meets first.
CACHE_SHARE = 0.25
# The least free node against the one with most.
UNEVEN_SHARE = 0.5
# A run may use so much of what is free (experiment/plan.py).
USABLE_SHARE = 0.75
MIN_FREE_BYTES = 32 * MIB
_DROP_CACHES = "sync; echo 1 | sudo tee /proc/sys/vm/drop_caches"
_NODE_DOC = "Documentation/admin-guide/mm/numaperf.rst"


def check_nodes(context: Context) -> Iterator[Seen]:
    """Whether the nodes that a run is to have are there, and what those are that it will not have."""
    found = [*_too_few(context), *_one(context), *_without_memory(context), *_without_cpus(context)]
    yield from found
    usable = context.usable_nodes
    if not any(finding.code == "too-few-nodes" for finding in found):
        yield Fine(NODES, f"node {format_ids(node.id for node in usable)}: {len(usable)} with memory")


def lacks_nodes(context: Context) -> str:
    """Why the nodes do not serve, or nothing."""
    needs, usable = context.needs, {node.id for node in context.usable_nodes}
    if needs.node_ids:
        absent = sorted(set(needs.node_ids) - usable)
        return f"node {format_ids(absent)} is asked for, and {_beside(context)}" if absent else ""
    if len(usable) >= needs.node_count:
        return ""
    return f"{needs.node_count} nodes are needed, and {_beside(context)}"


def guest_serves(context: Context) -> bool:
    """Whether a run goes to a guest, which has nodes from 0 on up to the highest that is named."""
    return context.guest_lacks == () and bool(lacks_nodes(context)) and not _too_many(context)


def _too_many(context: Context) -> str:
    """Why no guest is large enough, or nothing."""
    needs, most = context.needs, context.most_guest_nodes
    wanted = max(needs.node_ids) + 1 if needs.node_ids else needs.node_count
    return f"{wanted} are needed, and the largest guest has {most}" if most is not None and wanted > most else ""


def _beside(context: Context) -> str:
    """What there is, and why other nodes are left out."""
    usable = [node.id for node in context.usable_nodes]
    have = f"this machine has {len(usable)} that can be used"
    have += f" (node {format_ids(usable)})" if usable else ""
    empty = [node.id for node in context.topology.nodes if not node.has_memory]
    outside = [
        node.id for node in context.topology.nodes if node.has_memory and node.id not in context.topology.allowed_nodes
    ]
    have += f"; node {format_ids(empty)} has no memory" if empty else ""
    return have + (f"; node {format_ids(outside)} is outside the cpuset" if outside else "")


def _too_few(context: Context) -> Iterator[Finding]:
    cause = lacks_nodes(context)
    if not cause:
        return
    if guest_serves(context):
        yield Finding(
            "too-few-nodes",
            BIASES,
            NODES,
            cause,
            "numabench run starts a virtual machine (QEMU) that has them, and runs there. What is counted is the "
            "kernel's own: pages moved and left, errors, locks, call graphs; times and rates are not real hardware's",
            "no command adds nodes. For counts run as it is; for times take a machine with two sockets, or use NUMA "
            "Nodes Per Socket (AMD) or Sub-NUMA Clustering (Intel) in the firmware",
            "docs/lab.md",
        )
        return
    lacking = (*(context.guest_lacks or ()), *([_too_many(context)] if _too_many(context) else ()))
    why = f"; nor can a guest serve: {'; '.join(lacking)}" if lacking else ""
    yield Finding(
        "too-few-nodes",
        BLOCKS,
        NODES,
        cause + why,
        "numabench run refuses: there is no other node to move pages to",
        _mend_too_few(context),
        "docs/lab.md",
    )


def _mend_too_few(context: Context) -> str:
    if _too_many(context):
        return f"ask for {context.most_guest_nodes} nodes at most, or for those that `numabench topology` shows"
    if context.guest_lacks:
        return "sudo apt-get install qemu-system-x86 busybox-static kmod binutils; pip install virtme-ng"
    return "ask for nodes that `numabench topology` shows, or run in a guest that has them: numabench run --lab"


def _one(context: Context) -> Iterator[Finding]:
    needs = context.needs
    if max(needs.node_count, len(needs.node_ids)) != 1 or needs.driver == drivers.NULL:
        return
    # experiment/drive.py, decide(): a run refuses it, in a guest, too.
    yield Finding(
        "one-node",
        BLOCKS if needs.is_driven else INFORMS,
        NODES,
        f"one node is asked for, and driver {needs.driver} would have it as source and target"
        if needs.is_driven
        else "one node is asked for",
        f"numabench run {needs.workload} refuses: a move from a node to itself moves nothing, and succeeds"
        if needs.is_driven
        else "no page can go anywhere else: a run shows the workload's time without migration, and no migration",
        "ask for two nodes or more: --nodes 2",
        "docs/drivers.md" if needs.is_driven else "docs/workloads.md",
    )


def _without_memory(context: Context) -> Iterator[Finding]:
    empty = [node.id for node in context.topology.nodes if not node.has_memory]
    if empty:
        yield Finding(
            "node-without-memory",
            INFORMS,
            NODES,
            f"node {format_ids(empty)} has no memory",
            "runs leave it out; what its CPUs allocate comes from another node, so that all their accesses are remote",
            "see the memory slots of its socket, or the firmware's memory settings",
            "Documentation/admin-guide/mm/numa_memory_policy.rst",
        )


def _without_cpus(context: Context) -> Iterator[Finding]:
    allowed = set(context.topology.allowed_cpus)
    bare = [node.id for node in context.usable_nodes if not allowed & set(node.cpus)]
    if not bare:
        return
    with_cpus = len(context.usable_nodes) - len(bare)
    named = set(context.needs.node_ids)
    has_nobody = not with_cpus or (bool(named) and named <= set(bare))
    is_taken = bool(named & set(bare)) or with_cpus < context.needs.node_count
    yield Finding(
        "node-without-cpus",
        BLOCKS if has_nobody else BIASES if is_taken else INFORMS,
        NODES,
        f"node {format_ids(bare)} has memory and no CPU that may be used",
        "no thread is local to it: balancing takes no page there by hint faults, and placements hard and inverse "
        "cannot bind threads to it; system calls move pages there all the same",
        "name nodes that have both: --nodes LIST (numabench topology shows them)",
        _NODE_DOC,
    )


def check_memory(context: Context) -> Iterator[Seen]:
    """Whether each node has room for what a run moves there."""
    nodes = context.served_nodes
    if not nodes or not all(node.memory_known for node in nodes):
        return
    found = [*_short(context, nodes), *_uneven(context, nodes), *_cached(context, nodes)]
    yield from found
    if not found:
        free = ", ".join(f"{format_bytes(node.free_bytes)} on node {node.id}" for node in nodes)
        yield Fine(MEMORY, free)


def _short(context: Context, nodes: tuple[Node, ...]) -> Iterator[Finding]:
    least = min(nodes, key=lambda node: node.free_bytes)
    usable_bytes = int(least.free_bytes * USABLE_SHARE)
    need_bytes = context.needs.memory_bytes
    if least.free_bytes < MIN_FREE_BYTES:
        yield Finding(
            "node-full",
            BLOCKS,
            MEMORY,
            f"node {least.id} has {format_bytes(least.free_bytes)} free",
            "pages that are to move there fail with ENOMEM, or something else is thrown out first",
            f"end what uses it (numastat -m), or drop the page cache: {_DROP_CACHES}",
            "move_pages(2)",
        )
    elif usable_bytes < need_bytes and not context.needs.has_set_knobs:
        yield Finding(
            "node-memory-short",
            INFORMS,
            MEMORY,
            f"{context.needs.workload} maps {format_bytes(need_bytes)}, and of the {format_bytes(least.free_bytes)} "
            f"free on node {least.id} a run may use {format_bytes(usable_bytes)}",
            "where all memory begins on that node, or goes there, the run is made smaller than its published size and "
            "is not to be compared with published figures",
            "begin elsewhere (--start-node), give a --size for all runs to be compared, or drop caches: "
            f"{_DROP_CACHES}",
            "docs/drivers.md",
        )


def _uneven(context: Context, nodes: tuple[Node, ...]) -> Iterator[Finding]:
    least, most = (pick(nodes, key=lambda node: node.free_bytes) for pick in (min, max))
    if least.free_bytes >= most.free_bytes * UNEVEN_SHARE or least is most:
        return
    # Where even the fuller node has room to spare, nothing is reclaimed on the way.
    has_room = least.free_bytes >= 4 * max(context.needs.memory_bytes, MIN_FREE_BYTES)
    yield Finding(
        "uneven-free-memory",
        INFORMS if has_room else BIASES,
        MEMORY,
        f"node {least.id} has {format_bytes(least.free_bytes)} free, node {most.id} {format_bytes(most.free_bytes)}",
        "pages that come to the fuller node wait for reclaim and compaction, the others do not: rates by direction "
        "differ for a reason that is not the direction",
        f"end what uses node {least.id} (numastat -m), or drop the page cache: {_DROP_CACHES}",
        "Documentation/mm/balance.rst",
    )


def _cached(context: Context, nodes: tuple[Node, ...]) -> Iterator[Finding]:
    cached = {node.id: cache_bytes(context, node.id) for node in nodes}
    full = [node for node in nodes if cached[node.id] > CACHE_SHARE * node.size_bytes]
    if full:
        told = ", ".join(
            f"{format_bytes(cached[node.id])} of node {node.id} ({cached[node.id] / node.size_bytes:.0%})"
            for node in full
        )
        yield Finding(
            "page-cache-on-node",
            BIASES,
            MEMORY,
            f"the page cache takes {told}",
            "balancing moves nothing to a node whose free memory is near its watermark, and does not reclaim for it; "
            "system calls reclaim first, which is in their time",
            f"numabench run --profile quiet ... drops it before the trials; or: {_DROP_CACHES}",
            "migrate_balanced_pgdat() in mm/migrate.c",
        )


def cache_bytes(context: Context, node: int) -> int:
    """The page cache on a node that can be dropped: without tmpfs and shared memory, which is counted with it."""
    text = context.root.read_or_none(f"/sys/devices/system/node/node{node}/meminfo") or ""
    fields = files.numbers(re.sub(rf"^Node {node} ", "", text, flags=re.MULTILINE), ":")
    return max(fields.get("FilePages", 0) - fields.get("Shmem", 0), 0) * KIB
