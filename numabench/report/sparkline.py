"""Curves in a line or two of text, from the block characters of Unicode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_STEPS = len(_BLOCKS) - 1


def resample(times: Sequence[float], values: Sequence[float], width: int, end: float) -> tuple[float, ...]:
    """A value for each of `width` equal parts of the time from 0 to `end`: the last that was known by its middle.

    Before the first time it is the first value. `times` rise; there is at least one.
    """
    found = []
    place = 0
    for column in range(width):
        middle = end * (column + 0.5) / width
        while place + 1 < len(times) and times[place + 1] <= middle:
            place += 1
        found.append(values[place])
    return tuple(found)


def sparkline(values: Sequence[float], high: float, rows: int = 1) -> tuple[str, ...]:
    """Lines of text, top first, that draw values between 0 and `high`; each row has eight steps.

    What is above zero is never drawn as nothing.
    """
    whole = _STEPS * rows
    levels = []
    for value in values:
        share = value / high if high > 0 else 0.0
        level = round(min(max(share, 0.0), 1.0) * whole)
        levels.append(max(level, 1) if value > 0 else 0)
    return tuple(
        "".join(_BLOCKS[min(max(level - below, 0), _STEPS)] for level in levels)
        for below in range(whole - _STEPS, -1, -_STEPS)
    )
