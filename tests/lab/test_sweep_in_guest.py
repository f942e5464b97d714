"""`numabench sweep` in a guest: all pairs; all units in one, and what a killed one left is gone on with in another."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from numabench import process, store
from numabench.workload import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.guest import Guest
    from numabench.lab.kernels import Kernel

pytestmark = pytest.mark.lab
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONPATH": str(Path(__file__).parents[2])}


def whole(path: Path) -> dict[str, int]:
    """The units whose trial is whole, each with its file's inode."""
    return {
        trial.parent.parent.parent.name: trial.stat().st_ino for trial in path.glob("units/0*/trials/0001/trial.json")
    }


def test_a_sweep_whose_guest_was_killed_goes_on_in_another(kernel_6_1: Kernel, tmp_path: Path) -> None:
    words = ["--batch", "1,2", "--pages", "4k,thp", "--victims", "1", "--size", "8M", "--loops", "2", "--verify"]
    options = ["--nodes", "2", "--kernel", kernel_6_1.name, "--repeats", "1", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "numabench", "sweep"]
    running = process.start([*command, "pingpong", *words, *options])
    deadline = time.monotonic() + 120
    while not any(whole(path) for path in tmp_path.glob("*-sweep-*")):
        assert running.wait(0.1) is None, "the sweep ended before it was killed"
        assert time.monotonic() < deadline, "no unit is whole after two minutes"
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(30) == -signal.SIGKILL
    (path,) = tmp_path.glob("*-sweep-*")
    before = whole(path)

    ended = process.run([*command, "--resume", "last", "--results", str(tmp_path), "--json"], timeout_s=300)
    report = json.loads(ended.check("resume").stdout)
    after = whole(path)
    assert before.items() <= after.items(), "a whole trial was written again"
    assert sorted(after) == [unit["name"] for unit in report["units"]]
    assert (len(after), report["complete"], report["is_guest"]) == (4, True, True)
    for unit in store.load_sweep(path).units:
        assert unit.trial is not None
        assert unit.run is not None
        assert (unit.trial.status, unit.run.machine.where) == ("ok", "guest")
        values = dict(zip(("batch", "pages"), store.read_plan(path).cells[unit.cell].values, strict=True))
        assert unit.trial.unit_bytes == {"4k": 4096, "thp": 2 << 20}[values["pages"]]
        # Each mover came by twice, and what it confirmed the kernel counted, too.
        moved = sum(mover.confirmed for mover in unit.trial.movers)
        assert moved == pytest.approx(2 * (8 << 20) / unit.trial.unit_bytes, rel=0.05)


def test_all_pairs_of_four_nodes_are_moved_between(shared_guest: Callable[[str, str], Guest], guest_dir: Path) -> None:
    build.build("pingpong")
    options = ["--pairs", "all", "--nodes", "4", "--size", "1M", "--loops", "1", "--repeats", "1"]
    argv = [sys.executable, "-m", "numabench", "sweep", "pingpong", *options, "--native", "--inside"]
    guest = shared_guest("debian:bookworm", "4n")
    guest.run([*argv, "--results", str(guest_dir / "pairs")], env=ENVIRONMENT, timeout_s=400).check("sweep")
    (path,) = (guest_dir / "pairs").glob("*-sweep-*")
    sweep = store.load_sweep(path)
    moved = {}
    for unit in sweep.units:
        assert unit.trial is not None
        assert unit.trial.status == "ok", unit.trial.message
        assert unit.trial.pages is not None
        (mover,) = unit.trial.movers
        (way,) = mover.directions
        assert mover.confirmed == 256
        moved[sweep.cells[unit.cell].values] = (way.source, way.target, unit.trial.pages.before, unit.trial.pages.after)
    pairs = itertools.combinations(range(4), 2)
    assert moved == {(f"{a}>{b}",): (a, b, {a: 256}, {b: 256}) for a, b in pairs}
