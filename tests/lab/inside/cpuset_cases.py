"""Run inside a guest as root: what a cpuset does to a process, and what is left of it however its owner ends."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench import process
from numabench.errors import NumabenchError
from numabench.host import cpuset, knobs, placement
from numabench.host.root import LIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOP = Path("/sys/fs/cgroup")
# Where this process is, so that going home is not going to the top.
OWNERS = TOP / "owners"
PAGE = mmap.PAGESIZE
PAGES = 5000


def groups() -> list[str]:
    return sorted(path.name for path in TOP.iterdir() if path.is_dir() and path != OWNERS)


def controllers() -> list[str]:
    return (TOP / "cgroup.subtree_control").read_text(encoding="ascii").split()


def cgroup_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").strip().rpartition(":")[2]


@contextlib.contextmanager
def forked(work: Callable[[int], None]) -> Iterator[tuple[int, str]]:
    """A child that writes one line to the descriptor it is given and waits; its pid and the line."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        work(writing)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="ascii") as told:  # noqa: PTH123  a descriptor
        yield pid, told.readline().strip()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def touch_and_wait(writing: int) -> None:
    memory = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ctypes.memset(address, 1, PAGES * PAGE)
    os.sched_setaffinity(0, {1})
    os.write(writing, b"%d\n" % address)
    signal.pause()


def confine_and_wait(writing: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with contextlib.suppress(SystemExit), cpuset.confined([0, 1], [0, 1]) as confined:
        os.write(writing, f"{confined.directory.name}\n".encode())
        signal.pause()


def nodes_of(pid: int, address: int) -> dict[str, int]:
    page_map = placement.query_nodes(pid, [(address, PAGES * PAGE)])
    return {str(node): pages for node, pages in page_map.nodes().items()}


def moved() -> dict[str, Any]:
    """Every page, asked for right after each write returns."""
    with forked(touch_and_wait) as (pid, told), cpuset.confined([0, 1], [0, 1]) as confined:
        confined.adopt(pid)
        found: dict[str, Any] = {"affinity": sorted(os.sched_getaffinity(pid)), "nodes": []}
        for node in (1, 0) * 5:
            confined.mems_file.write_text(f"{node}\n", encoding="ascii")
            found["nodes"].append(nodes_of(pid, int(told)))
        found["inside"] = cgroup_of(pid) == f"/{confined.directory.name}"
        found["controllers"] = controllers()
    return found | {"left": groups(), "left_controllers": controllers()}


def left_by_its_owner() -> dict[str, Any]:
    """A process that is still there when its cpuset goes is in the owner's cgroup."""
    with forked(touch_and_wait) as (pid, _):
        with cpuset.confined([0], [0, 1]) as confined:
            confined.adopt(pid)
        return {"cgroup": cgroup_of(pid), "left": groups()}


def entered() -> dict[str, str]:
    with cpuset.confined([1], [0]) as confined:
        argv = confined.entering(["grep", "-E", "^(Mems|Cpus)_allowed_list", "/proc/self/status"])
        text = process.run(argv).check("entering").stdout
        return dict(line.split(":\t") for line in text.splitlines())


def killed() -> dict[str, Any]:
    """SIGKILL to one owner while another lives: the next start removes what the first has left, and nothing else."""
    with forked(confine_and_wait) as (victim, lost), forked(touch_and_wait) as (orphan, _):
        (TOP / lost / "cgroup.procs").write_text(str(orphan), encoding="ascii")
        with forked(confine_and_wait) as (_, living):
            os.kill(victim, signal.SIGKILL)
            os.waitid(os.P_PID, victim, os.WEXITED | os.WNOWAIT)
            left = groups() == sorted((lost, living))
            with cpuset.confined([0, 1], [0, 1]) as confined:
                now = groups() == sorted((living, confined.directory.name))
            return {
                "left": left,
                "removed": now,
                "orphan": cgroup_of(orphan),
                "living": groups() == [living],
                "controllers": controllers(),
            }


def after_killed() -> dict[str, Any]:
    return {"left": groups(), "controllers": controllers()}


def refused() -> dict[str, Any]:
    said = []
    for mems in ([9], [0, 9]):
        try:
            with cpuset.confined(mems, [0, 1]):
                said.append("nothing")
        except NumabenchError as error:
            said.append(error.message.replace(str(TOP), "TOP"))
    return {"said": said, "left": groups(), "controllers": controllers()}


def enabled_by_another() -> dict[str, Any]:
    """A controller that was enabled before stays so."""
    (TOP / "cgroup.subtree_control").write_text("+cpuset", encoding="ascii")
    with cpuset.confined([0, 1], [0, 1]):
        pass
    found = {"left": groups(), "controllers": controllers()}
    (TOP / "cgroup.subtree_control").write_text("-cpuset", encoding="ascii")
    return found


def version_1() -> dict[str, Any] | None:
    """The same with the controller in a hierarchy of version 1; None where the kernel has none."""
    with tempfile.TemporaryDirectory(dir="/run") as mount:
        mounted = process.run(["mount", "-t", "cgroup", "-o", "cpuset", "none", mount])
        if mounted.exit_status != 0:
            return None
        try:
            with forked(touch_and_wait) as (pid, told), cpuset.confined([0, 1], [0, 1]) as confined:
                confined.adopt(pid)
                found: dict[str, Any] = {"below": str(confined.directory.parent) == mount, "nodes": []}
                for node in (1, 0, 1):
                    confined.mems_file.write_text(f"{node}\n", encoding="ascii")
                    found["nodes"].append(nodes_of(pid, int(told)))
            found["left"] = [path.name for path in Path(mount).iterdir() if path.is_dir()]
        finally:
            process.run(["umount", mount]).check("unmounting")
    return found


CASES = (moved, left_by_its_owner, entered, killed, after_killed, refused, enabled_by_another, version_1)

if __name__ == "__main__":
    reasons = cpuset.requirements(LIVE)
    if "cpuset" in controllers():
        (TOP / "cgroup.subtree_control").write_text("-cpuset", encoding="ascii")
    OWNERS.mkdir()
    (OWNERS / "cgroup.procs").write_text("0", encoding="ascii")
    # Balancing would move pages between a write and the look at what it did.
    with knobs.apply({"numa_balancing": "0"}):
        json.dump({"requirements": reasons, **{case.__name__: case() for case in CASES}}, sys.stdout)
    (TOP / "cgroup.procs").write_text("0", encoding="ascii")
    OWNERS.rmdir()
