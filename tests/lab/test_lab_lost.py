"""Guests that die, hang or never start, and what is left when numabench itself is ended."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from numabench import process, store
from numabench.errors import CannotRun, LostGuest
from numabench.lab import kernels
from numabench.lab.accel import Accel
from numabench.lab.guest import Guest
from numabench.lab.shapes import shape
from numabench.units import TIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.kernels import Kernel

pytestmark = pytest.mark.lab

DEADLINE_S = 120.0


def test_a_command_beyond_its_deadline_ends_the_guest(
    guest: Callable[..., Guest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    shared = tmp_path / "a b, 'c'"
    temporary.mkdir()
    shared.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    lost = guest("debian:bookworm", "2n", writable=(shared,))
    lost.run(["touch", "file"], cwd=shared).check("touch")
    assert (shared / "file").exists()
    with pytest.raises(LostGuest, match=r"was still running after 1 s: sleep 1000"):
        lost.run(["sleep", "1000"], timeout_s=1.0)
    assert not lost.alive
    assert list(temporary.iterdir()) == []


def test_a_guest_larger_than_this_machine_is_refused_before_it_starts(kernel_6_1: Kernel) -> None:
    with pytest.raises(CannotRun, match=r"topology 2n takes 200 TiB of memory and this machine has"):
        Guest.boot(kernel_6_1, shape("2n", memory_per_node_bytes=100 * TIB), Accel.TCG)


def test_a_panic_is_told_at_once_with_its_cause(guest: Callable[..., Guest]) -> None:
    doomed = guest("debian:bookworm", "2n")
    began = time.monotonic()
    with pytest.raises(LostGuest) as lost:
        doomed.run(["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000"], timeout_s=600)
    assert time.monotonic() - began < DEADLINE_S
    assert "sysrq-trigger" in str(lost.value)
    assert "Kernel panic - not syncing: sysrq triggered crash" in str(lost.value)
    with pytest.raises(LostGuest, match=r"was gone when it was to run true|ended while it ran true"):
        doomed.run(["true"])


def test_a_guest_that_vanishes_is_lost_at_once(guest_2n: Guest) -> None:
    def kill(stream: str, data: bytes) -> None:
        for pid in _processes_naming(str(guest_2n._directory / "exchange")):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(LostGuest, match=r"ended while it ran sh -c 'echo up; sleep 1000'; its console ended with"):
        guest_2n.run(["sh", "-c", "echo up; sleep 1000"], timeout_s=DEADLINE_S, on_output=kill)


@pytest.fixture
def garbage(kernel_6_1: Kernel, tmp_path: Path) -> Path:
    """An image with a real header, and noise where the kernel should be."""
    image = tmp_path / "bzImage"
    image.write_bytes(kernel_6_1.image.read_bytes()[:32768] + b"\xf4" * 1_000_000)
    return image


def test_a_kernel_that_does_not_boot_is_given_up_at_the_deadline(garbage: Path) -> None:
    with pytest.raises(LostGuest, match=r"did not come up within 4 s|ended before it was up") as lost:
        Guest.boot(kernels.find(str(garbage)), shape("2n"), Accel.TCG, boot_timeout_s=4.0)
    assert "6.1" in str(lost.value)
    assert "console" in str(lost.value)


def _processes_naming(text: str) -> list[int]:
    """Processes with `text` on their command line, as `pgrep -f` finds them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and text in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _await(what: str, done: Callable[[], bool], pids: list[int]) -> None:
    """Wait until these processes have ended, then until `done`."""
    deadline = time.monotonic() + DEADLINE_S
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([pidfd], [], [], deadline - time.monotonic())[0], f"{what}: {pid} still runs"
        finally:
            os.close(pidfd)
    assert done(), what


@pytest.mark.parametrize(
    ("number", "status", "last_words"),
    [(signal.SIGINT, 130, b"stopped\n"), (signal.SIGTERM, 143, b"stopped\n"), (signal.SIGKILL, -9, b"")],
)
def test_nothing_is_left_however_numabench_is_ended(
    kernel_6_1: Kernel, tmp_path: Path, number: signal.Signals, status: int, last_words: bytes
) -> None:
    words = "trap 'echo stopped; exit 3' TERM; echo up; sleep 1000 & wait"
    argv = [sys.executable, "-m", "numabench", "lab", "run", "--kernel", kernel_6_1.name, "--", "sh", "-c", words]
    reading, writing = os.pipe()
    with (tmp_path / "stderr").open("wb") as stderr:
        env = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
        (tmp_path / "tmp").mkdir()
        running = process.start(argv, stdout=writing, stderr=stderr.fileno(), env=env)
    os.close(writing)
    try:
        assert select.select([reading], [], [], DEADLINE_S)[0], (tmp_path / "stderr").read_text()
        assert os.read(reading, 100) == b"up\n", (tmp_path / "stderr").read_text()
        started = _processes_naming(str(tmp_path / "tmp"))
        assert any("qemu-system" in Path(f"/proc/{pid}/cmdline").read_text() for pid in started)
        os.kill(running.pid, number)
        assert running.wait(DEADLINE_S) == status
        heard = b""
        while data := os.read(reading, 100):
            heard += data
        assert heard == last_words
    finally:
        os.close(reading)
        running.kill()
    _await("something is left", lambda: list((tmp_path / "tmp").iterdir()) == [], started)
    assert _processes_naming(str(tmp_path / "tmp")) == []
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def _read_until(wanted: bytes, fd: int) -> bytes:
    """What comes through a pipe until it holds `wanted`."""
    heard = b""
    deadline = time.monotonic() + DEADLINE_S
    while wanted not in heard:
        assert select.select([fd], [], [], max(deadline - time.monotonic(), 0.0))[0], heard.decode()
        data = os.read(fd, 4096)
        assert data, heard.decode()
        heard += data
    return heard


def test_ctrl_c_ends_a_run_whose_trial_is_in_a_guest(kernel_6_1: Kernel, tmp_path: Path) -> None:
    words = ["--nodes", "2", "--size", "64M", "--duration", "300s", "--repeats", "1", "--kernel", kernel_6_1.name]
    results, temporary = tmp_path / "results", tmp_path / "tmp"
    temporary.mkdir()
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "numabench", "run", "numa02", *words, "--results", str(results)]
    running = process.start(argv, stderr=writing, env=os.environ | {"TMPDIR": str(temporary)})
    os.close(writing)
    try:
        said = _read_until(b"trial 1/1", reading)
        started = _processes_naming(str(temporary))
        assert any("qemu-system" in Path(f"/proc/{pid}/cmdline").read_text() for pid in started)
        # A terminal sends it to all of the foreground's processes.
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(DEADLINE_S) == 130
        while data := os.read(reading, 4096):
            said += data
    finally:
        os.close(reading)
        running.kill()
    _await("something is left", lambda: list(temporary.iterdir()) == [], started)
    assert _processes_naming(str(temporary)) == []
    assert b"Traceback" not in said
    (path,) = results.iterdir()
    run = store.load(path)
    assert run.ending.status in {"interrupted", "killed"}
    assert [entry.name for entry in path.glob("trials/*")] == [f"{trial.index:04d}" for trial in run.trials]


def test_perf_that_hangs_an_old_kernel_is_ended_at_its_deadline(lab_kernel: Callable[[str], Kernel]) -> None:
    if not process.find_program("perf"):
        pytest.skip("perf is not installed")
    lab_kernel("debian:bullseye")
    argv = [sys.executable, "-m", "numabench", "lab", "run", "--kernel", "5.10", "--timeout", "30s", "--"]
    perf = ["perf", "record", "-o", "/tmp/perf.data", "-e", "cpu-clock", "-a", "sleep", "1"]
    ended = process.run([*argv, *perf], timeout_s=DEADLINE_S)
    assert ended.exit_status == 1, ended.stderr
    assert "was still running after 30 s: perf record" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_qemu_that_crashes_while_booting_is_started_once_more(
    kernel_6_1: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = tmp_path / "crashed"
    wrapper = tmp_path / "bin" / "qemu-system-x86_64"
    wrapper.parent.mkdir()
    qemu = process.find_program("qemu-system-x86_64")
    crash = f'case "$*" in *-kernel*) [ -e {crashed} ] || {{ touch {crashed}; kill -SEGV $$; }} ;; esac'
    wrapper.write_text(f'#!/bin/sh\n{crash}\nexec {qemu} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=":")
    with Guest.boot(kernel_6_1, shape("1n"), Accel.TCG) as guest:
        assert guest.boots == 2
        assert guest.run(["sh", "-c", "exit 3"]).exit_status == 3
