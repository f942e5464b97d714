"""Where each second of migration goes, as text: the runs, a table with a column a run, and what could not be joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import run_settings, verdict
from numabench.analysis.finding import BIASES, INVALID
from numabench.analysis.latency import known_percentile
from numabench.analysis.migration_time import BETWEEN, CPU, NOT_SPLIT, OFF, QUERIES, MigrationTime
from numabench.analysis.missing import Missing
from numabench.analysis.phases import PHASES
from numabench.analysis.thread_time import OTHER, PREEMPTED
from numabench.idset import format_ids
from numabench.report.moves_text import driver_words, memory_words, victim_words
from numabench.report.page import BOLD, YELLOW, Page
from numabench.report.run_head import guest_note
from numabench.report.spread_text import spread_text
from numabench.units import NS_PER_S, format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.kernel_counts import KernelCost
    from numabench.record import Latency, Run

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MIN_WIDTH = 80
_LABEL, _CELL = 34, 14
_DIGITS = 4
# A reason of waiting, or a lock within a phase, that is less of every run than this is not worth a row.
_LEAST_SHARE = 0.005
PHASE_ORDER = (*PHASES, OTHER, NOT_SPLIT)


def render(times: Sequence[MigrationTime], width: int = 100, colour: bool = False) -> str:
    """The report; no line is longer than `width` columns (at least 80)."""
    page = Page(max(width, _MIN_WIDTH), colour)
    drivers = ", ".join(dict.fromkeys(one.run.planned.driver for one in times))
    page.text(f"where each second of migration goes: {drivers}", BOLD)
    for note in filter(None, (guests_note(times), comparability(times))):
        page.text(note, YELLOW)
    for letter, one in zip(letters(times), times, strict=True):
        page.blank()
        _run(page, letter, one)
    fit = max((page.width - _LABEL) // _CELL, 1)
    for first in range(0, len(times), fit):
        page.blank()
        _table(page, letters(times)[first : first + fit], times[first : first + fit])
    page.blank()
    _unjoined(page, times)
    return "\n".join(page.lines) + "\n"


def letters(times: Sequence[MigrationTime]) -> tuple[str, ...]:
    """What stands for each run: a letter, or a number where there are more than letters."""
    if len(times) <= len(LETTERS):
        return tuple(LETTERS[: len(times)])
    return tuple(str(number) for number in range(1, len(times) + 1))


def guests_note(times: Sequence[MigrationTime]) -> str:
    """What is to be said of times that come from a guest, and whose they are; empty where there are none."""
    guests = [letter for letter, one in zip(letters(times), times, strict=True) if one.run.is_guest]
    if not guests:
        return ""
    note = guest_note(next(one.run for one in times if one.run.is_guest))
    return note if len(guests) == len(times) else f"{', '.join(guests)}: {note[0].lower()}{note[1:]}"


def comparability(times: Sequence[MigrationTime]) -> str:
    """What is to be borne in mind when runs are held side by side; empty where nothing is."""
    all_settings = [run_settings.settings(one.run, one.placement) for one in times]
    told = [name for name in run_settings.differing(all_settings) if name in run_settings.SAME]
    if not told:
        return ""
    values = (f"{name} ({', '.join(dict.fromkeys(each.get(name, '-') for each in all_settings))})" for name in told)
    return f"The runs differ in {', '.join(values)}: what is not the driver's may be theirs."


def _run(page: Page, letter: str, shown: MigrationTime) -> None:
    run, plan, moved = shown.run, shown.run.planned, shown.moved
    page.text(f"{letter}  {driver_words(run)}", BOLD, hang=3)
    what = f"{run.workload}, placement {shown.placement}, {run.run_id}, Linux {run.machine.kernel_release}"
    page.item("run", what, 3)
    size = f"{format_bytes(plan.size_bytes)} of " if plan.size_bytes else ""
    memory = memory_words(plan) or f"{format_bytes(run.page_bytes)} pages"
    page.item("memory", f"{size}{memory}; victims: {victim_words(plan)}", 3)
    counts = (
        ("requested", moved.requested_pages),
        ("confirmed", moved.confirmed_pages),
        ("left", moved.left_pages),
        ("the kernel counted", moved.kernel_pages),
    )
    pages = ", ".join(f"{name} {spread_text(found, format_count)}" for name, found in counts if found is not None)
    trials = f"trial{'s' * (len(moved.trials) > 1)} {format_ids(moved.trials)}"
    page.item("pages", f"{pages or 'not known'} ({trials})", 3)
    if moved.mb_per_s is not None and moved.pages_per_s is not None:
        rate = spread_text(moved.mb_per_s, lambda value: f"{value:.4g}")
        page.item("MB/s", f"{rate}; {spread_text(moved.pages_per_s, format_count)} pages/s", 3)
    named = [f"{name} {format_count(count)}" for name, count in moved.statuses]
    if named:
        page.item("statuses", f"not the target's node: {', '.join(named)}", 3)
    failed = [f"{name} {format_count(count)}" for name, count in moved.call_errors]
    if failed:
        page.item("calls failed", ", ".join(failed), 3)
    took = [
        f"{name} p50 {_time(found, 0.5)}, p99 {_time(found, 0.99)}, longest {format_seconds(found.max_ns / NS_PER_S)}"
        for name, found in (("a call", moved.call), ("an access of victims", moved.stall))
        if found is not None
    ]
    if took:
        page.item("took", "; ".join(took), 3)
    if shown.per_gib is not None:
        page.item("time per GiB", f"{spread_text(shown.per_gib, format_seconds)} of movers' time", 3)
    _findings(page, run)


def _findings(page: Page, run: Run) -> None:
    """What speaks against a run, by code: its own report has the causes and remedies."""
    found = verdict.judge(run)
    for weight, words in ((INVALID, "not valid"), (BIASES, "biased")):
        codes = found.codes(weight)
        if codes:
            page.item(words, f"{', '.join(codes)}: see numabench report {run.run_id}", 3)


def _time(latency: Latency, share: float) -> str:
    ns = known_percentile(latency, share)
    return "-" if isinstance(ns, Missing) else format_seconds(ns / NS_PER_S)


def _table(page: Page, names: Sequence[str], times: Sequence[MigrationTime]) -> None:
    page.raw(f"{'seconds per GiB migrated, and %':<{_LABEL}}" + "".join(f"{name:>{_CELL}}" for name in names))
    page.raw(" " * _LABEL + "".join(f"{one.run.planned.driver[: _CELL - 1]:>{_CELL}}" for one in times))
    has_movers = any(one.run.planned.has_movers for one in times)
    calls = "in calls, " if has_movers else ""
    row = _Rows(page, times)
    row.seconds(_whole(times), [one.total_s for one in times])
    row.seconds(f"  {calls}on the CPU", [one.seconds(CPU) for one in times])
    for phase in PHASE_ORDER:
        _phase_rows(row, phase)
    row.seconds(f"  {calls}off the CPU", [one.seconds(OFF) for one in times])
    _waiting_rows(row)
    if has_movers:
        row.seconds("  queries where pages are", [one.seconds(QUERIES) for one in times])
        row.seconds("  between calls", [one.seconds(BETWEEN) for one in times])
    row.seconds("CPU time of the same threads", [one.cpu_s for one in times])
    if not all(one.run.planned.has_movers for one in times):
        row.seconds("all time of the same threads", [one.threads_s for one in times])
    _costs(page, times)


def _whole(times: Sequence[MigrationTime]) -> str:
    """Whose time the whole is (docs/migration-report.md)."""
    driven = {one.run.planned.has_movers for one in times}
    if len(driven) > 1:
        return "movers, or in migration"
    return "movers, GO to last call" if True in driven else "in migration"


@dataclass(frozen=True)
class _Rows:
    """The table under way: a column each of some runs, with so many decimals that four digits are seen."""

    page: Page
    times: Sequence[MigrationTime]

    @property
    def decimals(self) -> int:
        """How many the largest figure leaves room for."""
        rates = [rate for one in self.times if not isinstance(rate := one.total_per_gib_s, Missing)]
        largest = max(rates, default=0.0)
        return max(_DIGITS - len(f"{largest:.0f}"), 0)

    def seconds(self, label: str, values: Sequence[float]) -> None:
        """A row of seconds, one a run."""
        cells = (_cell(one, value, self.decimals) for one, value in zip(self.times, values, strict=True))
        self.page.raw(_cut(label) + "".join(cells))


def _cut(label: str) -> str:
    return f"{label if len(label) < _LABEL else label[: _LABEL - 4] + '...':<{_LABEL}}"


def _cell(one: MigrationTime, seconds: float, decimals: int) -> str:
    """Seconds per GiB and the share of the whole; where nothing was migrated the share alone."""
    if not seconds:
        return f"{'-':>{_CELL}}"
    share = f"{100 * seconds / one.total_s:.1f}" if one.total_s else ""
    per_gib = one.total_per_gib_s
    rate = "" if isinstance(per_gib, Missing) or not one.total_s else f"{seconds * per_gib / one.total_s:.{decimals}f}"
    return f"{rate:>{_CELL - 6}}{share:>6}"


def _phase_rows(row: _Rows, phase: str) -> None:
    """A phase on the CPU, and the locks that were waited for in it, spinning."""
    if not any(one.seconds(CPU, phase) for one in row.times):
        return
    row.seconds(f"    {phase}", [one.seconds(CPU, phase) for one in row.times])
    parts = (part for one in row.times for part in one.parts if (part.where, part.phase) == (CPU, phase))
    for lock in sorted({part.lock for part in parts if part.lock and part.share >= _LEAST_SHARE}):
        row.seconds(f"      at {lock}", [one.seconds(CPU, phase, lock) for one in row.times])


def waiting_name(phase: str, lock: str) -> str:
    """What a thread off the CPU waited for, in words."""
    if lock:
        return f"{phase}: {lock}"
    return phase if phase in {PREEMPTED, NOT_SPLIT} else f"{phase}: asleep"


def _waiting_rows(row: _Rows) -> None:
    """The reasons for being off the CPU, longest first, and the small ones together."""
    parts = sorted((part for one in row.times for part in one.parts if part.where == OFF), key=lambda part: -part.share)
    shown = tuple(dict.fromkeys((part.phase, part.lock) for part in parts if part.share >= _LEAST_SHARE))
    for phase, lock in shown:
        row.seconds(f"    {waiting_name(phase, lock)}", [one.seconds(OFF, phase, lock) for one in row.times])
    rest = {(part.phase, part.lock) for part in parts} - set(shown)
    if rest:
        row.seconds("    else", [sum(one.seconds(OFF, *reason) for reason in sorted(rest)) for one in row.times])


def _costs(page: Page, times: Sequence[MigrationTime]) -> None:
    names = dict.fromkeys(cost.name for one in times if one.costs for cost in one.costs.costs)
    waits = any(one.lock_waits for one in times)
    if not names and not waits:
        return
    costs = {name: [_cost(one, name) for one in times] for name in names}
    then = {
        name: next((cost.in_2012 for cost in found if cost and cost.in_2012), None) for name, found in costs.items()
    }
    thread = ", ".join(f"{count:,} {name}" for name, count in then.items() if count)
    page.raw("per 2 MB migrated" + (f" (in 2012: {thread})" if thread else ""))
    for name, found in costs.items():
        page.raw(_cut(f"  {name}") + "".join(f"{_per_2mb(cost):>{_CELL}}" for cost in found))
    if waits:
        counts = (one.lock_waits.count_per_2mb if one.lock_waits else None for one in times)
        page.raw(_cut("  waits for locks in calls") + "".join(_number_cell(count) for count in counts))
        lengths = (one.lock_waits.ns_per_2mb if one.lock_waits else None for one in times)
        cells = ("-" if ns is None else format_seconds(ns / NS_PER_S) for ns in lengths)
        page.raw(_cut("  their time") + "".join(f"{cell:>{_CELL}}" for cell in cells))


def _cost(one: MigrationTime, name: str) -> KernelCost | None:
    return next((cost for cost in one.costs.costs if cost.name == name), None) if one.costs else None


def _per_2mb(cost: KernelCost | None) -> str:
    return "-" if cost is None or isinstance(cost.per_2mb, Missing) else _short(cost.per_2mb)


def _number_cell(value: float | None) -> str:
    return f"{'-' if value is None else _short(value):>{_CELL}}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _unjoined(page: Page, times: Sequence[MigrationTime]) -> None:
    """How far shares can be trusted, and what could not be joined."""
    page.text(
        "Seconds are of the measured trials, shares of the passes, which are other trials (docs/migration-report.md)."
    )
    sampled = [(letter, one) for letter, one in zip(letters(times), times, strict=True) if one.cpu_samples]
    if sampled:
        listed = ", ".join(f"{letter} {format_count(one.cpu_samples)}" for letter, one in sampled)
        page.text(f"CPU samples that shares are taken from: {listed}.")
    for text in dict.fromkeys(text for one in times for text in one.unjoined):
        own = [letter for letter, one in zip(letters(times), times, strict=True) if text in one.unjoined]
        page.text(f"{', '.join(own)}: {text}.", hang=2)
