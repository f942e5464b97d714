"""The machines a guest can be: nodes with their memory, CPUs and distances (ACPI SRAT and SLIT, as QEMU makes them)."""

from __future__ import annotations

from dataclasses import dataclass

from numabench.errors import UsageError
from numabench.host import topology as host_topology
from numabench.host.topology import Topology
from numabench.idset import format_ids
from numabench.units import GIB, KIB, MIB

LOCAL = 10
NEAR = 20
FAR = 30
MIN_NODE_BYTES = 256 * MIB


@dataclass(frozen=True)
class Node:
    """One node: `memory_bytes` 0 makes it memory-less, no `cpus` make it CPU-less."""

    memory_bytes: int
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """A machine to emulate. `distances[i][j]` is what node i's `distance` file says of node j."""

    name: str
    nodes: tuple[Node, ...]
    distances: tuple[tuple[int, ...], ...]

    @property
    def memory_bytes(self) -> int:
        """Memory of all nodes."""
        return sum(node.memory_bytes for node in self.nodes)

    @property
    def cpu_count(self) -> int:
        """CPUs of all nodes."""
        return sum(len(node.cpus) for node in self.nodes)

    def topology(self) -> Topology:
        """What a guest of this shape shows at most: its kernel has not taken of the memory yet, which is all free."""
        cpus = tuple(range(self.cpu_count))
        return Topology(
            numa=True,
            nodes=tuple(_shown(number, node) for number, node in enumerate(self.nodes)),
            distances=self.distances,
            online_cpus=cpus,
            offline_cpus=(),
            present_cpus=cpus,
            possible_cpus=cpus,
            node_masks=host_topology.NodeMasks(None, None, None, None, None, None),
            limits_known=True,
            allowed_cpus=cpus,
            allowed_nodes=tuple(number for number, node in enumerate(self.nodes) if node.memory_bytes),
            packages=(),
        )

    def options(self) -> tuple[str, ...]:
        """The shape as options of `virtme-run` (each node a socket, so that no cache spans two nodes)."""
        sockets = sum(1 for node in self.nodes if node.cpus)
        cores = self.cpu_count // sockets
        options = [
            f"--memory={self.memory_bytes // KIB}K",
            f"--cpus={self.cpu_count},sockets={sockets},cores={cores},threads=1",
        ]
        for node in self.nodes:
            memory = f"{node.memory_bytes // KIB}K" if node.memory_bytes else "0"
            cpus = f",cpus={format_ids(node.cpus)}" if node.cpus else ""
            options.append(f"--numa={memory}{cpus}")
        for here, row in enumerate(self.distances):
            for there, distance in enumerate(row):
                if here != there:
                    options.append(f"--numa-distance=src={here},dst={there},val={distance}")
        return tuple(options)


def _shown(number: int, node: Node) -> host_topology.Node:
    return host_topology.Node(
        id=number,
        cpus=node.cpus,
        offline_cpus=(),
        memory_known=True,
        size_bytes=node.memory_bytes,
        free_bytes=node.memory_bytes,
        huge_pages=(),
        memory_tier=None,
        access_classes=(),
    )


def _ring(count: int) -> tuple[tuple[int, ...], ...]:
    """Neighbours on a ring are near, all others far."""
    return tuple(
        tuple(
            LOCAL if here == there else NEAR if (here - there) % count in {1, count - 1} else FAR
            for there in range(count)
        )
        for here in range(count)
    )


def _two_groups(count: int) -> tuple[tuple[int, ...], ...]:
    """Nodes of one half are near each other, the other half is far."""
    half = count // 2
    return tuple(
        tuple(LOCAL if here == there else NEAR if here // half == there // half else FAR for there in range(count))
        for here in range(count)
    )


def _even(name: str, count: int, memory_bytes: int, cpus_per_node: int) -> Shape:
    nodes = tuple(
        Node(memory_bytes, tuple(range(first, first + cpus_per_node)))
        for first in range(0, count * cpus_per_node, cpus_per_node)
    )
    return Shape(name, nodes, _two_groups(count) if count > 4 else _ring(count))


def _cpuless(memory_bytes: int, cpus_per_node: int) -> Shape:
    """Two ordinary nodes and one of memory alone, as CXL memory expanders are seen."""
    even = _even("cpuless", 2, memory_bytes, cpus_per_node)
    return Shape("cpuless", (*even.nodes, Node(memory_bytes, ())), _ring(3))


def _memless(memory_bytes: int, cpus_per_node: int) -> Shape:
    """Two ordinary nodes and one of CPUs alone."""
    even = _even("memless", 3, memory_bytes, cpus_per_node)
    return Shape("memless", (*even.nodes[:2], Node(0, even.nodes[2].cpus)), _ring(3))


# Nodes of the largest that `shape_for` gives.
MOST_NODES = 8
NAMES = ("1n", "2n", "4n", "8n", "cpuless", "memless")


def shape(name: str, *, memory_per_node_bytes: int | None = None, cpus_per_node: int = 1) -> Shape:
    """The shape of that name, with 1 GiB per node (8n: 512 MiB) unless told otherwise.

    Raises `UsageError` for a name not in `NAMES`, for nodes below 256 MiB or not of whole MiB (a kernel's memory
    sections are 128 MiB, and the kernel itself must fit), and for less than one CPU.
    """
    if name not in NAMES:
        raise UsageError(f"there is no topology '{name}'", "choose from " + ", ".join(NAMES))
    memory_bytes = memory_per_node_bytes or (512 * MIB if name == "8n" else GIB)
    if memory_bytes < MIN_NODE_BYTES or memory_bytes % MIB:
        raise UsageError(f"a guest's node cannot have {memory_bytes} bytes", "give it whole MiB, at least 256M")
    if cpus_per_node < 1:
        raise UsageError("a guest's node needs at least one CPU", "memory without CPUs is the topology cpuless")
    if name == "cpuless":
        return _cpuless(memory_bytes, cpus_per_node)
    if name == "memless":
        return _memless(memory_bytes, cpus_per_node)
    return _even(name, int(name.removesuffix("n")), memory_bytes, cpus_per_node)


def shape_for(nodes: int, *, memory_per_node_bytes: int | None = None, cpus_per_node: int = 1) -> Shape:
    """The smallest shape with at least so many nodes that have both memory and CPUs.

    Raises `UsageError` above 8 nodes.
    """
    for name in ("1n", "2n", "4n", "8n"):
        if int(name.removesuffix("n")) >= nodes:
            return shape(name, memory_per_node_bytes=memory_per_node_bytes, cpus_per_node=cpus_per_node)
    raise UsageError(f"no guest has {nodes} nodes", "the largest topology is 8n")
