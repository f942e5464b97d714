"""Whether passes that observe can record: perf, tracepoints, symbols, and what takes the processor's counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor import files
from numabench.doctor.context import CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYSLOG
from numabench.doctor.finding import BIASES, BLOCKS, INFORMS, WITH_QUIET, Finding, Fine, by_state
from numabench.host.kprobes import TRACING
from numabench.observe.offer import INSTALL_PERF, perf_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen

PERF, TRACEPOINTS, SYMBOLS = "perf", "tracepoints", "kernel symbols"
_KERNEL = "/proc/sys/kernel"
# The kernel's own, before it lowers the rate for interrupts that take too long (kernel/events/core.c).
_DEFAULT_RATE_HZ = 100_000
_ASKED_RATE_HZ = 4999
_TRACEPOINTS = ("lock/contention_begin", "migrate/mm_migrate_pages", "sched/sched_switch")
# What each event of a CPU takes: perf's descriptor of it and of its buffer; and what a pass records at most.
_FILES_PER_CPU, _FILES_OF_OURS = 8, 128


def _weight(context: Context, *passes: str) -> str:
    """It blocks a pass that was asked for; else it is good to know."""
    return BLOCKS if set(passes) & set(context.needs.passes) else INFORMS


def check_perf(context: Context) -> Iterator[Seen]:
    """Whether perf is there, and may sample the kernel as fast as it is asked to."""
    found = [*_perf(context), *_paranoid(context), *_rate(context), *_watchdog(context), *_descriptors(context)]
    yield from found
    if not found:
        yield Fine(PERF, "perf is installed and may sample the kernel")


def _perf(context: Context) -> Iterator[Finding]:
    if context.root.is_live and perf_missing():
        yield Finding(
            "no-perf",
            _weight(context, "cpu", "lock", "sched", "stat", "cost"),
            PERF,
            "perf is not installed",
            "passes with --observe cannot take place: no call graphs, no lock waits; measured trials lose nothing",
            INSTALL_PERF,
            "perf-record(1)",
        )


def _paranoid(context: Context) -> Iterator[Finding]:
    level = files.number(context.root, f"{_KERNEL}/perf_event_paranoid")
    if level is None or context.can(CAP_PERFMON) or context.can(CAP_SYS_ADMIN):
        return
    # 2: no kernel samples, 1: no whole CPUs, 0: no raw tracepoints; Debian's and Ubuntu's 3 and 4: nothing at all.
    if level > -1:
        yield Finding(
            "perf-paranoid",
            _weight(context, "cpu", "lock", "sched", "stat", "cost"),
            PERF,
            f"kernel.perf_event_paranoid is {level}, and CAP_PERFMON is missing",
            "perf records little of the kernel, or nothing: " + _denied_at(level),
            "run as root, or: " + by_state("kernel.perf_event_paranoid", "-1"),
            "Documentation/admin-guide/sysctl/kernel.rst",
        )


def _denied_at(level: int) -> str:
    if level > 2:
        return "all use of perf is denied"
    denied = ("raw tracepoints", "events of whole CPUs", "samples of the kernel")
    return ", ".join(denied[: level + 1]) + " are denied"


def _rate(context: Context) -> Iterator[Finding]:
    rate = files.number(context.root, f"{_KERNEL}/perf_event_max_sample_rate")
    if rate is not None and rate < _DEFAULT_RATE_HZ:
        is_short = rate < _ASKED_RATE_HZ and "cpu" in context.needs.passes
        yield Finding(
            "perf-rate-lowered",
            BIASES if is_short else INFORMS,
            PERF,
            f"kernel.perf_event_max_sample_rate is {rate:,}; it begins as {_DEFAULT_RATE_HZ:,}, and the kernel lowers "
            "it when sampling takes too long",
            "perf samples no faster than that: fewer samples in the same time"
            + ("" if is_short else f", where more than {rate:,} Hz are asked for (--frequency)"),
            by_state("kernel.perf_event_max_sample_rate", str(_DEFAULT_RATE_HZ)),
            "Documentation/admin-guide/sysctl/kernel.rst",
        )


def _watchdog(context: Context) -> Iterator[Finding]:
    if files.number(context.root, f"{_KERNEL}/nmi_watchdog") == 1:
        yield Finding(
            "nmi-watchdog",
            BIASES if {"stat", "cpu"} & set(context.needs.passes) else INFORMS,
            PERF,
            "kernel.nmi_watchdog is 1",
            "it takes one of each processor's few counters: perf multiplexes the others, and their counts are "
            "estimates",
            WITH_QUIET,
            "Documentation/admin-guide/lockup-watchdogs.rst",
        )


def _descriptors(context: Context) -> Iterator[Finding]:
    limit = context.process.open_files
    wanted = len(context.topology.online_cpus) * _FILES_PER_CPU + _FILES_OF_OURS
    if limit is not None and 0 <= limit < wanted:
        yield Finding(
            "few-open-files",
            _weight(context, "cpu", "lock", "sched"),
            PERF,
            f"a process may have {limit:,} files open",
            f"perf opens one for each event and CPU, and stops with EMFILE where it may not have about {wanted:,}",
            f"ulimit -n {max(wanted, 65536)}",
            "getrlimit(2): RLIMIT_NOFILE",
        )


def check_tracepoints(context: Context) -> Iterator[Seen]:
    """Whether the kernel's tracepoints can be read, and lockdown leaves tracing alone."""
    found = [*_lockdown(context), *_tracefs(context)]
    yield from found
    if not found:
        yield Fine(TRACEPOINTS, f"{len(_TRACEPOINTS)} of {len(_TRACEPOINTS)} that are used")


def _tracefs(context: Context) -> Iterator[Finding]:
    events = next((f"{path}/events" for path in TRACING if context.root.names(f"{path}/events")), None)
    if events is None:
        yield Finding(
            "no-tracefs",
            _weight(context, "lock", "sched", "cost"),
            TRACEPOINTS,
            "tracefs is not mounted, or may not be read",
            "no lock waits, no scheduling and no cost of 2 MB migrated (--observe lock,sched,cost)",
            "sudo mount -t tracefs tracefs /sys/kernel/tracing, and run as root",
            "Documentation/trace/ftrace.rst",
        )
        return
    absent = [name for name in _TRACEPOINTS if not context.root.exists(f"{events}/{name}")]
    if absent:
        # Since Linux kernel commit 16edd9b511a1 ("locking: Add lock contention tracepoints") (in v5.19).
        yield Finding(
            "no-tracepoints",
            _weight(context, *(("lock",) if "lock/contention_begin" in absent else ()), "cost"),
            TRACEPOINTS,
            f"this kernel has no {', '.join(name.replace('/', ':') for name in absent)}",
            "what they tell is missing: waits for locks need lock:contention_begin (Linux 5.19); --observe sched "
            "serves for locks that sleep",
            "boot a newer kernel, or one with CONFIG_TRACEPOINTS and CONFIG_MIGRATION",
            "Documentation/trace/events.rst",
        )


def _lockdown(context: Context) -> Iterator[Finding]:
    told = context.root.read_or_none("/sys/kernel/security/lockdown") or ""
    level = told.partition("[")[2].partition("]")[0]
    if level in {"integrity", "confidentiality"}:
        is_secret = level == "confidentiality"
        yield Finding(
            "lockdown",
            _weight(context, "cpu", "lock", "sched", "cost") if is_secret else INFORMS,
            TRACEPOINTS,
            f"the kernel is locked down ({level})",
            "perf, tracefs and probes are closed even to root, and so is debugfs with the scan settings of balancing"
            if is_secret
            else "the scan settings of balancing in debugfs cannot be set, even by root; tracing works",
            "turn Secure Boot off in the firmware, or boot without lockdown= on the kernel's command line",
            "kernel_lockdown(7); enum lockdown_reason in include/linux/security.h",
        )


def check_symbols(context: Context) -> Iterator[Seen]:
    """Whether the kernel shows its addresses, by the rule of kallsyms_show_value() in kernel/ksyms_common.c."""
    restrict = files.number(context.root, f"{_KERNEL}/kptr_restrict")
    if restrict is None:
        return
    paranoid = files.number(context.root, f"{_KERNEL}/perf_event_paranoid")
    for_perf = restrict == 0 and paranoid is not None and paranoid <= 1
    if for_perf or (restrict <= 1 and context.can(CAP_SYSLOG)):
        yield Fine(SYMBOLS, f"shown (kernel.kptr_restrict {restrict})")
        return
    yield Finding(
        "no-symbols",
        INFORMS if not context.needs.passes else BIASES,
        SYMBOLS,
        f"/proc/kallsyms has no addresses: kernel.kptr_restrict is {restrict}"
        + ("" if restrict >= 2 else " and CAP_SYSLOG is missing"),
        "call graphs have numbers where the kernel's functions should be, and cannot be compared between kernels",
        "run as root" + (", and: " + by_state("kernel.kptr_restrict", "0") if restrict >= 2 else ""),
        "Documentation/admin-guide/sysctl/kernel.rst",
    )
