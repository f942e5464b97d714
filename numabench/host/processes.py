"""The processes, threads and private memory of a program that is seen from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numabench.host.root import Root


def tree(root: Root, pid: int) -> tuple[int, ...]:
    """A process and its descendants that live, by number; none when it has ended.

    Read from /proc/PID/task/TID/children, some reads a process, where the kernel has it (CONFIG_PROC_CHILDREN); psutil
    looks at every process of the machine.
    """
    if root.read_or_none("/proc/thread-self/children") is None:
        return _tree_by_parents(pid)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        stat = root.read_or_none(f"/proc/{each}/stat")
        if stat is None or stat.rpartition(")")[2].split(maxsplit=1)[0] == "Z":
            continue
        found.append(each)
        for tid in threads(root, each):
            waiting += map(int, (root.read_or_none(f"/proc/{each}/task/{tid}/children") or "").split())
    return tuple(sorted(found))


def _tree_by_parents(pid: int) -> tuple[int, ...]:
    import psutil

    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
        return tuple(sorted(each.pid for each in family if each.status() != psutil.STATUS_ZOMBIE))
    except psutil.NoSuchProcess:
        return ()


@dataclass(frozen=True)
class CpuTime:
    """A process's name, its parent, and the clock ticks that it and its ended threads have had of CPUs."""

    name: str
    parent: int
    ticks: int


def cpu_times(root: Root) -> dict[int, CpuTime]:
    """The CPU time of every process and kernel thread that can be seen, by number (proc_pid_stat(5))."""
    found = {}
    for pid in root.numbers("/proc", ""):
        # The name is in parentheses, and may hold anything, spaces and parentheses too.
        name, closed, rest = (root.read_or_none(f"/proc/{pid}/stat") or "").rpartition(")")
        fields = rest.split(maxsplit=13)
        if closed and len(fields) >= 13:
            found[pid] = CpuTime(name.partition("(")[2], int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def threads(root: Root, pid: int) -> tuple[int, ...]:
    """The threads of a process; none when it has ended."""
    return root.numbers(f"/proc/{pid}/task", "")


def private_mappings(root: Root, pid: int) -> tuple[tuple[int, int], ...]:
    """The (address, bytes) of a process's writable, private and anonymous memory (proc_pid_maps(5)).

    Reads the list of mappings and no page tables, unlike numa_maps and smaps.
    """
    found = []
    for line in (root.read_or_none(f"/proc/{pid}/maps") or "").splitlines():
        bounds, access, _, _, _, *name = line.split(maxsplit=5)
        if access.startswith("rw") and access.endswith("p") and (not name or name[0].startswith("[")):
            low, high = (int(bound, 16) for bound in bounds.split("-"))
            found.append((low, high - low))
    return tuple(found)
