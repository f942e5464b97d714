"""What a run's passes showed, as parts of its page: phases, locks, and what 2 MB cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.phases import OUTSIDE, PHASES
from numabench.report.html.chart import bar
from numabench.report.html.element import Html, number, table, tag
from numabench.report.html.template import section
from numabench.units import HUGE_2M, format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.contention import ContentionReport, SpinReport
    from numabench.analysis.observed import Observation
    from numabench.analysis.offcpu import OffCpuReport
    from numabench.analysis.phases import PhaseReport
    from numabench.report.html.template import Section

_MOST_ROWS, _MOST_FRAMES = 25, 12
_NS = 1e-9


def sections(observations: Sequence[Observation], is_guest: bool) -> list[Section]:
    """The parts of all passes; of several of a kind and placement the first."""
    first = {(one.trial.placement, one.recipe): one for one in reversed(observations)}
    own = sorted(first.values(), key=lambda one: one.trial.index)
    if not own:
        return []
    found = [section("observed", "Observed in passes of their own", _recordings(observations, is_guest), link="Passes")]
    for name, title, part in (
        ("phases", "Phases of migration", [_phases(one) for one in own if one.phases is not None]),
        ("locks", "Locks and waits", [_locks(one, is_guest) for one in own if _has_locks(one)]),
        ("costs", "Cost of 2 MB migrated", [_costs(one) for one in own if one.counts is not None]),
    ):
        if part:
            found.append(section(name, title, *part, link=title.partition(" of ")[0]))
    return found


def short(value: float) -> str:
    """A cost as the text has it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _has_locks(one: Observation) -> bool:
    return one.spin is not None or one.waits is not None or one.off_cpu is not None


def _of(one: Observation) -> str:
    return f"placement {one.trial.placement}, {one.recipe} of trial {one.trial.index}"


def _recordings(observations: Sequence[Observation], is_guest: bool) -> Html:
    rows = []
    for one in observations[:_MOST_ROWS]:
        told = one.trial.observed
        assert told is not None
        what = f"{len(told.functions)} functions" if told.functions else ", ".join(told.events)
        rate = f" at {told.frequency_hz:,} Hz" if told.frequency_hz else ""
        samples = "counted" if one.quality is None else format_count(one.quality.samples)
        own = "" if one.quality is None else format_count(one.own_samples)
        slower = "not known" if isinstance(one.slowdown, Missing) else f"{one.slowdown:.2f} times"
        rows.append(
            (
                f"{one.recipe}, {one.trial.placement}, trial {one.trial.index}",
                what + rate,
                number(samples),
                number(own),
                number(format_bytes(told.size_bytes)),
                number(slower + (" (guest)" if is_guest else "")),
            )
        )
    return table(("pass", "events", "samples", "of the workload", "size", "as long as measured"), rows)


def _phases(one: Observation) -> Html:
    report = one.phases
    assert report is not None
    total = report.total_weight
    if not report.migration_weight or not total:
        return tag("p", f"None of the workload's CPU samples are in a migration ({_of(one)}).")
    shown = [
        (phase, report.weight(phase), report.weight(phase, waiting=True))
        for phase in sorted(PHASES, key=lambda phase: -report.weight(phase))
        if report.weight(phase)
    ]
    most = max(weight for _, weight, _ in shown)
    rows = [
        (
            phase,
            tag("td", bar(weight, waiting, most, look(phase)), class_="bars"),
            number(_percent(weight, total), weight),
            number(_percent(weight, report.migration_weight), weight),
            _waits(report, phase),
        )
        for phase, weight, waiting in shown
    ]
    told = (
        f"{_percent(report.migration_weight, total)} of the workload's CPU samples are in migration: "
        f"{_drivers(report)} ({_of(one)}). Hatched: waiting for a lock."
    )
    return tag(
        "div",
        tag("p", told),
        table(("phase", "", "of all samples", "of migration", "waiting, of all samples"), rows),
    )


def look(phase: str) -> str:
    """The style sheet's word for a phase's colour."""
    if phase in {"", OUTSIDE}:
        return "p-none"
    return "p-" + phase.replace(" ", "-")


def _drivers(report: PhaseReport) -> str:
    sums: dict[str, int] = {}
    for share in report.shares:
        if share.phase != OUTSIDE and share.driver:
            sums[share.driver] = sums.get(share.driver, 0) + share.weight
    heaviest = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {_percent(weight, report.migration_weight)}" for name, weight in heaviest) or "no driver"


def _waits(report: PhaseReport, phase: str) -> str:
    sums: dict[str, int] = {}
    for share in report.shares:
        if share.phase == phase and share.waits_for:
            sums[share.waits_for] = sums.get(share.waits_for, 0) + share.weight
    heaviest = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{lock} {_percent(weight, report.total_weight)}" for lock, weight in heaviest)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"


def _locks(one: Observation, is_guest: bool) -> Html:
    guest = " Times are the guest's." if is_guest else ""
    parts = []
    if one.spin is not None:
        parts.append(_spin(one, one.spin))
    if one.waits is not None:
        parts.append(_slept(one, one.waits, guest))
    if one.off_cpu is not None:
        parts.append(_off_cpu(one, one.off_cpu, guest))
    return tag("div", *parts)


def _spin(one: Observation, report: SpinReport) -> Html:
    spun = sum(row.samples for row in report.rows)
    told = tag("p", f"Spun for locks: {_percent(spun, report.cpu_samples)} of the workload's CPU samples ({_of(one)}).")
    rows = [
        (
            f"{row.lock_class} {row.lock or 'unnamed'}",
            row.phase,
            number(_percent(row.samples, report.cpu_samples), row.samples),
            _path(row.path),
        )
        for row in report.rows[:_MOST_ROWS]
    ]
    return tag("div", told, table(("lock", "phase", "of CPU samples", "called from"), rows) if rows else None)


def _slept(one: Observation, report: ContentionReport, guest: str) -> Html:
    total = report.total
    if not total.count:
        return tag("p", f"Slept for locks: not once (lock:contention_begin; {_of(one)}).")
    each = ""
    if not isinstance(one.migrated_bytes, Missing) and one.migrated_bytes >= HUGE_2M:
        units = one.migrated_bytes / HUGE_2M
        each = f" Per 2 MB migrated: {short(total.count / units)} waits, {_time(total.total_ns / units)}."
    told = tag(
        "p",
        f"Slept for locks {format_count(total.count)} times, {_time(total.total_ns)} in all, longest "
        f"{_time(total.max_ns)} ({_of(one)}).{each}{guest} An rwsem is traced only once it has spun in vain: what only "
        "spun is not among these.",
    )
    phases = [
        (
            row.key[0],
            row.key[1],
            number(format_count(row.waits.count), row.waits.count),
            number(_time(row.waits.total_ns)),
        )
        for row in report.by_phase
        if row.key[0] != OUTSIDE
    ]
    rows = [
        (
            f"{row.key[0]} {row.key[1] or 'unnamed'}",
            number(format_count(row.waits.count), row.waits.count),
            number(_time(row.waits.total_ns), row.waits.total_ns),
            number(_time(row.waits.average_ns), row.waits.average_ns),
            number(_time(row.waits.max_ns), row.waits.max_ns),
            _path(row.key[2:]),
        )
        for row in report.by_path[:_MOST_ROWS]
    ]
    return tag(
        "div",
        told,
        table(("phase", "driver", "waits", "in all"), phases) if phases else None,
        table(("lock", "waits", "in all", "average", "longest", "called from"), rows, class_="sortable"),
    )


def _off_cpu(one: Observation, report: OffCpuReport, guest: str) -> Html:
    told = (
        f"Off the CPU of its own will {format_count(report.voluntary.count)} times, "
        f"{_time(report.voluntary.total_ns)} in all; preempted {format_count(report.preempted.count)} times, "
        f"{_time(report.preempted.total_ns)} in all ({_of(one)}).{guest}"
    )
    rows = [
        (
            f"{row.reason.lock_class} {row.reason.lock or 'unnamed'}" if row.reason.lock_class else row.reason.state,
            row.reason.phase,
            number(format_count(row.waits.count), row.waits.count),
            number(_time(row.waits.total_ns), row.waits.total_ns),
            _path(row.reason.path),
        )
        for row in report.reasons[:_MOST_ROWS]
    ]
    head = ("waited for", "phase", "times", "in all", "called from")
    return tag("div", tag("p", told), table(head, rows, class_="sortable") if rows else None)


def _time(duration_ns: float) -> str:
    return format_seconds(duration_ns * _NS)


def _path(frames: Sequence[str]) -> Html:
    more = " < ..." if len(frames) > _MOST_FRAMES else ""
    return tag("td", tag("code", " < ".join(frames[:_MOST_FRAMES]) + more), class_="path")


def _costs(one: Observation) -> Html:
    counts = one.counts
    assert counts is not None
    rows: list[Sequence[str]] = []
    for cost in counts.costs:
        then = "" if cost.in_2012 is None else f"{cost.in_2012:,}"
        if isinstance(cost.per_2mb, Missing):
            rows.append((cost.name, number("not known"), number(then), cost.per_2mb.reason))
            continue
        total = 0 if isinstance(cost.total, Missing) else cost.total
        parts = ", ".join(f"{name} {short(cost.per_2mb * part / total)}" for name, part in cost.parts if total)
        rows.append((cost.name, number(short(cost.per_2mb), cost.per_2mb), number(then), parts))
    known = [
        f"{row.lock_class} {format_count(row.entries)}"
        for row in counts.slow_paths
        if not isinstance(row.entries, Missing)
    ]
    return tag(
        "div",
        tag("p", f"Counted at the kernel's functions, on the whole machine ({_of(one)})."),
        table(("what", "per 2 MB", "in 2012", "of which"), rows),
        tag("p", f"Locks not had at once: {', '.join(known) or 'not counted'}."),
    )
