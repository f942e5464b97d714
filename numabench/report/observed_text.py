"""What a run's passes showed, in its report: where migration spends its time, what it waits for, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.phases import OUTSIDE, PHASES, UNPLACED
from numabench.idset import format_ids
from numabench.report.escape import escape
from numabench.report.page import BOLD
from numabench.units import HUGE_2M, format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.contention import ContentionReport, SpinReport, Waits
    from numabench.analysis.kernel_counts import KernelCounts
    from numabench.analysis.observed import Observation
    from numabench.analysis.offcpu import OffCpuReport
    from numabench.analysis.phases import PhaseReport
    from numabench.analysis.remote_access import RemoteAccess
    from numabench.report.page import Page

_TOP = 4
# From where the time goes to what it costs.
_ORDER = ("cpu", "lock", "sched", "cost", "stat")
_NS = 1e-9


def show_observed(page: Page, observations: Sequence[Observation], is_guest: bool) -> None:
    """The passes of each placement; of several of a kind the first."""
    for placement in dict.fromkeys(observation.trial.placement for observation in observations):
        own = [observation for observation in observations if observation.trial.placement == placement]
        numbers = format_ids(observation.trial.index for observation in own)
        page.blank()
        page.text(f"observed in passes of their own, placement {placement}: trial {numbers}", BOLD)
        _recordings(page, own, is_guest)
        first = {observation.recipe: observation for observation in reversed(own)}
        if len(first) < len(own):
            page.item("", "of several passes of a kind the first is shown; --json has all", 2)
        for recipe in (*(name for name in _ORDER if name in first), *(name for name in first if name not in _ORDER)):
            _observation(page, first[recipe])


def _recordings(page: Page, observations: Sequence[Observation], is_guest: bool) -> None:
    guest = " (guest time)" if is_guest else ""
    for place, observation in enumerate(observations):
        told = observation.trial.observed
        assert told is not None
        rate = f" at {told.frequency_hz:,} Hz" if told.frequency_hz else ""
        what = f"{len(told.functions)} functions of the kernel" if told.functions else ""
        text = f"{observation.recipe}: {what or ', '.join(event.partition('/')[0] for event in told.events)}{rate}"
        if observation.quality is None:
            text += ", counted on all CPUs"
        else:
            text += f": {format_count(observation.quality.samples)} samples, {format_count(observation.own_samples)} of"
            text += f" them the workload's, {format_bytes(told.size_bytes)}"
        if not isinstance(observation.slowdown, Missing):
            text += f"; the same work took {observation.slowdown:.2f} times as long as measured{guest}"
        page.item("recorded" if place == 0 else "", text, 2)


def _observation(page: Page, shown: Observation) -> None:
    if shown.phases is not None:
        _phases(page, shown.phases)
    if shown.spin is not None:
        _spin(page, shown.spin)
    if shown.waits is not None:
        _waits(page, shown.waits, shown.migrated_bytes)
    if shown.off_cpu is not None:
        _off_cpu(page, shown.off_cpu)
    if shown.counts is not None:
        _costs(page, shown.counts)
    if shown.remote is not None:
        _remote(page, shown.remote)


def _costs(page: Page, counts: KernelCounts) -> None:
    page.raw(f"  {'cost per 2 MB migrated':<32}{'here':>10}{'in 2012':>10}")
    for cost in counts.costs:
        if isinstance(cost.per_2mb, Missing):
            page.text(f"{cost.name}: not known: {cost.per_2mb.reason}", indent=4, hang=2)
            continue
        total = cost.total if not isinstance(cost.total, Missing) else 0
        parts = ", ".join(f"{name} {_short(cost.per_2mb * part / total)}" for name, part in cost.parts if total)
        then = f"{cost.in_2012:,}" if cost.in_2012 is not None else ""
        page.raw(f"    {cost.name:<30}{_short(cost.per_2mb):>10}{then:>10}" + (f"   {parts}" if parts else ""))
    known = [(row.lock_class, row.entries) for row in counts.slow_paths if not isinstance(row.entries, Missing)]
    told = ", ".join(f"{name} {format_count(entries)}" for name, entries in known)
    page.item("locks not had", f"at once, on the whole machine: {told or 'not counted'}", 2)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _remote(page: Page, remote: RemoteAccess) -> None:
    if isinstance(remote.low_share, Missing) or isinstance(remote.high_share, Missing):
        reason = remote.low_share.reason if isinstance(remote.low_share, Missing) else ""
        page.item("remote loads", f"not known: {reason}", 2)
    elif remote.low_share == remote.high_share:
        page.item("remote loads", f"{_percent(remote.low_share, 1)} of the loads from memory", 2)
    else:
        page.item(
            "remote loads",
            f"{_percent(remote.low_share, 1)} to {_percent(remote.high_share, 1)} of the loads from memory, as the "
            "processor's node-loads hold the remote ones or not",
            2,
        )
    for row in remote.counts:
        count = "not counted" if row.count is None else format_count(row.count)
        scaled = f" (counted {_percent(row.running_share, 1)} of the time)" if row.running_share < 1 else ""
        page.text(f"{row.event} {count}{scaled}", indent=4, hang=2)


def _phases(page: Page, report: PhaseReport) -> None:
    total, migration = report.total_weight, report.migration_weight
    if not migration:
        page.item("time in migration", "none of the workload's CPU samples", 2)
        return
    drivers: dict[str, int] = {}
    for share in report.shares:
        if share.phase != OUTSIDE and share.driver:
            drivers[share.driver] = drivers.get(share.driver, 0) + share.weight
    asked = ", ".join(f"{name} {_percent(weight, migration)}" for name, weight in _heaviest(drivers))
    page.item("time in migration", f"{_percent(migration, total)} of the workload's CPU samples, for {asked}", 2)
    for phase in sorted(PHASES, key=lambda phase: -report.weight(phase)):
        weight = report.weight(phase)
        if weight and phase != UNPLACED:
            waits: dict[str, int] = {}
            for share in report.shares:
                if share.phase == phase and share.waits_for:
                    waits[share.waits_for] = waits.get(share.waits_for, 0) + share.weight
            told = "; ".join(f"waiting for {lock} {_percent(part, total)}" for lock, part in _heaviest(waits))
            page.raw(f"    {phase:<26}{_percent(weight, total):>7}" + (f"   {told}" if told else ""))
    page.raw(f"    {'not placed':<26}{_percent(report.unplaced_weight, total):>7}")


def _heaviest(weights: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(weights.items(), key=lambda item: (-item[1], item[0]))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"


def _spin(page: Page, report: SpinReport) -> None:
    spun = sum(row.samples for row in report.rows)
    page.item("spun for locks", f"{_percent(spun, report.cpu_samples)} of the workload's CPU samples", 2)
    for row in report.rows[:_TOP]:
        name = f"{row.lock_class} {row.lock or 'unnamed'}{_in(row.phase)}"
        _row(page, f"{_percent(row.samples, report.cpu_samples):>7}", f"{name}:", row.path)


def _row(page: Page, figure: str, name: str, path: Sequence[str]) -> None:
    """A figure, a name, and as much of a call path as fits, whole functions only."""
    line = escape(f"    {figure}  {name}")
    for number, frame in enumerate(path):
        more = (" " if number == 0 else " < ") + escape(frame)
        if len(line) + len(more) + (4 if number + 1 < len(path) else 0) > page.width:
            line += " ..."
            break
        line += more
    page.raw(line[: page.width])


def _in(phase: str) -> str:
    return "" if phase == OUTSIDE else f" in {phase}"


def _waits(page: Page, report: ContentionReport, migrated_bytes: int | Missing) -> None:
    page.item("slept for locks", _told(report.total), 2)
    if report.total.count and not isinstance(migrated_bytes, Missing) and migrated_bytes >= HUGE_2M:
        units = migrated_bytes / HUGE_2M
        each = format_seconds(report.total.total_ns / units * _NS)
        page.item("", f"per 2 MB migrated: {report.total.count / units:.3g} waits, {each}", 2)
    phases = [
        f"{format_seconds(row.waits.total_ns * _NS)} in {row.key[0]}" + (f" for {row.key[1]}" if row.key[1] else "")
        for row in report.by_phase
        if row.key[0] != OUTSIDE
    ]
    if phases:
        page.item("", f"of these {', '.join(phases)}", 2)
    for row in report.by_path[:_TOP]:
        name = f"{row.key[0]} {row.key[1] or 'unnamed'}"
        waits = f"{format_count(row.waits.count):>7} x {format_seconds(row.waits.average_ns * _NS)}"
        _row(page, f"{waits:<19}", f"{name}:", row.key[2:])
    page.item("", "An rwsem is traced only once it has spun in vain: what only spun is not among these.", 2)


def _told(waits: Waits) -> str:
    if not waits.count:
        return "not once (lock:contention_begin)"
    return (
        f"{format_count(waits.count)} times, {format_seconds(waits.total_ns * _NS)} in all, "
        f"longest {format_seconds(waits.max_ns * _NS)}"
    )


def _off_cpu(page: Page, report: OffCpuReport) -> None:
    for label, waits in (("off the CPU", report.voluntary), ("preempted", report.preempted)):
        text = "never"
        if waits.count:
            text = f"{format_count(waits.count)} times, {format_seconds(waits.total_ns * _NS)} in all"
        page.item(label, ("of its own will " if label == "off the CPU" else "") + text, 2)
    for row in report.reasons[:_TOP]:
        reason = row.reason
        what = f"{reason.lock_class} {reason.lock or 'unnamed'}" if reason.lock_class else reason.state
        times = f"{format_seconds(row.waits.total_ns * _NS):>9} in {format_count(row.waits.count)}"
        _row(page, f"{times:<19}", f"{what}{_in(reason.phase)}:", reason.path)
