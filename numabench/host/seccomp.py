"""What forbids a system call: a seccomp filter, the cpuset, a missing capability, or no right to ptrace."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.host.root import LIVE, Root
from numabench.idset import format_ids, parse_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

CAP_SYS_NICE = 23
SECCOMP_MODE_FILTER = 2
NOTHING = ("", "")
_REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EACCES)
_NODE_ERRORS = (errno.EACCES, errno.EINVAL, errno.EPERM, errno.ENODEV)


@dataclass(frozen=True)
class Limits:
    """What a process may do, from its /proc/PID/status (proc_pid_status(5))."""

    seccomp_mode: int
    capabilities: int
    allowed_nodes: tuple[int, ...]

    @property
    def is_filtered(self) -> bool:
        """Whether a seccomp filter sees every system call."""
        return self.seccomp_mode == SECCOMP_MODE_FILTER

    def has_capability(self, number: int) -> bool:
        """Whether the capability is effective (capabilities(7))."""
        return bool(self.capabilities >> number & 1)


def read_limits(root: Root = LIVE, pid: int | str = "self") -> Limits | None:
    """The limits of a process; None where it is gone. A line that the kernel does not write counts as no limit."""
    text = root.read_or_none(f"/proc/{pid}/status")
    if text is None:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return Limits(
        seccomp_mode=int(fields.get("Seccomp", "0")),
        capabilities=int(fields.get("CapEff", "0"), 16),
        allowed_nodes=parse_ids(fields.get("Mems_allowed_list", "0")),
    )


def read_online_nodes(root: Root = LIVE) -> tuple[int, ...]:
    """The nodes that are online; node 0 alone on a kernel without NUMA."""
    return parse_ids(root.read_or_none("/sys/devices/system/node/online") or "0")


@dataclass(frozen=True)
class Refusal:
    """A call that failed, and what tells why.

    `harmless_errno` is the errno of the same call with arguments that the kernel itself grants to everybody, 0 when it
    was granted: a filter refuses that too, the kernel does not.
    """

    call: str
    number: int
    harmless_errno: int
    caller: Limits
    target: Limits | None = None
    online_nodes: Sequence[int] = ()
    pid: int = 0
    nodes: Sequence[int] = ()
    wants_all_pages: bool = False

    def explain(self) -> tuple[str, str]:
        """Why the call was refused, and what to do: two texts, empty where the errno says all that is known."""
        if self.number in _REFUSALS and self.number == self.harmless_errno:
            return self._explain_blanket()
        if self.number in _NODE_ERRORS and (told := self._explain_nodes()) != NOTHING:
            return told
        if self.number == errno.EPERM and self.wants_all_pages and not self.caller.has_capability(CAP_SYS_NICE):
            return (
                "pages that other processes map need CAP_SYS_NICE",
                "run as root, or move the process's own pages only",
            )
        if self.number == errno.EPERM and self.pid:
            return (
                f"it needs the right to ptrace(2) process {self.pid}",
                "run as the user who owns the process, or with CAP_SYS_PTRACE",
            )
        return NOTHING

    def _explain_nodes(self) -> tuple[str, str]:
        if absent := set(self.nodes) - set(self.online_nodes):
            have = format_ids(self.online_nodes)
            return f"there is no node {format_ids(absent)}, this machine has node {have}", ""
        allowed = (self.target or self.caller).allowed_nodes
        if outside := set(self.nodes) - set(allowed):
            whose = f"process {self.pid}" if self.pid else "this process"
            mems = f"Mems_allowed_list {format_ids(allowed)}"
            why = f"node {format_ids(outside)} is outside the cpuset of {whose} ({mems})"
            return why, "choose nodes inside it, or widen cpuset.mems"
        return NOTHING

    def _explain_blanket(self) -> tuple[str, str]:
        if self.caller.is_filtered:
            why = f"a seccomp filter forbids {self.call} (Seccomp: {self.caller.seccomp_mode} in /proc/self/status)"
            profile = f"a seccomp profile that allows {self.call}, for example --security-opt seccomp=unconfined"
            return why, f"run the container with {profile}"
        if self.number == errno.ENOSYS:
            return f"this kernel has no {self.call}", "it needs a newer kernel, or one with CONFIG_NUMA"
        return f"{self.call} is refused whatever its arguments, though no seccomp filter is set", ""
