"""Lock contention in text: what slept (pairs), what spun (CPU samples) and what was off the CPU, each named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.analysis.phases import OUTSIDE
from numabench.report.escape import escape
from numabench.units import HUGE_2M, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numabench.analysis.contention import Contended, ContentionReport, SpinReport, Waits
    from numabench.analysis.kernel_counts import SlowPath
    from numabench.analysis.offcpu import OffCpuReport, Reason

_TOP = 10
_FRAMES = 6
_NS = 1e-9


def render(
    contention: ContentionReport | None,
    spin: SpinReport | None,
    off_cpu: OffCpuReport | None,
    slow_paths: Sequence[SlowPath] = (),
    migrated_bytes: int = 0,
) -> str:
    """The report of four sources; one that was not recorded is told as missing, never as nothing found.

    Where `migrated_bytes` is known, waits are also given per 2 MiB migrated.
    """
    parts = [
        *(_pairs(contention, migrated_bytes) if contention else [_NO_PAIRS]),
        "",
        *(_spin(spin) if spin else [_NO_SPIN]),
        "",
        *(_slow_paths(slow_paths, migrated_bytes) if slow_paths else [_NO_SLOW_PATHS]),
        "",
        *(_off_cpu(off_cpu) if off_cpu else [_NO_SWITCHES]),
    ]
    return "".join(line.rstrip() + "\n" for line in parts)


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


def _pairs(report: ContentionReport, migrated_bytes: int) -> list[str]:
    lines = [
        "Waits (contention_begin to contention_end, exact)",
        f"  {_waits(report.total)}, {format_count(report.threads)} threads",
    ]
    if report.total.count:
        lines += _histogram(report.total)
    if migrated_bytes:
        units = migrated_bytes / HUGE_2M
        each = f"{report.total.count / units:.3g} waits, {format_seconds(report.total.total_ns / units * _NS)}"
        lines.append(f"  for each 2 MiB migrated: {each}")
    if report.unfinished or report.stray_ends:
        lines.append(
            f"  not counted: {format_count(report.unfinished)} waits that outlived the recording, "
            f"{format_count(report.stray_ends)} that began before it"
        )
    if any(row.key[0].startswith("rwsem") for row in report.by_class) or not report.total.count:
        lines.append("  An rwsem is traced only once it has spun in vain: what only spun is not among these.")
    lines += _table("By class", report.by_class, lambda key: key[0])
    lines += _table("By lock", report.by_lock, lambda key: f"{key[0]} {key[1] or 'unnamed'} {key[2]}")
    if any(row.key[0] != OUTSIDE for row in report.by_phase):
        lines += _table("By phase of migration", report.by_phase, lambda key: " for ".join(filter(None, key)))
    lines += _heading("By call path, from the lock's caller up")
    for row in report.by_path[:_TOP]:
        name = f"{row.key[0]} {row.key[1]}".strip()
        lines.append(_cells(row.waits, row.threads) + escape(f"{name}: {_path(row.key[2:])}"))
    return lines + _more(len(report.by_path))


def _waits(waits: Waits) -> str:
    if not waits.count:
        return "no waits"
    return (
        f"{format_count(waits.count)} waits, {format_count(waits.total_ns)} ns in all, "
        f"average {format_seconds(waits.average_ns * _NS)}, longest {format_seconds(waits.max_ns * _NS)}"
    )


def _histogram(waits: Waits) -> list[str]:
    first = next(index for index, count in enumerate(waits.histogram) if count)
    most = max(waits.histogram)
    return [
        f"    {format_seconds(2**index * _NS):>8} to {format_seconds(2 ** (index + 1) * _NS):>8}  "
        f"{format_count(count):>9}  {'#' * -(-count * 40 // most)}"
        for index, count in enumerate(waits.histogram)
        if index >= first
    ]


_COLUMNS = f"    {'total':>9}  {'waits':>9}  {'average':>9}  {'longest':>9}  {'threads':>7}  "


def _cells(waits: Waits, threads: int) -> str:
    times = (waits.average_ns, waits.max_ns)
    average, longest = (f"{format_seconds(ns * _NS):>9}" for ns in times)
    total = f"{format_seconds(waits.total_ns * _NS):>9}"
    return f"    {total}  {format_count(waits.count):>9}  {average}  {longest}  {format_count(threads):>7}  "


def _heading(title: str) -> list[str]:
    return ["", f"  {title}", _COLUMNS]


def _more(rows: int) -> list[str]:
    return [f"    and {format_count(rows - _TOP)} more"] if rows > _TOP else []


def _table(title: str, rows: Sequence[Contended], name: Callable[[tuple[str, ...]], str]) -> list[str]:
    lines = [_cells(row.waits, row.threads) + escape(name(row.key)) for row in rows[:_TOP]]
    return [*_heading(title), *lines, *_more(len(rows))]


def _path(frames: Sequence[str]) -> str:
    return " < ".join(frames[:_FRAMES]) + (" < ..." if len(frames) > _FRAMES else "")


def _spin(report: SpinReport) -> list[str]:
    spun = sum(row.samples for row in report.rows)
    lines = [
        "Spinning (CPU samples in the lock functions)",
        (
            f"  {format_count(spun)} of {format_count(report.cpu_samples)} CPU samples, "
            f"{spun * 100 / report.cpu_samples if report.cpu_samples else 0:.2f}%"
        ),
    ]
    for row in report.rows[:_TOP]:
        name = f"{row.lock_class} {row.lock}".strip()
        where = f" [{row.phase}]" if row.phase != OUTSIDE else ""
        lines.append(f"    {row.share * 100:>6.2f}%  " + escape(f"{name}{where}: {_path(row.path)}"))
    return lines + _more(len(report.rows))


def _slow_paths(rows: Sequence[SlowPath], migrated_bytes: int) -> list[str]:
    """All classes, those never entered, too: a zero was counted."""
    lines = ["Slow-path entries (locks not to be had at once, whoever then spun or slept; of the whole machine)"]
    for row in rows:
        if isinstance(row.entries, Missing):
            lines.append(escape(f"    {row.lock_class:<16} not counted: {row.entries.reason}"))
            continue
        each = f"  {row.entries / (migrated_bytes / HUGE_2M):.3g} for each 2 MiB migrated" if migrated_bytes else ""
        lines.append(f"    {row.lock_class:<16}{format_count(row.entries):>10}{each}")
    return lines


def _off_cpu(report: OffCpuReport) -> list[str]:
    lines = [
        "Off the CPU (sched_switch, exact)",
        f"  voluntary: {_waits(report.voluntary)}",
        f"  preempted: {_waits(report.preempted)}",
        (
            f"  not counted: {format_count(report.unfinished)} threads that were off to the end of the recording, "
            f"{format_count(report.unseen_returns)} times whose end was not recorded{_hint(report)}"
        ),
        *_heading("Voluntary, by what was waited for"),
    ]
    lines += [_cells(row.waits, row.threads) + escape(_reason(row.reason)) for row in report.reasons[:_TOP]]
    return lines + _more(len(report.reasons))


def _hint(report: OffCpuReport) -> str:
    return " (record all CPUs, with -a)" if report.unseen_returns else ""


def _reason(row: Reason) -> str:
    lock = f"{row.lock_class} {row.lock}".strip()
    phase = f" [{row.phase}]" if row.phase != OUTSIDE else ""
    return f"{lock or row.state}{phase}: {_path(row.path)}"
