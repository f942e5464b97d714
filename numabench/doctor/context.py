"""What the checks look at: the machine, the run that it is to serve, and what only the running process can tell."""

from __future__ import annotations

import datetime
import os
import resource
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from numabench.drivers import catalog as drivers
from numabench.drivers.driver import Circumstances
from numabench.host import clock, knobs, libnuma, seccomp
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.doctor.sample import Sample
    from numabench.host.clock import ClockState
    from numabench.host.seccomp import Limits
    from numabench.host.topology import Node, Topology
    from numabench.workload.catalog import Workload

_BALANCING = "/proc/sys/kernel/numa_balancing"
CAP_SYS_ADMIN, CAP_SYSLOG, CAP_PERFMON = 21, 34, 38
_WHOLE_USER_NAMESPACE = ["0", "0", "4294967295"]


@dataclass(frozen=True)
class Needs:
    """The run that is to be served; where nothing was said of it, any that migrates pages between two nodes.

    `node_ids` are those asked for by number, empty where it is `node_count` of them. `driver` is empty for any;
    `passes` are those that observe; `memory_bytes` is what the workload maps in all, at its published size. One that
    `is_driven` has its memory moved by the driver. A run that `has_set_knobs` is about to begin its first trial, and
    what it could not set stays as it is.
    """

    node_count: int = 2
    node_ids: tuple[int, ...] = ()
    workload: str = ""
    driver: str = ""
    passes: tuple[str, ...] = ()
    memory_bytes: int = 0
    has_set_knobs: bool = False
    is_driven: bool = False

    @property
    def balances(self) -> bool:
        """Whether automatic balancing is what migrates, or may be."""
        return self.driver in {"", drivers.AUTONUMA}

    @property
    def moves(self) -> bool:
        """Whether system calls are what migrates, or may be."""
        return self.driver != drivers.AUTONUMA


def needs_of(spec: Workload, driver: str, *, node_count: int = 2, node_ids: tuple[int, ...] = ()) -> Needs:
    """What a workload needs at its published size."""
    return Needs(node_count, node_ids, spec.name, driver, memory_bytes=spec.memory_bytes, is_driven=spec.is_driven)


@dataclass(frozen=True)
class Process:
    """What only the running process can tell of itself and its machine; None where that is not known.

    `denied_calls` has the errno of each NUMA system call that is refused whatever its arguments; where none is,
    `driver_lacks` what the driver that was asked for misses of the kernel. `read_only` says why knobs cannot be
    written, and is empty where they can; `open_files` is the soft limit of RLIMIT_NOFILE.
    """

    euid: int = 0
    denied_calls: Mapping[str, int] = field(default_factory=dict)
    driver_lacks: tuple[str, ...] = ()
    read_only: str = ""
    open_files: int | None = None
    clock: ClockState | None = None
    today: datetime.date | None = None


@dataclass(frozen=True)
class Left:
    """What others have set of the machine's knobs, a sentence each.

    `killed` by a run that was killed, `applied` by `numabench state apply`, `other_run` by a run that goes on, which
    holds the lock: it has one sentence at least.
    """

    killed: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    other_run: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """Everything the checks see. `guest_lacks` says why no guest can serve instead; None where nobody looked.

    `most_guest_nodes` is how many the largest guest has. `left` is what
    other runs have set.
    """

    root: Root
    topology: Topology
    needs: Needs
    sample: Sample
    limits: Limits | None
    knobs: Mapping[str, str]
    process: Process = Process()
    guest_lacks: tuple[str, ...] | None = None
    most_guest_nodes: int | None = None
    left: Left = Left()

    @property
    def usable_nodes(self) -> tuple[Node, ...]:
        """The nodes that have memory which the caller may use."""
        return tuple(node for node in self.topology.nodes if node.has_memory and node.id in self.topology.allowed_nodes)

    @property
    def served_nodes(self) -> tuple[Node, ...]:
        """Those of them that the run would take: the ones it names, else any."""
        wanted = self.needs.node_ids
        return tuple(node for node in self.usable_nodes if not wanted or node.id in wanted)

    @property
    def uid_map(self) -> str:
        """The first line of the map of a user namespace that is not the machine's own, else nothing."""
        words = (self.root.read_or_none("/proc/self/uid_map") or "").split()[:3]
        return "" if words == _WHOLE_USER_NAMESPACE else " ".join(words)

    @property
    def why_knobs_stay(self) -> str:
        """Why no knob can be set by this process, or nothing."""
        if not self.process.read_only and not self.can(CAP_SYS_ADMIN):
            # sysctl_numa_balancing() in kernel/sched/core.c asks for it, whoever may write the file.
            return "CAP_SYS_ADMIN is missing, without which kernel.numa_balancing cannot be set"
        return self.process.read_only

    @property
    def is_left_to_run(self) -> bool:
        """Whether a knob that is wrong now is one that the run is still to set, and can."""
        return not self.needs.has_set_knobs and not self.why_knobs_stay

    def can(self, capability: int) -> bool:
        """Whether the process has a capability in the machine's own user namespace, where capable() looks for it.

        Yes where that is not known.
        """
        return self.limits is None or (self.limits.has_capability(capability) and not self.uid_map)


def this_process(needs: Needs, root: Root = LIVE) -> Process:
    """What the running process tells; of a captured tree nothing."""
    if not root.is_live:
        return Process()
    denied = libnuma.denied_calls()
    return Process(
        euid=os.geteuid(),
        denied_calls=denied,
        driver_lacks=() if denied or not needs.driver else _driver_lacks(needs.driver, root),
        read_only=_read_only(root),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        clock=clock.read(),
        today=datetime.datetime.now(datetime.UTC).date(),
    )


def _driver_lacks(driver: str, root: Root) -> tuple[str, ...]:
    return drivers.find(driver).requirements(Circumstances(libnuma.probe(), root=root))


def _read_only(root: Root) -> str:
    """Why knobs cannot be written: access(2) tells of permissions and of a file system mounted read-only."""
    present = _BALANCING if root.exists(_BALANCING) else "/proc/sys/vm/swappiness"
    if os.access(root.path(present), os.W_OK):
        return ""
    try:
        is_read_only = bool(os.statvfs(root.path(present)).f_flag & os.ST_RDONLY)
    except FileNotFoundError:
        return f"{present} does not exist: something hides /proc/sys, as sandboxes do"
    except OSError as error:
        return f"{present} cannot be looked at: {error.strerror}"
    if is_read_only:
        return f"{present} is on a file system that is mounted read-only"
    return f"user {os.geteuid()} may not write {present}"


def look(
    needs: Needs,
    topology: Topology,
    sample: Sample,
    *,
    root: Root = LIVE,
    guest_lacks: tuple[str, ...] | None = None,
    most_guest_nodes: int | None = None,
    left: Left = Left(),
) -> Context:
    """Gather what the checks look at."""
    return Context(
        root=root,
        topology=topology,
        needs=needs,
        sample=sample,
        limits=seccomp.read_limits(root),
        knobs=knobs.read_all(root),
        process=this_process(needs, root),
        guest_lacks=guest_lacks,
        most_guest_nodes=most_guest_nodes,
        left=left,
    )
