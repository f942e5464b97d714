"""`numabench migration` of a run in a guest: its parts against the movers' clocks and the kernel's counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process, store

if TYPE_CHECKING:
    from numabench.lab.kernels import Kernel

pytestmark = pytest.mark.lab


def numabench(*words: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", *words], timeout_s=900)


@pytest.fixture(scope="module")
def results(kernel_6_1: Kernel, tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("results"))
    words = ("--driver", "mbind", "--nodes", "2", "--size", "16M", "--loops", "4", "--repeats", "1", "--victims", "1")
    observe = ("--observe", "cpu,sched,cost", "--kernel", kernel_6_1.name, "--results", made)
    numabench("run", "pingpong", *words, *observe).check("run")
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
    assert report["unjoined"] == []


def test_most_of_the_time_is_in_phases_of_the_migration(report: dict[str, Any]) -> None:
    share = {part["phase"]: 0.0 for part in report["parts"]}
    for part in report["parts"]:
        share[part["phase"]] += part["share"]
    assert {"isolate", "allocate", "unmap", "copy", "remap", "put back"} <= set(share)
    assert share.get("not placed", 0.0) < 0.15


def test_costs_are_those_that_the_kernel_counted(report: dict[str, Any]) -> None:
    per_2mb = {cost["name"]: cost["per_2mb"] for cost in report["costs"]["costs"]}
    assert per_2mb["rmap lock acquisitions"] == pytest.approx(1024, rel=0.05)
    assert per_2mb["page-table walks"] == pytest.approx(1024, rel=0.05)


def test_the_picture_is_drawn(results: str, tmp_path: Path) -> None:
    numabench("migration", "last", "--results", results, "--png", str(tmp_path)).check("migration")
    assert (tmp_path / "migration-time.png").stat().st_size > 10_000
