"""What confines the process: a container, namespaces, the cpuset, and its cgroups' limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor import files
from numabench.doctor.finding import BIASES, INFORMS, Finding, Fine
from numabench.host import cgroup
from numabench.idset import format_ids
from numabench.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen
    from numabench.host.root import Root

CONTAINER, CPUSET, LIMITS = "container", "cpuset", "cgroup limits"
# Threads of a workload, its movers and its family, and of ours.
_MIN_TASKS = 512


def check_container(context: Context) -> Iterator[Seen]:
    """Whether this is a container, or made as one: namespaces of its own."""
    name, hides = container(context.root), _hides_processes(context.root)
    if name or hides:
        yield Finding(
            "container",
            INFORMS,
            CONTAINER,
            f"this is a container ({name})" if name else "this process is in a PID namespace of its own",
            "knobs, page cache and load are the whole machine's; processes outside are not seen, and only pressure, "
            "steal and the load average tell of them",
            "run on the machine itself, or see there that nothing else runs: numabench doctor",
            "pid_namespaces(7)",
        )
    if context.uid_map:
        yield Finding(
            "user-namespace",
            INFORMS,
            CONTAINER,
            f"this process is in a user namespace (uid_map {context.uid_map})",
            "root in it is an ordinary user outside: knobs, tracefs and other users' processes stay closed",
            "run outside it: as root of the machine",
            "user_namespaces(7)",
        )
    if not (name or hides or context.uid_map):
        yield Fine(CONTAINER, "none")


def container(root: Root) -> str:
    """What this is a container of, in systemd-detect-virt(1)'s words; empty where nothing tells.

    Container managers tell by the variable `container` of process 1, which only root may read, or by a file. A file in
    the root directory is believed where that, or the processes seen, are not the machine's own: a virtual machine that
    was made of a container's image has it, too.
    """
    environment = (root.read_or_none("/proc/1/environ") or "").split("\0")
    named = [word.removeprefix("container=") for word in environment if word.startswith("container=")]
    told = files.word(root, "/run/systemd/container") or files.word(root, "/run/host/container-manager")
    if named or told:
        return (named or [told or ""])[0] or "container-other"
    if not _hides_processes(root) and _root_file_system(root) not in {"overlay", "aufs"}:
        return ""
    if root.exists("/run/.containerenv"):
        return "podman"
    return "docker" if root.exists("/.dockerenv") else ""


def _root_file_system(root: Root) -> str:
    """The type of what is mounted on /, the last of several (proc_pid_mounts(5))."""
    rows = (line.split() for line in (root.read_or_none("/proc/self/mounts") or "").splitlines())
    return ([row[2] for row in rows if len(row) > 2 and row[1] == "/"] or [""])[-1]


def _hides_processes(root: Root) -> bool:
    """Whether /proc shows a PID namespace that is not the machine's first: there process 2 is kthreadd, parent 0."""
    stat = root.read_or_none("/proc/2/stat")
    has_processes = root.exists("/proc/1/stat")
    return has_processes and (stat is None or not stat.startswith("2 (kthreadd) "))


def check_cpuset(context: Context) -> Iterator[Seen]:
    """Whether affinity and cpuset leave out nodes or CPUs."""
    topology = context.topology
    nodes = [node.id for node in topology.nodes if node.has_memory and node.id not in topology.allowed_nodes]
    cpus = sorted(set(topology.online_cpus) - set(topology.allowed_cpus))
    if nodes:
        yield Finding(
            "cpuset-without-nodes",
            BIASES if set(nodes) & set(context.needs.node_ids) else INFORMS,
            CPUSET,
            f"node {format_ids(nodes)} is outside this process's cpuset (Mems_allowed_list "
            f"{format_ids(topology.allowed_nodes)})",
            "no page can be placed or moved there: move_pages(2) fails with EACCES, and runs leave the node out",
            "run in a cgroup that has it: sudo systemd-run --scope -p AllowedMemoryNodes="
            f"{format_ids(node.id for node in topology.nodes)} numabench run ...; docker run --cpuset-mems ...",
            "cpuset(7)",
        )
    if cpus:
        yield Finding(
            "cpuset-without-cpus",
            INFORMS,
            CPUSET,
            f"CPU {format_ids(cpus)} may not be used (Cpus_allowed_list {format_ids(topology.allowed_cpus)})",
            "a run has fewer threads than the machine has CPUs, and is not to be compared with one that has all",
            "undo what binds the caller (taskset -p $$, cpuset.cpus), or keep it the same for all runs to be compared",
            "cpuset(7), sched_setaffinity(2)",
        )
    if not nodes and not cpus and topology.limits_known:
        yield Fine(CPUSET, "all CPUs and nodes may be used")


def check_limits(context: Context) -> Iterator[Seen]:
    """Whether cgroups hold the process back: memory, CPU time, number of tasks."""
    found = [*_memory_limit(context), *_cpu_quota(context), *_task_limit(context)]
    yield from found
    if not found and context.root.exists("/proc/self/cgroup"):
        yield Fine(LIMITS, "no limit of memory, CPU time or number of tasks that a run would reach")


def _memory_limit(context: Context) -> Iterator[Finding]:
    limit = cgroup.memory_limit(context.root)
    total = sum(node.size_bytes for node in context.topology.nodes)
    if limit is None or limit.value >= total:
        return
    is_short = limit.value < 2 * context.needs.memory_bytes
    yield Finding(
        "memory-limit",
        BIASES if is_short else INFORMS,
        LIMITS,
        f"{limit.file} is {format_bytes(limit.value)} of the machine's {format_bytes(total)}",
        "near it memory is reclaimed or swapped while pages migrate, and beyond it the run is killed; free memory of "
        "the nodes says nothing of that",
        "run outside that cgroup, or raise it (systemctl set-property UNIT MemoryMax=infinity; docker run --memory)",
        "Documentation/admin-guide/cgroup-v2.rst",
    )


def _cpu_quota(context: Context) -> Iterator[Finding]:
    quota = cgroup.cpu_quota(context.root)
    cpus = len(context.topology.allowed_cpus)
    if quota is None or quota.value >= cpus:
        return
    yield Finding(
        "cpu-quota",
        BIASES,
        LIMITS,
        f"{quota.file} allows {quota.value:.3g} CPUs of the {cpus} that may be used",
        "threads are stopped in the midst of a migration until the next period: rates and latencies are those of the "
        "quota",
        "run outside that cgroup, or lift it (systemctl set-property UNIT CPUQuota=; docker run without --cpus)",
        "Documentation/scheduler/sched-bwc.rst",
    )


def _task_limit(context: Context) -> Iterator[Finding]:
    limit = cgroup.task_limit(context.root)
    wanted = _MIN_TASKS + 2 * len(context.topology.allowed_cpus)
    if limit is None or limit.value >= wanted:
        return
    yield Finding(
        "task-limit",
        INFORMS,
        LIMITS,
        f"{limit.file} is {limit.value:.0f}",
        "a workload with more threads and processes than that does not start",
        "raise it (systemctl set-property UNIT TasksMax=infinity; docker run --pids-limit -1)",
        "Documentation/admin-guide/cgroup-v2.rst",
    )
