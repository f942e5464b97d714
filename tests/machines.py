"""Machines of several shapes, as a plan sees them."""

from __future__ import annotations

from numabench.host.topology import Node, NodeMasks, Topology
from numabench.units import GIB

NO_MASKS = NodeMasks(None, None, None, None, None, None)


def node(number: int, cpus: tuple[int, ...], size_bytes: int = 64 * GIB, free_bytes: int = 60 * GIB) -> Node:
    return Node(
        id=number,
        cpus=cpus,
        offline_cpus=(),
        memory_known=True,
        size_bytes=size_bytes,
        free_bytes=free_bytes if size_bytes else 0,
        huge_pages=(),
        memory_tier=None,
        access_classes=(),
    )


def machine(
    *nodes: Node, allowed_cpus: tuple[int, ...] | None = None, allowed_nodes: tuple[int, ...] | None = None
) -> Topology:
    cpus = tuple(sorted(cpu for each in nodes for cpu in each.cpus))
    return Topology(
        numa=True,
        nodes=nodes,
        distances=tuple(tuple(10 if a is b else 20 for b in nodes) for a in nodes),
        online_cpus=cpus,
        offline_cpus=(),
        present_cpus=cpus,
        possible_cpus=cpus,
        node_masks=NO_MASKS,
        limits_known=True,
        allowed_cpus=cpus if allowed_cpus is None else allowed_cpus,
        allowed_nodes=tuple(each.id for each in nodes) if allowed_nodes is None else allowed_nodes,
        packages=(),
    )


TWO = machine(node(0, (0, 1)), node(1, (2, 3)))
# The shape of a machine with a CXL node without CPUs, one with memory-less nodes, and no node 0.
SPARSE = machine(node(1, (0, 1)), node(4, ()), node(6, (2, 3), size_bytes=0), node(9, (4, 5)))
