"""A sweep reduced: each cell's figures over its repeats, and what the batch is worth."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import migration, verdict
from numabench.analysis.finding import INFORMS, WEIGHTS
from numabench.analysis.latency import known_percentile
from numabench.analysis.missing import Missing
from numabench.analysis.moves import Moves, moves, stall
from numabench.analysis.spread import Spread, spread, t95
from numabench.record import CANNOT_RUN
from numabench.units import BYTES_PER_MB, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numabench.record import Latency, Sweep, SweepCell, SweepUnit

BATCH = "batch"
# A larger batch that is faster by less than this is not worth it.
GAIN = 1.1


@dataclass(frozen=True)
class UnitFigures:
    """What one unit that went well measured. `mb_per_s` and `pages_per_s` are confirmed; pages are base pages."""

    unit: SweepUnit
    mb_per_s: float | Missing
    pages_per_s: float | Missing
    call: Latency | Missing
    stall: Latency | Missing
    moves: Moves | Missing


@dataclass(frozen=True)
class PairFigures:
    """What was moved from the node `source` to the node `target`: MB/s of the time in calls, and p99 of one call."""

    source: int
    target: int
    mb_per_s: Spread | None
    call_p99_ns: Spread | None


@dataclass(frozen=True)
class CellFigures:
    """A cell over its repeats; a spread is None where no repeat has the figure.

    Percentiles are each repeat's own, spread over the repeats: their intervals say how well a repeat gives the figure
    again. `status` adds up what was not the target's node, by name; `why_not` are the reasons of units without figures.
    """

    cell: SweepCell
    units: tuple[UnitFigures, ...]
    mb_per_s: Spread | None
    pages_per_s: Spread | None
    call_p50_ns: Spread | None
    call_p99_ns: Spread | None
    call_p999_ns: Spread | None
    stall_p50_ns: Spread | None
    stall_p99_ns: Spread | None
    stall_p999_ns: Spread | None
    pairs: tuple[PairFigures, ...]
    status: tuple[tuple[str, int], ...]
    why_not: tuple[str, ...]
    cannot_run: bool


@dataclass(frozen=True)
class Curve:
    """Cells that differ in their batch alone, by batch; `fixed` are their values of the other axes.

    `knee` is the batch beyond which nothing is gained, `in_budget` the largest one that keeps the victims within the
    stall budget; None where no budget was asked for.
    """

    fixed: tuple[tuple[str, str], ...]
    points: tuple[tuple[int, CellFigures], ...]
    knee: int | Missing
    in_budget: int | Missing | None


@dataclass(frozen=True)
class SweepFinding:
    """Something that speaks against some units, by their numbers; `cause` is the first one's."""

    code: str
    weight: str
    cause: str
    remedy: str
    units: tuple[int, ...]


@dataclass(frozen=True)
class SweepSummary:
    """A whole sweep; `stall_budget_s` is the one that its curves were held against."""

    sweep: Sweep
    cells: tuple[CellFigures, ...]
    curves: tuple[Curve, ...]
    findings: tuple[SweepFinding, ...]
    stall_budget_s: float | None

    @property
    def has_victims(self) -> bool:
        """Whether any cell knows what its victims waited."""
        return any(cell.stall_p99_ns is not None for cell in self.cells)


def summarize(sweep: Sweep, stall_budget_s: float | None = None) -> SweepSummary:
    """Reduce a sweep. `stall_budget_s` is what p99 of the victims' accesses may be; None: the sweep's own, if any."""
    budget_s = sweep.stall_budget_s if stall_budget_s is None else stall_budget_s
    cells = tuple(_cell(sweep, place) for place in range(len(sweep.cells)))
    return SweepSummary(sweep, cells, _curves(sweep, cells, budget_s), _findings(sweep), budget_s)


def figures(unit: SweepUnit) -> UnitFigures | None:
    """What a unit measured, None where it did not go well."""
    run, trial = unit.run, unit.trial
    if run is None or trial is None or not trial.counts:
        return None
    moved = moves(trial)
    rate = migration.rate(run, trial)
    mb_per_s: float | Missing = Missing(_why_no_rate(moved)) if rate is None else rate
    return UnitFigures(
        unit=unit,
        mb_per_s=mb_per_s,
        pages_per_s=mb_per_s if isinstance(mb_per_s, Missing) else mb_per_s * BYTES_PER_MB / run.page_bytes,
        call=moved if isinstance(moved, Missing) else moved.latency,
        stall=stall(trial),
        moves=moved,
    )


def _why_no_rate(moved: Moves | Missing) -> str:
    if isinstance(moved, Moves) and isinstance(moved.mb_per_s, Missing):
        return moved.mb_per_s.reason
    return "no page moved, or all between two samples"


def _cell(sweep: Sweep, place: int) -> CellFigures:
    own = [unit for unit in sweep.units if unit.cell == place]
    units = tuple(found for unit in sorted(own, key=lambda unit: unit.repeat) if (found := figures(unit)) is not None)
    rates = [unit.mb_per_s for unit in units]
    reasons = [reason for unit in own for reason in _why_not(unit)]
    reasons += [rate.reason for rate in rates if isinstance(rate, Missing)]
    status: Counter[str] = Counter()
    for unit in units:
        if isinstance(unit.moves, Moves):
            status.update(dict(unit.moves.status))

    def of(share: float, histogram: Callable[[UnitFigures], Latency | Missing]) -> Spread | None:
        return _spread(_percentile(histogram(unit), share) for unit in units)

    return CellFigures(
        cell=sweep.cells[place],
        units=units,
        mb_per_s=_spread(rates),
        pages_per_s=_spread(unit.pages_per_s for unit in units),
        call_p50_ns=of(0.5, lambda unit: unit.call),
        call_p99_ns=of(0.99, lambda unit: unit.call),
        call_p999_ns=of(0.999, lambda unit: unit.call),
        stall_p50_ns=of(0.5, lambda unit: unit.stall),
        stall_p99_ns=of(0.99, lambda unit: unit.stall),
        stall_p999_ns=of(0.999, lambda unit: unit.stall),
        pairs=_pairs(units),
        status=tuple(sorted((+status).items(), key=lambda entry: (-entry[1], entry[0]))),
        why_not=tuple(dict.fromkeys(reasons)),
        cannot_run=bool(own) and all(unit.status == CANNOT_RUN for unit in own),
    )


def _why_not(unit: SweepUnit) -> tuple[str, ...]:
    """Why a unit has no figures; nothing where it has, or has not run yet."""
    if unit.trial is None or unit.is_well:
        return unit.reasons
    return (f"{unit.trial.status}: {unit.trial.message}".removesuffix(": "),)


def _percentile(latency: Latency | Missing, share: float) -> float | Missing:
    return latency if isinstance(latency, Missing) else known_percentile(latency, share)


def _spread(values: Iterable[float | Missing]) -> Spread | None:
    return spread(value for value in values if not isinstance(value, Missing))


def _pairs(units: Sequence[UnitFigures]) -> tuple[PairFigures, ...]:
    steps = [step for unit in units if isinstance(unit.moves, Moves) for step in unit.moves.steps]
    found = []
    for source, target in sorted({(step.source, step.target) for step in steps}):
        own = [step for step in steps if (step.source, step.target) == (source, target)]
        found.append(
            PairFigures(
                source,
                target,
                _spread(step.mb_per_s for step in own),
                _spread(_percentile(step.latency, 0.99) for step in own),
            )
        )
    return tuple(found)


def interval(found: Spread) -> tuple[float, float] | None:
    """From where to where a figure may lie: its 95 % interval; of two repeats both; None of one repeat."""
    if found.ci95 is not None:
        return found.ci95
    return (found.low, found.high) if len(found.values) > 1 else None


def _curves(sweep: Sweep, cells: Sequence[CellFigures], budget_s: float | None) -> tuple[Curve, ...]:
    names = [axis.name for axis in sweep.axes]
    if BATCH not in names:
        return ()
    place = names.index(BATCH)
    groups: dict[tuple[tuple[str, str], ...], list[tuple[int, CellFigures]]] = {}
    for cell in cells:
        named = list(zip(names, cell.cell.values, strict=True))
        fixed = tuple(named[:place] + named[place + 1 :])
        groups.setdefault(fixed, []).append((int(cell.cell.values[place]), cell))
    curves = []
    for fixed, unsorted in groups.items():
        points = tuple(sorted(unsorted, key=lambda point: point[0]))
        in_budget = None if budget_s is None else largest_in_budget(points, budget_s)
        curves.append(Curve(fixed, points, knee(points), in_budget))
    return tuple(curves)


def knee(points: Sequence[tuple[int, CellFigures]]) -> int | Missing:
    """The batch beyond which nothing is gained, of cells by ascending batch.

    It is the smallest batch of which this is shown: no larger one is faster by a tenth (`GAIN`) or more, at the upper
    end of the 95 % interval of their means' ratio (Welch's, of logarithms). That no gain was seen is not enough: of few
    or noisy repeats none can be told. Batches without a rate do not take part.

    None is told, either, where one of the rates has a single repeat, of less than two batches, and where the largest
    batch is shown to be faster than all others: the curve still rises.
    """
    rates = [(batch, cell.mb_per_s) for batch, cell in points if cell.mb_per_s and cell.mb_per_s.low > 0]
    if len(rates) < 2:
        return Missing("fewer than two batches have a rate")
    if any(len(rate.values) < 2 for _, rate in rates):
        return Missing("one repeat has no interval: ask for --repeats 3 or more")
    for place, (batch, rate) in enumerate(rates[:-1]):
        if all(_ratio(larger, rate)[1] < GAIN for _, larger in rates[place + 1 :]):
            return batch
    largest, fastest = rates[-1]
    if all(_ratio(fastest, rate)[0] > 1 for _, rate in rates[:-1]):
        return Missing(f"it still rises at {largest}, the largest batch")
    return Missing(f"these repeats do not show which batch comes within {GAIN - 1:.0%} of the best: add --repeats")


def _ratio(above: Spread, below: Spread) -> tuple[float, float]:
    """The 95 % interval of the ratio of two rates' geometric means, by Welch's t of their logarithms."""
    logs = [[math.log(value) for value in rate.values] for rate in (above, below)]
    parts = [statistics.variance(values) / len(values) for values in logs]
    center = statistics.fmean(logs[0]) - statistics.fmean(logs[1])
    squares = sum(part**2 / (len(values) - 1) for part, values in zip(parts, logs, strict=True))
    # Welch and Satterthwaite's degrees of freedom, rounded down: the interval is rather too wide.
    degrees = max(int(sum(parts) ** 2 / squares), 1) if squares else 1
    half = t95(degrees) * math.sqrt(sum(parts))
    return math.exp(center - half), math.exp(center + half)


def largest_in_budget(points: Sequence[tuple[int, CellFigures]], budget_s: float) -> int | Missing:
    """The largest batch whose victims' p99 is below a budget, its interval's upper bound included (`interval`)."""
    stalls = [(batch, cell.stall_p99_ns) for batch, cell in points if cell.stall_p99_ns is not None]
    if not stalls:
        return Missing("no batch has victims")
    known = [(batch, bounds[1]) for batch, found in stalls if (bounds := interval(found)) is not None]
    if len(known) < len(stalls):
        return Missing("one repeat has no interval: ask for --repeats 3 or more")
    kept = [batch for batch, high_ns in known if high_ns < budget_s * NS_PER_S]
    return max(kept) if kept else Missing("no batch keeps it")


def _findings(sweep: Sweep) -> tuple[SweepFinding, ...]:
    """What speaks against units, each code once; what only informs is in their own reports."""
    found: dict[str, SweepFinding] = {}
    for unit in sweep.units:
        if unit.run is None:
            continue
        for finding in verdict.judge(unit.run).findings:
            if finding.weight == INFORMS:
                continue
            first = found.get(
                finding.code, SweepFinding(finding.code, finding.weight, finding.cause, finding.remedy, ())
            )
            units = tuple(dict.fromkeys((*first.units, unit.index)))
            found[finding.code] = SweepFinding(first.code, first.weight, first.cause, first.remedy, units)
    return tuple(sorted(found.values(), key=lambda each: (WEIGHTS.index(each.weight), each.code)))
