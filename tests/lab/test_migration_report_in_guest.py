"""`numabench migration` of a run in a guest: its parts against the movers' clocks and the kernel's counts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONPATH": str(Path(__file__).parents[2])}


def numabench(*words: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", *words], timeout_s=900)


@pytest.fixture(scope="module")
def results(shared_guest: Callable[[str, str], Guest], guest_dir: Path) -> str:
    made = str(guest_dir / "migration")
    words = ["--driver", "mbind", "--nodes", "2", "--size", "16M", "--loops", "4", "--repeats", "1", "--native"]
    argv = [sys.executable, "-m", "numabench", "run", "pingpong", *words, "--observe", "cpu,sched", "--results", made]
    shared_guest("debian:bookworm", "2n").run(argv, env=ENVIRONMENT, timeout_s=500).check("run")
    return made


@pytest.fixture(scope="module")
def report(results: str) -> dict[str, Any]:
    (run,) = json.loads(numabench("migration", "last", "--results", results, "--json").check("migration").stdout)[
        "runs"
    ]
    return dict(run)


def test_the_parts_add_up_to_the_movers_clocks(results: str, report: dict[str, Any]) -> None:
    (measured,) = [trial for trial in store.load(store.find(Path(results), "last")).trials if trial.counts]
    elapsed_s = sum(mover.elapsed_ns for mover in measured.movers) / 1e9
    assert sum(part["seconds"] for part in report["parts"]) == pytest.approx(elapsed_s)
    (missing,) = report["unjoined"]
    assert missing.startswith("no cost pass")


def test_most_of_the_time_is_in_phases_of_the_migration(report: dict[str, Any]) -> None:
    share = {part["phase"]: 0.0 for part in report["parts"]}
    for part in report["parts"]:
        share[part["phase"]] += part["share"]
    # Short ones may have no sample.
    assert {"allocate", "unmap", "copy", "remap"} <= set(share)
    assert share.get("not placed", 0.0) < 0.15


def test_the_picture_is_drawn(results: str, tmp_path: Path) -> None:
    numabench("migration", "last", "--results", results, "--png", str(tmp_path)).check("migration")
    assert (tmp_path / "migration-time.png").stat().st_size > 10_000
