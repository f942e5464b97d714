"""The picture of a topology: whole, and no text over the edge of its box."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from numabench.errors import NumabenchError
from numabench.host import topology
from numabench.host.capture import open_tree
from numabench.report import topology_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from numabench.host.topology import Topology

FIXTURES = Path(__file__).parents[1] / "fixtures" / "topology"
MACHINES = ("1n", "2n-smt", "4n-ring", "8n", "cpuless", "memless", "cpuset")


def captured(name: str) -> Topology:
    with open_tree(FIXTURES / f"{name}.tar.xz") as root:
        return topology.read(root)


def crowded(nodes: int) -> Topology:
    """A machine whose boxes hold as much text as there can be: long CPU lists, sizes, and a tier."""
    one = captured("1n").nodes[0]
    ids = range(nodes)
    return replace(
        captured("1n"),
        nodes=tuple(
            replace(
                one,
                id=node,
                cpus=(*range(1000 + 8 * node, 1008 + 8 * node), *range(3000 + 8 * node, 3008 + 8 * node)),
                size_bytes=1023 << 30,
                free_bytes=1022 << 30,
                memory_tier=node,
            )
            for node in ids
        ),
        distances=tuple(tuple(10 if a == b else 255 for b in ids) for a in ids),
        allowed_nodes=tuple(ids),
    )


def assert_texts_stand_in_their_boxes(axes: Axes, nodes: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    whole = axes.figure
    whole.canvas.draw()
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    texts = [text.get_window_extent() for text in axes.texts]
    assert (len(boxes), len(texts)) == (nodes, 2 * nodes)
    for index, box in enumerate(boxes):
        title, body = texts[2 * index : 2 * index + 2]
        for text in (title, body):
            assert box.x0 <= text.x0
            assert text.x1 <= box.x1
            assert box.y0 <= text.y0
            assert text.y1 <= box.y1
        assert body.y1 <= title.y0
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])


@pytest.mark.parametrize("name", MACHINES)
def test_boxes_and_their_texts_do_not_overlap(name: str) -> None:
    shown = captured(name)
    assert_texts_stand_in_their_boxes(topology_png.figure(shown).axes[0], len(shown.nodes))


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 6, 7, 8, 9, 16, 64])
def test_boxes_full_of_text_hold_it(nodes: int) -> None:
    assert_texts_stand_in_their_boxes(topology_png.figure(crowded(nodes)).axes[0], nodes)


def test_every_distance_of_the_matrix_is_written() -> None:
    shown = captured("4n-ring")
    written = [text.get_text() for text in topology_png.figure(shown).axes[1].texts]
    assert written == [str(value) for row in shown.distances for value in row]


def test_a_matrix_too_large_for_numbers_has_a_key_to_its_colours() -> None:
    axes = topology_png.figure(crowded(64)).axes[1]
    legend = axes.get_legend()
    assert not axes.texts
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["10", "255"]


def test_the_file_is_a_png_of_some_size(tmp_path: Path) -> None:
    path = tmp_path / "machine.png"
    topology_png.write(captured("4n-ring"), path)
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert width > 800
    assert height > 400


def test_a_picture_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(NumabenchError, match=r"cannot write .*: No such file or directory"):
        topology_png.write(captured("1n"), tmp_path / "absent" / "machine.png")
