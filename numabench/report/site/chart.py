"""Series as pictures: points, boots, levels with their intervals, and where they changed.

Positions are whole numbers, and each point is a line of no length with a round end, moved to from the one before: two
years of nights are some kilobytes. Colours are the style sheet's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.report.html.element import Html, join, tag
from numabench.report.nightly import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numabench.analysis.history.types import Change, Point, SeriesVerdict

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _ABOVE, _BELOW = 1440, 520, 250, 14, 44, 62
RECENT, _SPARK_WIDTH, _SPARK_HEIGHT = 60, 130, 26
# A scale that one outlier stretches by more than this shows it at its edge.
_STRETCH = 6.0
_SAME = 1e-6
# Units in which an amount is scaled; others stand in the caption.
_IN_AMOUNT = frozenset(("s", "ns", "B", "bytes", "share"))


class Scale:
    """Where a night and a value are in a picture; `places` says which night is where, from 0."""

    def __init__(self, places: Mapping[str, int], low: float, high: float) -> None:
        self._places, self._step = places, (_WIDTH - _LEFT - _RIGHT) / max(len(places), 1)
        self.low, self.high = low, high

    def x(self, night: str) -> int:
        """The middle of a night."""
        return round(_LEFT + (self._places[night] + 0.5) * self._step)

    def begin(self, night: str) -> int:
        """Where a night begins."""
        return round(_LEFT + self._places[night] * self._step)

    def y(self, value: float) -> int:
        """A value, held to the scale."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BELOW - share * (_HEIGHT - _BELOW - _ABOVE))

    def is_beyond(self, value: float) -> bool:
        """Whether a value is not on the scale."""
        return not self.low <= value <= self.high


def series_chart(figure: SeriesVerdict, nights: Sequence[str], *, with_boots: bool = True) -> Html:
    """A figure over all nights of the lab."""
    places = {night: place for place, night in enumerate(nights)}
    points = [point for point in figure.points if point.night in places]
    if not points:
        return tag("p", "No night has this figure.", class_="note")
    scale = Scale(places, *_range(figure, points))
    parts = [*_grid(scale, figure.unit), *_dates(nights), *_levels(scale, figure, points)]
    if with_boots:
        boots = ((scale.x(point.night), scale.y(boot)) for point in points for boot in point.boots)
        parts.append(_dots("boots", boots))
    inside = [point for point in points if not scale.is_beyond(point.value)]
    parts.append(_dots("points", ((scale.x(point.night), scale.y(point.value)) for point in inside)))
    parts += [_beyond(scale, point) for point in points if scale.is_beyond(point.value)]
    parts += [_mark(scale, figure, change) for change in figure.changes if change.night in places]
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        class_="chart",
        role="img",
        aria_label=_described(figure, points),
    )


def _range(figure: SeriesVerdict, points: Sequence[Point]) -> tuple[float, float]:
    """The scale's ends: all that there is, unless few values would squeeze the others."""
    values = sorted(point.value for point in points)
    levels = [level for change in figure.changes for level in (change.before, change.after)]
    low, high = values[0], values[-1]
    cut = len(values) // 20
    core = (min(values[cut], *levels, figure.level), max(values[len(values) - 1 - cut], *levels, figure.level))
    spread = core[1] - core[0]
    if spread > 0 and high - low > _STRETCH * spread:
        low, high = max(low, core[0] - spread), min(high, core[1] + spread)
    low, high = min(low, core[0]), max(high, core[1])
    # What differs by less than a figure is rounded to is one value.
    same = high - low <= _SAME * max(abs(high), abs(low))
    margin = (abs(high) * 0.05 or 1.0) if same else (high - low) * 0.06
    return (low - margin if low - margin > 0 or low < 0 else min(low, 0.0)), high + margin


def _grid(scale: Scale, unit: str) -> Iterable[Html]:
    for part in (0.0, 0.5, 1.0):
        value = scale.low + part * (scale.high - scale.low)
        y = scale.y(value)
        yield _path("rule", f"M{_LEFT} {y}H{_WIDTH - _RIGHT}")
        yield tag(
            "text", words.amount(value, unit if unit in _IN_AMOUNT else ""), x=_LEFT - 14, y=y + 8, class_="tick end"
        )


def _dates(nights: Sequence[str]) -> Iterable[Html]:
    """The first and the last night."""
    yield tag("text", nights[0], x=_LEFT, y=_HEIGHT - 8, class_="tick")
    if len(nights) > 1:
        yield tag("text", nights[-1], x=_WIDTH - _RIGHT, y=_HEIGHT - 8, class_="tick end")


def _levels(scale: Scale, figure: SeriesVerdict, points: Sequence[Point]) -> Iterable[Html]:
    """A line a level; below each but the first the 95 % interval of its size, from that of the level before."""
    changes = [change for change in figure.changes if change.night in {point.night for point in points}]
    begins = [scale.begin(points[0].night), *(scale.begin(change.night) for change in changes)]
    ends = [*begins[1:], scale.x(points[-1].night) + 6]
    values = [changes[0].before if changes else figure.level, *(change.after for change in changes)]
    for begin, end, change in zip(begins[1:], ends[1:], changes, strict=True):
        if change.ratio_low is not None and change.ratio_high is not None:
            top, bottom = scale.y(change.before * change.ratio_high), scale.y(change.before * change.ratio_low)
            yield tag("rect", x=begin, y=top, width=max(end - begin, 1), height=max(bottom - top, 1), class_="interval")
    lines = zip(begins, ends, values, strict=True)
    yield _path("level", "".join(f"M{begin} {scale.y(value)}H{max(end, begin + 4)}" for begin, end, value in lines))


def _dots(look: str, places: Iterable[tuple[int, int]]) -> Html:
    drawn: list[str] = []
    last = (0, 0)
    for x, y in places:
        # The first is from the picture's corner.
        drawn.append(f"m{x - last[0]} {y - last[1]}h0")
        last = (x, y)
    return _path(look, "".join(drawn))


def _beyond(scale: Scale, point: Point) -> Html:
    x, above = scale.x(point.night), point.value > scale.high
    tip, foot = (_ABOVE - 12, _ABOVE + 4) if above else (_HEIGHT - _BELOW + 12, _HEIGHT - _BELOW - 4)
    return _path("beyond", f"M{x} {tip}L{x - 9} {foot}H{x + 9}Z")


def levels(change: Change, unit: str) -> str:
    """From where to where."""
    return words.levels(change, unit).replace("->", "\N{RIGHTWARDS ARROW}")


def look(change: Change) -> str:
    """What a change looks like: as it is, or known."""
    return "known" if change.acknowledged else change.direction


# From the middle of its foot: worse is a triangle, better a disc, neither a diamond. What is known is hollow, dashed.
_SHAPES = {"worse": "h-14l14-26l14 26Z", "better": "m0-24a12 12 0 1 0 .1 0Z", "changed": "l-13-13l13-13l13 13Z"}


def _mark(scale: Scale, figure: SeriesVerdict, change: Change) -> Html:
    x = scale.begin(change.night)
    told = f"{change.night}: {levels(change, figure.unit)} {words.size(change)} {described(change)}"
    line = _path(f"mark {look(change)}", f"M{x} {_ABOVE - 6}V{_HEIGHT - _BELOW}")
    sign = _path(f"mark {look(change)}", f"M{x} {_ABOVE - 8}{_SHAPES[change.direction]}")
    return tag("g", tag("title", told), line, sign)


def described(change: Change) -> str:
    """Which way a change is, in words."""
    return f"{change.direction}, known: {change.acknowledged}" if change.acknowledged else change.direction


def key_sign(direction: str, *, known: bool = False) -> Html:
    """A change's mark, for a legend."""
    shape = _path("mark known" if known else f"mark {direction}", f"M17 30{_SHAPES[direction]}")
    return tag("svg", shape, class_="key", viewBox="0 0 34 34", aria_hidden="true")


def key_path(look: str, path: str) -> Html:
    """A part of the picture, for a legend."""
    return tag("svg", _path(look, path), class_="key", viewBox="0 0 68 32", aria_hidden="true")


def _path(look: str, path: str) -> Html:
    """A path of ours, which may be long."""
    return Html(f'<path class="{look}" d="{path}"/>')


def _described(figure: SeriesVerdict, points: Sequence[Point]) -> str:
    """The picture in words."""
    values = [point.value for point in points]
    ends = f"{words.amount(min(values), figure.unit)} to {words.amount(max(values), figure.unit)}"
    told = [f"{figure.label} in {words.count(len(points), 'night')}, {points[0].night} to {points[-1].night}: {ends}"]
    told += [f"{change.night}: {levels(change, figure.unit)} ({described(change)})" for change in figure.changes[-5:]]
    return "; ".join(told)


def sparkline(figure: SeriesVerdict, nights: Sequence[str]) -> Html:
    """A figure's last nights as a small line, with a bar where its level changed."""
    recent = nights[-RECENT:]
    places = {night: place for place, night in enumerate(recent)}
    points = [point for point in figure.points if point.night in places]
    values = [point.value for point in points] or [0.0]
    low, high = min(values), max(values)

    def x(night: str) -> float:
        return 3 + places[night] * (_SPARK_WIDTH - 7) / max(len(recent) - 1, 1)

    def y(value: float) -> float:
        return _SPARK_HEIGHT - 4 - (value - low) / ((high - low) or 1.0) * (_SPARK_HEIGHT - 8)

    marks = [
        _path(f"mark {look(change)}", f"M{x(change.night):.0f} 1V{_SPARK_HEIGHT - 1}")
        for change in figure.changes
        if change.night in places
    ]
    line = " ".join(f"{x(point.night):.0f} {y(point.value):.1f}" for point in points)
    parts = [*marks, _path("line", f"M{line}")] if points else []
    if points:
        parts.append(tag("circle", cx=f"{x(points[-1].night):.0f}", cy=f"{y(points[-1].value):.1f}", r=2.4))
    told = f"{figure.label}, last {words.count(len(points), 'night')}"
    told += f": {words.amount(low, figure.unit)} to {words.amount(high, figure.unit)}" if points else ""
    return tag(
        "svg",
        join(parts),
        class_="spark",
        viewBox=f"0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}",
        role="img",
        aria_label=told,
    )
