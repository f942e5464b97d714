"""A topology as text: one line per node, the distances, the caller's limits, and what is unusual, in words."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from numabench.idset import format_ids
from numabench.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numabench.host.topology import AccessClass, Node, Topology

WIDTH = 100
_CPUS_WIDTH = 44


def render(topology: Topology) -> str:
    """The whole text, at most 100 columns wide, ended by a newline."""
    blocks = [
        [headline(topology)],
        _node_table(topology),
        _distance_lines(topology),
        _access_lines(topology),
        _huge_page_lines(topology),
        _limit_lines(topology),
        [line for remark in remarks(topology) for line in _wrap(f"warning: {remark}", indent="         ")],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def headline(topology: Topology) -> str:
    """How much there is in all: `2 nodes, 4 CPUs in 2 packages (4 cores), 1.5 GiB`."""
    cores = sum(len(package.cores) for package in topology.packages)
    size_bytes = sum(node.size_bytes for node in topology.nodes)
    cpus = _count(len(topology.online_cpus), "CPU")
    packages = f"{_count(len(topology.packages), 'package')} ({_count(cores, 'core')})"
    return f"{_count(len(topology.nodes), 'node')}, {cpus} in {packages}, {format_bytes(size_bytes)}"


def remarks(topology: Topology) -> tuple[str, ...]:
    """What of the machine a migration benchmark would stumble over, each a sentence without a full stop."""
    return (*_machine_remarks(topology), *_node_remarks(topology), *_distance_remarks(topology))


def _machine_remarks(topology: Topology) -> Iterator[str]:
    if not topology.numa:
        yield "this kernel shows no NUMA nodes (no /sys/devices/system/node): the machine is shown as one node"
    usable = [node.id for node in topology.nodes if node.has_memory]
    if len(usable) == 1:
        yield f"only node {usable[0]} has memory: there is no other node to migrate pages to"
    if not usable:
        yield "no node's memory is known"
    homeless = set(topology.online_cpus) - {cpu for node in topology.nodes for cpu in node.cpus}
    if homeless:
        yield f"{_cpus(homeless)} online but in no node"


def _node_remarks(topology: Topology) -> Iterator[str]:
    nodes = topology.nodes
    allowed = set(topology.allowed_nodes)
    yield from _said_of(
        (node.id for node in nodes if not node.memory_known), "gives no readable meminfo", "give no readable meminfo"
    )
    yield from _said_of(
        (node.id for node in nodes if node.memory_known and not node.has_memory), "has no memory", "have no memory"
    )
    yield from _said_of((node.id for node in nodes if not node.has_cpus), "has no online CPUs", "have no online CPUs")
    yield from _said_of(
        (node.id for node in nodes if node.has_memory and node.id not in allowed),
        "is outside the caller's cpuset",
        "are outside the caller's cpuset",
    )
    for node in nodes:
        if node.offline_cpus:
            yield f"{_cpus(node.offline_cpus)} offline (node {node.id})"
        barred = set(node.cpus) - set(topology.allowed_cpus)
        if barred:
            yield f"{_cpus(barred)} not allowed to the caller (node {node.id})"


def _said_of(node_ids: Iterable[int], of_one: str, of_many: str) -> Iterator[str]:
    ids = tuple(node_ids)
    if ids:
        yield f"nodes {format_ids(ids)} {of_many}" if len(ids) > 1 else f"node {ids[0]} {of_one}"


def _distance_remarks(topology: Topology) -> Iterator[str]:
    rows = topology.distances
    missing = [node.id for node, row in zip(topology.nodes, rows, strict=True) if None in row]
    if missing:
        yield f"the kernel gives no distances from node{'s' if len(missing) > 1 else ''} {format_ids(missing)}"
    pairs = [(a, b) for b in range(len(rows)) for a in range(b) if None not in (rows[a][b], rows[b][a])]
    lopsided = [(a, b) for a, b in pairs if rows[a][b] != rows[b][a]]
    if lopsided:
        a, b = lopsided[0]
        first, second = topology.nodes[a].id, topology.nodes[b].id
        more = f", and so are {len(lopsided) - 1} more" if len(lopsided) > 1 else ""
        yield (
            f"distances are not symmetric: node {first} to {second} is {rows[a][b]},"
            f" node {second} to {first} is {rows[b][a]}{more}"
        )


def _node_table(topology: Topology) -> list[str]:
    cpus = [_wrap(format_ids(node.cpus) or "-", width=_CPUS_WIDTH) for node in topology.nodes]
    width = max(len("cpus"), *(len(line) for lines in cpus for line in lines))
    lines = [f"node  {'cpus':<{width}}  {'size':>9}  {'free':>9}  tier"]
    for node, (first, *rest) in zip(topology.nodes, cpus, strict=True):
        tier = "-" if node.memory_tier is None else str(node.memory_tier)
        sizes = f"{_size(node, node.size_bytes):>9}  {_size(node, node.free_bytes):>9}"
        lines.append(f"{node.id:>4}  {first:<{width}}  {sizes}  {tier:>4}")
        lines.extend(f"      {line}" for line in rest)
    return lines


def _size(node: Node, size_bytes: int) -> str:
    return format_bytes(size_bytes) if node.memory_known else "?"


def _huge_page_lines(topology: Topology) -> list[str]:
    pools = [(node, pool) for node in topology.nodes for pool in node.huge_pages if pool.total]
    lines = [
        f"  node {node.id}: {pool.total} of {format_bytes(pool.page_bytes)}, {pool.free} free" for node, pool in pools
    ]
    return ["huge pages", *lines] if lines else []


def _distance_lines(topology: Topology) -> list[str]:
    labels = [str(node.id) for node in topology.nodes]
    cells = [["?" if value is None else str(value) for value in row] for row in topology.distances]
    width = max(len(cell) for row in [labels, *cells] for cell in row)
    matrix = [
        f"  {label:>4}  " + " ".join(f"{cell:>{width}}" for cell in row)
        for label, row in zip(["", *labels], [labels, *cells], strict=True)
    ]
    if len(matrix[0]) <= WIDTH:
        return ["distances from (rows) to (columns)", *matrix]
    return ["distances, nearest first (distance: nodes)", *_distance_lists(topology)]


def _distance_lists(topology: Topology) -> Iterator[str]:
    """A line per node where a matrix would be too wide: `node 3    10: 3 | 12: 0-2 | 21: 4-63`."""
    for node, row in zip(topology.nodes, topology.distances, strict=True):
        near = sorted((-1 if value is None else value, to.id) for value, to in zip(row, topology.nodes, strict=True))
        groups = [
            f"{'?' if value < 0 else value}: {format_ids(number for _, number in group)}"
            for value, group in groupby(near, key=lambda pair: pair[0])
        ]
        yield from _wrap(f"  node {node.id:<5} " + " | ".join(groups), indent=" " * 13)


def _access_lines(topology: Topology) -> list[str]:
    lines = [
        f"  {node.id:>4}  {access.number:>5}  {format_ids(access.initiators) or '-':>15}  {_speeds(access)}"
        for node in topology.nodes
        for access in node.access_classes
    ]
    if not lines:
        return []
    title = "access to each node's memory from its best initiators, as firmware (HMAT) says"
    header = f"  {'node':>4}  {'class':>5}  {'from nodes':>15}  {'read':>19}  {'write':>19}"
    return [title, header, *lines]


def _speeds(access: AccessClass) -> str:
    pairs = (
        (access.read_latency_ns, access.read_bandwidth_mb_per_s),
        (access.write_latency_ns, access.write_bandwidth_mb_per_s),
    )
    return "  ".join(f"{_speed(latency_ns, bandwidth):>19}" for latency_ns, bandwidth in pairs)


def _speed(latency_ns: int | None, bandwidth_mb_per_s: int | None) -> str:
    latency = [] if latency_ns is None else [f"{latency_ns} ns"]
    bandwidth = [] if bandwidth_mb_per_s is None else [f"{bandwidth_mb_per_s} MB/s"]
    return ", ".join(latency + bandwidth) or "-"


def _limit_lines(topology: Topology) -> list[str]:
    if not topology.limits_known:
        return ["allowed to the caller: not known"]
    cpus, nodes = topology.allowed_cpus, topology.allowed_nodes
    all_cpus = " (all online)" if cpus == topology.online_cpus else ""
    all_nodes = " (all)" if len(nodes) == len(topology.nodes) else ""
    allowed = f"CPUs {format_ids(cpus) or 'none'}{all_cpus}; nodes {format_ids(nodes) or 'none'}{all_nodes}"
    return _wrap(f"allowed to the caller: {allowed}", indent="  ")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _cpus(cpus: Iterable[int]) -> str:
    ids = sorted(cpus)
    return f"CPU {ids[0]} is" if len(ids) == 1 else f"CPUs {format_ids(ids)} are"


def _wrap(text: str, *, width: int = WIDTH, indent: str = "") -> list[str]:
    """Lines of at most `width`, broken after commas and blanks; later ones begin with `indent`."""
    lines, rest = [], text
    while len(rest) > width:
        cut = max(rest.rfind(mark, len(indent) + 1, width) for mark in (",", " ")) + 1 or width
        lines.append(rest[:cut].rstrip())
        rest = indent + rest[cut:].lstrip()
    return [*lines, rest]
