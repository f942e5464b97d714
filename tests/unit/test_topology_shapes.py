"""Machines nobody has at hand: captured trees changed into them, and trees torn as hot-plug tears them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numabench.errors import UsageError
from numabench.host import topology
from numabench.host.capture import open_tree
from numabench.host.root import Root
from numabench.idset import format_ids
from numabench.report import topology_text
from numabench.units import KIB

if TYPE_CHECKING:
    from collections.abc import Mapping

FIXTURES = Path(__file__).parents[1] / "fixtures" / "topology"
MASKS = ("online", "possible", "has_cpu", "has_memory", "has_normal_memory")


def unpacked(name: str, directory: Path) -> Path:
    """A machine's tree below `directory`, to be changed."""
    with open_tree(FIXTURES / f"{name}.tar.xz") as root:
        return Path(shutil.copytree(root.directory, directory / name, symlinks=True))


def renumber(tree: Path, ids: Mapping[int, int]) -> None:
    """Give the nodes other ids, in ascending order, as a machine with absent nodes has them."""
    nodes = tree / "sys" / "devices" / "system" / "node"
    for old, new in sorted(ids.items(), reverse=True):
        node = (nodes / f"node{old}").rename(nodes / f"node{new}")
        meminfo = node / "meminfo"
        meminfo.write_text(meminfo.read_text().replace(f"Node {old} ", f"Node {new} "))
    for mask in MASKS:
        (nodes / mask).write_text(format_ids(ids.values()) + "\n")


def lay_large(directory: Path, nodes: int, cpus_per_node: int) -> Path:
    """A machine whose node N has the CPUs N, N + nodes, N + 2 * nodes..., as firmware that interleaves does."""
    system = directory / "sys" / "devices" / "system"
    cpus = range(nodes * cpus_per_node)
    (system / "cpu").mkdir(parents=True)
    (system / "cpu" / "online").write_text(format_ids(cpus) + "\n")
    for number in range(nodes):
        node = system / "node" / f"node{number}"
        node.mkdir(parents=True)
        (node / "cpulist").write_text(format_ids(cpus[number::nodes]) + "\n")
        (node / "distance").write_text(" ".join("10" if to == number else "254" for to in range(nodes)) + "\n")
        (node / "meminfo").write_text(f"Node {number} MemTotal: 8388608 kB\nNode {number} MemFree: 1048576 kB\n")
    (system / "node" / "online").write_text(format_ids(range(nodes)) + "\n")
    return directory


@pytest.mark.parametrize("ids", [{0: 0, 1: 8}, {0: 2, 1: 3}, {0: 1, 1: 300}, {0: 251, 1: 255}])
def test_sparse_ids_and_an_absent_node_0_change_nothing_but_the_ids(tmp_path: Path, ids: dict[int, int]) -> None:
    tree = unpacked("2n-smt", tmp_path)
    before = topology.read(Root(tree))
    renumber(tree, ids)
    after = topology.read(Root(tree))
    assert [node.id for node in after.nodes] == list(ids.values())
    assert [node.cpus for node in after.nodes] == [node.cpus for node in before.nodes]
    assert [node.size_bytes for node in after.nodes] == [node.size_bytes for node in before.nodes]
    assert after.distance(ids[0], ids[1]) == 20
    assert after.node_masks.online == tuple(ids.values())


def test_more_than_64_nodes_and_cpus_are_read_whole(tmp_path: Path) -> None:
    shown = topology.read(Root(lay_large(tmp_path, nodes=70, cpus_per_node=16)))
    assert len(shown.nodes) == 70
    assert shown.nodes[69].cpus == tuple(range(69, 1120, 70))
    assert (shown.distance(69, 69), shown.distance(69, 0)) == (10, 254)
    assert len(shown.online_cpus) == 1120


@pytest.mark.parametrize(
    ("cpumap", "cpus"),
    [("3\n", (0, 1)), ("00000000,0000000c\n", (2, 3)), ("1,00000001\n", (0,)), ("0\n", ()), ("\n", (0, 1))],
)
def test_cpus_come_from_the_bitmap_where_a_kernel_has_no_list(
    tmp_path: Path, cpumap: str, cpus: tuple[int, ...]
) -> None:
    tree = unpacked("2n-smt", tmp_path)
    node = tree / "sys/devices/system/node/node0"
    (node / "cpulist").unlink()
    (node / "cpumap").write_text(cpumap)
    assert topology.read(Root(tree)).nodes[0].cpus == cpus


def test_bitmaps_of_many_words_are_read_from_the_last_word_up(tmp_path: Path) -> None:
    tree = lay_large(tmp_path, nodes=1, cpus_per_node=100)
    (tree / "sys/devices/system/node/node0/cpulist").unlink()
    (tree / "sys/devices/system/node/node0/cpumap").write_text("8,00000000,00000000,80000001\n")
    assert topology.read(Root(tree)).nodes[0].cpus == (0, 31, 99)


def test_a_kernel_without_numa_is_one_node_with_the_machines_memory(tmp_path: Path) -> None:
    tree = unpacked("2n-smt", tmp_path)
    shutil.rmtree(tree / "sys/devices/system/node")
    shown = topology.read(Root(tree))
    fields = dict(line.split(":") for line in (tree / "proc/meminfo").read_text().splitlines())
    assert not shown.numa
    assert [(node.id, node.cpus) for node in shown.nodes] == [(0, (0, 1, 2, 3))]
    assert shown.nodes[0].size_bytes == int(fields["MemTotal"].removesuffix("kB")) * KIB
    assert shown.nodes[0].free_bytes == int(fields["MemFree"].removesuffix("kB")) * KIB
    assert shown.distances == ((10,),)
    assert "warning: this kernel shows no NUMA nodes" in topology_text.render(shown)


def test_a_node_may_be_in_the_memory_mask_with_a_size_of_0(tmp_path: Path) -> None:
    """CXL dynamic capacity that is not there yet."""
    tree = unpacked("cpuless", tmp_path)
    (tree / "sys/devices/system/node/node2/meminfo").write_text("Node 2 MemTotal: 0 kB\nNode 2 MemFree: 0 kB\n")
    shown = topology.read(Root(tree))
    assert shown.node_masks.has_memory == (0, 1, 2)
    assert (shown.nodes[2].has_memory, shown.nodes[2].memory_known) == (False, True)
    assert "warning: node 2 has no memory" in topology_text.render(shown)


@pytest.mark.parametrize("text", [None, "", "Node 1 MemTotal:", "Node 0 MemTotal: 5 kB\nNode 0 MemFree: 5 kB\n"])
def test_a_torn_meminfo_makes_the_size_unknown_and_says_so(tmp_path: Path, text: str | None) -> None:
    tree = unpacked("2n-smt", tmp_path)
    meminfo = tree / "sys/devices/system/node/node1/meminfo"
    meminfo.unlink() if text is None else meminfo.write_text(text)
    shown = topology.read(Root(tree))
    assert (shown.nodes[1].memory_known, shown.nodes[1].size_bytes) == (False, 0)
    assert shown.nodes[0].memory_known
    assert "warning: node 1 gives no readable meminfo" in topology_text.render(shown)


@pytest.mark.parametrize("text", [None, "", "20", "20 10 30", "20 x"])
def test_a_torn_row_of_distances_is_unknown_as_a_whole_and_said(tmp_path: Path, text: str | None) -> None:
    tree = unpacked("2n-smt", tmp_path)
    distance = tree / "sys/devices/system/node/node1/distance"
    distance.unlink() if text is None else distance.write_text(text)
    shown = topology.read(Root(tree))
    assert shown.distances == ((10, 20), (None, None))
    assert "warning: the kernel gives no distances from node 1" in topology_text.render(shown)


def test_a_node_that_left_while_it_was_read_is_empty_and_not_an_error(tmp_path: Path) -> None:
    tree = unpacked("2n-smt", tmp_path)
    shutil.rmtree(tree / "sys/devices/system/node/node1")
    node = topology.read(Root(tree)).nodes[1]
    assert (node.id, node.cpus, node.memory_known, node.huge_pages) == (1, (), False, ())


def test_limits_are_everything_and_unknown_where_no_process_was_captured(tmp_path: Path) -> None:
    tree = unpacked("cpuset", tmp_path)
    (tree / "proc/self/status").unlink()
    shown = topology.read(Root(tree))
    assert (shown.limits_known, shown.allowed_cpus, shown.allowed_nodes) == (False, (0, 1, 2, 3), (0, 1))
    assert "allowed to the caller: not known" in topology_text.render(shown)


def test_an_old_kernels_cpus_are_told_by_their_directories(tmp_path: Path) -> None:
    tree = unpacked("2n-smt", tmp_path)
    cpus = tree / "sys/devices/system/cpu"
    for name in ("online", "present", "possible"):
        (cpus / name).unlink()
    (cpus / "cpu3" / "online").write_text("0\n")
    shown = topology.read(Root(tree))
    assert (shown.online_cpus, shown.present_cpus, shown.possible_cpus) == ((0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3))
    assert (shown.nodes[1].cpus, shown.nodes[1].offline_cpus) == ((2,), (3,))


def test_distances_that_differ_by_direction_are_pointed_out(tmp_path: Path) -> None:
    tree = unpacked("2n-smt", tmp_path)
    (tree / "sys/devices/system/node/node1/distance").write_text("31 10\n")
    rendered = topology_text.render(topology.read(Root(tree)))
    assert "warning: distances are not symmetric: node 0 to 1 is 20, node 1 to 0 is 31" in rendered


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["hmat", "memless", "offline"]), st.data())
def test_whatever_is_missing_or_cut_the_rest_is_shown_and_kept_in_json(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        tree = unpacked(name, Path(temporary))
        files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
        for path in data.draw(st.lists(st.sampled_from(files), max_size=12, unique=True)):
            text = path.read_bytes()
            kept = data.draw(st.integers(-1, len(text)), label=str(path.relative_to(tree)))
            path.unlink() if kept < 0 else path.write_bytes(text[:kept])
        try:
            shown = topology.read(Root(tree))
        except UsageError as error:
            assert "neither nodes nor CPUs" in error.message  # noqa: PT017  an allowed outcome, not the expected one
            return
        assert topology.from_json(json.loads(json.dumps(shown.to_json()))) == shown
        assert max(len(line) for line in topology_text.render(shown).splitlines()) <= 100
