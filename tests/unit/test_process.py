"""The door to other programs, tried on real ones."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from numabench import process
from numabench.errors import CannotRun, ProgramError


def test_exit_status_and_both_outputs_come_back() -> None:
    ended = process.run(["sh", "-c", "echo answer; echo words >&2; exit 3"])
    assert ended == process.Completed(("sh", "-c", "echo answer; echo words >&2; exit 3"), 3, "answer\n", "words\n")


def test_a_signal_is_a_negative_status_and_named() -> None:
    ended = process.run(["sh", "-c", "kill -SEGV $$"])
    assert ended.exit_status == -signal.SIGSEGV
    with pytest.raises(ProgramError, match="was killed by SIGSEGV"):
        ended.check("crash")


def test_arguments_are_not_read_by_a_shell(tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/made); '\"*"
    assert process.run(["printf", "%s", hostile]).stdout == hostile
    assert not (tmp_path / "made").exists()


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CannotRun, match="no-such-program"):
        process.run(["no-such-program"])


def test_a_program_that_may_not_be_executed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    with pytest.raises(CannotRun):
        process.run([str(tmp_path / "text")])


def test_a_deadline_ends_a_program_with_all_it_started(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(ProgramError, match="did not end"):
        process.run(["sh", "-c", script], timeout_s=0.5)
    child = int((tmp_path / "child").read_text())
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]


def test_kill_ends_one_that_ignores_sigterm() -> None:
    read, write = os.pipe()
    running = process.start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done"], stdout=write)
    os.close(write)
    assert os.read(read, 10) == b"up\n"
    os.close(read)
    assert running.kill(grace_s=0.2) == -signal.SIGKILL


def test_passed_descriptors_keep_their_numbers_and_others_are_closed() -> None:
    read, write = os.pipe()
    other_read, other_write = os.pipe()
    running = process.start(["bash", "-c", f"ls /proc/self/fd >&{write}"], pass_fds=[write])
    os.close(write)
    assert running.wait(10) == 0
    listed = os.read(read, 4096).decode().split()
    for end in (read, other_read, other_write):
        os.close(end)
    assert str(write) in listed
    assert str(other_read) not in listed
    assert str(other_write) not in listed


def test_a_child_inherits_the_affinity_of_the_thread_that_starts_it() -> None:
    cpu = max(os.sched_getaffinity(0))
    seen: list[str] = []

    def pinned() -> None:
        os.sched_setaffinity(0, {cpu})
        seen.append(process.run(["grep", "Cpus_allowed_list", "/proc/self/status"]).stdout.split()[1])

    before = os.sched_getaffinity(0)
    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join()
    assert seen == [str(cpu)]
    assert os.sched_getaffinity(0) == before


def test_nothing_is_left_open() -> None:
    process.run(["true"])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        process.run(["true"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_debug_prints_a_line_that_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUMABENCH_DEBUG", "1")
    process.run(["printf", "%s", "two words"])
    assert "+ printf %s 'two words'" in capfd.readouterr().err
