"""The text of a topology: what a reader sees of each captured machine, and how wide it gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from numabench.host import topology
from numabench.host.capture import open_tree
from numabench.host.topology import HugePages, Node, Topology
from numabench.report import topology_text
from numabench.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[1] / "fixtures" / "topology"

HMAT = """\
3 nodes, 2 CPUs in 1 package (2 cores), 1.18 GiB

node  cpus       size       free  tier
   0  0       458 MiB    396 MiB     4
   1  1       504 MiB    476 MiB     4
   2  -       250 MiB    241 MiB     4

distances from (rows) to (columns)
         0  1  2
     0  10 20 20
     1  20 10 20
     2  20 20 10

access to each node's memory from its best initiators, as firmware (HMAT) says
  node  class       from nodes                 read                write
     0      0                0    10 ns, 20480 MB/s    10 ns, 20480 MB/s
     0      1                0    10 ns, 20480 MB/s    10 ns, 20480 MB/s
     1      0                1    10 ns, 20480 MB/s    10 ns, 20480 MB/s
     1      1                1    10 ns, 20480 MB/s    10 ns, 20480 MB/s
     2      0                0     60 ns, 4096 MB/s     60 ns, 4096 MB/s
     2      1                0     60 ns, 4096 MB/s     60 ns, 4096 MB/s

allowed to the caller: CPUs 0-1 (all online); nodes 0-2 (all)

warning: node 2 has no online CPUs
"""


def captured(name: str) -> Topology:
    with open_tree(FIXTURES / f"{name}.tar.xz") as root:
        return topology.read(root)


def large(nodes: int, cpus_of: Callable[[int], range]) -> Topology:
    """A machine of many nodes in groups of eight, on the base of a captured one."""
    ids = range(nodes)
    cpus = tuple(sorted(cpu for node in ids for cpu in cpus_of(node)))
    pools = (HugePages(page_bytes=2 << 20, total=51200, free=51200), HugePages(page_bytes=GIB, total=100, free=100))
    return replace(
        captured("1n"),
        nodes=tuple(Node(node, tuple(cpus_of(node)), (), True, 512 * GIB, 500 * GIB, pools, 4, ()) for node in ids),
        distances=tuple(tuple(10 if a == b else 16 if a // 8 == b // 8 else 32 for b in ids) for a in ids),
        online_cpus=cpus,
        allowed_cpus=cpus[::2],
        allowed_nodes=tuple(ids[::2]),
    )


def warnings(shown: Topology) -> list[str]:
    return [line for line in topology_text.render(shown).splitlines() if line.startswith("warning: ")]


def test_the_whole_text_of_a_machine_with_a_firmware_table() -> None:
    assert topology_text.render(captured("hmat")) == HMAT


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1n", ["warning: only node 0 has memory: there is no other node to migrate pages to"]),
        ("2n-smt", []),
        ("4n-ring", []),
        ("8n", []),
        ("cpuless", ["warning: node 2 has no online CPUs"]),
        ("memless", ["warning: node 2 has no memory"]),
        ("offline", ["warning: CPU 1 is offline (node 0)", "warning: CPU 3 is offline (node 1)"]),
        (
            "cpuset",
            [
                "warning: node 1 is outside the caller's cpuset",
                "warning: CPUs 2-3 are not allowed to the caller (node 1)",
            ],
        ),
    ],
)
def test_what_is_unusual_is_said_and_nothing_else(name: str, said: list[str]) -> None:
    assert warnings(captured(name)) == said


def test_limits_of_a_cpuset_are_shown_without_the_word_all() -> None:
    assert "allowed to the caller: CPUs 0-1; nodes 0\n" in topology_text.render(captured("cpuset"))


def test_huge_pages_are_listed_where_there_are_any() -> None:
    assert "huge pages\n  node 1: 8 of 2 MiB, 8 free\n" in topology_text.render(captured("offline"))
    assert "huge pages" not in topology_text.render(captured("2n-smt"))


@pytest.mark.parametrize("nodes", [8, 16, 24, 64, 256])
@pytest.mark.parametrize("interleaved", [True, False])
def test_large_machines_fit_100_columns_with_every_node_named(nodes: int, interleaved: bool) -> None:
    cpus_of = (
        (lambda node: range(node, nodes * 16, nodes))
        if interleaved
        else (lambda node: range(node * 16, node * 16 + 16))
    )
    lines = topology_text.render(large(nodes, cpus_of)).splitlines()
    assert max(len(line) for line in lines) <= 100
    table = lines[lines.index("") + 2 : lines.index("", lines.index("") + 1)]
    assert [int(line[:4]) for line in table if line[:4].strip()] == [*range(nodes)]


def test_distances_too_wide_for_a_matrix_become_a_line_a_node() -> None:
    text = topology_text.render(large(64, lambda node: range(node * 16, node * 16 + 16)))
    assert "  node 9     10: 9 | 16: 8,10-15 | 32: 0-7,16-63\n" in text
    assert "distances from (rows)" not in text


def test_unknown_distances_are_question_marks() -> None:
    shown = replace(captured("2n-smt"), distances=((10, 20), (None, None)))
    assert "     1   ?  ?\n" in topology_text.render(shown)
