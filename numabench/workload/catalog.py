"""Which workloads there are: their published constants, and what they need of a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from numabench.errors import UsageError
from numabench.units import GIB, MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

MIGRATION_NODES = 2


class NodeFacts(Protocol):
    """What is to be known of a node: what of it the caller may use."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def has_cpus(self) -> bool:
        """Whether threads can run on it."""

    @property
    def has_memory(self) -> bool:
        """Whether pages can lie on it."""

    @property
    def free_bytes(self) -> int:
        """Memory that nobody uses."""


@dataclass(frozen=True)
class Workload:
    """A C program in `workloads/` with the constants that its authors published.

    `cpus_per_thread` is their rule for threads: CPUs of the run for each thread of a process. `bound_by` says what the
    placements hard and inverse give nodes to: a "process" gets half of them, a "thread" one.

    A workload that is driven takes drivers, movers and victims, and its threads are the movers; one with a family takes
    the options of families, too. `emulated_s` is for how long it runs where CPUs are emulated, unless told otherwise:
    these store a hundred times slower, and the loops would take hours.
    """

    name: str
    summary: str
    source: str
    processes: int
    size_bytes: int
    loops: int
    cpus_per_thread: int
    bound_by: str
    origin: str
    is_driven: bool = False
    has_family: bool = False
    emulated_s: float = 25.0

    def threads(self, cpus: int) -> int:
        """Threads per process on that many CPUs, by the published rule; one mover where it is driven."""
        return 1 if self.is_driven else max(cpus // self.cpus_per_thread, 1)

    @property
    def memory_bytes(self) -> int:
        """What all processes map together, at the published size."""
        return self.processes * self.size_bytes


AUTONUMA = "autonuma-benchmark"
NUMABENCH = "numabench's own, with its own constants"
_REPORT_2012 = "the memset threads of the 2012 report to linux-mm, which gave no constants: these are numabench's"

WORKLOADS = (
    Workload(
        name="numa01",
        summary="two processes start on one node; each thread stores to all of its process's memory",
        source="numa01.c",
        processes=2,
        size_bytes=3 * GIB,
        loops=50,
        cpus_per_thread=2,
        bound_by="process",
        origin=AUTONUMA,
    ),
    Workload(
        name="numa01-thread-alloc",
        summary="two processes start on one node; each thread stores to its share of its process's memory",
        source="numa01-thread-alloc.c",
        processes=2,
        size_bytes=3 * GIB,
        loops=1000,
        cpus_per_thread=2,
        bound_by="process",
        origin=AUTONUMA,
    ),
    Workload(
        name="numa02",
        summary="a thread for each CPU stores to its share of one mapping, first touched by the main thread",
        source="numa02.c",
        processes=1,
        size_bytes=GIB,
        loops=800,
        cpus_per_thread=1,
        bound_by="thread",
        origin=AUTONUMA,
    ),
    Workload(
        name="numa02-smt",
        summary="numa02 with a thread for every second CPU",
        source="numa02-smt.c",
        processes=1,
        size_bytes=GIB,
        loops=800,
        cpus_per_thread=2,
        bound_by="thread",
        origin=AUTONUMA,
    ),
    Workload(
        name="memset",
        summary="a thread for each CPU stores to its share of memory that starts on one node, in one mapping or many",
        source="memset.c",
        processes=1,
        size_bytes=GIB,
        loops=800,
        cpus_per_thread=1,
        bound_by="thread",
        origin=_REPORT_2012,
    ),
    Workload(
        name="pingpong",
        summary="movers send memory from node to node by a driver, while victims touch it",
        source="pingpong.c",
        processes=1,
        size_bytes=256 * MIB,
        loops=100,
        cpus_per_thread=1,
        bound_by="thread",
        origin=NUMABENCH,
        is_driven=True,
        emulated_s=5.0,
    ),
    Workload(
        name="forktree",
        summary="movers send memory that generations of children map, too, while these fork, remap and write",
        source="forktree.c",
        processes=1,
        size_bytes=64 * MIB,
        loops=20,
        cpus_per_thread=1,
        bound_by="thread",
        origin=NUMABENCH,
        is_driven=True,
        has_family=True,
        emulated_s=5.0,
    ),
)


def find(name: str) -> Workload:
    """The workload of that name. Raises `UsageError` with the names there are, and the one that was likely meant."""
    for spec in WORKLOADS:
        if spec.name == name:
            return spec
    import difflib

    names = [spec.name for spec in WORKLOADS]
    close = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise UsageError(
        f"there is no workload '{name}'",
        f"{meant}There are {', '.join(names)}; a program of your own goes after '--'",
    )


def requirements(
    spec: Workload,
    nodes: Sequence[NodeFacts],
    *,
    placement: str = "default",
    size_bytes: int = 0,
    start_node: int | None = None,
) -> tuple[str, ...]:
    """Why the nodes do not serve for migration with this workload, one sentence each; none when they do.

    `size_bytes` is what each process maps; 0: whatever fits. `start_node` is where `default` puts it all at first.
    """
    with_memory = [node for node in nodes if node.has_memory]
    reasons = []
    if len(with_memory) < MIGRATION_NODES:
        reasons.append(f"needs {MIGRATION_NODES} memory nodes, this machine has {len(with_memory)}")
    if not any(node.has_cpus for node in nodes):
        reasons.append("needs CPUs, and the nodes have none that the caller may use")
    if placement != "default":
        reasons += _lacking_for_binds(spec, nodes, placement)
    elif start_node is not None:
        reasons += _lacking_room([node for node in nodes if node.id == start_node], spec.processes * size_bytes)
    else:
        reasons += _lacking_room(with_memory, spec.processes * size_bytes)
    if placement != "default" and size_bytes:
        reasons += _lacking_room_for_binds(spec, nodes, placement, size_bytes)
    return tuple(reasons)


def _groups(spec: Workload, nodes: Sequence[NodeFacts]) -> list[Sequence[NodeFacts]]:
    """The nodes as hard and inverse share them out."""
    if spec.bound_by == "thread":
        return [[node] for node in nodes]
    half = len(nodes) // 2
    return [nodes[:half], nodes[half:]]


def _ids(nodes: Sequence[NodeFacts]) -> str:
    from numabench.idset import format_ids

    return format_ids(node.id for node in nodes)


def _lacking_for_binds(spec: Workload, nodes: Sequence[NodeFacts], placement: str) -> list[str]:
    if spec.bound_by == "process" and len(nodes) % 2:
        return [f"placement {placement} halves the nodes and needs an even number, not {len(nodes)}"]
    reasons = []
    for group in _groups(spec, nodes):
        if not any(node.has_cpus for node in group):
            reasons.append(f"placement {placement} needs CPUs on node {_ids(group)}")
        if not any(node.has_memory for node in group):
            reasons.append(f"placement {placement} needs memory on node {_ids(group)}")
    return reasons


def _lacking_room(nodes: Sequence[NodeFacts], need_bytes: int) -> list[str]:
    free_bytes = sum(node.free_bytes for node in nodes if node.has_memory)
    if free_bytes >= need_bytes:
        return []
    return [f"needs {format_bytes(need_bytes)} on node {_ids(nodes)}, which has {format_bytes(free_bytes)} free"]


def _lacking_room_for_binds(spec: Workload, nodes: Sequence[NodeFacts], placement: str, size_bytes: int) -> list[str]:
    groups = _groups(spec, nodes)
    if spec.bound_by == "thread":
        return [reason for group in groups for reason in _lacking_room(group, size_bytes // len(groups))]
    if placement == "inverse-compat":
        return _lacking_room(groups[1], spec.processes * size_bytes)
    return [reason for group in groups for reason in _lacking_room(group, size_bytes)]
