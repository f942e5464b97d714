"""What the kernel counts: vmstat, each node's numastat and vmstat, interrupts, lock events, and balancing's numbers.

A snapshot is plain data, as run directories keep it (docs/result-format.md). What a kernel lacks is absent, never zero.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any

from numabench.units import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numabench.host.root import Root

# Received by a CPU: TLB shoot-downs, function calls without those, rescheduling (x86; others name them otherwise).
INTERRUPTS = ("TLB", "CAL", "RES")
PRESSURES = ("cpu", "memory", "io")
# Of /proc/PID/task/TID/sched, what adds up over the threads of a process.
_THREAD_SUMS = ("numa_pages_migrated", "total_numa_faults")
# Each file has one number (kernel/locking/lock_events.c); only kernels with CONFIG_LOCK_EVENT_COUNTS have them.
_LOCK_EVENTS = "/sys/kernel/debug/lock_event_counts"
# Of its files, what a semaphore's slow paths count (kernel/locking/lock_events_list.h).
_RWSEM = "rwsem_"
_SCAN_SEQ = "mm->numa_scan_seq"
_FAULTS = "numa_faults"


def snapshot(root: Root, nodes: Iterable[int], pids: Iterable[int]) -> dict[str, Any]:
    """Everything counted now, with `t_ns` of CLOCK_MONOTONIC. A process that has ended is absent from `sched`."""
    sched = {str(pid): numbers for pid in pids if (numbers := _sched(root, pid))}
    load = root.read_or_none("/proc/loadavg")
    found: dict[str, Any] = {
        "t_ns": time.monotonic_ns(),
        "vmstat": _pairs(root.read_or_none("/proc/vmstat")),
        "nodes": {str(node): _node(root, node) for node in nodes},
        "interrupts": _interrupts(root.read_or_none("/proc/interrupts")),
        "sched": sched,
        "pressure": {
            name: _pressure(text) for name in PRESSURES if (text := root.read_or_none(f"/proc/pressure/{name}"))
        },
    }
    if load:
        found["loadavg"] = [float(number) for number in load.split()[:3]]
    lock_events = _lock_events(root)
    if lock_events:
        found["lock_events"] = lock_events
    return found


def vmstat(root: Root, keys: Sequence[str]) -> dict[str, int]:
    """Some counters of /proc/vmstat; those that the kernel lacks are absent. Cheap enough for every sample."""
    text = "\n" + (root.read_or_none("/proc/vmstat") or "")
    found: dict[str, int] = {}
    for key in keys:
        _, name, rest = text.partition(f"\n{key} ")
        if name:
            found[key] = int(rest.partition("\n")[0])
    return found


def settle(root: Root) -> bool:
    """Have every CPU fold what it has counted by itself into the totals; whether that could be done.

    Page states and numastat otherwise lag by up to vm.stat_interval seconds. Events (pgmigrate_success, numa_*) are
    added up when they are read and never lag. Needs root (vm.stat_refresh in Documentation/admin-guide/sysctl/vm.rst).
    """
    try:
        root.read("/proc/sys/vm/stat_refresh")
    except OSError as error:
        # "As a side-effect, it also checks for negative totals and fails with EINVAL if any are found": after the fold.
        return error.errno == errno.EINVAL
    return True


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was counted between two snapshots: `after` minus `before`, in the same shape.

    What either lacks is absent, and so is what has no difference (load averages).
    """
    changes: dict[str, Any] = {}
    for key, earlier in before.items():
        later = after.get(key)
        if isinstance(earlier, dict) and isinstance(later, dict):
            changes[key] = difference(earlier, later)
        elif isinstance(earlier, int | float) and isinstance(later, int | float):
            changes[key] = later - earlier
    return changes


def _pairs(text: str | None) -> dict[str, int]:
    """Lines of `name number` as a dict."""
    rows = (line.split() for line in (text or "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def _node(root: Root, node: int) -> dict[str, Any]:
    directory = f"/sys/devices/system/node/node{node}"
    found: dict[str, Any] = {}
    for name in ("numastat", "vmstat"):
        text = root.read_or_none(f"{directory}/{name}")
        if text is not None:
            found[name] = _pairs(text)
    for line in (root.read_or_none(f"{directory}/meminfo") or "").splitlines():
        fields = line.split()
        if fields[2:3] == ["MemFree:"]:
            found["free_bytes"] = int(fields[3]) * KIB
    return found


def _interrupts(text: str | None) -> dict[str, int]:
    """Interrupts by name, added up over the CPUs."""
    found = {}
    for line in (text or "").splitlines():
        name, _, rest = line.strip().partition(":")
        if name in INTERRUPTS:
            found[name] = sum(int(word) for word in rest.split() if word.isdecimal())
    return found


def _lock_events(root: Root) -> dict[str, int]:
    """The events of rw-semaphores' slow paths by name, of all CPUs; empty where the kernel does not count them."""
    found = {}
    for name in root.names(_LOCK_EVENTS):
        text = root.read_or_none(f"{_LOCK_EVENTS}/{name}") if name.startswith(_RWSEM) else None
        if text is not None and text.strip().isdecimal():
            found[name] = int(text)
    return found


def _pressure(text: str) -> dict[str, dict[str, float]]:
    """Pressure stall information: averages in percent, totals in microseconds (Documentation/accounting/psi.rst)."""
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        numbers = dict(field.split("=") for field in fields)
        total_us = int(numbers.pop("total"))
        found[kind] = {**{name: float(value) for name, value in numbers.items()}, "total_us": total_us}
    return found


def _sched(root: Root, pid: int) -> dict[str, Any]:
    """Balancing's numbers of a process, added up over its threads; those of threads that have ended are lost.

    The kernel keeps them by thread, and /proc/PID/sched shows the first thread's only (proc_sched_show_task()).
    """
    total: dict[str, Any] = {}
    for tid in root.names(f"/proc/{pid}/task"):
        for line in (root.read_or_none(f"/proc/{pid}/task/{tid}/sched") or "").splitlines():
            if line.startswith(f"{_FAULTS} "):
                _add_faults(total.setdefault(_FAULTS, {}), line)
                continue
            name, colon, value = line.partition(":")
            name = name.strip()
            if colon and name in _THREAD_SUMS:
                total[name] = total.get(name, 0) + int(value)
            elif colon and name == _SCAN_SEQ:
                total["numa_scan_seq"] = int(value)
    return total


def _add_faults(faults: dict[str, dict[str, int]], line: str) -> None:
    """Add a line `numa_faults node=0 task_private=1 task_shared=0 group_private=0 group_shared=0`."""
    numbers = dict(word.split("=") for word in line.split()[1:])
    of_node = faults.setdefault(numbers.pop("node"), {})
    for kind, count in numbers.items():
        of_node[kind] = of_node.get(kind, 0) + int(count)
