"""A series cut into levels: the cuts that PELT proposes and a test confirms, and one of the last nights.

PELT (`segments`) looks at the whole history at once and asks a penalty of each new level, in units of the median
absolute first difference. It does not see a level before it has lasted for a week. What began within the last nights is
looked for apart: each of the last splits is tested against the level that was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.analysis.history import noise as noises
from numabench.analysis.history import shift as shifts
from numabench.analysis.history.segments import absolute_costs, best_cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from numabench.analysis.history.noise import Noise
    from numabench.analysis.history.shift import Shift

    Floats = NDArray[Any]

PENALTY = 2.0
# A level has so many nights: one outlier, or two, are none.
SHORTEST = 3
# A change is news for a week.
NEW_NIGHTS = 7
# Of the nights before the last ones, so that these do not make the noise that they are judged by. With fewer, no order
# of ranks could tell a new level.
MIN_QUIET = 9
_MIN_BEFORE = 5
# How many splits of the last nights are tested: each of them could be found by chance.
SPLITS = NEW_NIGHTS - SHORTEST + 1
# The median absolute difference of two normal values, by their standard deviation.
_DIFFERENCE_MAD = 0.6744897501960817 * math.sqrt(2)


@dataclass(frozen=True)
class Level:
    """A level from the place `begin` on, as the shift that began it.

    `q` is the rate of false discoveries of the night that found it by its boots; None of what nights have shown.
    """

    begin: int
    shift: Shift
    q: float | None = None


@dataclass(frozen=True)
class Levels:
    """What a series is made of. `begun` are its changes, oldest first, each confirmed.

    `tonight` is the p-value of "nothing changed within the last nights", over all splits of them; None where there are
    too few nights. `noise` is None, too, then.
    """

    begun: tuple[Level, ...]
    tonight: float | None
    noise: Noise | None

    @property
    def begin(self) -> int:
        """Where tonight's level began."""
        return self.begun[-1].begin if self.begun else 0


def find(values: Floats, floor: float, costs: Floats | None = None) -> Levels:
    """The levels of a series' values, which are logarithms where they can be; `floor` is the least noise there can be.

    `costs` are `absolute_costs` of the values (or of more, of which they are the first), where the caller has them.
    """
    if len(values) < MIN_QUIET + NEW_NIGHTS:
        return Levels((), None, None)
    if costs is None:
        costs = absolute_costs(values)
    cuts = list(best_cut(costs[: len(values) + 1, : len(values)], _penalty(values, floor), SHORTEST))
    confirmed: list[Level] = []
    noise = _noise(values, cuts, floor)
    while cuts and noise is not None:
        confirmed = [Level(cut, _shift(values, cuts, place, noise)) for place, cut in enumerate(cuts)]
        weakest = max(confirmed, key=lambda level: (level.shift.p, level.shift.rank_p))
        if all(level.shift.is_found for level in confirmed):
            break
        cuts.remove(weakest.begin)
        noise = _noise(values, cuts, floor)
    if noise is None:
        return Levels((), None, None)
    return _with_tonight(values, cuts, confirmed if cuts else [], noise)


def _penalty(values: Floats, floor: float) -> float:
    import numpy as np

    sigma = float(np.median(np.abs(np.diff(values)))) / _DIFFERENCE_MAD
    return PENALTY * max(sigma, floor) * math.log(len(values))


def _with_tonight(values: Floats, cuts: list[int], confirmed: list[Level], noise: Noise) -> Levels:
    last = confirmed[-1] if confirmed else None
    if last is not None and last.begin >= len(values) - NEW_NIGHTS:
        return Levels(tuple(confirmed), last.shift.p, noise)
    tested = list(_last_splits(values, cuts, noise))
    if not tested:
        return Levels(tuple(confirmed), None, noise)
    # Both tests say whether something changed, the one by size when: ranks of so few nights are too coarse for that.
    best = min(tested, key=lambda level: level.shift.p)
    if any(level.shift.is_found for level in tested):
        confirmed.append(best)
    return Levels(tuple(confirmed), min(best.shift.p * SPLITS, 1.0), noise)


def _last_splits(values: Floats, cuts: Sequence[int], noise: Noise) -> Iterator[Level]:
    count = len(values)
    begin = cuts[-1] if cuts else 0
    for split in range(max(count - NEW_NIGHTS, begin + _MIN_BEFORE), count - SHORTEST + 1):
        reference = _brought(values[:split], cuts)
        yield Level(split, shifts.between(values[begin:split], values[split:], reference, noise))


def _shift(values: Floats, cuts: Sequence[int], place: int, noise: Noise) -> Shift:
    """The shift that one of the cuts makes, from the level before it to the level after it."""
    begin = cuts[place - 1] if place else 0
    end = cuts[place + 1] if place + 1 < len(cuts) else len(values)
    cut = cuts[place]
    reference = _brought(values[:cut], cuts[:place])
    return shifts.between(values[begin:cut], values[cut:end], reference, noise)


def _brought(values: Floats, cuts: Sequence[int]) -> Floats:
    """The last of some nights, those of earlier levels brought to the last one's."""
    import numpy as np

    parts = _parts(values, cuts)
    level = noises.centre(parts[-1])
    moved = [part - noises.centre(part) + level for part in parts[:-1]]
    return np.concatenate([*moved, parts[-1]])[-shifts.COMPARED :]


def _noise(values: Floats, cuts: Sequence[int], floor: float) -> Noise | None:
    """The noise of the nights before the last ones."""
    quiet = values[: len(values) - NEW_NIGHTS]
    return noises.estimate(_parts(quiet, [cut for cut in cuts if cut < len(quiet)]), floor)


def _parts(values: Floats, cuts: Sequence[int]) -> list[Floats]:
    ends = [*cuts, len(values)]
    return [values[begin:end] for begin, end in zip([0, *cuts], ends, strict=True)]
