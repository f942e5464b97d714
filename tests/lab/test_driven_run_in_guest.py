"""`numabench run pingpong` in a guest: what movers say, the page maps and the kernel's counters agree."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import store

if TYPE_CHECKING:
    from numabench.lab.guest import Guest
    from numabench.record import Trial

pytestmark = pytest.mark.lab
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONPATH": str(Path(__file__).parents[2])}
SIZE_PAGES = 8 << 20 >> 12


def driven(guest: Guest, results: Path, *words: str) -> tuple[dict[str, Any], Trial]:
    """A run of one trial in the shared guest: its report and its trial."""
    argv = ["run", "pingpong", "--nodes", "2", "--native", "--size", "8M", "--repeats", "1"]
    ended = guest.run(
        [sys.executable, "-m", "numabench", *argv, "--results", str(results), "--json", *words],
        env=ENVIRONMENT,
        timeout_s=400,
    )
    assert ended.stdout, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    (trial,) = store.load(report["path"]).trials
    return report, trial


def risen(trial: Trial, counter: str) -> int:
    assert trial.before is not None
    assert trial.after is not None
    return trial.after.vmstat[counter] - trial.before.vmstat[counter]


def test_a_round_trip_is_confirmed_page_by_page_and_counted_by_the_kernel(guest_2n: Guest, guest_dir: Path) -> None:
    report, trial = driven(guest_2n, guest_dir / "driven", "--loops", "2", "--victims", "1", "--verify")
    assert trial.status == "ok", trial.message
    counts = report["trials"][0]["counts"]
    assert (counts["requested"], counts["net"]) == (2 * SIZE_PAGES, 0)
    assert counts["confirmed"] == pytest.approx(2 * SIZE_PAGES, rel=0.01)
    assert risen(trial, "pgmigrate_success") == pytest.approx(counts["confirmed"], rel=0.05)
    assert risen(trial, "numa_pages_migrated") == 0
    assert [(victim.wrong, victim.checked > 0) for victim in trial.victims] == [(0, True)]
    assert trial.check is not None
    assert trial.check.wrong_bytes == 0
    assert report["knobs"][0]["wanted"] == "0"
    assert report["verdict"]["valid"], report["verdict"]


def test_a_cpuset_moves_the_whole_process_and_is_gone_afterwards(guest_2n: Guest, guest_dir: Path) -> None:
    report, trial = driven(guest_2n, guest_dir / "driven", "--driver", "cpuset", "--loops", "3")
    assert trial.status == "ok", trial.message
    assert trial.pages is not None
    assert trial.pages.after == {1: SIZE_PAGES}
    assert report["trials"][0]["counts"]["confirmed"] == 3 * SIZE_PAGES
