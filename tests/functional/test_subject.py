"""Workloads that fail: each is a real process, written here to fail in one way."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from numabench import process
from numabench.errors import CannotRun, WorkloadError
from numabench.workload.foreign import ForeignProgram
from numabench.workload.own import OwnWorkload

CPUS = tuple(sorted(os.sched_getaffinity(0)))
SPEAKER = """
import json, os, sys, time
def say(event, **keys):
    os.write(1, json.dumps({"event": event, "pid": os.getpid(), "t_ns": time.monotonic_ns(), **keys}).encode() + b"\\n")
ready = int(sys.argv[sys.argv.index("--ready-fd") + 1])
go = int(sys.argv[sys.argv.index("--go-fd") + 1])
"""
UNTIL_READY = 'say("start", processes=1)\nsay("ready")\nos.write(ready, b"R")\n'


def workload(body: str) -> OwnWorkload:
    return OwnWorkload("speaker", [sys.executable, "-c", SPEAKER + body], CPUS)


def run_to_end(subject: OwnWorkload, timeout_s: float = 20.0) -> None:
    try:
        subject.start()
        subject.wait_ready(time.monotonic() + timeout_s)
        subject.go()
        deadline = time.monotonic() + timeout_s
        while not subject.poll(0.5):
            assert time.monotonic() < deadline
        subject.release(time.monotonic() + timeout_s)
    finally:
        subject.close()


def test_one_that_speaks_the_protocol_ends_well() -> None:
    subject = workload(
        UNTIL_READY + 'assert os.read(go, 1) == b"G"\nsay("go")\nsay("stop")\nassert os.read(go, 1) == b"X"\n'
        'say("check", bytes=10, wrong=0, first_wrong=None)\nsay("end")\n'
    )
    run_to_end(subject)
    assert subject.record()["exit_status"] == 0
    assert subject.record()["check"] == {"bytes": 10, "wrong": 0, "first_wrong": None}
    stamps = subject.stamps()
    assert stamps["ready"] <= stamps["go"] <= stamps["stop"]  # type: ignore[operator]


def test_what_it_says_of_its_pages_at_the_end_is_recorded() -> None:
    pages = 'say("pages", edge="{}", pages="64k", units=4, split={}, verified=0)\n'
    subject = workload(
        pages.format("begin", 0)
        + UNTIL_READY
        + 'os.read(go, 1)\nsay("go")\nsay("stop")\nos.read(go, 1)\n'
        + pages.format("end", 2)
        + 'say("end")\n'
    )
    run_to_end(subject)
    kind = subject.record()["units"]
    assert (kind["edge"], kind["split"], kind["verified"]) == ("end", 2, 0)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV after its line 'none'"),
        (UNTIL_READY + "os.kill(os.getpid(), 9)", "was killed by SIGKILL after its line 'ready'"),
        ('sys.stderr.write("out of luck\\n"); sys.exit(5)', "exited with 5.*it said: out of luck"),
        ('os.write(1, b"hello world\\n"); time.sleep(60)', "printed what is not an event: 'hello world'"),
        ('os.write(1, b"[" * 200000 + b"\\n"); time.sleep(60)', "printed what is not an event: '\\[\\[\\["),
        ('say("start"); time.sleep(60)', "printed what is not an event"),
        ('os.write(1, b\'{"event": "ready"}\\n\'); time.sleep(60)', "printed what is not an event"),
        ('say("slice", addr=4096, bytes=0, threads=[0]); time.sleep(60)', "printed what is not an event"),
        ('say("slice", addr=-1, bytes=1, threads=["x"]); time.sleep(60)', "printed what is not an event"),
        ('say("error", code="failed", message="mmap: Cannot allocate memory"); sys.exit(1)', "mmap: Cannot allocate"),
        (UNTIL_READY + 'os.read(go, 1); say("stop"); sys.exit(3)', "exited with 3 after its line 'stop'"),
    ],
)
def test_one_that_fails_is_told_with_how_and_where(body: str, told: str) -> None:
    with pytest.raises(WorkloadError, match=told):
        run_to_end(workload(body))


def test_one_that_finds_the_machine_lacking_cannot_run() -> None:
    body = 'say("error", code="cannot-run", message="node 3 has no CPUs"); sys.exit(77)'
    with pytest.raises(CannotRun, match="node 3 has no CPUs"):
        run_to_end(workload(body))


def test_one_that_never_gets_ready_is_ended_at_the_deadline() -> None:
    subject = workload('say("start", processes=1)\ntime.sleep(600)')
    subject.start()
    with pytest.raises(WorkloadError, match="was not ready in time"):
        subject.wait_ready(time.monotonic() + 1.0)
    subject.close()
    assert not Path(f"/proc/{subject.record()['pid']}").exists()


def test_one_that_will_not_end_is_ended() -> None:
    subject = workload(UNTIL_READY + 'os.read(go, 1); say("stop"); say("end"); time.sleep(600)')
    subject.start()
    subject.wait_ready(time.monotonic() + 20)
    subject.go()
    while not subject.poll(0.5):
        pass
    with pytest.raises(WorkloadError, match="did not end in time"):
        subject.release(time.monotonic() + 1.0)
    subject.close()
    assert not Path(f"/proc/{subject.record()['pid']}").exists()


def test_close_leaves_no_descriptor_open() -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(WorkloadError):
        run_to_end(workload("sys.exit(1)"))
    before = opened()
    for _ in range(5):
        with pytest.raises(WorkloadError):
            run_to_end(workload("sys.exit(1)"))
    assert opened() == before


def foreign(*argv: str) -> ForeignProgram:
    return ForeignProgram(argv, CPUS, "default", ())


def test_a_foreign_program_is_followed_with_its_children() -> None:
    subject = foreign(sys.executable, "-c", "import os, sys, time\nos.fork()\nx = bytearray(8 << 20)\ntime.sleep(30)")
    subject.start()
    subject.go()
    try:
        deadline = time.monotonic() + 20
        while len(subject.pids()) < 2 or sum(s.size_bytes for s in subject.slices()) < 2 * (8 << 20):
            assert not subject.poll(0.05)
            assert time.monotonic() < deadline
        assert {pid for pid, _ in subject.threads()} == set(subject.pids())
    finally:
        subject.close()
    assert subject.pids() == ()


def test_a_foreign_program_is_ended_after_its_duration() -> None:
    subject = ForeignProgram(["sleep", "600"], CPUS, "default", (), duration_s=0.5)
    subject.go()
    try:
        deadline = time.monotonic() + 20
        while not subject.poll(5.0):
            assert time.monotonic() < deadline
        subject.release(time.monotonic() + 5)
    finally:
        subject.close()
    pid = subject.record()["pid"]
    assert not Path(f"/proc/{pid}").exists()


def test_a_foreign_program_ends_with_a_numabench_that_is_killed() -> None:
    code = (
        "import os, sys, time; from numabench.workload.foreign import ForeignProgram\n"
        "subject = ForeignProgram(['sleep', '600'], sorted(os.sched_getaffinity(0)), 'default', ())\n"
        "subject.go(); print(subject.record()['pid'], flush=True); os.kill(os.getpid(), 9)"
    )
    pid = int(process.run([sys.executable, "-c", code]).stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline


def test_a_foreign_program_that_fails_is_a_failure() -> None:
    subject = foreign("sh", "-c", "exit 4")
    subject.go()
    assert subject.poll(10)
    with pytest.raises(WorkloadError, match="exited with 4"):
        subject.release(0)
    assert subject.record()["exit_status"] == 4


def test_a_foreign_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(CannotRun, match="no-such-program"):
        foreign("no-such-program").go()


def test_the_launcher_thread_pins_the_child_and_not_us() -> None:
    before = os.sched_getaffinity(0)
    read, write = os.pipe()
    from numabench.workload.launch import launch_pinned

    child = launch_pinned(["grep", "Cpus_allowed_list", "/proc/self/status"], cpus=(CPUS[-1],), stdout=write)
    os.close(write)
    assert child.wait(10) == 0
    assert os.read(read, 4096).decode().split()[1] == str(CPUS[-1])
    os.close(read)
    assert os.sched_getaffinity(0) == before
    assert process.run(["true"]).exit_status == 0
