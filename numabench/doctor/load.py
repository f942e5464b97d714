"""What else the machine does: load, pressure, stolen time, busy processes, and services that change settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor.finding import BIASES, INFORMS, Finding, Fine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen
    from numabench.doctor.sample import Sample

LOAD, PRESSURE, SERVICES = "other load", "pressure", "services"
# Shares of one CPU: a process that is told by name, and all others together.
BUSY_PROCESS, BUSY_OTHERS = 0.1, 0.25
# In a tenth of a second a few clock ticks are a large share: less is not told from what always runs.
MIN_TICKS = 5
STEAL_SHARE = 0.01
# Percent of the last ten seconds in which some task waited, by resource.
WAITED = {"cpu": 10.0, "memory": 1.0, "io": 10.0}
_NAMED = 5
# By name as in /proc/PID/stat, which has 15 characters of it: what each does, and how it is stopped.
_SERVICES = {
    "numad": (BIASES, "moves processes and their memory between nodes itself", "numad"),
    "irqbalance": (INFORMS, "moves interrupts to other CPUs every ten seconds", "irqbalance"),
    "ksmtuned": (INFORMS, "turns the merging of pages on when memory is short", "ksmtuned"),
    "tuned": (INFORMS, "sets governor, huge pages and balancing, and may set back what a run has set", "tuned"),
    "power-profiles-": (INFORMS, "changes the governor", "power-profiles-daemon"),
    "auto-cpufreq": (INFORMS, "changes the governor and boost", "auto-cpufreq"),
    "thermald": (INFORMS, "limits frequencies for heat", "thermald"),
}


def check_load(context: Context) -> Iterator[Seen]:
    """Whether others use the CPUs, as the kernel's averages and a short sample tell."""
    found = [*_average(context), *_busy(context), *_steal(context)]
    yield from found
    if not found:
        load = (context.root.read_or_none("/proc/loadavg") or "").partition(" ")[0]
        used = f", others used {context.sample.others_cpus():.2f} CPUs in {context.sample.elapsed_s:.2g} s"
        yield Fine(LOAD, f"load average {load or 'unknown'}{used if context.sample.elapsed_s else ''}")


def _average(context: Context) -> Iterator[Finding]:
    first = (context.root.read_or_none("/proc/loadavg") or "").partition(" ")[0]
    try:
        load = float(first)
    except ValueError:
        return
    cpus = max(len(context.topology.online_cpus), 1)
    # The same bounds as of the finding `contaminated` of a run (analysis/verdict.py).
    if load > max(1.5, cpus / 2):
        # Of a minute: it may be what the caller's own run has left.
        is_over = context.sample.elapsed_s > 0 and context.sample.others_cpus() < BUSY_OTHERS
        yield Finding(
            "load-average",
            INFORMS if is_over else BIASES,
            LOAD,
            f"the load average of the last minute is {load:.2f} on {cpus} CPUs"
            + (", and now others use none of them" if is_over else ""),
            "threads share CPUs with others: all times are longer, and balancing follows threads that the scheduler "
            "moves",
            "end what runs (top), and wait a minute",
            "proc_loadavg(5)",
        )


def _busy(context: Context) -> Iterator[Finding]:
    sample = context.sample
    if not sample.elapsed_s:
        return
    floor = MIN_TICKS / (sample.elapsed_s * sample.ticks_per_s)
    busy = [other for other in sample.others() if other.share >= max(BUSY_PROCESS, floor)]
    used = sample.others_cpus()
    if busy or used >= max(BUSY_OTHERS, 2 * floor):
        named = ", ".join(f"{other.name} ({other.pid}) {other.share:.0%}" for other in busy[:_NAMED])
        more = f" and {len(busy) - _NAMED} more" if len(busy) > _NAMED else ""
        who = f": {named}{more} of a CPU" if busy else ""
        yield Finding(
            "other-load",
            BIASES,
            LOAD,
            f"others used {used:.2f} CPUs in {sample.elapsed_s:.2g} s{who}",
            "they take CPU time, cache and memory bandwidth from a run, unevenly from trial to trial",
            "end or pause them" + (f": sudo kill -STOP {busy[0].pid} (back: -CONT)" if busy else " (top)"),
            "proc_stat(5), proc_pid_stat(5)",
        )


def _steal(context: Context) -> Iterator[Finding]:
    sample = context.sample
    cpus = max(len(context.topology.online_cpus), 1)
    share = sample.steal_cpus() / cpus
    if share >= max(STEAL_SHARE, MIN_TICKS / max(sample.elapsed_s * sample.ticks_per_s * cpus, 1)):
        yield Finding(
            "stolen-time",
            BIASES,
            LOAD,
            f"the host gave {share:.1%} of this machine's CPU time to others in {sample.elapsed_s:.2g} s",
            "threads stand still without knowing it: times and latencies are longer, and no trace shows why",
            "pin the virtual CPUs (virsh vcpupin), or run while the host is idle",
            "proc_stat(5): steal",
        )


def check_pressure(context: Context) -> Iterator[Seen]:
    """Whether tasks wait for CPUs, memory or disks, in the last ten seconds and still.

    As Documentation/accounting/psi.rst has it.
    """
    waited = {name: _average_percent(context, name) for name in WAITED}
    known = {name: percent for name, percent in waited.items() if percent is not None}
    high = {name: percent for name, percent in known.items() if percent >= WAITED[name] and _still(context, name)}
    if high:
        told = ", ".join(f"{percent:.1f} % of it for {_word(name)}" for name, percent in high.items())
        yield Finding(
            "pressure",
            BIASES,
            PRESSURE,
            f"tasks waited in the last ten seconds: {told}{_now(context.sample, high)}",
            _pressure_effect(high),
            "see who waits (top, iotop, pressure files of cgroups), end it, and wait ten seconds",
            "Documentation/accounting/psi.rst",
        )
    elif known:
        told = ", ".join(f"{_word(name)} {percent:.1f} %" for name, percent in known.items())
        yield Fine(PRESSURE, f"tasks waited for {told} of the last ten seconds")


def _average_percent(context: Context, name: str) -> float | None:
    some = (context.root.read_or_none(f"/proc/pressure/{name}") or "").partition("\n")[0]
    text = some.partition("avg10=")[2].partition(" ")[0]
    try:
        return float(text)
    except ValueError:
        return None


def _still(context: Context, name: str) -> bool:
    """Whether tasks wait in the sample, too: the average of ten seconds may be what the caller itself has left."""
    share = context.sample.stalled_share(name)
    return share is None or 100 * share >= WAITED[name] / 2


def _word(name: str) -> str:
    return {"cpu": "a CPU", "memory": "memory", "io": "a disk"}[name]


def _now(sample: Sample, high: dict[str, float]) -> str:
    shares = {name: sample.stalled_share(name) for name in high}
    told = [f"{share:.0%} for {_word(name)}" for name, share in shares.items() if share is not None]
    return f" (and in {sample.elapsed_s:.2g} s now: {', '.join(told)})" if told else ""


def _pressure_effect(high: dict[str, float]) -> str:
    effects = {
        "cpu": "threads of a run wait for CPUs",
        "memory": "memory is being reclaimed, which takes the locks that migration takes",
        "io": "writing results and page faults of files wait for disks",
    }
    return "; ".join(effects[name] for name in high)


def check_services(context: Context) -> Iterator[Seen]:
    """Whether services run that change what a run depends on."""
    running = {process.name: pid for pid, process in context.sample.after.processes.items()}
    found = [name for name in _SERVICES if name in running]
    for name in found:
        weight, what, unit = _SERVICES[name]
        yield Finding(
            unit,
            weight,
            SERVICES,
            f"{unit} runs (process {running[name]})",
            f"it {what}, at moments of its own",
            f"sudo systemctl stop {unit} (back: sudo systemctl start {unit})",
            f"{unit}(8)",
        )
    if not found and running:
        yield Fine(SERVICES, "none that moves memory or interrupts, or changes settings")
