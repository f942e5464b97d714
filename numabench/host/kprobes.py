"""Probes of our own at the kernel's functions (Documentation/trace/kprobetrace.rst), and none left when they are done.

One probe serves all CPUs and any number of counters. They live in a group named by our process id; a small process of
its own takes them out when we end, however we end, and a group whose process is gone is taken out at the next start.
Nothing else of tracefs is written.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from numabench.errors import ProgramError
from numabench.host.root import LIVE, Root
from numabench.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

TRACING = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_LOCKDOWN = "/sys/kernel/security/lockdown"
_GROUP = "numabench_"
_REASONS = {
    errno.EINVAL: "the kernel allows no probe there",
    errno.ENOENT: "this kernel has no function of that name",
    # Since Linux kernel commit b022f0c7e404 ("tracing/kprobes: Return EADDRNOTAVAIL when func matches several symbols")
    # (in v6.7).
    errno.EADDRNOTAVAIL: "this kernel has several functions of that name",
    errno.EILSEQ: "no instruction of the function begins there",
    errno.EPERM: "the kernel is locked down",
    errno.EEXIST: "a probe of ours of that name is there already",
}


def missing(root: Root = LIVE) -> tuple[str, ...]:
    """Why no function can be probed here, or nothing."""
    directory = _tracing(root)
    if directory is None:
        return ("tracefs is not mounted, or not for you: as root, mount -t tracefs tracefs /sys/kernel/tracing",)
    if not root.exists(f"{directory}/kprobe_events"):
        return ("this kernel has no kprobe_events (CONFIG_KPROBE_EVENTS)",)
    if root.is_live and not os.access(root.path(f"{directory}/kprobe_events"), os.W_OK):
        return ("only root may probe the kernel's functions",)
    if "[confidentiality]" in (root.read_or_none(_LOCKDOWN) or ""):
        return ("the kernel is locked down (confidentiality): it lets nobody probe it",)
    return ()


def _tracing(root: Root) -> str | None:
    return next((path for path in TRACING if root.exists(f"{path}/events")), None)


def _events(root: Root) -> str:
    return f"{_tracing(root) or TRACING[0]}/kprobe_events"


def stale(root: Root = LIVE) -> tuple[str, ...]:
    """The groups of probes whose processes are gone."""
    groups = dict.fromkeys(re.findall(rf":({_GROUP}\d+)/", root.read_or_none(_events(root)) or ""))
    own = f"{_GROUP}{os.getpid()}"
    # One of our own number is that of a process before us, as long as we have none.
    return tuple(group for group in groups if group == own or not root.exists(f"/proc/{group.removeprefix(_GROUP)}"))


def remove_stale(root: Root = LIVE) -> None:
    """Take these out."""
    for group in stale(root):
        Reaper(kprobes=(root.path(_events(root)), group)).reap()


class Kprobes:
    """Probes at the entries of some functions, as long as the context lasts.

    `events` has the function, by its raw name, for each event as perf names it (`numabench_123:rmap_walk_anon`);
    `refused` has the reason for each function that cannot be probed. Entering raises `OSError` only where none of
    tracefs can be written: see `missing`. Leaving raises `ProgramError` where a probe could not be taken out.
    """

    def __init__(self, functions: Sequence[str], root: Root = LIVE) -> None:
        self.functions = tuple(dict.fromkeys(functions))
        self.events: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.group = f"{_GROUP}{os.getpid()}"
        self._root = root
        self._directory = _tracing(root) or TRACING[0]
        self._file = root.path(f"{self._directory}/kprobe_events")
        self._profile = f"{self._directory}/kprobe_profile"
        self._reaper: Reaper | None = None
        self._missed_before: dict[str, int] = {}

    def __enter__(self) -> Self:
        remove_stale(self._root)
        self._reaper = Reaper(kprobes=(self._file, self.group))
        try:
            for function in self.functions:
                self._probe(function)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _probe(self, function: str) -> None:
        # An event is a C identifier: two functions that differ in a dot alone may not become one.
        name = re.sub(r"\W", "_", function)
        if f"{self.group}:{name}" in self.events:
            name = f"{name}_{len(self.events)}"
        try:
            self._write(f"p:{self.group}/{name} {function}")
        except OSError as error:
            if error.errno not in _REASONS:
                raise
            self.refused[function] = _REASONS[error.errno or 0]
        else:
            self.events[f"{self.group}:{name}"] = function

    def _write(self, line: str) -> None:
        # One write(2) a line: the kernel takes each as a command of its own, and tells which one it refuses.
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def begin(self) -> None:
        """Counting begins now: what was missed before is not told."""
        self._missed_before = self._all_missed()

    def missed(self) -> dict[str, int]:
        """How often each function was entered while its probe could not run since `begin`, where that happened."""
        now = self._all_missed()
        found = {function: count - self._missed_before.get(function, 0) for function, count in now.items()}
        return {function: count for function, count in found.items() if count > 0}

    def _all_missed(self) -> dict[str, int]:
        """By function, as kprobe_profile has it: by an event's name alone, so that one that others have is left out."""
        rows = [line.split() for line in (self._root.read_or_none(self._profile) or "").splitlines()]
        names = [row[0].rpartition("/")[2] for row in rows if row]
        by_name = {event.partition(":")[2]: function for event, function in self.events.items()}
        return {
            by_name[name]: int(row[2])
            for name, row in zip(names, (row for row in rows if row), strict=True)
            if name in by_name and names.count(name) == 1 and len(row) == 3 and row[2].isdecimal()
        }

    def _remove(self) -> None:
        reaper, self._reaper = self._reaper, None
        if reaper is None:
            return
        reaper.reap()
        if f":{self.group}/" in (self._root.read_or_none(f"{self._directory}/kprobe_events") or ""):
            raise ProgramError(
                f"probes of ours stay in {self._file}: somebody counts the events of {self.group}",
                f"when that has ended, as root: echo '-:{self.group}/' >> {self._file}, with each event's name",
            )
