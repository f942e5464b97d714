"""`numabench run` on this machine's own first node: what it leaves, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from numabench import process, store
from numabench.host import processes
from numabench.host.root import LIVE

WORDS = ("run", "numa02", "--nodes", "1", "--native", "--no-tune", "--size", "32M", "--repeats", "1")
BALANCING = Path("/proc/sys/kernel/numa_balancing")


def start(results: Path, *words: str, stderr: int | None = None) -> process.Process:
    argv = [sys.executable, "-m", "numabench", *WORDS, "--results", str(results), *words]
    return process.start(argv, stderr=stderr)


def await_trial(running: process.Process) -> int:
    """The process id of the workload that a run has started, once it is there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for pid in processes.tree(LIVE, running.pid):
            try:
                program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
            except OSError:
                continue
            if Path(os.fsdecode(program)).name.startswith("numa02-"):
                return pid
        if running.wait(0.05) is not None:
            break
    raise AssertionError("no workload came up")


def gone(pid: int, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
                return True
        except OSError:
            return True
    return False


def test_a_run_leaves_a_whole_result(tmp_path: Path) -> None:
    ended = process.run(
        [sys.executable, "-m", "numabench", *WORDS, "--duration", "1s", "--results", str(tmp_path), "--json"],
        timeout_s=120,
    )
    report: dict[str, Any] = json.loads(ended.check("run").stdout)
    loaded = store.load(report["path"])
    assert loaded.complete
    assert [trial.status for trial in loaded.trials] == ["ok"]
    assert loaded.trials[0].check is not None
    assert loaded.trials[0].check.checked_bytes == 32 << 20
    assert loaded.plan["argv"][:3] == ["numabench", "run", "numa02"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_workload_and_closes_the_result(tmp_path: Path, number: int, status: int) -> None:
    running = start(tmp_path, "--duration", "60s")
    pid = await_trial(running)
    os.kill(running.pid, number)
    assert running.wait(30) == status
    assert gone(pid)
    (path,) = tmp_path.iterdir()
    run = store.load(path)
    assert run.ending.status == "interrupted"
    assert [entry.name for entry in path.glob("trials/*")] == [f"{trial.index:04d}" for trial in run.trials]


def test_after_sigkill_the_workload_ends_and_the_result_says_killed(tmp_path: Path) -> None:
    running = start(tmp_path, "--duration", "60s")
    pid = await_trial(running)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(30) == -signal.SIGKILL
    assert gone(pid)
    (path,) = tmp_path.iterdir()
    assert store.load(path).ending.status == "killed"


def test_a_reader_of_stderr_that_leaves_does_not_end_the_run(tmp_path: Path) -> None:
    read, write = os.pipe()
    running = start(tmp_path, "--duration", "1s", stderr=write)
    os.close(write)
    os.close(read)
    assert running.wait(60) == 0
    (path,) = tmp_path.iterdir()
    assert store.load(path).complete


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set the knob")
def test_the_knob_is_set_for_the_run_and_put_back(tmp_path: Path) -> None:
    if not BALANCING.exists():
        pytest.skip("this kernel has no automatic balancing")
    before = BALANCING.read_text()
    other = "0" if before.strip() != "0" else "1"
    words = [word for word in WORDS if word != "--no-tune"]
    argv = [sys.executable, "-m", "numabench", *words, "--duration", "1s", "--balancing", other]
    ended = process.run([*argv, "--results", str(tmp_path), "--json"], timeout_s=120)
    knob = json.loads(ended.check("run").stdout)["knobs"][0]
    assert (knob["before"], knob["wanted"], knob["outcome"]) == (before.strip(), other, "set")
    assert f"set kernel.numa_balancing: {before.strip()} -> {other}" in ended.stderr
    assert BALANCING.read_text() == before


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("numa03",), 2, "did you mean numa02?"),
        (("numa02", "extra"), 2, "'extra' is one word too many"),
        (("numa02", "--native", "--nodes", "7"), 77, "needs 7 memory nodes"),
        (("numa02", "--native", "--nodes", "0,9"), 77, "node 9 does not exist"),
        (("numa02", "--native", "--lab"), 2, "exclude each other"),
        (("numa02", "--size", "lots"), 2, "'lots' is not a size"),
        (("numa02", "--size", "-1"), 2, "is not a size"),
        (("numa02", "--duration", "0s"), 2, "out of range"),
        (("numa02", "--timeout", "1y"), 2, "is not a duration"),
        (("numa02", "--placement", "sideways"), 2, "there is no placement 'sideways'"),
        (("numa02", "--lab", "--start-node", "2"), 2, "--start-node 2 is not one of the run's nodes (0-1)"),
        (("numa02", "--native", "--nodes", "1", "--size", "1T"), 77, "do not fit"),
        (("numa02", "--native", "--nodes", "1", "--start-node", "3"), 2, "is not one of the run's nodes"),
        (("numa02", "--native", "--nodes", "1", "--mapping", "many"), 2, "mapping"),
        (("numa02", "--scan-size", "huge"), 2, "Invalid value for '--scan-size'"),
        (("--native", "--nodes", "1", "--", "no-such-program"), 77, "no-such-program was not found"),
        (("--native", "--nodes", "1", "--threads", "2", "--", "true"), 2, "--threads is for numabench's own"),
    ],
)
def test_what_cannot_run_says_why_in_one_line(tmp_path: Path, words: tuple[str, ...], status: int, told: str) -> None:
    ended = process.run([sys.executable, "-m", "numabench", "run", "--results", str(tmp_path / "r"), *words])
    assert ended.exit_status == status, ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_results_path_that_cannot_be_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = process.run([sys.executable, "-m", "numabench", *WORDS, "--results", str(tmp_path / "file")])
    assert ended.exit_status == 1
    assert f"cannot write results to {tmp_path}/file" in ended.stderr


def test_without_a_compiler_the_packages_are_named(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CC": ""}
    argv = [sys.executable, "-m", "numabench", *WORDS, "--results", str(tmp_path / "r")]
    ended = process.run(argv, env=env)
    assert ended.exit_status == 77
    assert "gcc" in ended.stderr
    assert "libnuma-dev" in ended.stderr


def test_a_program_of_the_users_own_runs_here_too(tmp_path: Path) -> None:
    words = [word for word in WORDS if word not in {"numa02", "--size", "32M"}]
    argv = [sys.executable, "-m", "numabench", *words, "--results", str(tmp_path), "--json", "--", "sleep", "1"]
    report: dict[str, Any] = json.loads(process.run(argv, timeout_s=60).check("run").stdout)
    assert report["plan"]["command"] == ["sleep", "1"]
    assert report["trials"][0]["status"] == "ok"


def test_a_program_of_the_users_own_that_fails_is_a_failed_trial(tmp_path: Path) -> None:
    words = [word for word in WORDS if word not in {"numa02", "--size", "32M"}]
    argv = [sys.executable, "-m", "numabench", *words, "--results", str(tmp_path), "--", "false"]
    ended = process.run(argv, timeout_s=60)
    assert ended.exit_status == 1
    assert "false exited with 1" in ended.stderr + ended.stdout
