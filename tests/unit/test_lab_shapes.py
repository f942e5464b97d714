from __future__ import annotations

from pathlib import Path

import pytest

from numabench.errors import UsageError
from numabench.host import topology
from numabench.host.capture import open_tree
from numabench.lab.shapes import NAMES, Node, Shape, shape, shape_for
from numabench.units import GIB, MIB


def test_two_nodes_have_a_gibibyte_and_a_cpu_each() -> None:
    assert shape("2n") == Shape("2n", (Node(GIB, (0,)), Node(GIB, (1,))), ((10, 20), (20, 10)))


def test_four_nodes_are_a_ring() -> None:
    assert shape("4n").distances == ((10, 20, 30, 20), (20, 10, 20, 30), (30, 20, 10, 20), (20, 30, 20, 10))


def test_eight_nodes_are_small_and_two_groups() -> None:
    eight = shape("8n")
    assert {node.memory_bytes for node in eight.nodes} == {512 * MIB}
    assert eight.distances[0] == (10, 20, 20, 20, 30, 30, 30, 30)
    assert eight.distances[7] == (30, 30, 30, 30, 20, 20, 20, 10)


def test_cpuless_has_a_node_of_memory_alone_and_memless_one_of_cpus_alone() -> None:
    assert shape("cpuless", cpus_per_node=2).nodes == (Node(GIB, (0, 1)), Node(GIB, (2, 3)), Node(GIB, ()))
    assert shape("memless").nodes == (Node(GIB, (0,)), Node(GIB, (1,)), Node(0, (2,)))


@pytest.mark.parametrize("name", NAMES)
def test_distances_are_a_symmetric_table_with_ten_on_its_diagonal(name: str) -> None:
    table = shape(name).distances
    assert len(table) == len(shape(name).nodes)
    for here, row in enumerate(table):
        assert row == tuple(other[here] for other in table)
        assert [there for there, distance in enumerate(row) if distance == 10] == [here]


def test_the_options_give_qemu_all_memory_and_every_node() -> None:
    assert shape("memless", memory_per_node_bytes=512 * MIB, cpus_per_node=2).options() == (
        "--memory=1048576K",
        "--cpus=6,sockets=3,cores=2,threads=1",
        "--numa=524288K,cpus=0-1",
        "--numa=524288K,cpus=2-3",
        "--numa=0,cpus=4-5",
        "--numa-distance=src=0,dst=1,val=20",
        "--numa-distance=src=0,dst=2,val=20",
        "--numa-distance=src=1,dst=0,val=20",
        "--numa-distance=src=1,dst=2,val=20",
        "--numa-distance=src=2,dst=0,val=20",
        "--numa-distance=src=2,dst=1,val=20",
    )


@pytest.mark.parametrize(("nodes", "name"), [(1, "1n"), (2, "2n"), (3, "4n"), (4, "4n"), (5, "8n"), (8, "8n")])
def test_the_smallest_shape_that_has_enough_nodes_is_taken(nodes: int, name: str) -> None:
    assert shape_for(nodes).name == name


def test_what_cannot_be_emulated_is_refused() -> None:
    with pytest.raises(UsageError, match="largest topology is 8n"):
        shape_for(9)
    with pytest.raises(UsageError, match="there is no topology '3n'"):
        shape("3n")
    with pytest.raises(UsageError, match="at least 256M"):
        shape("2n", memory_per_node_bytes=MIB)
    with pytest.raises(UsageError, match="at least one CPU"):
        shape("2n", cpus_per_node=0)


@pytest.mark.parametrize(
    ("captured", "made"),
    [("1n", shape("1n", cpus_per_node=2)), ("4n-ring", shape("4n", memory_per_node_bytes=512 * MIB))],
)
def test_a_guest_shows_what_its_shape_says(captured: str, made: Shape) -> None:
    """Those were captured in guests with these very nodes (tests/fixtures/topology/README.md)."""
    with open_tree(Path(__file__).parents[1] / "fixtures" / "topology" / f"{captured}.tar.xz") as root:
        seen = topology.read(root)
    said = made.topology()
    assert [(node.id, node.cpus) for node in said.nodes] == [(node.id, node.cpus) for node in seen.nodes]
    assert (said.distances, said.allowed_cpus, said.allowed_nodes) == (
        *(seen.distances, seen.allowed_cpus),
        seen.allowed_nodes,
    )
    for ours, theirs in zip(said.nodes, seen.nodes, strict=True):
        assert theirs.free_bytes < theirs.size_bytes <= ours.size_bytes == ours.free_bytes
