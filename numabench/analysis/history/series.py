"""One figure over nights, judged: its levels, its noise, and what could have been seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numabench.analysis.history import levels, noise, shift, young
from numabench.analysis.history.types import Change, SeriesVerdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from numabench.analysis.history.levels import Level, Levels
    from numabench.analysis.history.types import Better, Direction, Point, SeriesKey
    from numabench.analysis.history.young import Judged

    Floats = NDArray[Any]

FEW_NIGHTS, TWO_NIGHTS, ONE_BOOT = "few-nights", "two-nights", "one-boot"
BIMODAL, AUTOCORRELATED = "bimodal", "autocorrelated"
# What a change must last for to be found in 80 of 100 cases where it is of the smallest visible size.
VISIBLE_NIGHTS = 4
_POWER_QUANTILE = 0.8416212335729143


@dataclass(frozen=True)
class Series:
    """A figure's points, oldest first, and what is known of it: its unit, which way is good, and its grain.

    Its values come in steps of `step`, in its unit, or of `relative_step`, a share of the value. `machine` is the one
    that its cell is measured on.
    """

    key: SeriesKey
    label: str
    unit: str
    better: Better
    points: tuple[Point, ...]
    step: float = 0.0
    relative_step: float = 0.0
    machine: str = ""


@dataclass(frozen=True, eq=False)
class Cut:
    """A series of one point or more, cut into levels; `values` are its points' logarithms, or they themselves.

    `young` is how it was judged where it has few nights and could be.
    """

    series: Series
    values: Floats
    as_logs: bool
    found: Levels
    young: Judged | None = None

    @property
    def p(self) -> float | None:
        """The p-value of "nothing changed within the last nights"; None where there are too few nights to tell."""
        return self.found.tonight

    @property
    def newest(self) -> str:
        """The night in which tonight's level began; empty where it is the first one."""
        return self.series.points[self.found.begin].night if self.found.begun else ""

    @property
    def is_by_boots(self) -> bool:
        """Whether tonight's level was found by its boots."""
        return bool(self.found.begun) and self.found.begun[-1].q is not None

    def without_newest(self) -> Cut:
        """The same without its last change."""
        return replace(self, found=replace(self.found, begun=self.found.begun[:-1]))

    def levels(self) -> tuple[Floats, ...]:
        """The values of each level."""
        ends = [*(level.begin for level in self.found.begun), len(self.values)]
        return tuple(self.values[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True))


def cut(series: Series, few: Judged | None = None) -> Cut:
    """Cut a series of one point or more into levels; `few` is what is known of it where it has few nights."""
    import numpy as np

    raw = np.array([point.value for point in series.points], float)
    if few is not None and len(raw) < young.OLD:
        values = np.log(raw) if few.as_logs else raw
        return Cut(series, values, few.as_logs, levels.Levels(few.begun, None, None), few)
    as_logs = bool((raw > 0).all())
    values = np.log(raw) if as_logs else raw
    found = levels.find(values, _floor(series, raw, as_logs=as_logs))
    if few is not None and few.as_logs == as_logs:
        found = _with(found, few.begun)
    return Cut(series, values, as_logs, found)


def _with(found: Levels, few: Sequence[Level]) -> Levels:
    """Levels with those that began when there were few nights, where nights do not show them (yet)."""
    missed = [one for one in few if all(abs(one.begin - level.begin) > levels.SHORTEST for level in found.begun)]
    return replace(found, begun=tuple(sorted([*found.begun, *missed], key=lambda level: level.begin)))


def _floor(series: Series, raw: Floats, *, as_logs: bool) -> float:
    """The least noise that values can be known to have: what rounding hides, and a thousandth."""
    import numpy as np

    typical = float(np.median(np.abs(raw)))
    least = max(math.hypot(series.step, series.relative_step * typical) / math.sqrt(12), young.LEAST_NOISE * typical)
    return least / typical if as_logs else least


def verdict(one: Cut, q: float | None, nights: Collection[str]) -> SeriesVerdict:
    """The verdict of a series; `q` is that of what is new in it, and a level that began in one of `nights` is new."""
    middles = [noise.centre(values) for values in one.levels()]
    known = [math.exp(middle) if one.as_logs else middle for middle in middles]
    changes = (
        _change(one, level, (known[place], known[place + 1]), q, nights) for place, level in enumerate(one.found.begun)
    )
    return SeriesVerdict(
        key=one.series.key,
        label=one.series.label,
        unit=one.series.unit,
        better=one.series.better,
        points=one.series.points,
        changes=tuple(changes),
        level=known[-1],
        noise=None if one.found.noise is None else one.found.noise.deviation,
        smallest_visible=_smallest_visible(one),
        notes=tuple(_notes(one)),
    )


def _change(one: Cut, level: Level, around: tuple[float, float], q: float | None, nights: Collection[str]) -> Change:
    from scipy.special import stdtrit

    found = level.shift
    night = one.series.points[level.begin].night
    half = float(stdtrit(found.degrees, 0.975)) * found.standard_error
    low, ratio, high = (math.exp(found.difference + sign * half) if one.as_logs else None for sign in (-1, 0, 1))
    return Change(
        night=night,
        before=around[0],
        after=around[1],
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        p=found.p,
        q=level.q if level.q is not None else found.p if q is None or night not in nights else q,
        direction=_direction(one.series.better, found.difference),
        is_new=night in nights,
        judged_by="nights" if level.q is None else "boots",
    )


def _direction(better: Better, difference: float) -> Direction:
    if better == "neither":
        return "changed"
    return "better" if (difference > 0) == (better == "higher") else "worse"


def _smallest_visible(one: Cut) -> float | None:
    """The smallest change that would be found by its fourth night in 80 of 100 cases, as a share of the level.

    Of a series with few nights it is that which would be found in its first night.
    """
    from scipy.special import stdtrit

    found = one.found
    if one.young is not None:
        smallest = one.young.smallest
        return math.expm1(smallest) if one.as_logs and smallest is not None else smallest
    if found.noise is None or found.tonight is None:
        return None
    needed = float(stdtrit(found.noise.degrees, 1 - shift.SIZE_LEVEL / 2)) + _POWER_QUANTILE
    variance = found.noise.of_mean(VISIBLE_NIGHTS) + found.noise.of_mean(len(one.values) - found.begin)
    least = needed * found.noise.deviation * math.sqrt(variance)
    return math.expm1(least) if one.as_logs else least


def _notes(one: Cut) -> Iterator[str]:
    import numpy as np

    if one.young is not None:
        yield TWO_NIGHTS
    elif one.found.tonight is None:
        yield FEW_NIGHTS
    if noise.is_bimodal(np.concatenate([values - noise.centre(values) for values in one.levels()])):
        yield BIMODAL
    if one.found.noise is not None and one.found.noise.is_noted:
        yield AUTOCORRELATED
    if any(len(point.boots) < 2 for point in one.series.points[-levels.NEW_NIGHTS :]):
        yield ONE_BOOT
