"""What a kernel that is known to be another does tonight, and no cell of the machine was ever seen to do before.

Of a figure that was 0 in every boot, sizes say nothing: how far it may vary was never seen. What can be asked is if the
boots that have it would all be of that kernel and night if they were any. It is Fisher's exact test of a table in which
no other boot has any (Statistical Methods for Research Workers, 5th edition, 1934, section 21.02).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# A boot more or less of a kernel is no evidence: all of tonight's boots of a cell must have it, and so many.
MIN_BOOTS = 3
# Of all such figures of a night. The kernel is known to be another: that it does something else is no surprise.
FDR = 0.02
LEVEL = 1e-3


@dataclass(frozen=True)
class Appeared:
    """The rows of a figure's cells that have it in every boot tonight; p by itself, q among those of the night."""

    rows: tuple[int, ...]
    p: float
    q: float


def find(
    figures: Iterable[tuple[Sequence[Mapping[str, tuple[float, ...]]], Sequence[int]]], night: str
) -> list[Appeared]:
    """What appeared in each figure, as its rows' boots by night are, up to `night`, and which rows' kernel is another.

    An empty one stands for a figure of which nothing can be said, or which did not appear.
    """
    from scipy.stats import false_discovery_control

    tests = [_test(boots, changed, night) for boots, changed in figures]
    asked = [place for place, (p, _) in enumerate(tests) if p is not None]
    rates = (
        dict(zip(asked, false_discovery_control([tests[place][0] for place in asked]), strict=True)) if asked else {}
    )
    found = []
    for place, (p, rows) in enumerate(tests):
        q = float(rates.get(place, 1.0))
        is_found = p is not None and p <= LEVEL and q <= FDR
        found.append(Appeared(rows if is_found else (), 1.0 if p is None else p, q))
    return found


def _test(
    boots: Sequence[Mapping[str, tuple[float, ...]]], changed: Sequence[int], night: str
) -> tuple[float | None, tuple[int, ...]]:
    """The p-value of one figure, None where others had it, too; and the rows that have it in all of tonight's boots."""
    tonight = {row: boots[row].get(night, ()) for row in changed}
    others = [
        value
        for row, by_night in enumerate(boots)
        for name, values in by_night.items()
        if name < night or (name == night and row not in tonight)
        for value in values
    ]
    count = sum(map(len, tonight.values()))
    if any(others) or not others or not count:
        return None, ()
    have = sum(value != 0 for values in tonight.values() for value in values)
    p = math.comb(count, have) / math.comb(count + len(others), have)
    return p, tuple(row for row, values in tonight.items() if len(values) >= MIN_BOOTS and all(values))
