"""A figure over several trials, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.spread import Spread, spread
from numabench.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def count_text(values: Iterable[float | Missing], show: Callable[[float], str] = format_count) -> str:
    """A count over trials, which is exact and has no interval; or why no trial has it."""
    listed = list(values)
    known = spread(value for value in listed if not isinstance(value, Missing))
    if known is not None:
        return spread_text(replace(known, ci95=None), show)
    return f"not known: {next(value.reason for value in listed if isinstance(value, Missing))}"


def spread_text(found: Spread, show: Callable[[float], str]) -> str:
    """`median (low..high; 95 % CI a..b)`, or the one value that all have as far as it is shown."""
    low, high = show(found.low), show(found.high)
    if low == high:
        return low
    ci = f"; 95 % CI {show(found.ci95[0])}..{show(found.ci95[1])}" if found.ci95 else ""
    return f"{show(found.median)} ({low}..{high}{ci})"
