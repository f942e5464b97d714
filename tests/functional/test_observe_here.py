"""Passes on this machine's own first node: what they record, held against perf, and how they end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process, store
from numabench.errors import ObserveError
from numabench.host import processes
from numabench.host.root import LIVE
from numabench.observe.capture import Perf

if TYPE_CHECKING:
    from numabench.record import Run

WORDS = ("run", "memset", "--nodes", "1", "--native", "--no-tune", "--size", "32M", "--repeats", "1")


def numabench(*words: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", *words], timeout_s=240)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Run]:
    results = str(tmp_path_factory.mktemp("observed"))
    ended = numabench(*WORDS, "--duration", "1s", "--results", results, "--json", "--observe", "cpu,lock,sched,stat")
    report = json.loads(ended.check("run").stdout)
    return report, store.load(report["path"])


def recording(run: Run, recipe: str) -> Path:
    (found,) = [trial.observed for trial in run.trials if trial.observed and trial.observed.recipe == recipe]
    assert found.file is not None
    return found.file


def test_measured_trials_come_first_and_have_nothing_attached(observed: tuple[dict[str, Any], Run]) -> None:
    _, run = observed
    roles = [trial.role for trial in run.trials]
    assert roles[0] == "measure"
    assert run.trials[0].observed is None
    assert sorted(roles[1:])[:3] == ["observe:cpu", "observe:lock", "observe:sched"]
    assert run.complete


def test_what_was_recorded_lies_between_the_moments_that_enclose_the_work(
    observed: tuple[dict[str, Any], Run],
) -> None:
    _, run = observed
    for trial in run.trials[1:]:
        kept = trial.observed
        assert kept is not None
        assert kept.file is not None
        assert kept.enabled_ns < trial.clock.go_ns < trial.clock.stop_ns < kept.disabled_ns  # type: ignore[operator]
        told = process.run(["perf", "script", "-i", str(kept.file), "-F", "time", "--ns"]).check("perf script").stdout
        times_s = [float(line.strip().rstrip(":")) for line in told.splitlines() if line.strip()]
        if not times_s:
            # A quiet machine may have no lock contended in a second.
            assert kept.recipe == "lock"
            continue
        assert kept.enabled_ns / 1e9 <= min(times_s)  # type: ignore[operator]
        assert max(times_s) <= kept.disabled_ns / 1e9  # type: ignore[operator]


def test_the_reports_samples_are_those_that_perf_counts(observed: tuple[dict[str, Any], Run]) -> None:
    report, run = observed
    for entry in report["observed"]:
        trial = run.trials[entry["index"] - 1]
        words = ["perf", "script", "-i", str(recording(run, entry["recipe"])), "-F", "pid"]
        pids = process.run(words).check("perf script").stdout.split()
        assert entry["quality"]["samples"] == len(pids)
        own = {str(thread.pid) for thread in trial.threads}
        assert entry["own_samples"] == sum(pid in own for pid in pids)


def test_the_kernels_frames_have_names_from_the_symbols_stored_with_the_run(
    observed: tuple[dict[str, Any], Run],
) -> None:
    report, run = observed
    for entry in report["observed"]:
        assert (entry["quality"]["unsymbolised_share"] or 0) < 0.01
    assert list(run.path.glob("kallsyms-*.zst"))
    assert list(run.path.glob("modules-*.zst")) or not Path("/proc/modules").exists()


def test_off_cpu_times_of_the_workload_are_those_of_perf_sched_timehist(observed: tuple[dict[str, Any], Run]) -> None:
    report, run = observed
    (entry,) = [entry for entry in report["observed"] if entry["recipe"] == "sched"]
    trial = run.trials[entry["index"] - 1]
    told = process.run(["perf", "script", "-i", str(recording(run, "sched")), "-F", "tid,time,trace", "--ns", "-G"])
    tids = {thread.tid for thread in trial.threads} | {thread.pid for thread in trial.threads}
    left: dict[int, int] = {}
    total_ns = 0
    for line in told.check("perf script").stdout.splitlines():
        fields = dict(word.split("=") for word in line.replace(" ==> ", " ").split() if word.count("=") == 1)
        if "next_pid" not in fields:
            continue
        whole, _, part = line.split()[1].rstrip(":").partition(".")
        time_ns = int(whole) * 10**9 + int(part)
        out, into = int(fields["prev_pid"]), int(fields["next_pid"])
        if into in left:
            total_ns += time_ns - left.pop(into)
        if out in tids:
            left[out] = time_ns
    off = entry["off_cpu"]
    assert off["voluntary"]["total_ns"] + off["preempted"]["total_ns"] == total_ns


def test_a_run_is_a_recording_to_callgraph_and_to_locks(observed: tuple[dict[str, Any], Run]) -> None:
    _, run = observed
    tree = numabench("callgraph", str(run.path)).check("callgraph")
    assert "memset" in tree.stdout
    assert "--observed" in tree.stderr
    switches = numabench("callgraph", str(run.path), "--observed", "sched", "--style", "fractal").check("callgraph")
    assert "__schedule" in switches.stdout
    waits = numabench("locks", str(run.path)).check("locks").stdout
    assert "): not recorded" not in waits
    for words in (("callgraph", str(run.path), "--observed", "stat"), ("callgraph", str(run.path), "--trial", "1")):
        refused = numabench(*words)
        assert refused.exit_status == 1
        assert "holds no such recording" in refused.stderr


def test_a_machine_without_what_was_asked_says_so_in_the_run(observed: tuple[dict[str, Any], Run]) -> None:
    _, run = observed
    if any(trial.role == "observe:stat" for trial in run.trials):
        return
    assert [note.code for note in run.notes if note.code != "scaled"] == ["not-observed"]


def test_perf_ends_when_numabench_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from numabench.observe.capture import Perf\n"
        "perf = Perf(['perf', 'record', '-a', '-e', 'cpu-clock', '-F', '99'], Path(sys.argv[1]))\n"
        "perf.attach(); perf.enable(); print(perf._process.pid, flush=True); time.sleep(60)\n"
    )
    reading, writing = os.pipe()
    running = process.start([sys.executable, "-c", code, str(tmp_path / "cpu.data")], stdout=writing)
    os.close(writing)
    with os.fdopen(reading) as told:
        pid = int(told.readline())
    os.kill(running.pid, signal.SIGKILL)
    running.wait(10)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_ctrl_c_during_a_pass_ends_perf_and_leaves_whole_trials(tmp_path: Path) -> None:
    words = [*WORDS, "--duration", "3s", "--results", str(tmp_path), "--observe", "cpu"]
    running = process.start([sys.executable, "-m", "numabench", *words])
    deadline = time.monotonic() + 60
    perf = 0
    while not perf and time.monotonic() < deadline:
        recording = list(tmp_path.glob("*/trials/.tmp-0002-recordings/cpu.data"))
        found = [pid for pid in processes.tree(LIVE, running.pid) if comm(pid) == "perf"]
        perf = found[0] if recording and found else 0
    assert perf
    os.kill(running.pid, signal.SIGINT)
    assert running.wait(60) == 130
    assert not Path(f"/proc/{perf}").exists()
    (path,) = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    run = store.load(path)
    assert run.ending.status == "interrupted"
    assert [entry.name for entry in (path / "trials").iterdir()] == [f"{trial.index:04}" for trial in run.trials]


def comm(pid: int) -> str:
    return (LIVE.read_or_none(f"/proc/{pid}/comm") or "").strip()


def test_a_perf_that_cannot_start_says_why_in_perfs_words(tmp_path: Path) -> None:
    perf = Perf(["perf", "record", "-a", "-e", "nosuch:event"], tmp_path / "cpu.data")
    with pytest.raises(ObserveError, match="unknown tracepoint"):
        perf.attach()
    perf.close()


def test_a_failed_pass_is_a_failed_trial_and_the_run_goes_on(tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "perf"
    fake.parent.mkdir()
    real = process.require_program("perf")
    fake.write_text(
        f'#!/bin/sh\ncase "$1 $2" in "record -h"|version*) exec {real} "$@";; esac\n'
        "echo 'the disk is full' >&2\nexit 3\n"
    )
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    words = [*WORDS, "--duration", "300ms", "--results", str(tmp_path / "results"), "--observe", "cpu", "--json"]
    ended = process.run([sys.executable, "-m", "numabench", *words], env=env, timeout_s=120)
    assert ended.exit_status == 1
    report = json.loads(ended.stdout)
    run = store.load(report["path"])
    assert [trial.status for trial in run.trials] == ["ok", "observe-failed"]
    assert "the disk is full" in run.trials[1].message
    assert run.complete
    assert not [entry for entry in (run.path / "trials").iterdir() if entry.name.startswith(".tmp")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--observe", "cpus"], "there is nothing to observe named 'cpus'"),
        (["--observe", ","], "--observe names nothing"),
        (["--frequency", "99"], "pass --observe"),
        (["--observe-repeats", "2"], "pass --observe"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], told: str) -> None:
    ended = numabench(*WORDS, *words)
    assert ended.exit_status == 2
    assert told in ended.stderr


def test_without_perf_it_is_refused_before_anything_runs(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": str(tmp_path)}
    words = [*WORDS, "--results", str(tmp_path / "results"), "--observe", "cpu"]
    ended = process.run([sys.executable, "-m", "numabench", *words], env=env)
    if "perf is not installed" not in ended.stderr:
        pytest.skip("perf is in the system's sbin")
    assert ended.exit_status == 77
    assert "apt install linux-perf" in ended.stderr
    assert not (tmp_path / "results").exists()
