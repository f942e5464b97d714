"""Small pictures as SVG: memory over time, bars of shares, ratios with intervals. The style sheet has the colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from numabench.analysis.residency import ELSEWHERE
from numabench.report.html.element import Html, join, tag
from numabench.report.sparkline import resample
from numabench.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.residency import NodeMemory

_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 640, 170, 76, 22, 8
_COLUMNS = 140
_COLOURS = 8
# Ratios of the scale: from a quarter to four times.
_WIDEST = 4.0


def memory_chart(memory: NodeMemory, caption: str, high: float | None = None) -> Html:
    """A line a node, with a legend that has its first and last amount. `high` is the top of the scale."""
    end_s = max(memory.times_s[-1], 1e-9)
    top = high or memory_high(memory)
    show = format_bytes if memory.is_scaled else lambda share: f"{100 * share:.0f} %"
    grid = [_rule(top * part / 2, top, show(top * part / 2)) for part in range(3)]
    lines, legend = [], []
    for place, node in enumerate(memory.nodes):
        amounts = memory.of_node(node)
        if node == ELSEWHERE and not any(amounts):
            continue
        name = "elsewhere" if node == ELSEWHERE else f"node {node}"
        look = f"line n{place % _COLOURS} d{place // _COLOURS % 3}"
        lines.append(tag("path", d=_path(memory.times_s, amounts, end_s, top), class_=look))
        swatch = tag(
            "svg", tag("path", d="M0 5H26", class_=look), class_="swatch", viewBox="0 0 26 10", aria_hidden="true"
        )
        legend.append(tag("li", swatch, f"{name}: {show(amounts[0])} to {show(amounts[-1])}"))
    times = [
        tag("text", "0 s", x=_LEFT, y=_HEIGHT - 6, class_="tick"),
        tag("text", format_seconds(end_s), x=_WIDTH, y=_HEIGHT - 6, class_="tick end"),
    ]
    picture = tag(
        "svg", *grid, *lines, *times, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="chart", role="img", aria_label=caption
    )
    return tag("figure", tag("figcaption", caption), picture, tag("ul", *legend, class_="legend"))


def memory_high(memory: NodeMemory) -> float:
    """The most that all nodes together held: the top of a scale that several charts can share."""
    return max(sum(row) for row in memory.amounts) or 1.0


def _rule(amount: float, top: float, label: str) -> Html:
    y = _y(amount, top)
    line = tag("path", d=f"M{_LEFT} {y:.1f}H{_WIDTH}", class_="rule")
    return join([line, tag("text", label, x=_LEFT - 6, y=f"{y + 4:.1f}", class_="tick end")])


def _y(amount: float, top: float) -> float:
    return _HEIGHT - _BELOW - (_HEIGHT - _BELOW - _ABOVE) * min(max(amount / top, 0.0), 1.0)


def _path(times_s: Sequence[float], amounts: Sequence[float], end_s: float, top: float) -> str:
    """Steps: what was seen holds until the next sample."""
    seen = resample(times_s, amounts, _COLUMNS, end_s)
    wide = (_WIDTH - _LEFT) / _COLUMNS
    path = f"M{_LEFT} {_y(seen[0], top):.1f}"
    for column in range(1, _COLUMNS):
        if seen[column] != seen[column - 1]:
            path += f"H{_LEFT + column * wide:.1f}V{_y(seen[column], top):.1f}"
    return f"{path}H{_WIDTH}"


def bar(share: float, waiting: float, whole: float, look: str) -> Html:
    """A bar for a share of `whole`, its part that waits for locks hatched."""
    whole = whole or 1.0
    parts = [tag("rect", width=f"{100 * share / whole:.2f}", height=10, class_=look)]
    if waiting:
        parts.append(
            tag(
                "rect",
                x=f"{100 * (share - waiting) / whole:.2f}",
                width=f"{100 * waiting / whole:.2f}",
                height=10,
                class_="hatch",
            )
        )
    return tag("svg", *parts, class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")


# The hatch that `bar` refers to, once a page.
HATCH = tag(
    "svg",
    tag(
        "defs",
        tag(
            "pattern",
            tag("path", d="M0 0H1.2V10H0Z", class_="stripe"),
            id="hatch",
            width=2.4,
            height=10,
            patternUnits="userSpaceOnUse",
        ),
    ),
    class_="defs",
    aria_hidden="true",
)


def forest(ratio: float | None, ci95: tuple[float, float] | None, look: str) -> Html:
    """A ratio as a dot and its interval as a line, on a logarithmic scale from a quarter to four times.

    What is beyond is an arrow.
    """
    parts = [tag("path", d="M50 0V16", class_="one")]
    if ci95 is not None and ci95[0] > 0:
        parts.append(tag("path", d=f"M{_x(ci95[0]):.1f} 8H{_x(ci95[1]):.1f}", class_=f"interval {look}"))
    if ratio is not None and ratio > _WIDEST:
        parts.append(tag("path", d="M99 8L91 3V13Z", class_=look))
    elif ratio is not None and ratio < 1 / _WIDEST:
        parts.append(tag("path", d="M1 8L9 3V13Z", class_=look))
    elif ratio is not None:
        parts.append(tag("circle", cx=f"{_x(ratio):.1f}", cy=8, r=3.2, class_=look))
    return tag("svg", *parts, class_="forest", viewBox="0 0 100 16", aria_hidden="true")


def _x(ratio: float) -> float:
    return min(max(50 + 46 * math.log(ratio) / math.log(_WIDEST), 1.0), 99.0)
