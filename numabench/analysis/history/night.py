"""All figures of a night, judged together: the more there are, the more of them change for no reason."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.analysis.history import levels, series
from numabench.analysis.history.types import NightVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numabench.analysis.history.series import Cut, Series
    from numabench.analysis.history.types import Change, Outcome, SeriesKey, SeriesVerdict

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

    def covers(self, key: SeriesKey, night: str, nights: Sequence[str]) -> bool:
        """Whether a change is the one that is meant. As nights are added its first night may move by a few."""
        if self.cell != key.cell or self.metric not in {key.metric, ANY_METRIC}:
            return False
        if self.night == night:
            return True
        return (
            self.night in nights
            and night in nights
            and abs(nights.index(self.night) - nights.index(night)) <= levels.SHORTEST
        )


def judge(
    all_series: Iterable[Series],
    nights: Sequence[str],
    cells: Mapping[str, Outcome],
    known: Sequence[Known] = (),
    fdr: float = FDR,
) -> NightVerdict:
    """The verdict of the last of `nights`, which are all that there were up to it, oldest first.

    `cells` says what became of each cell in it. A change that began within the last nights is kept where its rate of
    false discoveries among all series is not above `fdr` (Benjamini and Hochberg, JRSS B 57, 1995); an older one has
    been confirmed by itself.
    """
    recent = frozenset(nights[-levels.NEW_NIGHTS :])
    cuts = [series.cut(one) for one in all_series if one.points]
    judged = tuple(
        _acknowledged(_judged(one, q, recent, fdr), known, nights)
        for one, q in zip(cuts, _rates(cuts, recent), strict=True)
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


def _rates(cuts: Sequence[Cut], recent: frozenset[str]) -> list[float | None]:
    """Each series' q among those that could show something new tonight."""
    from scipy.stats import false_discovery_control

    tested = [place for place, one in enumerate(cuts) if one.p is not None and one.series.points[-1].night in recent]
    rates: list[float | None] = [None] * len(cuts)
    if tested:
        for place, q in zip(tested, false_discovery_control([cuts[place].p for place in tested]), strict=True):
            rates[place] = float(q)
    return rates


def _judged(one: Cut, q: float | None, recent: frozenset[str], fdr: float) -> SeriesVerdict:
    if q is not None and q > fdr and one.newest in recent:
        one = one.without_newest()
    return series.verdict(one, q, recent)


def _acknowledged(one: SeriesVerdict, known: Sequence[Known], nights: Sequence[str]) -> SeriesVerdict:
    def reason(change: Change) -> str:
        return next((each.reason for each in known if each.covers(one.key, change.night, nights)), "")

    changes = tuple(replace(change, acknowledged=reason(change)) for change in one.changes)
    return replace(one, changes=changes)


def smallest_by_figure(verdicts: Iterable[SeriesVerdict]) -> dict[str, float]:
    """For each figure by its name the smallest change that its series can show: the median over these, relative.

    Of the A/A cells of one machine it is what tonight can show on it.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for one in verdicts:
        if one.smallest_visible is not None:
            found[one.key.metric].append(one.smallest_visible)
    return {metric: statistics.median(values) for metric, values in sorted(found.items())}
