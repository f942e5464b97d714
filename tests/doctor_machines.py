"""Machines as small trees of /proc and /sys that the doctor looks at, in the formats that the kernel documents."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from numabench.doctor.context import Context, Needs, Process
from numabench.doctor.sample import Reading, Sample, read
from numabench.host import knobs, seccomp, topology
from numabench.host.root import Root

if TYPE_CHECKING:
    from pathlib import Path

NODE = "/sys/devices/system/node"
CPU = "/sys/devices/system/cpu"
TODAY = datetime.date(2026, 11, 25)
# All of 41 capabilities (capabilities(7)).
EVERYTHING = "000001ffffffffff"
_PRESSURE = "some avg10={0} avg60=0.00 avg300=0.00 total={1}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def pressure(avg10: str = "0.00", total_us: int = 0) -> str:
    """A file of Documentation/accounting/psi.rst."""
    return _PRESSURE.format(avg10, total_us)


def meminfo(node: int, total_kib: int, free_kib: int, cached_kib: int = 0, shmem_kib: int = 0) -> str:
    """Of /sys/devices/system/node/nodeN/meminfo what is used here (node_read_meminfo() in drivers/base/node.c)."""
    values = {"MemTotal": total_kib, "MemFree": free_kib, "FilePages": cached_kib, "Shmem": shmem_kib}
    return "".join(f"Node {node} {name + ':':<15}{value:>8} kB\n" for name, value in values.items())


def status(mems: str = "0-1", cpus: str = "0-3", capabilities: str = EVERYTHING, seccomp_mode: int = 0) -> str:
    """Of /proc/PID/status what is used here (proc_pid_status(5))."""
    return (
        f"Name:\tpython\nCapEff:\t{capabilities}\nSeccomp:\t{seccomp_mode}\n"
        f"Cpus_allowed_list:\t{cpus}\nMems_allowed_list:\t{mems}\n"
    )


def stat(pid: int, name: str, parent: int, ticks: int) -> str:
    """/proc/PID/stat up to stime (proc_pid_stat(5))."""
    return f"{pid} ({name}) S {parent} 1 1 0 -1 4194560 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 0\n"


# Two nodes of 8 GiB with two CPUs each, on which nothing is to be found.
QUIET = {
    f"{NODE}/online": "0-1\n",
    **{f"{NODE}/node{node}/cpulist": f"{2 * node}-{2 * node + 1}\n" for node in (0, 1)},
    **{f"{NODE}/node{node}/meminfo": meminfo(node, 8 << 20, 7 << 20, 1 << 19) for node in (0, 1)},
    **{f"{NODE}/node{node}/distance": text for node, text in enumerate(("10 20\n", "20 10\n"))},
    f"{CPU}/online": "0-3\n",
    f"{CPU}/present": "0-3\n",
    **{f"{CPU}/cpu{cpu}/topology/physical_package_id": f"{cpu // 2}\n" for cpu in range(4)},
    **{f"{CPU}/cpu{cpu}/topology/core_cpus_list": f"{cpu}\n" for cpu in range(4)},
    **{f"{CPU}/cpufreq/policy{cpu}/scaling_governor": "performance\n" for cpu in range(4)},
    f"{CPU}/cpufreq/boost": "0\n",
    **{f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count": "0\n" for cpu in range(4)},
    **{f"{CPU}/cpu{cpu}/thermal_throttle/package_throttle_count": "0\n" for cpu in range(4)},
    f"{CPU}/cpu0/cpuidle/state0/name": "POLL\n",
    f"{CPU}/cpu0/cpuidle/state0/latency": "0\n",
    f"{CPU}/cpu0/cpuidle/state0/disable": "0\n",
    f"{CPU}/cpu0/cpuidle/state1/name": "C6\n",
    f"{CPU}/cpu0/cpuidle/state1/latency": "133\n",
    f"{CPU}/cpu0/cpuidle/state1/disable": "1\n",
    "/proc/self/status": status(),
    "/proc/self/uid_map": "         0          0 4294967295\n",
    "/proc/self/cgroup": "0::/user.slice/run.scope\n",
    "/proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    "/proc/self/mounts": "/dev/sda1 / ext4 rw 0 0\n",
    "/sys/fs/cgroup/user.slice/memory.max": "max\n",
    "/sys/fs/cgroup/user.slice/run.scope/memory.max": "max\n",
    "/sys/fs/cgroup/user.slice/run.scope/cpu.max": "max 100000\n",
    "/sys/fs/cgroup/user.slice/run.scope/pids.max": "max\n",
    "/proc/1/environ": "TERM=linux\0",
    "/proc/1/stat": stat(1, "systemd", 0, 10),
    "/proc/2/stat": stat(2, "kthreadd", 0, 0),
    "/proc/meminfo": "MemTotal:       16777216 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n",
    "/proc/stat": "cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 100 0 100 1000 0 0 0 0 0 0\n",
    "/proc/vmstat": "pgmigrate_success 100\nnuma_pages_migrated 50\n",
    "/proc/loadavg": "0.10 0.20 0.30 1/200 300\n",
    **{f"/proc/pressure/{name}": pressure() for name in ("cpu", "memory", "io")},
    "/proc/cmdline": "BOOT_IMAGE=/vmlinuz quiet\n",
    "/proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0x2b\nflags\t\t: fpu sse2\n\nprocessor\t: 1\nmicrocode\t: 0x2b\n\n",
    "/proc/sys/kernel/numa_balancing": "1\n",
    "/proc/sys/kernel/perf_event_paranoid": "2\n",
    "/proc/sys/kernel/perf_event_max_sample_rate": "100000\n",
    "/proc/sys/kernel/nmi_watchdog": "0\n",
    "/proc/sys/kernel/kptr_restrict": "1\n",
    "/proc/sys/vm/zone_reclaim_mode": "0\n",
    "/proc/sys/vm/numa_stat": "1\n",
    "/proc/sys/vm/overcommit_memory": "0\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "/sys/kernel/mm/ksm/run": "0\n",
    "/sys/kernel/mm/numa/demotion_enabled": "false\n",
    "/sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    **{
        f"/sys/kernel/tracing/events/{name}/id": "1\n"
        for name in ("lock/contention_begin", "migrate/mm_migrate_pages", "sched/sched_switch")
    },
    "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm\n",
    "/sys/class/dmi/id/bios_date": "03/05/2026\n",
    "/sys/class/dmi/id/bios_version": "2.1\n",
}


def tree(directory: Path, changed: dict[str, str | None] | None = None) -> Root:
    """The quiet machine with some files changed; None: absent."""
    for name, text in {**QUIET, **(changed or {})}.items():
        if text is not None:
            file = directory / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", errors="surrogateescape")
    return Root(directory)


def context(root: Root, needs: Needs | None = None, later: Reading | None = None, **known: Any) -> Context:
    """What the doctor sees of a tree; `later` is a reading one second after that of the tree."""
    before = read(root, 0.0)
    own = {
        name: known.pop(name)
        for name in ("euid", "denied_calls", "driver_lacks", "read_only", "open_files", "clock")
        if name in known
    }
    return Context(
        root=root,
        topology=topology.read(root),
        needs=needs or Needs(),
        sample=Sample(before, later or before, own_pid=known.pop("own_pid", 0)),
        limits=seccomp.read_limits(root),
        knobs=knobs.read_all(root),
        process=Process(today=TODAY, **own),
        **known,
    )
