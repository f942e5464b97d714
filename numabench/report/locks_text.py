"""Lock contention in text: what slept (pairs), what spun (CPU samples) and what was off the CPU, each named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.phases import OUTSIDE
from numabench.report.escape import escape
from numabench.report.page import Page
from numabench.units import HUGE_2M, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numabench.analysis.contention import Contended, ContentionReport, SpinReport, Waits
    from numabench.analysis.kernel_counts import SlowPath
    from numabench.analysis.offcpu import OffCpuReport, Reason

_TOP = 10
_NS = 1e-9
_MIN_WIDTH = 80
_BAR = 40


def render(
    contention: ContentionReport | None,
    spin: SpinReport | None,
    off_cpu: OffCpuReport | None,
    slow_paths: Sequence[SlowPath] = (),
    *,
    migrated_bytes: int = 0,
    off_cpu_bytes: int | None = None,
    width: int = 100,
) -> str:
    """The report of four sources; one that was not recorded is told as missing, never as nothing found.

    Where `migrated_bytes` is known, waits are also given per 2 MiB migrated; `off_cpu_bytes` is what was migrated while
    switches were recorded, where that was another time.
    """
    page = Page(max(width, _MIN_WIDTH), colour=False)
    if contention:
        _pairs(page, contention, migrated_bytes)
    else:
        page.text(_NO_PAIRS, hang=2)
    page.blank()
    if spin:
        _spin(page, spin)
    else:
        page.text(_NO_SPIN, hang=2)
    page.blank()
    if slow_paths:
        _slow_paths(page, slow_paths)
    else:
        page.text(_NO_SLOW_PATHS, hang=2)
    page.blank()
    if off_cpu:
        _off_cpu(page, off_cpu, migrated_bytes if off_cpu_bytes is None else off_cpu_bytes)
    else:
        page.text(_NO_SWITCHES, hang=2)
    return "".join(line.rstrip() + "\n" for line in page.lines)


_NO_PAIRS = (
    "Waits (contention_begin to contention_end): not recorded. Record with -e lock:contention_begin "
    "-e lock:contention_end -g (since Linux 5.19)."
)
_NO_SPIN = (
    "Spinning (CPU samples in the lock functions): not recorded. Record CPU samples, too (-e cpu-clock -g): a lock "
    "that is spun for shows in no tracepoint."
)
_NO_SLOW_PATHS = (
    "Slow-path entries (locks not to be had at once, whoever then spun or slept): not counted. Observe a run's cost, "
    "too (numabench run --observe cost)."
)
_NO_SWITCHES = "Off the CPU (sched_switch): not recorded. Record with -e sched:sched_switch -g."


def _pairs(page: Page, report: ContentionReport, migrated_bytes: int) -> None:
    page.text("Waits (contention_begin to contention_end, exact)")
    page.text(f"{_waits(report.total)}{_threads(report)}", indent=2, hang=2)
    if report.total.count:
        _histogram(page, report.total)
    _per_2_mib(page, report.total, migrated_bytes)
    if report.unfinished or report.stray_ends:
        text = f"not counted: {_plural(report.unfinished, 'wait')} that outlived the recording, "
        page.text(f"{text}{format_count(report.stray_ends)} that began before it", indent=2, hang=2)
    if any(row.key[0].startswith("rwsem") for row in report.by_class) or not report.total.count:
        text = "An rwsem is traced only once it has spun in vain: what only spun is not among these."
        page.text(text, indent=2, hang=2)
    _table(page, "By class", report.by_class, lambda key: key[0])
    _table(page, "By lock", report.by_lock, lambda key: f"{key[1] or 'unnamed'} {key[2]} ({key[0].replace(' ', ', ')})")
    if any(row.key[0] != OUTSIDE for row in report.by_phase):
        _table(page, "By phase of migration", report.by_phase, " for ".join)
    _heading(page, "By call path, from who wanted the lock up")
    for row in report.by_path[:_TOP]:
        _cells(page, row.waits, row.threads, f"{row.key[0]} {row.key[1]}")
        _path(page, row.key[2:])
    _more(page, len(report.by_path))


def _threads(report: ContentionReport) -> str:
    return f", {_plural(report.threads, 'thread')}" if report.total.count else ""


def _per_2_mib(page: Page, waits: Waits, migrated_bytes: int) -> None:
    if migrated_bytes:
        units = migrated_bytes / HUGE_2M
        each = f"{waits.count / units:.3g} waits, {format_seconds(waits.total_ns / units * _NS)}"
        page.text(f"for each 2 MiB migrated: {each}", indent=2, hang=2)


def _waits(waits: Waits) -> str:
    if not waits.count:
        return "no waits"
    return (
        f"{_plural(waits.count, 'wait')}, {format_count(waits.total_ns)} ns in all, "
        f"average {_time(waits.average_ns)}, longest {_time(waits.max_ns)}"
    )


def _plural(count: int, one: str) -> str:
    return f"{format_count(count)} {one}{'' if count == 1 else 's'}"


def _time(ns: float) -> str:
    return format_seconds(ns * _NS) if ns >= 1000 else f"{ns:.3g} ns"


def _histogram(page: Page, waits: Waits) -> None:
    """A bar for each doubling of the wait; where several in a row have none, one line says so."""
    most = max(waits.histogram)
    first = next(index for index, count in enumerate(waits.histogram) if count)
    empty = 0
    for index, count in enumerate(waits.histogram[first:], first):
        if not count:
            empty += 1
            continue
        if empty:
            page.raw(f"    {'...' if empty > 1 else _range(index - 1):>20}  {'' if empty > 1 else '0':>9}")
        empty = 0
        page.raw(f"    {_range(index):>20}  {format_count(count):>9}  {'#' * -(-count * _BAR // most)}")


def _range(index: int) -> str:
    return f"{_time(2**index)} to {_time(2 ** (index + 1)):>7}"


_COLUMNS = f"    {'total':>9}  {'waits':>9}  {'average':>9}  {'longest':>9}  {'threads':>7}  "


def _cells(page: Page, waits: Waits, threads: int, name: str) -> None:
    times = f"{_time(waits.average_ns):>9}  {_time(waits.max_ns):>9}"
    cells = f"    {_time(waits.total_ns):>9}  {format_count(waits.count):>9}  {times}  {format_count(threads):>7}  "
    if len(cells) + len(name) <= page.width:
        page.raw(cells + escape(name))
    else:
        page.raw(cells)
        page.text(name, indent=6, hang=2)


def _heading(page: Page, title: str) -> None:
    page.blank()
    page.text(title, indent=2)
    page.raw(_COLUMNS)


def _more(page: Page, rows: int) -> None:
    if rows > _TOP:
        page.raw(f"    and {format_count(rows - _TOP)} more")


def _table(page: Page, title: str, rows: Sequence[Contended], name: Callable[[tuple[str, ...]], str]) -> None:
    if not rows:
        return
    _heading(page, title)
    for row in rows[:_TOP]:
        _cells(page, row.waits, row.threads, name(tuple(filter(None, row.key)) if len(row.key) == 2 else row.key))
    _more(page, len(rows))


def _path(page: Page, frames: Sequence[str]) -> None:
    page.text(" < ".join(frames) or "(the call path is not known)", indent=6, hang=2)


def _spin(page: Page, report: SpinReport) -> None:
    spun = sum(row.samples for row in report.rows)
    share = f"{spun * 100 / report.cpu_samples if report.cpu_samples else 0:.2f}%"
    page.text("Spinning (CPU samples in the lock functions)")
    page.text(f"{format_count(spun)} of {format_count(report.cpu_samples)} CPU samples, {share}", indent=2, hang=2)
    for row in report.rows[:_TOP]:
        where = f" [{row.phase}]" if row.phase != OUTSIDE else ""
        page.raw(f"    {row.share * 100:>8.2f}%  " + escape(f"{row.lock_class} {row.lock}".strip() + where))
        _path(page, row.path)
    _more(page, len(report.rows))


def _slow_paths(page: Page, rows: Sequence[SlowPath]) -> None:
    """All classes, those never entered, too: a zero was counted."""
    page.text("Slow-path entries (locks not to be had at once, whoever then spun or slept; of the whole machine)")
    for row in rows:
        if isinstance(row.entries, Missing):
            page.text(f"{row.lock_class:<16} not counted: {row.entries.reason}", indent=4, hang=2)
            continue
        each = "" if isinstance(row.per_2mb, Missing) else f"  {row.per_2mb:.3g} for each 2 MiB migrated"
        page.raw(f"    {row.lock_class:<16}{format_count(row.entries):>10}{each}")


def _off_cpu(page: Page, report: OffCpuReport, migrated_bytes: int) -> None:
    page.text("Off the CPU (sched_switch, exact)")
    page.text(f"voluntary: {_waits(report.voluntary)}", indent=2, hang=2)
    page.text(f"preempted: {_waits(report.preempted)}", indent=2, hang=2)
    _per_2_mib(page, report.voluntary, migrated_bytes)
    left_out = [f"{_plural(report.unfinished, 'thread')} off to the end of the recording"] if report.unfinished else []
    if report.unseen_returns:
        left_out.append(f"{_plural(report.unseen_returns, 'time')} whose end is not in the recording{_hint(report)}")
    if left_out:
        page.text(f"not counted: {', '.join(left_out)}", indent=2, hang=2)
    _table(page, "Voluntary, waiting for locks", report.by_lock, " ".join)
    _table(page, "Voluntary, by phase of migration", report.by_phase, " for ".join)
    if not report.reasons:
        return
    _heading(page, "Voluntary, by what was waited for and who wanted it")
    for row in report.reasons[:_TOP]:
        _cells(page, row.waits, row.threads, _reason(row.reason))
        _path(page, row.reason.path)
    _more(page, len(report.reasons))


def _hint(report: OffCpuReport) -> str:
    # Threads of a recording that was not of all CPUs are hardly ever seen to return.
    is_many = report.unseen_returns * 10 > report.voluntary.count + report.preempted.count
    return " (record all CPUs, with -a)" if is_many else ""


def _reason(row: Reason) -> str:
    lock = f"{row.lock_class} {row.lock}".strip()
    phase = f" [{row.phase}]" if row.phase != OUTSIDE else ""
    return f"{lock or row.state}{phase}"
