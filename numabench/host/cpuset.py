"""A cpuset of our own for one workload (cpuset(7), Documentation/admin-guide/cgroup-v2.rst), and none left afterwards.

Writing `cpuset.mems` of a cpuset with memory migration moves every page of its processes; the write returns when that
is done. Each cpuset is a cgroup whose directory its owner keeps locked (flock(2)): the lock dies with the owner, so
that the next start tells what was left by one that was killed from what belongs to one that lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import signals
from numabench.errors import CannotRun, NumabenchError, ProgramError, Unfit
from numabench.host.root import LIVE, Root
from numabench.idset import format_ids, parse_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PREFIX = "numabench-cpuset-"
# Ends the name of a group whose owner has given cpuset to the cgroups below the mount point, or found it so given.
_ENABLED = "-enabled"
# A group whose name only begins as ours is somebody else's. What mkdtemp(3) adds is eight letters, digits or `_`.
_OURS = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}(?:{_ENABLED})?")
_PATIENCE_S, _GLANCE_S = 10.0, 0.2
_RETRY_S = 0.01


@dataclass(frozen=True)
class _Hierarchy:
    """The mounted cgroup hierarchy that has the cpuset controller."""

    mount: str
    version: int


def requirements(root: Root = LIVE) -> tuple[str, ...]:
    """Why no cpuset can be made here, or nothing."""
    # Kernels with CONFIG_CPUSETS have the line; /proc/cgroups lists cpuset only where CONFIG_CPUSETS_V1 is set, too.
    if "Mems_allowed:" not in (root.read_or_none("/proc/self/status") or ""):
        return ("this kernel has no cpusets (CONFIG_CPUSETS)",)
    found = _hierarchy(root)
    if found is None:
        return (_why_no_hierarchy(root),)
    if root.is_live and not os.access(found.mount, os.W_OK):
        is_read_only = bool(os.statvfs(found.mount).f_flag & os.ST_RDONLY)
        why = "it is mounted read-only, as in a container" if is_read_only else "only root may"
        return (f"no cgroup can be made in {found.mount}: {why}",)
    # In a root that is not the machine's own (cgroup_namespaces(7)) a group has controllers or processes, never both.
    is_inner = root.exists(f"{found.mount}/cgroup.type")
    if is_inner and not _is_enabled(root, found) and (root.read_or_none(f"{found.mount}/cgroup.procs") or "").strip():
        return (f"cpuset cannot be enabled below {found.mount}: that cgroup has processes of its own",)
    return ()


def _why_no_hierarchy(root: Root) -> str:
    mounts = [mount for kind, mount, _ in _mounts(root) if kind == "cgroup2"]
    if mounts:
        have = (root.read_or_none(f"{mounts[0]}/cgroup.controllers") or "").strip() or "none"
        return (
            f"{mounts[0]} has no cpuset controller (it has {have}): a cgroup v1 hierarchy has it, or it was not "
            "given to this container"
        )
    return "no cgroup file system with cpuset is mounted: as root, mount -t cgroup2 none /sys/fs/cgroup"


def _mounts(root: Root) -> list[tuple[str, str, list[str]]]:
    """Type, mount point and options of every mounted file system (proc_pid_mounts(5))."""
    rows = (line.split() for line in (root.read_or_none("/proc/self/mounts") or "").splitlines())
    return [(row[2], _unescaped(row[1]), row[3].split(",")) for row in rows if len(row) >= 4]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _hierarchy(root: Root) -> _Hierarchy | None:
    for kind, mount, options in _mounts(root):
        if kind == "cgroup2" and "cpuset" in (root.read_or_none(f"{mount}/cgroup.controllers") or "").split():
            return _Hierarchy(mount, 2)
        if kind == "cgroup" and "cpuset" in options and "noprefix" not in options:
            return _Hierarchy(mount, 1)
    return None


def _is_enabled(root: Root, hierarchy: _Hierarchy) -> bool:
    """Whether groups below the mount point have the controller already: in v1 they always have."""
    if hierarchy.version == 1:
        return True
    return "cpuset" in (root.read_or_none(f"{hierarchy.mount}/cgroup.subtree_control") or "").split()


@dataclass(frozen=True)
class Cpuset:
    """A cpuset with memory migration: whoever writes nodes to `mems_file` moves the pages of all that is in it."""

    directory: Path

    @property
    def mems_file(self) -> Path:
        """Its cpuset.mems."""
        return self.directory / "cpuset.mems"

    def adopt(self, pid: int) -> None:
        """Take in a process with all its threads; the children that it has later are in it, too.

        Before v6.2 the kernel then gives each thread all CPUs of the cpuset, also one that had pinned itself: see
        `entering`. Raises `NumabenchError` where the kernel refuses.
        """
        _write(self.directory / "cgroup.procs", str(pid))

    def entering(self, argv: Sequence[str]) -> list[str]:
        """The command that enters the cpuset and then becomes `argv`, with its process id."""
        return ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(self.directory / "cgroup.procs"), *argv]


@contextlib.contextmanager
def confined(mems: Sequence[int], cpus: Sequence[int], root: Root = LIVE) -> Iterator[Cpuset]:
    """A cpuset of those nodes and CPUs; afterwards it is gone, and what still runs in it is in our own cgroup.

    First takes away what was left by owners that were killed. Raises `CannotRun` for what `requirements` tells,
    `Unfit` where the nodes are not ours to give, and `NumabenchError` where the kernel refuses; on leaving,
    `ProgramError` where the cpuset cannot be taken away.
    """
    if reasons := requirements(root):
        raise CannotRun("the driver cpuset", reasons)
    hierarchy = _hierarchy(root)
    assert hierarchy is not None
    parent = _Parent(root, hierarchy)
    with contextlib.ExitStack() as stack:
        with signals.held(), parent.locked():
            parent.remove_leftovers()
            directory = parent.make()
            own_lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Locked until it is gone: without a lock it would be one that a killed run has left.
            stack.callback(os.close, own_lock)
            stack.callback(_held, parent, directory)
            fcntl.flock(own_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            parent.enable()
            _configure(directory, mems, cpus, hierarchy)
        yield Cpuset(directory)


def stale(root: Root = LIVE) -> tuple[str, ...]:
    """The cpusets whose owners are gone, as paths; none while another numabench makes or removes one."""
    hierarchy = _hierarchy(root)
    parent = None if hierarchy is None else _Parent(root, hierarchy)
    if parent is None or not parent.has_any():
        return ()
    try:
        # To look is to lock for a moment, which must not meet an owner that takes its own.
        with parent.locked(_GLANCE_S):
            return tuple(str(path) for path in parent.stale())
    except Unfit:
        return ()


def recover(root: Root = LIVE) -> None:
    """Take away the cpusets of owners that were killed; nothing where there are none, or where they are not ours to.

    Raises `ProgramError` for one that cannot be taken away.
    """
    hierarchy = _hierarchy(root)
    if hierarchy is None or not os.access(root.path(hierarchy.mount), os.W_OK):
        return
    parent = _Parent(root, hierarchy)
    if parent.has_any():
        with signals.held(), parent.locked():
            parent.remove_leftovers()


def _held(parent: _Parent, directory: Path) -> None:
    with signals.held(), parent.locked():
        parent.remove(directory)


def _configure(directory: Path, mems: Sequence[int], cpus: Sequence[int], hierarchy: _Hierarchy) -> None:
    _write(directory / "cpuset.cpus", format_ids(cpus))
    _write(directory / "cpuset.mems", format_ids(mems))
    if hierarchy.version == 1:
        _write(directory / "cpuset.memory_migrate", "1")
    effective = directory / ("cpuset.mems.effective" if hierarchy.version == 2 else "cpuset.mems")
    given = effective.read_text(encoding="ascii").strip()
    if set(parse_ids(given)) != set(mems):
        raise Unfit(f"a cpuset of nodes {format_ids(mems)} gets {given or 'none'}", "choose nodes of our own cpuset")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(f"{text}\n", encoding="ascii")
    except OSError as error:
        raise NumabenchError(f"cannot write {text} to {path}: {error.strerror}") from None


class _Parent:
    """The cgroup at the mount point: our cpusets are below it."""

    def __init__(self, root: Root, hierarchy: _Hierarchy) -> None:
        self._root, self._hierarchy = root, hierarchy
        self._path = root.path(hierarchy.mount)

    @contextlib.contextmanager
    def locked(self, patience_s: float = _PATIENCE_S) -> Iterator[None]:
        """Keep every other numabench from making and removing cpusets. Raises `Unfit` after ten seconds."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + patience_s
            while not _lock(descriptor):
                if time.monotonic() > deadline:
                    raise Unfit(f"another process keeps {self._path} locked", "find it with: lslocks")
                time.sleep(_RETRY_S)
            yield
        finally:
            os.close(descriptor)

    def _ours(self) -> list[Path]:
        # What is mounted may be gone, or hidden, all the same.
        with contextlib.suppress(OSError):
            return [path for path in self._path.iterdir() if _OURS.fullmatch(path.name) and path.is_dir()]
        return []

    def has_any(self) -> bool:
        """Whether there is a cpuset of numabench's."""
        return bool(self._ours())

    def stale(self) -> list[Path]:
        """The groups whose owners are gone."""
        found = []
        for directory in self._ours():
            with contextlib.suppress(OSError):
                descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    found.append(directory)
                finally:
                    os.close(descriptor)
        return found

    def make(self) -> Path:
        """A new group. Its name tells whether cpuset is to be disabled when the last one with such a name goes."""
        enabled = not _is_enabled(self._root, self._hierarchy) or any(
            path.name.endswith(_ENABLED) for path in self._ours()
        )
        return Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_ENABLED if enabled else "", dir=self._path))

    def enable(self) -> None:
        """Give the controller to the groups below, where they do not have it."""
        if not _is_enabled(self._root, self._hierarchy):
            _write(self._path / "cgroup.subtree_control", "+cpuset")

    def remove_leftovers(self) -> None:
        """Remove the groups whose owners are gone."""
        for directory in self._ours():
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # We live in one where a workload of ours starts numabench: it is in use, whoever made it.
                if directory != self._home() and directory not in self._home().parents and _lock(descriptor):
                    self.remove(directory)
            finally:
                os.close(descriptor)

    def remove(self, directory: Path) -> None:
        """Empty a group, put the parent's controllers back, and remove it. Raises `ProgramError` after ten seconds."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            _move_processes(directory, self._home())
            self._disable(directory)
            try:
                directory.rmdir()
            except OSError as error:
                # Busy until a process that is ending has ended.
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise ProgramError(f"cannot remove {directory}: {error.strerror}", f"rmdir {directory}") from None
                time.sleep(_RETRY_S)
            else:
                return

    def _home(self) -> Path:
        """Our own cgroup in this hierarchy."""
        for line in (self._root.read_or_none("/proc/self/cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2)
            if "cpuset" in controllers.split(",") or (self._hierarchy.version == 2 and not controllers):
                return self._path / path.lstrip("/")
        return self._path

    def _disable(self, directory: Path) -> None:
        """Take the controller back from the groups below, where we gave it and no other has set anything in it."""
        if not directory.name.endswith(_ENABLED) or not _is_enabled(self._root, self._hierarchy):
            return
        others = (path for path in self._path.iterdir() if path.is_dir() and path != directory)
        if not any(_is_confined(path) for path in others):
            # Busy where a group has given it to groups below itself: it is used then.
            with contextlib.suppress(NumabenchError):
                _write(self._path / "cgroup.subtree_control", "-cpuset")


def _is_confined(directory: Path) -> bool:
    for name in ("cpuset.mems", "cpuset.cpus"):
        with contextlib.suppress(OSError):
            if (directory / name).read_text(encoding="ascii").strip():
                return True
    return False


def _move_processes(directory: Path, home: Path) -> None:
    for pid in (directory / "cgroup.procs").read_text(encoding="ascii").split():
        # One that has ended meanwhile is gone, too.
        with contextlib.suppress(OSError):
            (home / "cgroup.procs").write_text(pid, encoding="ascii")


def _lock(descriptor: int) -> bool:
    """Take the lock, unless another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
