"""What changed in a lab of few nights: by how its boots differ, and by what its other cells did in the same nights.

Two nights cannot say how nights differ. But the cells of one machine take turns in one night, and all but a few of them
did not change: they are the controls (`controls`). Each night is judged as it was when it was the last, and what later
nights do not bear out is dropped.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from numabench.analysis.history import appeared, controls, levels
from numabench.analysis.history.controls import MIN_CONTROLS, Prior
from numabench.analysis.history.levels import Level
from numabench.analysis.history.shift import Shift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from numabench.analysis.history.controls import Boots, Contrast, Nights
    from numabench.analysis.history.series import Series
    from numabench.analysis.history.types import KernelId, SeriesKey

    Floats = NDArray[Any]
    KernelOf = Callable[[str, str], KernelId | None]

# From so many nights on a series is judged by its nights alone.
OLD = levels.MIN_QUIET + levels.NEW_NIGHTS
# What is found in the last of the first nights is new for so long.
_REACH = OLD - 1 + levels.NEW_NIGHTS
# Of all series of a night. A lab in which nothing changed alarms in 1 of 100 second nights at most
# (tests/bench/bench_verdicts.py).
FDR = 0.02
# And of each series by itself: it is judged in a dozen nights before it is old.
LEVEL = 1.5e-4
# How sure it must stay once more nights are there.
KEPT = 0.01
# A new level is looked for in so many last nights.
_WIDEST = 3
# Of a figure that is 0 at times, the least deviation of a boot, as a share of its mean.
_SELDOM = 0.1
# Nothing here is repeatable to less than a thousandth, whatever is counted.
LEAST_NOISE = 1e-3
# The deviation of a boot of a figure of which nothing but 0 was seen.
_NOTHING = math.ulp(1.0)
_POWER_QUANTILE = 0.8416212335729143


@dataclass(frozen=True)
class Judged:
    """What is said of a series of few nights: its changes, and the smallest that would be found.

    `smallest` is that of a change of tonight, in 80 of 100 cases: a logarithm where `as_logs` says that all of it are.
    It is None where there are too few other cells, and what appeared was found all the same.
    """

    begun: tuple[Level, ...]
    smallest: float | None
    as_logs: bool


@dataclass
class _One:
    """A series while its nights are gone through.

    `begun` are the changes so far, `appeared` the place of one before which all was 0.
    """

    series: Series
    group: _Group
    row: int
    begun: list[Level] = field(default_factory=list)
    appeared: int = 0
    smallest: float | None = None

    @property
    def begin(self) -> int:
        """The place where its newest level begins."""
        return self.begun[-1].begin if self.begun else 0

    def end(self, night: str) -> int:
        """The place behind that of a night; 0 where it has none of it, or was old by then."""
        few = self.series.points[: OLD - 1]
        return next((place for place, point in enumerate(few, 1) if point.night == night), 0)

    def begin_level(self, level: Level) -> None:
        """Have a new level begin; its cell says nothing of the others any more."""
        self.begun.append(level)
        self.group.begun.add((self.row, self.series.points[level.begin].night))

    def new_kernel(self, end: int) -> KernelId | None:
        """The kernel of the last night before place `end`, where it is known to be another than in the one before."""
        if end < 2:
            return None
        before, now = (
            self.group.kernel_of(point.night, self.series.key.cell) for point in self.series.points[end - 2 : end]
        )
        return now if before is not None and now is not None and before != now else None

    def rise(self, begin: int, p: float) -> Shift:
        """From 0 to the mean of the boots of a night, with the standard error that these have."""
        boots = self.series.points[begin].boots
        error = statistics.stdev(boots) / math.sqrt(len(boots))
        return Shift(math.fsum(boots) / len(boots), error, len(boots) - 1.0, p, 0.0)

    def is_still_there(self) -> bool:
        """Whether what appeared was there in every night since."""
        return all(point.value for point in self.series.points[self.appeared :])

    def nights(self, begin: int, end: int) -> Nights:
        """The nights of some places."""
        return tuple(point.night for point in self.series.points[begin:end])

    def shift(self, begin: int, split: int, end: int) -> Shift | None:
        """The shift between the nights from place `begin` on and those from `split` on, up to `end`."""
        before, after = self.nights(begin, split), self.nights(split, end)
        controls = self.group.controls(before, after)
        return self.group.contrast(before, after).shift(self.row, controls, self.group.prior)


@dataclass(frozen=True)
class _Tested:
    """A series in one night: the likeliest of the places where a new level may have begun."""

    one: _One
    begin: int
    shift: Shift
    tries: int

    @property
    def p(self) -> float:
        return min(self.shift.p * self.tries, 1.0)


def find(all_series: Iterable[Series], nights: Sequence[str], kernel_of: KernelOf) -> dict[SeriesKey, Judged]:
    """What is said of those series that have few nights; those that cannot be judged are left out.

    What was found in a series' first nights is told for a week more, until its nights can show it.
    `nights` are all there were, oldest first. `kernel_of` says which kernel a cell ran in a night, where that is known.
    """
    young = _grouped(all_series, kernel_of)
    for night in nights[-_REACH:] if young else ():
        _judge(night, young)
    judged = {}
    for one in young:
        if one.smallest is not None or one.begun:
            judged[one.series.key] = Judged(_kept(one), one.smallest, one.group.as_logs)
    return judged


def _judge(night: str, young: Sequence[_One]) -> None:
    """Judge a night as if it were the last: what is found in it is begun."""
    from scipy.special import stdtrit
    from scipy.stats import false_discovery_control

    tonight = [(one, end) for one in young if (end := one.end(night))]
    _see_appear(night, tonight)
    _learn(tonight)
    tested = [found for one, end in tonight if (found := _tested(one, end)) is not None]
    if not tested:
        return
    rates = false_discovery_control([each.p for each in tested])
    level = min(LEVEL, FDR / len(tested))
    for each, q in zip(tested, rates, strict=True):
        needed = float(stdtrit(each.shift.degrees, 1 - level / each.tries / 2)) + _POWER_QUANTILE
        each.one.smallest = needed * each.shift.standard_error
        if q <= FDR and each.p <= LEVEL and each.shift.rank_p < 1:
            each.one.begin_level(Level(each.begin, each.shift, float(q)))


def _see_appear(night: str, tonight: Sequence[tuple[_One, int]]) -> None:
    """Begin a level of what a kernel that is another tonight does, and what was 0 wherever it was measured."""
    asked: defaultdict[tuple[int, KernelId], list[_One]] = defaultdict(list)
    for one, end in tonight:
        kernel = one.new_kernel(end)
        if kernel is not None and not one.group.as_logs:
            asked[id(one.group), kernel].append(one)
    those = list(asked.values())
    found = appeared.find(((ones[0].group.boots, [one.row for one in ones]) for ones in those), night)
    for ones, told in zip(those, found, strict=True):
        for one in ones:
            if one.row in told.rows and not one.begun:
                one.appeared = one.end(night) - 1
                one.begin_level(Level(one.appeared, one.rise(one.appeared, told.p), told.q))


def _learn(tonight: Sequence[tuple[_One, int]]) -> None:
    """Let the figures of each machine tell each other how boots, cells and nights differ."""
    groups: dict[int, tuple[_Group, Nights]] = {}
    for one, end in tonight:
        nights = one.nights(one.begin, end)
        if len(nights) > 1 and len(nights) > len(groups.get(id(one.group), (one.group, ()))[1]):
            groups[id(one.group)] = one.group, nights
    machines: defaultdict[str, list[tuple[_Group, Nights]]] = defaultdict(list)
    for group, nights in groups.values():
        # Where values are 0 at times, how boots differ is another matter.
        if group.as_logs:
            machines[group.cells[0].machine].append((group, nights))
    priors: dict[str, Prior] = {}
    for name, figures in machines.items():
        sides = [(group, nights[:-1], nights[-1:]) for group, nights in figures]
        priors[name] = controls.prior((group.contrast(*side), group.controls(*side)) for group, *side in sides)
    for group, _ in groups.values():
        group.prior = priors.get(group.cells[0].machine, Prior())


def _tested(one: _One, end: int) -> _Tested | None:
    splits = range(max(one.begin + 1, end - _WIDEST), end)
    found = [(shift, split) for split in splits if (shift := one.shift(one.begin, split, end)) is not None]
    if not found:
        return None
    shift, split = min(found, key=lambda pair: (pair[0].rank_p, pair[0].p))
    return _Tested(one, split, shift, len(found))


def _kept(one: _One) -> tuple[Level, ...]:
    """The changes that the nights since bear out; a level in between of a night or two was none."""
    kept = list(one.begun)
    while True:
        ends = [0, *(each.begin for each in kept), len(one.series.points)]
        short = next((n for n in range(1, len(kept)) if ends[n + 1] - ends[n] < levels.SHORTEST), None)
        if short is not None:
            del kept[short - 1]
            continue
        sure = [one.shift(*ends[n : n + 3]) for n in range(len(kept))]
        if one.appeared and kept and kept[0].begin == one.appeared and one.is_still_there():
            sure[0] = kept[0].shift
        weak = next(
            (n for n, shift in enumerate(sure) if shift is None or (shift.p > KEPT and shift is not kept[n].shift)),
            None,
        )
        if weak is None:
            return tuple(
                replace(each, shift=shift) for each, shift in zip(kept, sure, strict=True) if shift is not None
            )
        del kept[weak]


@dataclass
class _Group:
    """One figure of one machine's cells: the boots of each in each night, as logarithms where all are above 0.

    `begun` has the rows and nights in which a new level was found, `prior` what the machine's figures have in common.
    """

    cells: tuple[Series, ...]
    boots: tuple[Boots, ...]
    as_logs: bool
    floors: Floats
    kernel_of: KernelOf
    begun: set[tuple[int, str]] = field(default_factory=set)
    prior: Prior = field(default_factory=Prior)
    _contrasts: dict[tuple[Nights, Nights], Contrast] = field(default_factory=dict)
    _controls: dict[Nights, NDArray[Any]] = field(default_factory=dict)

    def contrast(self, before: Nights, after: Nights) -> Contrast:
        """What its cells moved by between some nights and others."""
        if (before, after) not in self._contrasts:
            self._contrasts[before, after] = controls.contrast(self.boots, self.floors, before, after)
        return self._contrasts[before, after]

    def controls(self, before: Nights, after: Nights) -> NDArray[Any]:
        """Which cells nothing is known to have happened to within these nights.

        They are those whose kernel was the same in all of them, unless too few are left then; a cell of which a new
        level has been found to begin is none.
        """
        import numpy as np

        nights = (*before, *after)
        if nights not in self._controls:
            same = np.array([self._has_one_kernel(series.key.cell, nights) for series in self.cells])
            self._controls[nights] = same if same.sum() > MIN_CONTROLS else np.ones(len(self.cells), bool)
        found = self._controls[nights].copy()
        for row, night in self.begun:
            if night in nights[1:]:
                found[row] = False
        return found

    def _has_one_kernel(self, cell: str, nights: Nights) -> bool:
        return len({self.kernel_of(night, cell) for night in nights} - {None}) < 2


def _grouped(all_series: Iterable[Series], kernel_of: KernelOf) -> list[_One]:
    """The young series, each with the figure's others on its machine, of whatever age.

    A figure's cells in which all values are above 0 are compared as logarithms, the others by themselves.
    """
    import numpy as np

    groups: defaultdict[tuple[str, str, bool], list[Series]] = defaultdict(list)
    for series in all_series:
        as_logs = all(value > 0 for point in series.points[-_REACH:] for value in point.boots)
        groups[series.machine, series.key.metric, as_logs].append(series)
    found = []
    for (_, _, as_logs), cells in groups.items():
        if all(len(series.points) > _REACH for series in cells):
            continue
        boots = tuple(
            {point.night: tuple(map(math.log, point.boots)) if as_logs else point.boots for point in recent}
            for recent in (series.points[-_REACH:] for series in cells)
        )
        floors = np.array([_floor(series, as_logs=as_logs) for series in cells]) ** 2
        # A cell that only has 0 knows no less than the others what a boot may have, and does not outweigh them all.
        seen = floors[floors > _NOTHING**2]
        if len(seen):
            floors = np.maximum(floors, seen.min())
        group = _Group(tuple(cells), boots, as_logs, floors, kernel_of)
        found += [_One(series, group, row) for row, series in enumerate(cells) if len(series.points) <= _REACH]
    return found


def _floor(series: Series, *, as_logs: bool) -> float:
    """The least deviation that a boot's value can be known to have.

    Values that are 0 at times are of what happens seldom: a few boots that agree do not show how much they may differ.
    """
    values = [abs(value) for point in series.points[-_REACH:] for value in point.boots]
    typical = math.fsum(values) / max(len(values), 1)
    if not as_logs:
        return max(series.step / math.sqrt(12), _SELDOM * typical, _NOTHING)
    return max(math.hypot(series.step / typical, series.relative_step) / math.sqrt(12), LEAST_NOISE)
