"""What movers asked for, what they got, and how fast; what their victims waited."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.latency import merged
from numabench.analysis.missing import Missing
from numabench.units import BYTES_PER_MB, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numabench.record import Direction, Latency, MoverWork, Trial


@dataclass(frozen=True)
class Amount:
    """Pages, as the movers counted them and in base pages."""

    units: int
    pages: int


@dataclass(frozen=True)
class Step:
    """What all movers moved from the node `source` to the node `target`.

    `mb_per_s` is of the time in the calls of all movers, one after the other; `latency` of one call.
    """

    source: int
    target: int
    moved: Amount
    calls: int
    mb_per_s: float | Missing
    latency: Latency | Missing


@dataclass(frozen=True)
class Moves:
    """What the movers of a trial did, all together (`record.MoverWork` says what each count is).

    `pages_per_s` and `mb_per_s` (10^6 bytes) add up each mover's confirmed pages by its own time from GO to its last
    call, queries left out. `busy_share` is the part of that time that was spent in the driver's calls. `mixed` is of
    calls whose pages went several ways at once, which are of no step; `latency` is of all calls.
    """

    movers: int
    unit_bytes: int
    passes: int
    calls: int
    call_errors: tuple[tuple[str, int], ...]
    positive: int
    requested: Amount
    confirmed: Amount
    already: Amount
    retried: Amount
    left: Amount
    status: tuple[tuple[str, int], ...]
    asked_again: int
    pages_per_s: float | Missing
    mb_per_s: float | Missing
    busy_share: float | Missing
    steps: tuple[Step, ...]
    mixed: Latency | Missing
    latency: Latency | Missing

    @property
    def refused(self) -> int:
        """How many statuses were an error, or never came."""
        return sum(count for _, count in self.status)


_NO_CALLS = "no call was made"


def moves(trial: Trial) -> Moves | Missing:
    """What a trial's movers did."""
    if not trial.movers:
        return Missing("the trial has no movers")
    if trial.unit_bytes is None or trial.unit_pages is None:
        return Missing("the trial does not say how large a page its movers counted in")
    movers, unit_pages = trial.movers, trial.unit_pages

    def amount(units: Iterable[int]) -> Amount:
        total = sum(units)
        return Amount(total, total * unit_pages)

    directions = [direction for mover in movers for direction in mover.directions]
    mixed = [mover.mixed.latency for mover in movers if mover.mixed is not None]
    units_per_s = _units_per_s(movers)
    return Moves(
        movers=len(movers),
        unit_bytes=trial.unit_bytes,
        passes=sum(mover.passes for mover in movers),
        calls=sum(mover.calls for mover in movers),
        call_errors=_by_name(mover.call_errors for mover in movers),
        positive=sum(mover.positive for mover in movers),
        requested=amount(mover.requested for mover in movers),
        confirmed=amount(mover.confirmed for mover in movers),
        already=amount(mover.already for mover in movers),
        retried=amount(mover.retried for mover in movers),
        left=amount(mover.left for mover in movers),
        status=_by_name(mover.status for mover in movers),
        asked_again=sum(mover.asked_again for mover in movers),
        pages_per_s=units_per_s if isinstance(units_per_s, Missing) else units_per_s * unit_pages,
        mb_per_s=units_per_s if isinstance(units_per_s, Missing) else units_per_s * trial.unit_bytes / BYTES_PER_MB,
        busy_share=_busy_share(movers),
        steps=_steps(directions, trial.unit_bytes, unit_pages, has_mixed=bool(mixed)),
        mixed=merged(mixed) or Missing("no call went several ways at once"),
        latency=merged([*(direction.latency for direction in directions), *mixed]) or Missing(_NO_CALLS),
    )


def stall(trial: Trial) -> Latency | Missing:
    """What one access cost the victims of a trial, all of them together."""
    if not trial.victims:
        return Missing("the trial has no victims")
    return merged(victim.latency for victim in trial.victims) or Missing("no victim touched a page")


def _by_name(counts: Iterable[dict[str, int]]) -> tuple[tuple[str, int], ...]:
    """Sums by name, the largest first; none that is zero."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return tuple(sorted((+total).items(), key=lambda entry: (-entry[1], entry[0])))


def _own_ns(mover: MoverWork) -> int:
    """A mover's time without its queries."""
    return mover.elapsed_ns - mover.query_ns


def _units_per_s(movers: tuple[MoverWork, ...]) -> float | Missing:
    if not any(mover.confirmed for mover in movers):
        return Missing("no page was found on its target")
    if any(mover.confirmed and _own_ns(mover) <= 0 for mover in movers):
        return Missing("a mover's time is not known")
    return sum(mover.confirmed * NS_PER_S / _own_ns(mover) for mover in movers if mover.confirmed)


def _busy_share(movers: tuple[MoverWork, ...]) -> float | Missing:
    own_ns = sum(_own_ns(mover) for mover in movers)
    if own_ns <= 0:
        return Missing("the movers' time is not known")
    return sum(mover.call_ns for mover in movers) / own_ns


def _steps(directions: list[Direction], unit_bytes: int, unit_pages: int, *, has_mixed: bool) -> tuple[Step, ...]:
    """Where calls went several ways at once nobody knows what of their time was for a step."""
    steps = []
    for source, target in sorted({(direction.source, direction.target) for direction in directions}):
        own = [direction for direction in directions if (direction.source, direction.target) == (source, target)]
        units, busy_ns = sum(direction.units for direction in own), sum(direction.busy_ns for direction in own)
        mb_per_s: float | Missing = Missing("its calls moved pages other ways, too" if has_mixed else _NO_CALLS)
        if busy_ns and not has_mixed:
            mb_per_s = units * unit_bytes / BYTES_PER_MB * NS_PER_S / busy_ns
        steps.append(
            Step(
                source=source,
                target=target,
                moved=Amount(units, units * unit_pages),
                calls=sum(direction.calls for direction in own),
                mb_per_s=mb_per_s,
                latency=merged(direction.latency for direction in own) or Missing(_NO_CALLS),
            )
        )
    return tuple(steps)
