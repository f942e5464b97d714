"""Captured machines, compared with what numactl said in them and with how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from numactl import parse_hardware

from numabench.host import topology
from numabench.host.capture import open_tree
from numabench.host.topology import AccessClass, HugePages, Package, from_json
from numabench.units import MIB

if TYPE_CHECKING:
    from numabench.host.topology import Topology

FIXTURES = Path(__file__).parents[1] / "fixtures" / "topology"
MACHINES = ("1n", "2n-smt", "4n-ring", "8n", "cpuless", "memless", "hmat", "offline", "cpuset")


def captured(name: str) -> Topology:
    with open_tree(FIXTURES / f"{name}.tar.xz") as root:
        return topology.read(root)


@pytest.mark.parametrize("name", MACHINES)
def test_cpus_sizes_and_distances_are_those_numactl_saw_in_the_machine(name: str) -> None:
    shown = captured(name)
    seen = parse_hardware((FIXTURES / f"{name}.numactl.txt").read_text())
    ids = [node.id for node in shown.nodes]
    assert {node.id: node.cpus for node in shown.nodes} == seen.cpus
    assert {node.id: node.size_bytes // MIB for node in shown.nodes} == seen.size_mib
    assert {(a, b): shown.distance(a, b) for a in ids for b in ids} == seen.distances


@pytest.mark.parametrize("name", MACHINES)
def test_free_memory_is_near_what_numactl_saw_a_moment_before(name: str) -> None:
    seen = parse_hardware((FIXTURES / f"{name}.numactl.txt").read_text())
    for node in captured(name).nodes:
        assert abs(node.free_bytes // MIB - seen.free_mib[node.id]) < 64


@pytest.mark.parametrize("name", MACHINES)
def test_a_tree_answers_as_its_machine_did(name: str) -> None:
    assert captured(name) == from_json(json.loads((FIXTURES / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", MACHINES)
def test_json_keeps_everything(name: str) -> None:
    shown = captured(name)
    assert from_json(json.loads(json.dumps(shown.to_json()))) == shown


def test_a_ring_has_far_corners() -> None:
    assert captured("4n-ring").distances == ((10, 20, 30, 20), (20, 10, 20, 30), (30, 20, 10, 20), (20, 30, 20, 10))


def test_a_node_without_cpus_has_memory_alone() -> None:
    node = captured("cpuless").nodes[2]
    assert (node.cpus, node.has_cpus, node.has_memory) == ((), False, True)
    assert captured("cpuless").node_masks.has_cpu == (0, 1)


def test_a_node_without_memory_has_cpus_alone() -> None:
    node = captured("memless").nodes[2]
    assert (node.cpus, node.has_memory, node.memory_known, node.size_bytes) == ((2,), False, True, 0)
    assert captured("memless").node_masks.has_memory == (0, 1)


def test_threads_of_a_core_stand_together() -> None:
    assert captured("2n-smt").packages == (Package(0, ((0, 1),)), Package(1, ((2, 3),)))


def test_offline_cpus_stay_with_their_node_and_leave_its_cpus() -> None:
    shown = captured("offline")
    assert [(node.cpus, node.offline_cpus) for node in shown.nodes] == [((0,), (1,)), ((2,), (3,))]
    assert (shown.online_cpus, shown.offline_cpus, shown.present_cpus) == ((0, 2), (1, 3), (0, 1, 2, 3))


def test_huge_pages_are_counted_by_node_and_size() -> None:
    pools = [[pool for pool in node.huge_pages if pool.total] for node in captured("offline").nodes]
    assert pools == [[], [HugePages(page_bytes=2 * MIB, total=8, free=8)]]


def test_a_cpuset_limits_the_caller_and_not_the_machine() -> None:
    shown = captured("cpuset")
    assert (shown.allowed_cpus, shown.allowed_nodes, shown.limits_known) == ((0, 1), (0,), True)
    assert shown.online_cpus == (0, 1, 2, 3)
    assert shown.nodes[1].cpus == (2, 3)


def test_access_classes_are_those_the_firmware_table_was_given() -> None:
    """See README.md for the table: latency in ns; GiB/s, which the kernel shows in MiB/s."""
    classes = {node.id: node.access_classes for node in captured("hmat").nodes}
    assert classes[2] == tuple(AccessClass(number, (0,), 60, 60, 4096, 4096) for number in (0, 1))
    assert classes[0] == tuple(AccessClass(number, (0,), 10, 10, 20480, 20480) for number in (0, 1))


def test_a_machine_without_a_firmware_table_has_no_access_classes() -> None:
    assert [node.access_classes for node in captured("2n-smt").nodes] == [(), ()]


def test_the_kernels_tier_is_told_by_node() -> None:
    assert {node.memory_tier for node in captured("4n-ring").nodes} == {4}
    assert [node.memory_tier for node in captured("memless").nodes] == [4, 4, None]


def test_a_tree_of_hwlocs_own_program_is_read() -> None:
    with open_tree(FIXTURES / "hwloc.tar.bz2") as root:
        shown = topology.read(root)
    seen = parse_hardware((FIXTURES / "hwloc.numactl.txt").read_text())
    ids = [node.id for node in shown.nodes]
    assert {node.id: node.cpus for node in shown.nodes} == seen.cpus
    assert {node.id: node.size_bytes // MIB for node in shown.nodes} == seen.size_mib
    assert {(a, b): shown.distance(a, b) for a in ids for b in ids} == seen.distances
    assert not shown.limits_known
