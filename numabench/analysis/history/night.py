"""All figures of a night, judged together: the more there are, the more of them change for no reason."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.analysis.history import levels, series, young
from numabench.analysis.history.types import NightVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numabench.analysis.history.series import Cut, Series
    from numabench.analysis.history.types import Change, KernelId, Outcome, SeriesKey, SeriesVerdict
    from numabench.analysis.history.young import KernelOf

FDR = 0.05
# Every figure of a cell.
ANY_METRIC = "*"


@dataclass(frozen=True)
class Known:
    """A change that somebody has explained: of a cell's figure (`*`: of all of them), in or around a night, and why."""

    cell: str
    metric: str
    night: str
    reason: str

    def meant(self, key: SeriesKey, changes: Sequence[Change], measured: Sequence[str], nights: Sequence[str]) -> int:
        """The place of the change of a series that is meant, or -1: it is one, that of the night or the nearest.

        As nights are added its first night may move, by fewer nights in which the series was `measured` than make a
        level. `nights` are all that there are. What is as near on either side is the first that is worse.
        """
        if self.cell != key.cell or self.metric not in {key.metric, ANY_METRIC} or self.night not in nights:
            return -1
        earlier = frozenset(nights[: nights.index(self.night)])
        own = sum(name in earlier for name in measured)
        near = [
            (abs(measured.index(change.night) - own), change.direction != "worse", place)
            for place, change in enumerate(changes)
        ]
        away, _, place = min(near, default=(levels.SHORTEST, False, -1))
        return place if away < levels.SHORTEST else -1


def unknown(_night: str, _cell: str) -> KernelId | None:
    """Of no cell is it known what kernel it ran."""
    return None


def judge(
    all_series: Iterable[Series],
    nights: Sequence[str],
    cells: Mapping[str, Outcome],
    known: Sequence[Known] = (),
    kernel_of: KernelOf = unknown,
) -> NightVerdict:
    """The verdict of the last of `nights`, which are all that there were up to it, oldest first.

    `cells` says what became of each cell in it, `kernel_of` which kernel a cell ran in a night. A change that began
    within the last nights of its series, which was measured lately, is kept where its rate of false discoveries among
    all such series is not above `FDR` (Benjamini and Hochberg, JRSS B 57, 1995); an older one has been confirmed by
    itself. Series with few nights are judged, and counted, by themselves (`young`).
    """
    some = [one for one in all_series if one.points]
    few = young.find(some, nights, kernel_of)
    cuts = [series.cut(one, few.get(one.key)) for one in some]
    lately = frozenset(nights[-levels.NEW_NIGHTS :])
    recent = [_recent(one.series, lately) for one in cuts]
    judged = tuple(
        _explained(_judged(one, q, own), known, nights, kernel_of)
        for one, q, own in zip(cuts, _rates(cuts, recent), recent, strict=True)
    )
    return NightVerdict(
        night=nights[-1],
        series=judged,
        cells=dict(cells),
        regressions=tuple(one.key for one in judged if any(is_regression(change) for change in one.changes)),
    )


def is_regression(change: Change) -> bool:
    """Whether a change alarms."""
    return change.is_new and change.direction == "worse" and not change.acknowledged


def _recent(one: Series, lately: frozenset[str]) -> frozenset[str]:
    """The nights in which what began in a series is new: its own last ones, for it may not be measured every night.

    There are none where it was not measured lately: then nothing of it is news.
    """
    if one.points[-1].night not in lately:
        return frozenset()
    return frozenset(point.night for point in one.points[-levels.NEW_NIGHTS :])


def _rates(cuts: Sequence[Cut], recent: Sequence[frozenset[str]]) -> list[float | None]:
    """Each series' q among those that could show something new tonight."""
    from scipy.stats import false_discovery_control

    tested = [place for place, one in enumerate(cuts) if one.p is not None and recent[place]]
    rates: list[float | None] = [None] * len(cuts)
    if tested:
        for place, q in zip(tested, false_discovery_control([cuts[place].p for place in tested]), strict=True):
            rates[place] = float(q)
    return rates


def _judged(one: Cut, q: float | None, recent: frozenset[str]) -> SeriesVerdict:
    if q is not None and q > FDR and one.newest in recent and not one.is_by_boots:
        one = one.without_newest()
    return series.verdict(one, q, recent)


def _explained(one: SeriesVerdict, known: Sequence[Known], nights: Sequence[str], kernel_of: KernelOf) -> SeriesVerdict:
    """With what is known of its changes: the kernel's, and reasons that people gave."""
    measured = [point.night for point in one.points]
    reasons: dict[int, str] = {}
    for each in known:
        reasons.setdefault(each.meant(one.key, one.changes, measured, nights), each.reason)

    def kernel(change: Change) -> str:
        before, after = measured[measured.index(change.night) - 1], change.night
        return _another(kernel_of(before, one.key.cell), kernel_of(after, one.key.cell))

    changes = tuple(
        replace(change, acknowledged=reasons.get(place, ""), kernel=kernel(change))
        for place, change in enumerate(one.changes)
    )
    return replace(one, changes=changes)


def _another(before: KernelId | None, after: KernelId | None) -> str:
    """What of a kernel is another than before; empty where nothing is, or one of them is not known."""
    if before is None or after is None:
        return ""
    told = []
    if before.release != after.release:
        told.append(f"{before.release} became {after.release}")
    if before.build_id and after.build_id and before.build_id != after.build_id:
        told.append(f"build id {before.build_id[:12]} became {after.build_id[:12]}")
    told += [f"without {word}" for word in before.parameters if word not in after.parameters]
    told += [f"with {word}" for word in after.parameters if word not in before.parameters]
    return ", ".join(told)


def smallest_by_figure(verdicts: Iterable[SeriesVerdict]) -> dict[str, float]:
    """For each figure by its name the smallest change that its series can show: the median over these, relative.

    Of the A/A cells of one machine it is what tonight can show on it. Series with values that are not above 0 are left
    out: there is nothing that it could be relative to.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for one in verdicts:
        if one.smallest_visible is not None and all(point.value > 0 for point in one.points):
            found[one.key.metric].append(one.smallest_visible)
    return {metric: statistics.median(values) for metric, values in sorted(found.items())}
