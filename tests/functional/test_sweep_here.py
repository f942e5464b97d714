"""`numabench sweep` on this machine's own first node: killed, resumed, refused."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from numabench import process, store
from numabench.host import cpuset, processes
from numabench.host.knob_journal import Journal, locked
from numabench.host.root import LIVE

BALANCING = Path("/proc/sys/kernel/numa_balancing")
WORDS = ("--nodes", "1", "--native", "--no-tune", "--size", "8M", "--interval", "100ms")
# 3 x 2 cells in two repeats, of calls that move nothing: that may run on one node.
NULL = ("pingpong", "--driver", "null", *WORDS, "--duration", "200ms", "--victims", "1")
SWEEP = ("sweep", *NULL, "--batch", "1,8,64", "--threads", "1,2", "--repeats", "2")
UNITS = 12


def numabench(*words: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", *words], timeout_s=120)


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where these sweeps keep their journal: another numabench on this machine has nothing to do with them."""
    home = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("NUMABENCH_STATE_DIR", str(home))
    return home


def trials(path: Path) -> dict[str, int]:
    """The units whose trial is whole, each with its file's inode: a trial that is written again has another."""
    return {
        trial.parent.parent.parent.name: trial.stat().st_ino
        for trial in path.glob("units/[0-9]*/trials/0001/trial.json")
    }


def await_units(results: Path, running: process.Process, count: int) -> Path:
    """The sweep's directory, once so many of its units are whole."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [path for path in results.glob("[0-9]*-sweep-*") if len(trials(path)) >= count]
        if found:
            return found[0]
        assert running.wait(0.02) is None, "the sweep ended"
    raise AssertionError(f"there are no {count} units after a minute")


def kill(running: process.Process) -> None:
    """End a sweep as the out-of-memory killer does, and wait for what it leaves to be gone."""
    children = processes.tree(LIVE, running.pid)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(30) == -signal.SIGKILL
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}/maps").exists() and _lives(pid) for pid in children):
        running.wait(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_sweep_killed_twice_completes_with_no_unit_lost_or_run_twice(tmp_path: Path) -> None:
    chosen = random.Random()  # noqa: S311  moments to kill at
    running = process.start([sys.executable, "-m", "numabench", *SWEEP, "--results", str(tmp_path)])
    path = await_units(tmp_path, running, chosen.randrange(1, 4))
    running.wait(chosen.uniform(0, 0.4))
    kill(running)
    first = trials(path)
    plan = (path / "sweep.json").read_bytes()

    running = process.start(
        [sys.executable, "-m", "numabench", "sweep", "--resume", "last", "--results", str(tmp_path)]
    )
    await_units(tmp_path, running, len(first) + chosen.randrange(1, 4))
    running.wait(chosen.uniform(0, 0.4))
    kill(running)
    second = trials(path)
    assert first.items() <= second.items(), "a whole trial was written again"
    assert len(first) < len(second) < UNITS

    ended = numabench("sweep", "--resume", path.name, "--results", str(tmp_path), "--json")
    report = json.loads(ended.check("resume").stdout)
    third = trials(path)
    assert second.items() <= third.items(), "a whole trial was written again"
    assert sorted(third) == [unit["name"] for unit in report["units"]]
    assert (path / "sweep.json").read_bytes() == plan
    assert report["complete"]
    assert [len(cell["units"]) for cell in report["cells"]] == [2] * 6
    for name in third:
        run = store.load(path / "units" / name)
        assert [trial.status for trial in run.trials] == ["ok"]


@pytest.mark.skipif(not os.access(BALANCING, os.W_OK), reason=f"{BALANCING} cannot be written here")
@pytest.mark.parametrize("is_last", [True, False])
def test_a_killed_units_knobs_are_put_back_also_where_no_unit_is_left_to_run(tmp_path: Path, *, is_last: bool) -> None:
    """The unit is killed when its trial is whole; then all are, or the other one has been cut off too often."""
    words = ("sweep", "numa02", *WORDS, "--threads", "1,2", "--duration", "100ms", "--repeats", "1")
    numabench(*words, "--results", str(tmp_path)).check("sweep")
    (path,) = tmp_path.glob("[0-9]*-sweep-*")
    before = BALANCING.read_text()
    code = (
        "import os, signal\n"
        "from numabench.host import knobs\n"
        f"with knobs.apply({{'numa_balancing': '{1 - min(int(before), 1)}'}}):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = process.run([sys.executable, "-c", code])
    assert killed.exit_status == -signal.SIGKILL
    assert BALANCING.read_text() != before
    if not is_last:
        unit = store.read_plan(path).units[1].name
        for place in range(1, 4):
            (path / "units" / f".aside-{place}-{unit}").mkdir()
        (path / "units" / unit).rename(tmp_path / "away")
    ended = numabench("sweep", "--resume", path.name, "--results", str(tmp_path))
    try:
        assert BALANCING.read_text() == before
        assert "restored kernel.numa_balancing" in ended.stderr
        assert store.read_plan(path).is_complete
    finally:
        BALANCING.write_text(before)


@pytest.mark.skipif(bool(cpuset.requirements()), reason="; ".join(cpuset.requirements()))
def test_a_killed_units_cpuset_is_taken_away_also_where_no_unit_is_left_to_run(tmp_path: Path) -> None:
    words = ("sweep", "numa02", *WORDS, "--threads", "1,2", "--duration", "100ms", "--repeats", "1")
    numabench(*words, "--results", str(tmp_path)).check("sweep")
    code = (
        "import os, signal\n"
        "from numabench.host import cpuset\n"
        f"with cpuset.confined((0,), {tuple(os.sched_getaffinity(0))}) as held:\n"
        "    print(held.directory, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    left = Path(process.run([sys.executable, "-c", code]).stdout.strip())
    assert left.is_dir()
    numabench("sweep", "--resume", "last", "--results", str(tmp_path)).check("resume")
    assert not left.exists()


def test_the_report_of_a_sweep_does_not_wait_for_another_run(tmp_path: Path, state: Path) -> None:
    """Resuming what is complete shows it, also while a run that lives has knobs set."""
    words = ("sweep", "numa02", *WORDS, "--threads", "1,2", "--duration", "100ms", "--repeats", "1")
    numabench(*words, "--results", str(tmp_path)).check("sweep")
    with locked(state):
        Journal(state).append({"boot_id": ""})
        ended = numabench("sweep", "--resume", "last", "--results", str(tmp_path))
    assert ended.exit_status == 0, ended.stderr


def test_what_each_unit_ran_is_what_its_cell_says(tmp_path: Path) -> None:
    words = ("sweep", "numa02", *WORDS, "--threads", "1,2", "--duration", "100ms", "--repeats", "2", "--seed", "5")
    report = json.loads(numabench(*words, "--results", str(tmp_path), "--json").check("sweep").stdout)
    sweep = store.load_sweep(Path(report["path"]))
    assert sorted((unit.cell, unit.repeat) for unit in sweep.units) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    for unit in sweep.units:
        assert unit.run is not None
        assert unit.run.planned.threads == int(sweep.cells[unit.cell].values[0])
        assert unit.run.planned.seed == 5 + unit.repeat
    lines = numabench("report", "last", "--results", str(tmp_path), "--csv", "-").check("report").stdout.splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        [str(n), str(u.repeat), "ok"] for n, u in enumerate(sweep.units, 1)
    ]
    both = numabench("report", "last", "--results", str(tmp_path), "--csv", "-", "--json")
    assert (both.exit_status, both.stdout) == (2, "")
    assert "--json and --csv - both write to stdout (write the lines to a file: --csv FILE)" in both.stderr
    lines_file, words = tmp_path / "units.csv", ("report", "last", "--results", str(tmp_path), "--json")
    shown = numabench(*words, "--csv", str(lines_file)).check("report").stdout
    assert json.loads(shown)["units"]
    assert lines_file.read_text().splitlines() == lines
    listed = numabench("list", "--results", str(tmp_path)).check("list").stdout
    assert f"{sweep.sweep_id}" in listed
    assert "complete     4/4 units" in listed


def test_a_cell_that_cannot_run_is_recorded_and_the_others_run(tmp_path: Path) -> None:
    words = ("sweep", "numa02", *WORDS[:-4], "--interval", "100ms", "--size", "8M,1T", "--duration", "100ms")
    ended = numabench(*words, "--repeats", "1", "--results", str(tmp_path))
    assert ended.exit_status == 0, ended.stderr
    assert re.search(r"1T +cannot run \[\d\]", ended.stdout)
    assert "1 x 1 TiB do not fit" in ended.stdout
    (path,) = tmp_path.glob("[0-9]*-sweep-*")
    assert len(trials(path)) == 1
    before = sorted(path.rglob("*"))
    assert numabench("sweep", "--resume", "last", "--results", str(tmp_path)).exit_status == 0
    assert sorted(path.rglob("*")) == before, "an outcome is not asked for twice"


def test_a_sweep_that_is_being_run_is_not_run_by_another(tmp_path: Path) -> None:
    words = ("sweep", "numa02", *WORDS, "--threads", "1,2", "--duration", "60s", "--results", str(tmp_path))
    running = process.start([sys.executable, "-m", "numabench", *words])
    path = await_units(tmp_path, running, 0)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(path.glob("units/*")):
        running.wait(0.05)
    try:
        ended = numabench("sweep", "--resume", path.name, "--results", str(tmp_path))
        assert ended.exit_status == 4, ended.stderr
        assert "is being run by another process" in ended.stderr
        assert "running" in numabench("list", "--results", str(tmp_path)).stdout
    finally:
        os.kill(running.pid, signal.SIGINT)
    assert running.wait(30) == 130
    assert [unit.status for unit in store.read_plan(path).units] == ["pending"] * 6


def test_a_sweep_is_not_gone_on_with_on_another_kernel(tmp_path: Path) -> None:
    words = ("sweep", "numa02", *WORDS, "--threads", "1,2", "--duration", "100ms", "--repeats", "1")
    numabench(*words, "--results", str(tmp_path)).check("sweep")
    (path,) = tmp_path.glob("[0-9]*-sweep-*")
    first, second = store.read_plan(path).units
    file = path / "units" / first.name / "run.json"
    record = json.loads(file.read_text())
    record["identity"]["kernel"]["release"] = "2.6.32"
    file.write_text(json.dumps(record))
    (path / "units" / second.name).rename(tmp_path / "away")
    ended = numabench("sweep", "--resume", "last", "--results", str(tmp_path))
    assert ended.exit_status == 4, ended.stderr
    assert "kernel was '2.6.32" in ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("numa02", "--threads", "1,x"), "threads x: --threads cannot be 'x': "),
        (("pingpong", "--batch", "1,abc"), "batch abc: --batch cannot be 'abc': "),
        (("pingpong", "--retries", "0,2000"), "retries 2000: --retries cannot be '2000': "),
        (("pingpong", "--batch", "1,8", "--retries", "x"), "--retries cannot be 'x': "),
        (("pingpong", "--batch", "abc"), "numabench: --batch cannot be 'abc': "),
        (("pingpong", "--batch", "1,8", "--loops", "1,2"), "--loops may not have a list (give it one value"),
        (("pingpong", "--batch", "1,8", "--placement", "hard,default"), "--placement may not have a list"),
        (("pingpong", "--threads", "1,2", "--batch"), "--batch has no value (write --batch VALUE)"),
        (("pingpong", "--batch", "--threads", "1,2"), "--batch has no value"),
        (("pingpong", "--threads", "1,2", "--batch="), "--batch has no value"),
        (("pingpong", "--threads", "1,2", "--verify=1"), "--verify takes no value (write --verify)"),
        (("numa02", "--threads", "1,1"), "--threads has 1 twice"),
        (("numa02", "--size", "1M", "--size", "1M,2M"), "--size is there twice"),
        (("numa02", "--nodes=1", "--nodes", "2"), "--nodes is there twice"),
        (("numa02", "--threads", "1,01"), "--threads has 1 and 01, which are the same"),
        (("numa02", "--threads", "1,,2"), "a value of --threads is empty"),
        (("numa02", "--size", "8M,lots"), "size lots: 'lots' is not a size"),
        (("pingpong", "--batch", "1,0"), "--batch 0 is out of range"),
        (("pingpong", "--batch", "1,8", "--nosuch", "3"), "there is no option --nosuch ("),
        (("pingpong", "--batches", "1,8"), "there is no option --batches (did you mean --batch?"),
        (
            ("pingpong", "--driver", "move_pages,migrate_pages", "--batch", "1,8"),
            "driver migrate_pages, batch 1: driver",
        ),
        (("numa2", "--threads", "1,2"), "did you mean numa02"),
        (("numa02", "--warmup", "1"), "--warmup is not of a sweep"),
        (("numa02", "--pairs", "0-1"), "'0-1' is no pair of nodes"),
        (("--threads", "1,2"), "a sweep needs a workload"),
        (("numa02", "memset"), "'memset' is one word too many"),
        (("numa02", "--threads", "1,2", "--json", "--csv", "-"), "--json and --csv - both write to stdout"),
        (("--resume", "last", "--batch", "1,2"), "--resume takes everything from the sweep"),
    ],
)
def test_what_cannot_be_meant_in_any_cell_is_told_before_anything_runs(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    ended = numabench("sweep", *words, "--results", str(tmp_path))
    assert ended.exit_status == 2, ended.stderr
    assert told in ended.stderr
    # One line: what, and behind it what next.
    assert re.fullmatch(r"numabench: .+ \(.+\)\n", ended.stderr)
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


ONE_NODE = ("--nodes", "1", "--native", "--driver", "null")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*ONE_NODE, "--size", "64K", "--threads", "64,1"), "threads 64: --size 65536 leaves less than a page"),
        ((*ONE_NODE, "--start-node", "0,5"), "start-node 5: --start-node 5 is not one of the run's nodes (0)"),
        (("--lab", "--size", "64K", "--threads", "64,1"), "threads 64: --size 65536 leaves less than a page"),
        (("--lab", "--size", "1M", "--start-node", "0,2"), "start-node 2 is not one of the run's nodes (0-1)"),
        (("--lab", "--nodes", "9", "--batch", "1,8"), "no guest has 9 nodes"),
        ((*ONE_NODE, "--pages", "4k,thp", "--size", "1M"), "pages thp: --size 1048576 leaves less than a page"),
    ],
)
def test_a_cell_that_no_plan_can_be_made_for_refuses_the_sweep(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    ended = numabench("sweep", "pingpong", *words, "--results", str(tmp_path))
    assert ended.exit_status == 2, ended.stderr
    assert told in ended.stderr
    assert re.fullmatch(r"numabench: .+ \(.+\)\n", ended.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_unit_that_cannot_be_meant_any_more_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """What can be meant may depend on the machine's free memory, and on what a sweep's file was made with."""
    words = ("sweep", "numa02", *WORDS, "--threads", "1,2", "--duration", "100ms", "--repeats", "1")
    numabench(*words, "--results", str(tmp_path)).check("sweep")
    (path,) = tmp_path.glob("[0-9]*-sweep-*")
    record = json.loads((path / "sweep.json").read_text())
    record["cells"][record["units"][0]["cell"]]["argv"] += ["--start-node", "5"]
    (path / "sweep.json").write_text(json.dumps(record))
    for unit in record["units"]:
        (path / "units" / unit["name"]).rename(tmp_path / unit["name"])
    ended = numabench("sweep", "--resume", path.name, "--results", str(tmp_path))
    assert ended.exit_status == 0, ended.stderr
    assert "--start-node 5 is not one of the run's nodes (0)" in ended.stdout
    assert [unit.status for unit in store.read_plan(path).units] == ["cannot-run", "done"]


@pytest.mark.parametrize("pairs", [(), ("--pairs", "0>1")])
def test_too_many_units_are_told_at_once(tmp_path: Path, pairs: tuple[str, ...]) -> None:
    """A cell takes milliseconds to check: of a million that would be hours, of their product the memory."""
    many = ",".join(map(str, range(1, 1001)))
    began = time.monotonic()
    ended = numabench(
        *("sweep", "pingpong", "--batch", many, "--retries", many, "--threads", many, *pairs),
        *("--results", str(tmp_path)),
    )
    assert ended.exit_status == 2, ended.stderr
    assert "1,000,000,000 cells in 3 repeats are more than 100,000 units" in ended.stderr
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_left_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "sweep.lock").touch()
    with store.alone(tmp_path), (tmp_path / "sweep.lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
