"""`numabench workloads`: which there are, their published constants, what they need, why they cannot run here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.host.topology import Topology
    from numabench.workload.catalog import Workload

_COLUMNS = 100
_ROW = "{:<20} {:<11} {:<8} {:>5}  {}"
_COUNTED = (
    "Memory and threads are processes x each; loops are of each thread. Threads of pingpong and forktree are movers, "
    "and loops their passes; `numabench drivers` lists what they can call."
)
_NEEDS = (
    "Each needs 2 memory nodes to migrate between, a C compiler and libnuma's header; hard and inverse need CPUs and "
    "memory on every node (numa01: an even number of nodes, and CPUs and memory in both halves). Memory that does not "
    "fit is clipped, and the report says so."
)


@dataclass(frozen=True)
class _Node:
    id: int
    has_cpus: bool
    has_memory: bool
    free_bytes: int


def workloads(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the workloads: what each does, its published constants, and why it cannot run here where it cannot."""
    from numabench.host import topology
    from numabench.workload import build, catalog

    nodes = _node_facts(topology.read())
    missing = build.requirements()
    reasons = {spec.name: (*catalog.requirements(spec, nodes), *missing) for spec in catalog.WORKLOADS}
    if as_json:
        print(json.dumps([_to_json(spec, reasons[spec.name]) for spec in catalog.WORKLOADS], indent=2))
    else:
        print(_table(catalog.WORKLOADS))
        print("\n" + _wrap(_NEEDS, ""))
        print("\n" + _here(reasons))


def _node_facts(machine: Topology) -> tuple[_Node, ...]:
    return tuple(
        _Node(
            id=node.id,
            has_cpus=bool(set(node.cpus) & set(machine.allowed_cpus)),
            has_memory=node.size_bytes > 0 and node.id in machine.allowed_nodes,
            free_bytes=node.free_bytes,
        )
        for node in machine.nodes
    )


def _to_json(spec: Workload, reasons: tuple[str, ...]) -> dict[str, Any]:
    return {
        **asdict(spec),
        "memory_bytes": spec.memory_bytes,
        "runs_here": not reasons,
        "reasons": list(reasons),
    }


def _wrap(text: str, indent: str, first: str | None = None) -> str:
    import textwrap

    lead = indent if first is None else first
    return textwrap.fill(text, _COLUMNS, initial_indent=lead, subsequent_indent=indent)


def _threads(spec: Workload) -> str:
    if spec.is_driven:
        return "1"
    return "CPUs" if spec.cpus_per_thread == 1 else f"CPUs / {spec.cpus_per_thread}"


def _table(specs: Sequence[Workload]) -> str:
    from numabench.units import format_bytes

    rows = [_ROW.format("NAME", "MEMORY", "THREADS", "LOOPS", "WHAT IT DOES")]
    for spec in specs:
        memory = f"{spec.processes} x {format_bytes(spec.size_bytes)}"
        lead = _ROW.format(spec.name, memory, _threads(spec), spec.loops, "")
        rows.append(_wrap(spec.summary, " " * len(lead), lead))
    return "\n".join(rows) + "\n\n" + _wrap(_COUNTED, "")


def _here(reasons: dict[str, tuple[str, ...]]) -> str:
    """What cannot run here, each reason once with the workloads it is of."""
    of: dict[str, list[str]] = {}
    for name, lacking in reasons.items():
        for reason in lacking:
            of.setdefault(reason, []).append(name)
    if not of:
        return "All of them can run here."
    lines = ["Cannot run on this machine itself:"]
    for reason, names in of.items():
        who = "all" if len(names) == len(reasons) else ", ".join(names)
        lines.append(_wrap(f"{who}: {reason}", "    ", "  "))
    lines.append("With too few nodes, `numabench run` takes an emulated guest that has them.")
    return "\n".join(lines)
