"""Run inside a guest as root: `numabench doctor` and `numabench run` on a machine that was made unfit, case by case.

The one argument is a directory for results. Each case is a process of its own, which prepares itself or the machine;
its answer has the doctor's exit `status` and report, and where it runs, too, the exit status and words of the run and
what it recorded. What a case has changed on the machine it puts back; `altered` are the files that differ in the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import struct
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Loaded before the cases are forked: a guest's Python takes seconds for it.
import numabench.cli.doctor
import numabench.experiment.run
import numabench.lab.requirements
import numabench.report.doctor_json
import numabench.workload.catalog  # noqa: F401
from numabench import process
from numabench.cli import app, commands
from numabench.errors import UsageError
from numabench.host import knobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, EPERM = 0x7FFF0000, 0x00050000, 1
# mbind, set_mempolicy, get_mempolicy, migrate_pages, move_pages, set_mempolicy_home_node on x86-64: what moby's default
# profile leaves out.
MEMPOLICY_CALLS = (237, 238, 239, 256, 279, 450)
CGROUP = Path("/sys/fs/cgroup")
RUN = ["run", "pingpong", "--nodes", "2", "--native", "--size", "4M", "--loops", "1", "--repeats", "1"]


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str, target: str, kind: str, flags: int) -> None:
    checked(LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None))


# Of the process alone: gone with it.


def read_only_proc() -> None:
    checked(LIBC.unshare(CLONE_NEWNS))
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    mount("/proc/sys", "/proc/sys", "none", MS_BIND)
    mount("none", "/proc/sys", "none", MS_BIND | MS_REMOUNT | MS_RDONLY)


def sandbox() -> None:
    """As `unshare --user --map-root-user --pid --fork --mount-proc`."""
    checked(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID))
    Path("/proc/self/uid_map").write_text("0 0 1\n")
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", 0)


def no_root() -> None:
    own = Path("/run/doctor-user-state")
    own.mkdir()
    os.chown(own, 1000, 1000)
    os.environ["NUMABENCH_STATE_DIR"] = str(own)
    os.setgroups([])
    os.setgid(1000)
    os.setuid(1000)


def filtered() -> None:
    """A filter in classic BPF over struct seccomp_data: the calls' numbers, each compared, then the answer."""
    load, compare, answer = 0x20, 0x15, 0x06
    count = len(MEMPOLICY_CALLS)
    program = [(load, 0, 0, 0)]
    program += [(compare, count - place, 0, number) for place, number in enumerate(MEMPOLICY_CALLS)]
    program += [(answer, 0, 0, SECCOMP_RET_ALLOW), (answer, 0, 0, SECCOMP_RET_ERRNO | EPERM)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    told = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(buffer))
    checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    checked(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(told), 0, 0))


def enter_cpuset() -> None:
    (CGROUP / "doctor" / "cgroup.procs").write_text(f"{os.getpid()}\n")


# Of the machine: put back by who prepared it.


@contextlib.contextmanager
def written(*values: tuple[str, str]) -> Iterator[None]:
    before = [(path, knobs.shown(Path(path).read_text())) for path, _ in values]
    try:
        for path, value in values:
            Path(path).write_text(value)
        yield
    finally:
        for path, value in before:
            Path(path).write_text(value)


@contextlib.contextmanager
def cached_on_node_1() -> Iterator[None]:
    """A third of node 1 in the page cache: of a block device, since the guest's own files are not cached."""
    file = Path("/run/doctor-cache")
    with file.open("wb") as sparse:
        sparse.truncate(360 << 20)
    process.run(["modprobe", "loop"]).check("loop")
    device = process.run(["losetup", "--find", "--show", str(file)]).check("losetup").stdout.strip()
    try:
        argv = ["numactl", "--cpunodebind=1", "--membind=1", "dd", f"if={device}", "of=/dev/null", "bs=1M"]
        # The last who closes a block device empties its cache.
        with Path(device).open("rb"):
            process.run(argv).check("dd")
            yield
    finally:
        process.run(["losetup", "--detach", device]).check("losetup")
        file.unlink()


@contextlib.contextmanager
def cpuset() -> Iterator[None]:
    enabled = (CGROUP / "cgroup.subtree_control").read_text()
    (CGROUP / "cgroup.subtree_control").write_text("+cpuset +memory +cpu +pids")
    group = CGROUP / "doctor"
    group.mkdir()
    try:
        (group / "cpuset.mems").write_text("0")
        (group / "memory.max").write_text(str(500 << 20))
        (group / "cpu.max").write_text("50000 100000")
        yield
    finally:
        group.rmdir()
        added = {"cpuset", "memory", "cpu", "pids"} - set(enabled.split())
        (CGROUP / "cgroup.subtree_control").write_text(" ".join(f"-{name}" for name in added))


def call(words: list[str]) -> tuple[int, str, str]:
    """The exit status, stdout and stderr of the command line, by a process that has what this one has."""
    paths = [Path(f"/run/doctor-{os.getpid()}.{name}") for name in ("out", "err")]
    files = [path.open("w+b") for path in paths]
    for path in paths:
        path.unlink()
    pid = os.fork()
    if pid == 0:
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        sys.argv = ["numabench", *words]
        try:
            app.main()
        except SystemExit as ended:
            sys.stderr.flush()
            # Not through the blocks that this process was forked in: they are another's to leave.
            os._exit(int(ended.code or 0))
        finally:
            os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for file in files:
        file.seek(0)
        texts.append(file.read().decode())
    return status, texts[0], texts[1]


def answer(results: Path, name: str, *, runs: bool) -> dict[str, Any]:
    status, out, err = call(["doctor", *(["--for", "pingpong"] if runs else []), "--json"])
    found: dict[str, Any] = {"status": status, "doctor": json.loads(out) if out else err}
    if runs:
        directory = results / name
        run_status, _, words = call([*RUN, "--results", str(directory), "--asked", "[]"])
        records = [json.loads(path.read_text()) for path in directory.glob("*/run.json")]
        found["run"] = {"status": run_status, "words": words, "doctor": [record["doctor"] for record in records]}
    return found


def in_child(prepare: Callable[[], None], results: Path, name: str, *, runs: bool) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            prepare()
            with os.fdopen(writing, "w") as told:
                json.dump(answer(results, name, runs=runs), told)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(99)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return dict(json.loads(text)) if text else {"status": status, "doctor": "the case could not be prepared"}


def state() -> dict[str, str]:
    """What no case may leave otherwise."""
    found = dict(knobs.read_all())
    found["cgroups"] = " ".join(sorted(path.name for path in CGROUP.iterdir() if path.is_dir()))
    found["controllers"] = (CGROUP / "cgroup.subtree_control").read_text()
    found["mounts"] = Path("/proc/self/mounts").read_text()
    found["loops"] = " ".join(map(str, Path("/sys/block").glob("loop*/loop/backing_file")))
    found["journals"] = " ".join(str(path) for path in Path("/run/doctor-state").rglob("*.journal"))
    return found


Prepared = tuple["AbstractContextManager[None]", "Callable[[], None]", bool]


def cases() -> dict[str, Prepared]:
    as_is, nothing = contextlib.nullcontext(), lambda: None
    thp = "/sys/kernel/mm/transparent_hugepage/enabled"
    wrong = (("/proc/sys/vm/zone_reclaim_mode", "1"), ("/sys/kernel/mm/ksm/run", "1"), (thp, "always"))
    hidden = (("/proc/sys/kernel/kptr_restrict", "2"), ("/proc/sys/kernel/numa_balancing", "2"))
    return {
        "as_is": (as_is, nothing, True),
        "wrong_knobs": (written(*wrong, *hidden), nothing, False),
        "page_cache": (cached_on_node_1(), nothing, False),
        "cpuset": (cpuset(), enter_cpuset, True),
        "seccomp": (as_is, filtered, True),
        "read_only": (as_is, read_only_proc, True),
        "sandbox": (as_is, sandbox, True),
        "no_root": (as_is, no_root, True),
    }


def main() -> None:
    results = Path(sys.argv[1])
    wanted = sys.argv[2:]
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    state_home = Path("/run/doctor-state")
    state_home.mkdir(exist_ok=True)
    for directory in (results, state_home, Path("/run")):
        directory.chmod(0o1777)
    os.environ["NUMABENCH_STATE_DIR"] = str(state_home)
    importlib.import_module("sh")
    # The words are parsed, with all that this loads, and refused.
    with contextlib.suppress(UsageError):
        commands.app(["run", "pingpong", "--nodes", "0"])
    before = state()
    answers: dict[str, Any] = {}
    for name, (machine, own, runs) in cases().items():
        if not wanted or name in wanted:
            with machine:
                answers[name] = in_child(own, results, name, runs=runs)
    after = state()
    altered = {name: [before[name], after.get(name, "")] for name in before if before[name] != after.get(name)}
    json.dump({"answers": answers, "altered": altered}, sys.stdout)


if __name__ == "__main__":
    main()
