"""What changed from one side to the other, with the boot as the unit of replication.

Values of one boot resemble each other: taken for independent they find changes between equals (docs/diff.md). So each
boot gives one value, the median of its own, and these are compared. No value is dropped.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.comparison import welch
from numabench.comparison.bimodality import is_bimodal
from numabench.comparison.bootstrap import RESAMPLES, ratio_interval
from numabench.comparison.change import MetricChange
from numabench.comparison.metrics import aligned

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numabench.comparison.change import Metric, Verdict
    from numabench.comparison.metrics import Values
    from numabench.comparison.side import Side

    Boots = tuple[tuple[float, ...], ...]
    Places = tuple[tuple[int, ...], tuple[int, ...]]
    _ByName = dict[tuple[str, str], tuple[float, ...]]

FDR = 0.05
# Below so many boots a side the bootstrap's interval is too narrow.
FULL_CI_BOOTS = 5
# Boots whose order makes a change so much harder to find did not take turns: the bootstrap knows of no drift.
OUT_OF_TURN = 1.2
# Nothing here is repeatable to less than a thousandth: boots that are all alike are taken to spread by so much.
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class _Tested:
    """A change without its verdict, and the test of it; None where there could be none."""

    change: MetricChange
    step: welch.Step | None

    @property
    def counts(self) -> bool:
        """Whether a test of it could have found anything: not where all values are one and the same."""
        return self.step is not None and len({*_flat(self.change.a), *_flat(self.change.b)}) > 1


def compare(
    a: Side,
    b: Side,
    values_a: Sequence[Values],
    values_b: Sequence[Values],
    *,
    unreached: Collection[tuple[str, str]] = (),
    fdr: float = FDR,
    resamples: int = RESAMPLES,
) -> tuple[MetricChange, ...]:
    """Every figure that any run has, compared by placement, in the order in which runs tell them.

    `values_a` and `values_b` are `metrics.values` of each run of `a` and `b`, in their order. `unreached` are the
    (placement, metric's name) that some trial ended before: what is left of their values is no fair sample, and is
    shown without a verdict. `fdr` is the share of false ones allowed among the changes found. Figures that all values
    agree on do not count among those compared, for no test could have found them (Tarone, Biometrics 46, 1990).
    """
    filled = aligned([*values_a, *values_b])
    metrics = {(placement, metric.name): metric for each in filled for placement, metric in each}
    by_name = [{(placement, metric.name): found for (placement, metric), found in each.items()} for each in filled]
    runs_a, runs_b = _by_boot(a, by_name[: len(a.runs)]), _by_boot(b, by_name[len(a.runs) :])
    places = boot_places(a, b)
    inflation = order_inflation(a, b)
    takes_turns = inflation is None or inflation < OUT_OF_TURN
    tested = []
    for key, metric in metrics.items():
        boots = tuple(
            tuple(tuple(value for run in boot for value in run.get(key, ())) for boot in side)
            for side in (runs_a, runs_b)
        )
        change = _describe(metric, key[0], boots[0], boots[1], resamples, takes_turns=takes_turns)
        tested.append(_test(change, places, fdr, is_fair=key not in unreached))
    return _judged(tested, fdr)


def _by_boot(side: Side, by_run: Sequence[_ByName]) -> tuple[tuple[_ByName, ...], ...]:
    of_run = {id(run): found for run, found in zip(side.runs, by_run, strict=True)}
    return tuple(tuple(of_run[id(run)] for run in boot) for boot in side.boots)


def boot_places(a: Side, b: Side) -> Places:
    """Where each side's boots are in the order of all, by when their first run was made."""
    first = [
        (min((run.created_utc, run.run_id) for run in boot), side, number)
        for side, boots in enumerate((a.boots, b.boots))
        for number, boot in enumerate(boots)
    ]
    place = {(side, number): rank for rank, (_, side, number) in enumerate(sorted(first))}
    return tuple(place[0, n] for n in range(len(a.boots))), tuple(place[1, n] for n in range(len(b.boots)))


def order_inflation(a: Side, b: Side) -> float | None:
    """How many times as large a change must be to be found for boots not having taken turns; None below two boots."""
    places = boot_places(a, b)
    return welch.inflation(places) if min(map(len, places)) > 1 else None


def is_enough(boots_a: int, boots_b: int, fdr: float = FDR) -> bool:
    """Whether so many boots can show a change at all.

    Boots may fall into two modes, for reasons of their own. That all of one side fall into one and all of the other
    into the other has a probability of at most 2 a^a b^b / (a + b)^(a + b), for a and b boots: 0.13 for two a side,
    0.03 for three. No test of two a side can do better than that bound, whatever it assumes (Barnard, Biometrika 34,
    1947).
    """
    if min(boots_a, boots_b) < 2:
        return False
    whole = boots_a + boots_b
    return 2 * (boots_a / whole) ** boots_a * (boots_b / whole) ** boots_b <= fdr


def _flat(boots: Boots) -> list[float]:
    return [value for boot in boots for value in boot]


def _medians(boots: Boots) -> list[float]:
    return [statistics.median(boot) for boot in boots if boot]


def _describe(metric: Metric, placement: str, a: Boots, b: Boots, resamples: int, *, takes_turns: bool) -> MetricChange:
    """What a change is, without a test."""
    medians_a, medians_b = _medians(a), _medians(b)
    median_a = statistics.median(medians_a) if medians_a else None
    median_b = statistics.median(medians_b) if medians_b else None
    fewest = min(len(medians_a), len(medians_b))
    interval = None
    if fewest > 1 and resamples:
        interval = ratio_interval([boot for boot in a if boot], [boot for boot in b if boot], resamples)
    return MetricChange(
        metric=metric,
        placement=placement,
        a=a,
        b=b,
        median_a=median_a,
        median_b=median_b,
        ratio=None if not median_a or median_a < 0 or median_b is None else median_b / median_a,
        ci95=interval,
        approximate_ci=interval is not None and not (takes_turns and fewest >= FULL_CI_BOOTS),
        p=None,
        q=None,
        smallest_ratio=None,
        bimodal=(is_bimodal(_flat(a), metric), is_bimodal(_flat(b), metric)),
        verdict="not comparable",
    )


def _test(change: MetricChange, places: Places, fdr: float, *, is_fair: bool) -> _Tested:
    """A change with its test, where both sides have values that can be tested."""
    medians = _medians(change.a), _medians(change.b)
    if not (is_fair and medians[0] and medians[1]):
        return _Tested(change, None)
    if not is_enough(len(medians[0]), len(medians[1]), fdr):
        return _Tested(replace(change, verdict="insufficient"), None)
    # A boot without a value has no place among those compared.
    kept = tuple(
        tuple(place for place, boot in zip(own, boots, strict=True) if boot)
        for own, boots in zip(places, (change.a, change.b), strict=True)
    )
    as_logs = min(min(side) for side in medians) > 0
    scaled = [[math.log(value) for value in side] if as_logs else side for side in medians]
    floors = [_floor(change.metric, side, as_logs=as_logs) for side in medians]
    step = welch.step(scaled[0], scaled[1], (kept[0], kept[1]), (floors[0], floors[1]))
    least = welch.detectable(round(step.degrees, 1), fdr) * step.standard_error
    assert change.median_a is not None
    smallest = math.exp(least) if as_logs else 1 + least / change.median_a if change.median_a > 0 else None
    return _Tested(replace(change, p=step.p, smallest_ratio=smallest, verdict="no change found"), step)


def _floor(metric: Metric, medians: Sequence[float], *, as_logs: bool) -> float:
    """The least standard deviation that boots' medians can be known to have.

    A value that comes in steps is known to step / sqrt(12), the deviation of what rounding takes away: of boots that
    all counted 5 it is not known that a sixth would, too.
    """
    typical = abs(statistics.median(medians))
    steps = math.hypot(metric.step, metric.relative_step * typical) / math.sqrt(12)
    least = max(steps, _LEAST_SPREAD * typical)
    return least / typical if as_logs else least


def _judged(tested: Sequence[_Tested], fdr: float) -> tuple[MetricChange, ...]:
    """The changes with what Benjamini and Hochberg's procedure (JRSS B 57, 1995) leaves of them."""
    from scipy.stats import false_discovery_control

    compared = [one.step.p for one in tested if one.step is not None and one.counts]
    adjusted = iter(false_discovery_control(compared).tolist() if compared else ())
    changes = []
    for one in tested:
        if one.step is None:
            changes.append(one.change)
        elif not one.counts:
            changes.append(replace(one.change, p=1.0, q=1.0))
        else:
            q = next(adjusted)
            changes.append(replace(one.change, q=q, verdict=_verdict(one.change, one.step, is_found=q < fdr)))
    return tuple(changes)


def _verdict(change: MetricChange, step: welch.Step, *, is_found: bool) -> Verdict:
    """Which way it went, where the step without a trend goes the same way as the medians that are shown."""
    assert change.median_a is not None
    assert change.median_b is not None
    if not is_found or step.difference * (change.median_b - change.median_a) <= 0:
        return "no change found"
    return "grown" if step.difference > 0 else "shrunk"
