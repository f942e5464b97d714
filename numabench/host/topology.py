"""Nodes, CPUs, memory and distances, as sysfs shows them.

Sources: Documentation/ABI/stable/sysfs-devices-node, Documentation/ABI/testing/sysfs-devices-system-cpu,
Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers, Documentation/admin-guide/mm/numaperf.rst, proc_pid_status(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.errors import UsageError
from numabench.host.root import LIVE
from numabench.idset import format_ids, parse_ids
from numabench.units import KIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.host.root import Root

NODES = "/sys/devices/system/node"
CPUS = "/sys/devices/system/cpu"
TIERS = "/sys/devices/virtual/memory_tiering"
HUGE_PAGES = "/sys/kernel/mm/hugepages"

_ID_SETS = ("online_cpus", "offline_cpus", "present_cpus", "possible_cpus", "allowed_cpus", "allowed_nodes")


@dataclass(frozen=True)
class HugePages:
    """The pool of huge pages of one size."""

    page_bytes: int
    total: int
    free: int


@dataclass(frozen=True)
class AccessClass:
    """How the best initiators reach a node's memory (firmware's HMAT; numaperf.rst). None: firmware does not say.

    Class 0 takes any initiator, class 1 only nodes with CPUs.
    """

    number: int
    initiators: tuple[int, ...]
    read_latency_ns: int | None
    write_latency_ns: int | None
    read_bandwidth_mb_per_s: int | None
    write_bandwidth_mb_per_s: int | None


@dataclass(frozen=True)
class Node:
    """One NUMA node. `cpus` are its online CPUs; `offline_cpus` are those the kernel still links to it.

    Where `memory_known` is false (its meminfo could not be read) the sizes are 0. `memory_tier` is the kernel's number,
    smaller is faster; None where the kernel has no tiers or the node is in none.
    """

    id: int
    cpus: tuple[int, ...]
    offline_cpus: tuple[int, ...]
    memory_known: bool
    size_bytes: int
    free_bytes: int
    huge_pages: tuple[HugePages, ...]
    memory_tier: int | None
    access_classes: tuple[AccessClass, ...]

    @property
    def has_cpus(self) -> bool:
        """Whether a thread can run here now."""
        return bool(self.cpus)

    @property
    def has_memory(self) -> bool:
        """Whether pages can be here now. A node in the kernel's has_memory mask may still have a size of 0."""
        return self.size_bytes > 0


@dataclass(frozen=True)
class NodeMasks:
    """The kernel's node masks (node_states), None where it has no such mask."""

    online: tuple[int, ...] | None
    possible: tuple[int, ...] | None
    has_cpu: tuple[int, ...] | None
    has_memory: tuple[int, ...] | None
    has_normal_memory: tuple[int, ...] | None
    has_generic_initiator: tuple[int, ...] | None


@dataclass(frozen=True)
class Package:
    """A socket: its cores, each a tuple of the online CPUs that share it. `id` is -1 where the kernel names none."""

    id: int
    cores: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Topology:
    """A machine. `distances` has a row and a column for each of `nodes`, in order; None where the kernel gives none.

    `numa` is false for a kernel without /sys/devices/system/node: its one node 0 is made from /proc/meminfo.
    `allowed_cpus` and `allowed_nodes` are what the caller's affinity and cpuset leave of what is online; where
    `limits_known` is false (a captured tree without /proc/self/status) they are everything online.
    """

    numa: bool
    nodes: tuple[Node, ...]
    distances: tuple[tuple[int | None, ...], ...]
    online_cpus: tuple[int, ...]
    offline_cpus: tuple[int, ...]
    present_cpus: tuple[int, ...]
    possible_cpus: tuple[int, ...]
    node_masks: NodeMasks
    limits_known: bool
    allowed_cpus: tuple[int, ...]
    allowed_nodes: tuple[int, ...]
    packages: tuple[Package, ...]

    def distance(self, source: int, target: int) -> int | None:
        """The distance from one node to another by their ids (10: local), None where the kernel gives none.

        Raises `KeyError` for a node that is not there.
        """
        place = {node.id: index for index, node in enumerate(self.nodes)}
        return self.distances[place[source]][place[target]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values under the names of the fields; units are in the names.

        Sets of CPUs and of nodes are in the kernel's list format ("0-3,8", "" for none), as are `packages[].cores[]`;
        `distances` is a list of rows. What is None here is null there.
        """
        return {
            "numa": self.numa,
            "nodes": [_node_to_json(node) for node in self.nodes],
            "distances": [list(row) for row in self.distances],
            **{name: format_ids(getattr(self, name)) for name in _ID_SETS},
            "node_masks": {
                name: None if mask is None else format_ids(mask) for name, mask in vars(self.node_masks).items()
            },
            "limits_known": self.limits_known,
            "packages": [
                {"id": package.id, "cores": [format_ids(core) for core in package.cores]} for package in self.packages
            ],
        }


def from_json(shown: Mapping[str, Any]) -> Topology:
    """The topology that `Topology.to_json` wrote. Raises `KeyError`, `TypeError` or `UsageError` for anything else."""
    return Topology(
        numa=shown["numa"],
        nodes=tuple(_node_from_json(node) for node in shown["nodes"]),
        distances=tuple(tuple(row) for row in shown["distances"]),
        node_masks=NodeMasks(**{name: _ids_or_none(mask) for name, mask in shown["node_masks"].items()}),
        limits_known=shown["limits_known"],
        packages=tuple(
            Package(package["id"], tuple(parse_ids(core) for core in package["cores"])) for package in shown["packages"]
        ),
        **{name: parse_ids(shown[name]) for name in _ID_SETS},
    )


def read(root: Root = LIVE, pid: str = "self") -> Topology:
    """The machine below `root`, with the limits of process `pid`.

    What the kernel does not show, or shows torn (a node that goes away while it is read), is None, 0 or empty as the
    classes say. Raises `UsageError` where there is neither a CPU nor a node to be found.
    """
    online_cpus = _online_cpus(root)
    nodes = _nodes(root, online_cpus)
    if not nodes and not online_cpus and root.read_or_none("/proc/meminfo") is None:
        raise UsageError(f"{root.directory} has neither nodes nor CPUs below sys, nor proc/meminfo")
    numa = bool(nodes)
    nodes = nodes or (_node_without_numa(root, online_cpus),)
    present_cpus = _id_list(root, f"{CPUS}/present") or root.numbers(CPUS, "cpu") or online_cpus
    status = _fields(root.read_or_none(f"/proc/{pid}/status") or "")
    cpus, mems = _ids_or_none(status.get("Cpus_allowed_list")), _ids_or_none(status.get("Mems_allowed_list"))
    node_ids = tuple(node.id for node in nodes)
    return Topology(
        numa=numa,
        nodes=nodes,
        distances=_distances(root, node_ids) if numa else ((10,),),
        online_cpus=online_cpus,
        offline_cpus=_without(present_cpus, online_cpus),
        present_cpus=present_cpus,
        possible_cpus=_id_list(root, f"{CPUS}/possible") or present_cpus,
        node_masks=NodeMasks(
            **{name: _id_list(root, f"{NODES}/{name}") for name in NodeMasks.__dataclass_fields__},
        ),
        limits_known=cpus is not None,
        allowed_cpus=_common(online_cpus, cpus),
        allowed_nodes=_common(node_ids, mems),
        packages=_packages(root, online_cpus),
    )


def _common(ids: tuple[int, ...], limit: tuple[int, ...] | None) -> tuple[int, ...]:
    if limit is None:
        return ids
    allowed = set(limit)
    return tuple(number for number in ids if number in allowed)


def _without(ids: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(ids) - set(others)))


def _online_cpus(root: Root) -> tuple[int, ...]:
    listed = _id_list(root, f"{CPUS}/online")
    if listed:
        return listed
    present = root.numbers(CPUS, "cpu")
    return tuple(cpu for cpu in present if (root.read_or_none(f"{CPUS}/cpu{cpu}/online") or "1").strip() != "0")


def _nodes(root: Root, online_cpus: tuple[int, ...]) -> tuple[Node, ...]:
    ids = _id_list(root, f"{NODES}/online") or root.numbers(NODES, "node")
    tiers = _tiers(root)
    return tuple(_node(root, number, online_cpus, tiers.get(number)) for number in ids)


def _node(root: Root, number: int, online_cpus: tuple[int, ...], memory_tier: int | None) -> Node:
    directory = f"{NODES}/node{number}"
    linked = root.numbers(directory, "cpu")
    listed = _id_list(root, f"{directory}/cpulist")
    if listed is None:
        listed = _id_mask(root, f"{directory}/cpumap")
    cpus = _common(linked if listed is None else listed, online_cpus or None)
    memory_known, size_bytes, free_bytes = _memory(root, f"{directory}/meminfo", f"Node {number} ")
    return Node(
        id=number,
        cpus=cpus,
        offline_cpus=_without(linked, online_cpus) if online_cpus else (),
        memory_known=memory_known,
        size_bytes=size_bytes,
        free_bytes=free_bytes,
        huge_pages=_huge_pages(root, f"{directory}/hugepages"),
        memory_tier=memory_tier,
        access_classes=_access_classes(root, directory),
    )


def _node_without_numa(root: Root, online_cpus: tuple[int, ...]) -> Node:
    memory_known, size_bytes, free_bytes = _memory(root, "/proc/meminfo", "")
    return Node(
        id=0,
        cpus=online_cpus,
        offline_cpus=_without(root.numbers(CPUS, "cpu"), online_cpus),
        memory_known=memory_known,
        size_bytes=size_bytes,
        free_bytes=free_bytes,
        huge_pages=_huge_pages(root, HUGE_PAGES),
        memory_tier=None,
        access_classes=(),
    )


def _memory(root: Root, name: str, prefix: str) -> tuple[bool, int, int]:
    fields = _fields(root.read_or_none(name) or "", prefix)
    size, free = (_number(fields.get(key, "").removesuffix("kB")) for key in ("MemTotal", "MemFree"))
    return size is not None and free is not None, (size or 0) * KIB, (free or 0) * KIB


def _huge_pages(root: Root, directory: str) -> tuple[HugePages, ...]:
    pools = []
    for size_kib in root.numbers(directory, "hugepages-", "kB"):
        pool = f"{directory}/hugepages-{size_kib}kB"
        total, free = (_number(root.read_or_none(f"{pool}/{name}_hugepages")) for name in ("nr", "free"))
        if total is not None and free is not None:
            pools.append(HugePages(size_kib * KIB, total, free))
    return tuple(pools)


def _access_classes(root: Root, directory: str) -> tuple[AccessClass, ...]:
    classes = []
    for number in root.numbers(directory, "access"):
        initiators = f"{directory}/access{number}/initiators"
        # The kernel prints 0 for what firmware did not give.
        read_ns, write_ns, read_mb_per_s, write_mb_per_s = (
            _number(root.read_or_none(f"{initiators}/{name}")) or None
            for name in ("read_latency", "write_latency", "read_bandwidth", "write_bandwidth")
        )
        found = AccessClass(number, root.numbers(initiators, "node"), read_ns, write_ns, read_mb_per_s, write_mb_per_s)
        classes.append(found)
    return tuple(classes)


def _tiers(root: Root) -> dict[int, int]:
    return {
        node: tier
        for tier in root.numbers(TIERS, "memory_tier")
        for node in _id_list(root, f"{TIERS}/memory_tier{tier}/nodelist") or ()
    }


def _distances(root: Root, node_ids: tuple[int, ...]) -> tuple[tuple[int | None, ...], ...]:
    rows: list[tuple[int | None, ...]] = []
    for number in node_ids:
        words = (root.read_or_none(f"{NODES}/node{number}/distance") or "").split()
        # A row has a column for each online node; any other length was read while a node came or went.
        whole = len(words) == len(node_ids) and all(word.isdecimal() for word in words)
        rows.append(tuple(int(word) for word in words) if whole else (None,) * len(node_ids))
    return tuple(rows)


def _packages(root: Root, online_cpus: tuple[int, ...]) -> tuple[Package, ...]:
    cores: dict[int, dict[tuple[int, ...], list[int]]] = {}
    for cpu in online_cpus:
        directory = f"{CPUS}/cpu{cpu}/topology"
        package = _number(root.read_or_none(f"{directory}/physical_package_id"))
        cores.setdefault(-1 if package is None else package, {}).setdefault(_siblings(root, directory, cpu), []).append(
            cpu
        )
    return tuple(
        Package(package, tuple(tuple(cpus) for cpus in shared.values())) for package, shared in sorted(cores.items())
    )


def _siblings(root: Root, directory: str, cpu: int) -> tuple[int, ...]:
    # The older name, thread_siblings, means the same (Documentation/admin-guide/cputopology.rst).
    for name in ("core_cpus_list", "thread_siblings_list"):
        listed = _id_list(root, f"{directory}/{name}")
        if listed:
            return listed
    return _id_mask(root, f"{directory}/thread_siblings") or (cpu,)


def _id_list(root: Root, name: str) -> tuple[int, ...] | None:
    return _ids_or_none(root.read_or_none(name))


def _id_mask(root: Root, name: str) -> tuple[int, ...] | None:
    """The ids in a bitmap of 32-bit words, the highest first: `00000001,00000003` is `(0, 1, 32)`."""
    words = (root.read_or_none(name) or "").strip().split(",")
    try:
        # The highest word may be printed short; an empty text is no bitmap.
        bits = int(words[0] + "".join(word.rjust(8, "0") for word in words[1:]), 16)
    except ValueError:
        return None
    return tuple(number for number in range(bits.bit_length()) if bits >> number & 1)


def _ids_or_none(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else parse_ids(text)
    except UsageError:
        return None


def _fields(text: str, prefix: str = "") -> dict[str, str]:
    pairs = (line.removeprefix(prefix).partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _number(text: str | None) -> int | None:
    word = (text or "").strip()
    return int(word) if word.isdecimal() else None


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        **vars(node),
        "cpus": format_ids(node.cpus),
        "offline_cpus": format_ids(node.offline_cpus),
        "huge_pages": [dict(vars(pool)) for pool in node.huge_pages],
        "access_classes": [
            {**vars(access), "initiators": format_ids(access.initiators)} for access in node.access_classes
        ],
    }


def _node_from_json(shown: Mapping[str, Any]) -> Node:
    fields = dict(shown)
    fields["cpus"], fields["offline_cpus"] = parse_ids(shown["cpus"]), parse_ids(shown["offline_cpus"])
    fields["huge_pages"] = tuple(HugePages(**pool) for pool in shown["huge_pages"])
    fields["access_classes"] = tuple(
        AccessClass(**{**found, "initiators": parse_ids(found["initiators"])}) for found in shown["access_classes"]
    )
    return Node(**fields)
