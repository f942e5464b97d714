"""A flame graph as one SVG file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape as escape_xml

from numabench.report.escape import escape
from numabench.units import format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numabench.analysis.callchain import Stack

_WIDTH_PX, _ROW_PX, _HEAD_PX, _SIDE_PX = 1200.0, 17, 46, 10
_CHAR_PX = 6.7  # of a 11 px monospaced letter; a label that would not fit is cut or left out
_NARROWEST_PX = 0.3
_KERNEL, _USER = (24, 78), (205, 45)


@dataclass(slots=True)
class _Box:
    samples: int = 0
    kernel: bool = False
    children: dict[tuple[str, bool], _Box] = field(default_factory=dict)

    def child(self, name: str, kernel: bool) -> _Box:
        key = (name, kernel)
        if key not in self.children:
            self.children[key] = _Box(kernel=kernel)
        return self.children[key]


def render(stacks: Iterable[Stack], title: str) -> str:
    """The flame graph of stacks: commands below, who called above whom, widths by samples, names in order.

    Frames of the kernel are warm, of user space cold; a frame narrower than a third of a pixel is left out. Each has
    its full name, samples and share as a tooltip.
    """
    root = _Box()
    for stack in stacks:
        root.samples += stack.samples
        box = root.child(stack.comm or "[unknown]", False)
        box.samples += stack.samples
        for depth in range(len(stack.frames) - 1, -1, -1):
            box = box.child(stack.frames[depth], depth < stack.kernel_frames)
            box.samples += stack.samples
    unit_px = (_WIDTH_PX - 2 * _SIDE_PX) / root.samples if root.samples else 0.0
    boxes = list(_place(root, unit_px))
    rows = max((row for *_, row in boxes), default=0) + 1
    height = _HEAD_PX + rows * _ROW_PX + _SIDE_PX
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_PX:.0f}" height="{height}" '
            f'viewBox="0 0 {_WIDTH_PX:.0f} {height}" font-family="monospace" font-size="11">'
        ),
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_SIDE_PX}" y="20" font-size="14">{_text(title)}</text>',
        (
            f'<text x="{_SIDE_PX}" y="37" fill="#555">{format_count(root.samples)} samples; kernel frames are orange, '
            "user frames blue</text>"
        ),
    ]
    lines += [_draw(box, total=root.samples, bottom=height - _SIDE_PX) for box in boxes]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _place(root: _Box, unit_px: float) -> Iterator[tuple[str, _Box, float, float, int]]:
    """Every box wide enough to see: name, box, left edge and width in px, row.

    Chains may be deeper than Python recurses.
    """
    waiting = [(root, float(_SIDE_PX), 0)]
    while waiting:
        below, left, row = waiting.pop()
        for (name, _), box in sorted(below.children.items(), key=lambda item: item[0]):
            width = box.samples * unit_px
            if width >= _NARROWEST_PX:
                yield name, box, left, width, row
                waiting.append((box, left, row + 1))
            left += width


def _draw(placed: tuple[str, _Box, float, float, int], total: int, bottom: float) -> str:
    name, box, left, width, row = placed
    top = bottom - (row + 1) * _ROW_PX
    letters = int((width - 6) / _CHAR_PX)
    shown = escape(name)
    label = shown if len(shown) <= letters else shown[: letters - 2] + ".." if letters > 3 else ""
    words = f'<text x="{left + 3:.1f}" y="{top + 12:.0f}">{_text(label)}</text>' if label else ""
    share = f"{format_count(box.samples)} samples, {box.samples * 100 / total:.2f} %"
    return (
        f'<g><title>{_text(f"{shown}: {share}")}</title><rect x="{left:.2f}" y="{top:.0f}" width="{width:.2f}" '
        f'height="{_ROW_PX - 1}" rx="1" fill="{_colour(name, box, row)}"/>{words}</g>'
    )


def _colour(name: str, box: _Box, row: int) -> str:
    """A hue for each side, its lightness from the name: the same function looks the same in every graph."""
    if row == 0:
        return "hsl(0,0%,86%)"
    hue, saturation = _KERNEL if box.kernel else _USER
    spread = sum(name.encode()) % 32
    return f"hsl({hue + spread // 4},{saturation}%,{64 + spread % 17}%)"


def _text(text: str) -> str:
    return escape_xml(escape(text))
