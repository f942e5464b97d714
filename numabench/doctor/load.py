"""What else the machine does: load, pressure, stolen time, busy processes, and services that change settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor.finding import BIASES, INFORMS, WITH_QUIET, Finding, Fine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
            f"in the last minute {load:.2f} threads ran or waited (the load average), on {cpus} CPUs"
            + (", and now there is next to no other load" if is_over else ""),
            "a run's threads share CPUs with others: its times are longer, and where the scheduler moves a thread to "
            "another node, balancing moves its pages after it",
            "see with top what runs, end it, and wait a minute",
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
        named = ", ".join(f"{other.name} (process {other.pid}) {other.share:.0%}" for other in busy[:_NAMED])
        pids = " ".join(str(other.pid) for other in busy[:_NAMED])
        more = f" and {len(busy) - _NAMED} more" if len(busy) > _NAMED else ""
        who = f"; in percent of one CPU: {named}{more}" if busy else ""
        yield Finding(
            "other-load",
            BIASES,
            LOAD,
            f"other programs kept {used:.2f} CPUs busy while the doctor looked ({sample.elapsed_s:.2g} s){who}",
            "they take CPU time, cache and memory bandwidth from a run, unevenly from trial to trial",
            (
                f"sudo kill -STOP {pids} (back: sudo kill -CONT {pids})"
                if busy
                else "see with top what they are, and end them"
            ),
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
        told = _and(f"for {_word(name)} in {percent:.1f} %" for name, percent in high.items())
        yield Finding(
            "pressure",
            BIASES,
            PRESSURE,
            f"some task waited {told} of the last ten seconds{_now(context.sample, high)}",
            _pressure_effect(high),
            "see with top, and for disks with iotop, what runs; end it, and wait ten seconds",
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


def _and(parts: Iterable[str]) -> str:
    return " and ".join(parts)


def _now(sample: Sample, high: dict[str, float]) -> str:
    shares = [share for name in high if (share := sample.stalled_share(name)) is not None]
    told = " and ".join(f"{share:.0%}" for share in shares)
    return f", and in {told} of the {sample.elapsed_s:.2g} s in which the doctor looked" if told else ""


def _pressure_effect(high: dict[str, float]) -> str:
    effects = {
        "cpu": "a run's threads wait for CPUs, too: its times are longer, and differ from trial to trial",
        "memory": "memory is being reclaimed, under locks that migration takes: rates fall",
        "io": "page faults on files, and results that are written, wait for disks: times are longer",
    }
    return "; ".join(effects[name] for name in high)


def _is_going(context: Context, pid: int) -> bool:
    """Whether a process is neither stopped, as profile quiet has irqbalance, nor a zombie (proc_pid_stat(5))."""
    stat = context.root.read_or_none(f"/proc/{pid}/stat") or ""
    return stat.rpartition(")")[2].split()[:1] not in (["T"], ["t"], ["Z"], [])


def check_services(context: Context) -> Iterator[Seen]:
    """Whether services run that change what a run depends on."""
    named = ((process.name, pid) for pid, process in context.sample.after.processes.items())
    running = {name: pid for name, pid in named if name not in _SERVICES or _is_going(context, pid)}
    found = [name for name in _SERVICES if name in running]
    for name in found:
        weight, what, unit = _SERVICES[name]
        yield Finding(
            unit,
            weight,
            SERVICES,
            f"{unit} runs (process {running[name]})",
            f"it {what}, at moments of its own",
            (f"{WITH_QUIET}; or: " if unit == "irqbalance" else "")
            + f"sudo systemctl stop {unit} (back: sudo systemctl start {unit})",
            f"{unit}(8)",
        )
    if not found and running:
        yield Fine(SERVICES, "none that moves memory or interrupts, or changes settings")
