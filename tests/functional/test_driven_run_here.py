"""`numabench run pingpong` on this machine's own first node: what cannot be meant is told, and the baseline runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process, store

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", "run", *words], timeout_s=120)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("pingpong", "--nodes", "1"), 77, "source and target are both node"),
        (("numa02", "--driver", "autonuma", "--placement", "hard"), 2, "a strict bind without MPOL_F_NUMA_BALANCING"),
        (("numa02", "--driver", "move_pages"), 2, "numabench run pingpong --driver move_pages"),
        (("pingpong", "--driver", "mbind", "--mover", "outside"), 2, "leave out --mover outside"),
        (("pingpong", "--driver", "migrate_pages", "--batch", "8"), 2, "it has no --batch"),
        (("pingpong", "--balancing", "1"), 2, "take --driver autonuma"),
        (("pingpong", "--depth", "2"), 2, "--depth is an option of forktree"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_runs(
    tmp_path: Path, words: tuple[str, ...], status: int, told: str
) -> None:
    ended = run(*words, "--native", "--results", str(tmp_path))
    assert (ended.exit_status, ended.stdout) == (status, "")
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_baseline_runs_on_one_node_and_moves_nothing(tmp_path: Path) -> None:
    words = ("--driver", "null", "--nodes", "1", "--native", "--no-tune", "--size", "16M", "--repeats", "1")
    options = ("--threads", "2", "--victims", "1", "--verify", "--loops", "3", "--batch", "64")
    ended = run("pingpong", *words, *options, "--results", str(tmp_path), "--json")
    report: dict[str, Any] = json.loads(ended.check("run").stdout)
    (trial,) = store.load(report["path"]).trials
    assert trial.status == "ok"
    assert [mover.passes for mover in trial.movers] == [3, 3]
    # 4,096 pages in all, three times, 64 a call.
    assert sum(mover.calls for mover in trial.movers) == 3 * 4096 / 64
    assert sum(mover.confirmed for mover in trial.movers) == 0
    assert [(victim.wrong, victim.checked > 0) for victim in trial.victims] == [(0, True)]
    assert sorted(thread.role for thread in trial.threads) == ["mover", "mover", "victim"]
    assert trial.check is not None
    assert (trial.check.checked_bytes, trial.check.wrong_bytes) == (16 << 20, 0)
    assert report["trials"][0]["counts"]["net"] == 0
    assert report["verdict"]["valid"]
