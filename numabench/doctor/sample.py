"""What a machine does while nobody asks anything of it: the kernel's counters twice, a moment apart."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from numabench.doctor import files
from numabench.host import counters, processes

if TYPE_CHECKING:
    from numabench.host.processes import CpuTime
    from numabench.host.root import Root

SAMPLE_S = 1.0
# A run has the load of the last minutes from the kernel's averages, and is not kept waiting.
RUN_SAMPLE_S = 0.2
MIGRATED = ("pgmigrate_success", "numa_pages_migrated", "compact_migrate_scanned", "pswpin", "pswpout")
# Of /proc/stat: user, nice, system, irq and softirq; guests' time is in user already (proc_stat(5)).
_BUSY, _STEAL = (0, 1, 2, 5, 6), 7
_THROTTLE = "thermal_throttle"


@dataclass(frozen=True)
class Reading:
    """The counters at one moment. Ticks are of all CPUs together, `stalled_us` by resource; absent where unknown."""

    t_s: float
    busy_ticks: int = 0
    steal_ticks: int = 0
    vmstat: dict[str, int] = field(default_factory=dict)
    stalled_us: dict[str, int] = field(default_factory=dict)
    processes: dict[int, CpuTime] = field(default_factory=dict)
    throttled: int | None = None


def read(root: Root, t_s: float) -> Reading:
    """The counters now."""
    first = (root.read_or_none("/proc/stat") or "").partition("\n")[0].split()
    ticks = [files.as_number(text) or 0 for text in first[1:9]] if first[:1] == ["cpu"] else []
    ticks += [0] * (8 - len(ticks))
    return Reading(
        t_s=t_s,
        busy_ticks=sum(ticks[place] for place in _BUSY),
        steal_ticks=ticks[_STEAL],
        vmstat=counters.vmstat(root, MIGRATED),
        stalled_us={name: total for name in counters.PRESSURES if (total := stalled_us(root, name)) is not None},
        processes=processes.cpu_times(root),
        throttled=throttle_count(root),
    )


def stalled_us(root: Root, name: str) -> int | None:
    """For how long some task has waited for a resource since boot (Documentation/accounting/psi.rst)."""
    some = (root.read_or_none(f"/proc/pressure/{name}") or "").partition("\n")[0]
    return files.as_number(some.rpartition("total=")[2])


def throttle_count(root: Root) -> int | None:
    """How often CPUs were slowed down for heat since boot; None where that is not counted.

    Each CPU of a package shows its count (drivers/thermal/intel/therm_throt.c): the largest is taken.
    """
    cores, packages = [], []
    cpus = "/sys/devices/system/cpu"
    # All CPUs have the directory or none has.
    if not root.exists(f"{cpus}/cpu0/{_THROTTLE}"):
        return None
    for cpu in root.numbers(cpus, "cpu"):
        cores.append(files.number(root, f"{cpus}/cpu{cpu}/{_THROTTLE}/core_throttle_count") or 0)
        packages.append(files.number(root, f"{cpus}/cpu{cpu}/{_THROTTLE}/package_throttle_count") or 0)
    return sum(cores) + max(packages, default=0)


@dataclass(frozen=True)
class Other:
    """A process that is not ours, and the share of one CPU that it had."""

    pid: int
    name: str
    share: float


@dataclass(frozen=True)
class Sample:
    """Two readings of one machine."""

    before: Reading
    after: Reading
    ticks_per_s: int = 100
    own_pid: int = 0

    @property
    def elapsed_s(self) -> float:
        """The time between them."""
        return self.after.t_s - self.before.t_s

    def counted(self, name: str) -> int:
        """By how much a counter of /proc/vmstat grew; 0 where the kernel lacks it."""
        return self.after.vmstat.get(name, 0) - self.before.vmstat.get(name, 0)

    def stalled_share(self, name: str) -> float | None:
        """The share of the time in which some task waited for a resource."""
        if name not in self.after.stalled_us or name not in self.before.stalled_us or not self.elapsed_s:
            return None
        return (self.after.stalled_us[name] - self.before.stalled_us[name]) / (self.elapsed_s * 1e6)

    def throttled(self) -> int:
        """How often CPUs were slowed down for heat meanwhile."""
        return (self.after.throttled or 0) - (self.before.throttled or 0)

    def cpus(self, ticks: int) -> float:
        """Clock ticks as CPUs in use for the whole time."""
        return ticks / (self.elapsed_s * self.ticks_per_s) if self.elapsed_s else 0.0

    def steal_cpus(self) -> float:
        """CPUs that the host gave to others while this machine wanted them."""
        return self.cpus(self.after.steal_ticks - self.before.steal_ticks)

    def others(self) -> tuple[Other, ...]:
        """The processes that used a CPU, the busiest first; not the caller, nor what it was started from."""
        ours = self._ours()
        found = []
        for pid, now in self.after.processes.items():
            was = self.before.processes.get(pid)
            share = self.cpus(now.ticks - was.ticks) if was is not None and was.name == now.name else 0.0
            if share > 0 and pid not in ours:
                found.append(Other(pid, now.name, share))
        return tuple(sorted(found, key=lambda other: -other.share))

    def others_cpus(self) -> float:
        """CPUs in use by all but us, also by what was too short-lived to be seen as a process."""
        ours = sum(
            self.after.processes[pid].ticks - self.before.processes[pid].ticks
            for pid in self._ours()
            if pid in self.after.processes and pid in self.before.processes
        )
        return max(self.cpus(self.after.busy_ticks - self.before.busy_ticks - ours), 0.0)

    def _ours(self) -> frozenset[int]:
        ours, pid = set(), self.own_pid
        while pid and pid not in ours:
            ours.add(pid)
            known = self.after.processes.get(pid)
            pid = 0 if known is None else known.parent
        return frozenset(ours)


def take(root: Root, duration_s: float) -> Sample:
    """Sample a machine for so long; of a captured tree there is one moment only."""
    before = read(root, time.monotonic())
    if not root.is_live:
        return Sample(before, before)
    time.sleep(duration_s)
    return Sample(before, read(root, time.monotonic()), os.sysconf("SC_CLK_TCK"), os.getpid())
