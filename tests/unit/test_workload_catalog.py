"""The catalog: what can be asked of it without running anything."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from numabench.errors import UsageError
from numabench.units import GIB
from numabench.workload import catalog


@dataclass(frozen=True)
class Node:
    id: int
    has_cpus: bool = True
    has_memory: bool = True
    free_bytes: int = 4 * GIB


NUMA01 = catalog.find("numa01")
NUMA02 = catalog.find("numa02")
TWO = (Node(0), Node(1))


def test_a_name_finds_its_workload() -> None:
    assert [catalog.find(spec.name) for spec in catalog.WORKLOADS] == list(catalog.WORKLOADS)


@pytest.mark.parametrize(("typed", "meant"), [("numa2", "numa02"), ("NUMA01", "numa01"), ("numa02_smt", "numa02-smt")])
def test_a_mistyped_name_gets_the_one_that_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"no workload '{typed}'.*did you mean {meant}[?]"):
        catalog.find(typed)


def test_a_name_like_none_gets_the_list_alone() -> None:
    with pytest.raises(UsageError) as raised:
        catalog.find("stream")
    assert "did you mean" not in str(raised.value)
    assert "numa01, numa01-thread-alloc, numa02, numa02-smt, memset" in str(raised.value)


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (2, 1), (3, 1), (64, 32)])
def test_half_the_cpus_is_never_no_thread(cpus: int, threads: int) -> None:
    assert NUMA01.threads(cpus) == threads


@pytest.mark.parametrize("placement", ["default", "hard", "inverse", "inverse-compat"])
def test_two_whole_nodes_lack_nothing(placement: str) -> None:
    for spec in catalog.WORKLOADS:
        assert catalog.requirements(spec, TWO, placement=placement) == ()


@pytest.mark.parametrize(
    ("spec", "nodes", "asked", "reasons"),
    [
        (NUMA02, TWO[:1], {}, ("needs 2 memory nodes, this machine has 1",)),
        (NUMA02, (Node(0), Node(3, has_memory=False)), {}, ("needs 2 memory nodes, this machine has 1",)),
        (NUMA02, (Node(0), Node(8, has_cpus=False)), {}, ()),
        (
            NUMA02,
            (Node(0), Node(8, has_cpus=False)),
            {"placement": "hard"},
            ("placement hard needs CPUs on node 8",),
        ),
        (
            NUMA02,
            (*TWO, Node(5, has_memory=False)),
            {"placement": "inverse"},
            ("placement inverse needs memory on node 5",),
        ),
        (
            NUMA01,
            (*TWO, Node(2)),
            {"placement": "hard"},
            ("placement hard halves the nodes and needs an even number, not 3",),
        ),
        (NUMA01, (*TWO, Node(2, has_cpus=False), Node(3)), {"placement": "hard"}, ()),
        (
            NUMA01,
            TWO,
            {"size_bytes": 3 * GIB, "start_node": 1},
            ("needs 6 GiB on node 1, which has 4 GiB free",),
        ),
        (NUMA01, TWO, {"size_bytes": 3 * GIB, "placement": "inverse"}, ()),
        (
            NUMA01,
            TWO,
            {"size_bytes": 3 * GIB, "placement": "inverse-compat"},
            ("needs 6 GiB on node 1, which has 4 GiB free",),
        ),
        (
            NUMA02,
            (Node(0), Node(1, free_bytes=GIB)),
            {"size_bytes": 4 * GIB, "placement": "hard"},
            ("needs 2 GiB on node 1, which has 1 GiB free",),
        ),
    ],
)
def test_what_a_machine_lacks_is_said_in_sentences(
    spec: catalog.Workload, nodes: tuple[Node, ...], asked: dict[str, object], reasons: tuple[str, ...]
) -> None:
    assert catalog.requirements(spec, nodes, **asked) == reasons  # type: ignore[arg-type]


def test_nodes_without_any_cpu_run_nothing() -> None:
    nodes = (Node(0, has_cpus=False), Node(1, has_cpus=False))
    assert catalog.requirements(NUMA02, nodes) == ("needs CPUs, and the nodes have none that the caller may use",)
