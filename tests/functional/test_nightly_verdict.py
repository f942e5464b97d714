"""A night's end: its verdict is there, and a lab's known changes are acknowledged by one command."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from lab_nights import CELL, FIGURE, write_lab

from numabench import process
from numabench.cli.index import measured
from numabench.fleet import acknowledged, night_file, verdict

if TYPE_CHECKING:
    from pathlib import Path

PLAN = """\
[night]
repeats = 1
[kernels.now]
running = true
[machines.box]
here = true
[[experiment]]
name = "own"
program = ["true"]
options = { nodes = 1, no-tune = true }
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other runs on this machine have set is theirs to put back."""
    monkeypatch.setenv("NUMABENCH_STATE_DIR", str(tmp_path / "state"))


def nightly(command: str, lab: Path, *words: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", "nightly", command, str(lab / "lab.toml"), *words])


def test_a_night_ends_with_its_verdict_and_stands_without_one(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(PLAN)
    ended = nightly("run", tmp_path)
    assert (ended.exit_status, ended.stderr.count("no verdict")) == (0, 0), ended.stderr
    (name,) = night_file.names(tmp_path)
    found = verdict.read(tmp_path, name)
    assert [state for state, _ in found.cells.values()] == ["ok"]
    assert found.series
    # What people wrote is damaged: the night stands, and says what to do.
    (tmp_path / acknowledged.ACKNOWLEDGED_FILE).write_text("[[change]\n")
    ended = nightly("run", tmp_path)
    assert ended.exit_status == 0, ended.stderr
    assert "the night has no verdict" in ended.stderr
    assert acknowledged.ACKNOWLEDGED_FILE in ended.stderr
    assert ended.stdout.startswith(f"night {name}.2: done: 1 ok")
    assert not (tmp_path / "nights" / f"{name}.2" / verdict.VERDICT_FILE).exists()


def test_a_change_is_acknowledged_by_name(tmp_path: Path) -> None:
    nights = write_lab(tmp_path, [[10.0, 10.1]] * 2)
    (tmp_path / "lab.toml").write_text(PLAN)
    verdict.bring_up(tmp_path, nights[-1], measured, pytest.fail)
    done = nightly("acknowledge", tmp_path, CELL, FIGURE, "--night", nights[1], "--reason", "the pool is smaller")
    assert (done.exit_status, done.stderr) == (0, "")
    assert tomllib.loads((tmp_path / acknowledged.ACKNOWLEDGED_FILE).read_text())["change"] == [
        {"cell": CELL, "metric": FIGURE, "night": nights[1], "reason": "the pool is smaller"}
    ]
    wrong = nightly("acknowledge", tmp_path, CELL, "mb", "--night", nights[1], "--reason", "x")
    assert wrong.exit_status == 2
    assert FIGURE.split("/")[0] in wrong.stderr
