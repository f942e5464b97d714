"""A systemd of its own: the real one as process 1 of namespaces, whose only units are a test's.

It sees the host's files, but a /run of its own, a cgroup of its own, a /proc/sys that cannot be written, and the test's
directory in the place of /etc/systemd/system.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAM = Path("/lib/systemd/systemd")
TARGETS = ("sysinit", "basic", "shutdown", "multi-user", "timers", "network-online", "time-sync", "sockets", "slices")
_START = """\
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
[ -z "$KNOB" ] || mount --bind "$KNOB_FILE" "$KNOB"
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
mount --bind "$UNITS" /etc/systemd/system
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_GENERATOR_PATH=/nonexistent
exec "$PROGRAM" --system --unit=multi-user.target --show-status=0 --log-target=console --log-level=info
"""


def obstacle() -> str:
    """Why there can be none here; empty where there can."""
    if os.geteuid() != 0:
        return "only root may make a systemd's namespaces"
    missing = [name for name in ("unshare", "nsenter", "systemctl") if shutil.which(name) is None]
    if missing or not PROGRAM.exists():
        return f"{', '.join(missing) or PROGRAM} is missing: scripts/setup test"
    if _hierarchy() is None:
        return "there is no cgroup2 file system"
    tried = process.run(["unshare", "--mount", "--pid", "--fork", "--cgroup", "--ipc", "--uts", "true"])
    return "" if tried.exit_status == 0 else f"no namespaces can be made: {tried.stderr.strip()}"


def _hierarchy() -> Path | None:
    """Where the host has its cgroup2 file system."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


class Systemd:
    """One that runs."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", "-t", str(pid), "-m", "-p", "-C", "-i", "-u", f"--wd={Path.cwd()}"]

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> process.Completed:
        """Run a program beside it."""
        return process.run([*self._enter, *argv], timeout_s=timeout_s)

    def systemctl(self, *words: str) -> str:
        return self.run(["systemctl", *words]).stdout.strip()

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        told = self.systemctl("show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in told.splitlines())

    def await_state(self, unit: str, *states: str, timeout_s: float = 40.0) -> str:
        """Wait until a unit's ActiveState is one of some."""
        deadline = time.monotonic() + timeout_s
        while (state := self.show(unit, "ActiveState")["ActiveState"]) not in states:
            assert time.monotonic() < deadline, f"{unit} is {state}: {self.systemctl('status', unit)}"
            time.sleep(0.1)
        return state


@contextlib.contextmanager
def running(units: Path, log: Path, *, knob: str = "", knob_file: Path | None = None) -> Iterator[Systemd]:
    """One with the units of a directory; `knob` is a file of /proc/sys that is `knob_file` there."""
    for name in TARGETS:
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    hierarchy = _hierarchy()
    assert hierarchy is not None
    group = hierarchy / f"numabench-test-{os.getpid()}"
    group.mkdir()
    variables = {"UNITS": str(units), "PROGRAM": str(PROGRAM), "KNOB": knob, "KNOB_FILE": str(knob_file or "")}
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--ipc", "--uts"]
    join = f'echo $$ >{group}/cgroup.procs && exec "$@"'
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    argv = ["sh", "-c", join, "sh", *unshare, "sh", "-c", _START]
    started = process.start(argv, stdout=output, stderr=output, env={**os.environ, **variables})
    os.close(output)
    try:
        pid = _first(started, log)
        systemd = Systemd(pid)
        deadline = time.monotonic() + 30
        while systemd.systemctl("is-active", "multi-user.target") != "active":
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield systemd
    finally:
        started.kill(0.0)
        _remove(group)


def _first(started: process.Process, log: Path) -> int:
    """The first process of the namespace, once it is systemd."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    deadline = time.monotonic() + 30
    while True:
        assert started.wait(0.05) is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        for child in children.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)


def _remove(group: Path) -> None:
    deadline = time.monotonic() + 10
    while group.exists():
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            for path, _, _ in os.walk(group, topdown=False):
                Path(path).rmdir()
        assert time.monotonic() < deadline, f"{group} is in use"
        time.sleep(0.02)
