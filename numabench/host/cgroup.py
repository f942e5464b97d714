"""Limits of the caller's cgroups, of version 1 and 2: the tightest from its own up to the root (cgroups(7))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numabench.host.root import Root

# Version 1 shows no limit as the largest number of pages (PAGE_COUNTER_MAX).
_NO_LIMIT_BYTES = 1 << 62
_NUMBER = re.compile(r"-?\d{1,20}")


@dataclass(frozen=True)
class Limit:
    """A limit and the file that says so; bytes, CPUs or tasks."""

    value: float
    file: str


def memory_limit(root: Root) -> Limit | None:
    """The least that memory.max or memory.high (version 1: memory.limit_in_bytes) allows."""
    return _tightest(root, "memory", ("memory.max", "memory.high", "memory.limit_in_bytes"), _bytes)


def cpu_quota(root: Root) -> Limit | None:
    """The least that cpu.max (version 1: cpu.cfs_quota_us) allows, in CPUs."""
    return _tightest(root, "cpu", ("cpu.max", "cpu.cfs_quota_us"), _cpus)


def task_limit(root: Root) -> Limit | None:
    """The least that pids.max allows."""
    return _tightest(root, "pids", ("pids.max",), _number)


def _tightest(
    root: Root, controller: str, names: tuple[str, ...], value_of: Callable[[Root, str], float | None]
) -> Limit | None:
    found = [
        Limit(value, file)
        for directory in _directories(root, controller)
        for file in (f"{directory}/{name}" for name in names)
        if (value := value_of(root, file)) is not None
    ]
    return min(found, key=lambda limit: limit.value, default=None)


def _directories(root: Root, controller: str) -> Iterator[str]:
    """Where the caller's cgroups with a controller are, from its own up to what is mounted.

    A mount shows a part of the hierarchy, from `top` on (proc_pid_mountinfo(5)); in a container the caller's own path
    may lie outside it, and then what is mounted is its own.
    """
    own = _own_paths(root)
    for kind, top, mount, options in _mounts(root):
        is_whole = kind == "cgroup2"
        if not is_whole and controller not in options:
            continue
        path = PurePosixPath(own.get("" if is_whole else controller, "/"))
        below = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
        inner = PurePosixPath(mount) / below
        yield str(inner)
        yield from (str(parent) for parent in inner.parents if parent.is_relative_to(mount))


def _own_paths(root: Root) -> dict[str, str]:
    """The caller's cgroup by controller of version 1; version 2's by the empty name (proc_pid_cgroup(5))."""
    found = {}
    for line in (root.read_or_none("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _mounts(root: Root) -> Iterator[tuple[str, str, str, list[str]]]:
    """Type, root, mount point and super options of the mounted cgroup file systems (proc_pid_mountinfo(5))."""
    for line in (root.read_or_none("/proc/self/mountinfo") or "").splitlines():
        left, dash, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        if dash and len(fields) >= 5 and len(source) >= 3 and source[0] in {"cgroup", "cgroup2"}:
            yield source[0], fields[3], fields[4], source[2].split(",")


def _number(root: Root, file: str) -> int | None:
    return _as_number(root.read_or_none(file))


def _as_number(text: str | None) -> int | None:
    shown = (text or "").strip()
    return int(shown) if _NUMBER.fullmatch(shown) else None


def _bytes(root: Root, file: str) -> float | None:
    value = _number(root, file)
    return None if value is None or value >= _NO_LIMIT_BYTES else value


def _cpus(root: Root, file: str) -> float | None:
    """`QUOTA PERIOD` in microseconds, or the quota alone with its period in another file; -1 and `max` are none."""
    words = (root.read_or_none(file) or "").split()
    quota = _as_number(words[0]) if words else None
    period = words[1] if len(words) > 1 else root.read_or_none(file.replace("cfs_quota_us", "cfs_period_us"))
    period_us = _as_number(period)
    return quota / period_us if quota is not None and quota > 0 and period_us else None
