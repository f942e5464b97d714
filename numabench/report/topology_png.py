"""A topology as a picture: a box for each node, lines and a matrix for the distances."""

from __future__ import annotations

import math
from textwrap import wrap
from typing import TYPE_CHECKING

from numabench.errors import NumabenchError
from numabench.idset import format_ids
from numabench.report import png_file
from numabench.report.topology_text import headline
from numabench.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from numabench.host.topology import Node, Topology

    Shade = Callable[[int], tuple[float, float, float, float]]

MAX_RING = 8  # more boxes stand in a grid, without lines between them
MAX_NUMBERS = 16  # larger matrices show colours alone

_BOX_WIDTH, _BOX_HEIGHT = 2.1, 1.15
_BOTH, _NO_MEMORY, _NO_CPUS = "#dbe9f6", "#eeeeee", "#fbe3c8"
_CPU_TEXT_WIDTH = 20


def write(topology: Topology, path: Path) -> None:
    """Draw the topology into a PNG file. Raises `NumabenchError` where it cannot be written."""
    try:
        png_file.save(figure(topology), path)
    except OSError as error:
        raise NumabenchError(f"cannot write {path}: {error.strerror}") from None


def figure(topology: Topology) -> Figure:
    """The picture as a matplotlib figure that belongs to no window."""
    from matplotlib.figure import Figure

    places = _places(len(topology.nodes))
    right, top = (max(place[axis] for place in places) for axis in (0, 1))
    left, bottom = (min(place[axis] for place in places) for axis in (0, 1))
    width, height = right - left + _BOX_WIDTH + 0.4, max(top - bottom + _BOX_HEIGHT + 0.4, 3.6)
    matrix = min(height, 1.6 + 0.55 * len(places))
    whole = Figure(figsize=(width + matrix + 1.2, height + 1.2), dpi=100, facecolor="white")
    boxes, square = whole.subplots(1, 2, width_ratios=(width, matrix))
    whole.suptitle(headline(topology), fontsize=12)
    shade = _shades(topology)
    _draw_nodes(boxes, topology, places, shade)
    _draw_matrix(square, topology, shade)
    whole.tight_layout()
    return whole


def _places(count: int) -> list[tuple[float, float]]:
    """Where the boxes' centres are: in a row for two, in a ring up to `MAX_RING`, else in a grid read by lines."""
    if count <= 2:
        return [(index * 3.4, 0.0) for index in range(count)]
    if count <= MAX_RING:
        radius = {3: 1.9, 4: 2.1}.get(count, 0.36 * count + 0.6)
        turn = math.pi / 4 if count == 4 else 0.0
        angles = [math.pi / 2 + turn - 2 * math.pi * index / count for index in range(count)]
        return [(1.35 * radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]
    columns = math.ceil(math.sqrt(count))
    return [
        (index % columns * (_BOX_WIDTH + 0.25), -(index // columns) * (_BOX_HEIGHT + 0.25)) for index in range(count)
    ]


def _shades(topology: Topology) -> Shade:
    """A colour for each distance, the farther the darker."""
    from matplotlib import colormaps

    known = [value for row in topology.distances for value in row if value is not None] or [10]
    near, far = min(known), max(*known, min(known) + 20)
    colours = colormaps["viridis_r"]
    return lambda distance: colours(0.08 + 0.72 * (distance - near) / (far - near))


def _draw_nodes(axes: Axes, topology: Topology, places: Sequence[tuple[float, float]], shade: Shade) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    xs, ys = zip(*places, strict=True)
    axes.set_xlim(min(xs) - _BOX_WIDTH / 2 - 0.15, max(xs) + _BOX_WIDTH / 2 + 0.15)
    axes.set_ylim(min(ys) - _BOX_HEIGHT / 2 - 0.15, max(ys) + _BOX_HEIGHT / 2 + 0.15)
    if len(places) <= MAX_RING:
        _draw_lines(axes, topology, places, shade)
    tiers = {node.memory_tier for node in topology.nodes}
    for node, place in zip(topology.nodes, places, strict=True):
        _draw_node(axes, node, place, is_allowed=node.id in topology.allowed_nodes, with_tier=len(tiers) > 1)
    _draw_legend(axes, topology)


def _draw_lines(axes: Axes, topology: Topology, places: Sequence[tuple[float, float]], shade: Shade) -> None:
    """A line for each pair of nodes, the nearest thick and above the others."""
    from matplotlib.lines import Line2D

    far_to_near = sorted(
        (
            (value, source, target)
            for source, row in enumerate(topology.distances)
            for target, value in enumerate(row[:source])
            if value is not None
        ),
        reverse=True,
    )
    nearest = far_to_near[-1][0] if far_to_near else 0
    for value, source, target in far_to_near:
        ends = zip(places[source], places[target], strict=True)
        width = 3.5 if value == nearest else 1.2
        axes.add_line(Line2D(*ends, color=shade(value), linewidth=width, zorder=1, solid_capstyle="butt"))


def _draw_node(axes: Axes, node: Node, place: tuple[float, float], *, is_allowed: bool, with_tier: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = place
    axes.add_patch(
        FancyBboxPatch(
            (x - _BOX_WIDTH / 2, y - _BOX_HEIGHT / 2),
            _BOX_WIDTH,
            _BOX_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=_face(node),
            edgecolor="#3b5068",
            linestyle="solid" if is_allowed else "dashed",
            linewidth=1.3,
            zorder=2,
        )
    )
    axes.text(
        x, y + _BOX_HEIGHT * 0.31, f"node {node.id}", ha="center", va="center", weight="bold", fontsize=10, zorder=3
    )
    tier = [f"tier {node.memory_tier}"] if with_tier and node.memory_tier is not None else []
    lines = [*_cpu_lines(node), _memory_line(node), *tier]
    axes.text(x, y - _BOX_HEIGHT * 0.12, "\n".join(lines), ha="center", va="center", fontsize=8.5, zorder=3)


def _face(node: Node) -> str:
    if not node.has_memory:
        return _NO_MEMORY
    return _BOTH if node.has_cpus else _NO_CPUS


def _cpu_lines(node: Node) -> list[str]:
    if not node.cpus:
        return ["no CPUs"]
    name = "CPU" if len(node.cpus) == 1 else "CPUs"
    lines = wrap(f"{name} {format_ids(node.cpus)}".replace(",", ", "), _CPU_TEXT_WIDTH)
    return lines if len(lines) <= 2 else [f"{len(node.cpus)} CPUs", f"{node.cpus[0]} ... {node.cpus[-1]}"]


def _memory_line(node: Node) -> str:
    if not node.memory_known:
        return "memory unknown"
    if not node.size_bytes:
        return "no memory"
    return f"{format_bytes(node.size_bytes)}, {format_bytes(node.free_bytes)} free"


def _draw_legend(axes: Axes, topology: Topology) -> None:
    """What the boxes' colours and outlines mean, for those that are not ordinary."""
    from matplotlib.patches import Patch

    unlike = {_face(node): node for node in topology.nodes if _face(node) != _BOTH}
    names = {_NO_MEMORY: "no memory", _NO_CPUS: "no CPUs"}
    handles = [Patch(facecolor=face, edgecolor="#3b5068", label=names[face]) for face in unlike]
    if len(topology.allowed_nodes) < len(topology.nodes):
        handles.append(Patch(facecolor="white", edgecolor="#3b5068", linestyle="dashed", label="outside the cpuset"))
    if handles:
        axes.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=len(handles),
            frameon=False,
            fontsize=8,
        )


def _draw_matrix(axes: Axes, topology: Topology, shade: Shade) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    count = len(topology.nodes)
    labels = [str(node.id) for node in topology.nodes]
    size = 7 if count > MAX_RING else 9
    axes.set_title("distance from (row) to (column)", fontsize=9)
    axes.set_xlim(0, count)
    axes.set_ylim(count, 0)
    axes.set_aspect("equal")
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=size if count <= MAX_NUMBERS else 5)
    axes.set_xticks([index + 0.5 for index in range(count)], labels, rotation=90 if count > MAX_NUMBERS else 0)
    axes.set_yticks([index + 0.5 for index in range(count)], labels)
    for row, values in enumerate(topology.distances):
        for column, value in enumerate(values):
            colour = "white" if value is None else shade(value)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white"))
            if count <= MAX_NUMBERS:
                ink = "white" if sum(to_rgb(colour)) < 1.3 else "black"
                shown = "?" if value is None else str(value)
                axes.text(column + 0.5, row + 0.5, shown, ha="center", va="center", color=ink, fontsize=size)
    if count > MAX_NUMBERS:
        _draw_colour_key(axes, topology, shade)


def _draw_colour_key(axes: Axes, topology: Topology, shade: Shade) -> None:
    from matplotlib.patches import Patch

    known = sorted({value for row in topology.distances for value in row if value is not None})
    handles = [Patch(facecolor=shade(value), label=str(value)) for value in known]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=8, frameon=False, fontsize=9)
