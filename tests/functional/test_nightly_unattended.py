"""A night that nobody watches, from its beginning to its alert, whatever happens to it."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from numabench import process
from numabench.cli.run_words import run_words
from numabench.fleet import night_file, plan, unattended
from numabench.fleet.ledger import cell_states

if TYPE_CHECKING:
    from pathlib import Path

PLAN = """\
[lab]
name = "cellar"
keep_nights = 400
[night]
boots = 1
repeats = 1
attempts = {attempts}
deadline = "{deadline}"
[alert]
command = ["sh", "-c", "{{ echo $NUMABENCH_NIGHT $NUMABENCH_STATE $NUMABENCH_EXIT; cat; }} >>told"]
on = ["always"]
[kernels.now]
running = true
[machines.box]
here = true
[[experiment]]
name = "it"
program = ["sh", "-c", {program}]
options = {{ nodes = 1, no-tune = true }}
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write(lab: Path, program: str, *, attempts: int = 2) -> Path:
    lab.mkdir(exist_ok=True)
    later = datetime.datetime.now().astimezone() + datetime.timedelta(hours=2)
    text = PLAN.format(program=json.dumps(program), attempts=attempts, deadline=f"{later:%H:%M}")
    (lab / "lab.toml").write_text(text)
    return lab / "lab.toml"


def argv(file: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "numabench", "nightly", "unattended", str(file), *words]


def told(lab: Path) -> list[str]:
    """The first line of each alert."""
    file = lab / "told"
    return [line for line in file.read_text().splitlines() if line.startswith("20")]


def await_file(path: Path, running: process.Process) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert running.wait(0.02) is None, "it ended before"
        assert time.monotonic() < deadline


def test_a_night_is_run_reported_and_told(tmp_path: Path) -> None:
    file = write(tmp_path, "exit 3", attempts=1)
    ended = process.run(argv(file), timeout_s=120)
    assert ended.exit_status == 1, ended.stderr
    (name,) = night_file.names(tmp_path)
    assert told(tmp_path) == [f"{name} failed 1"]
    text = (tmp_path / "told").read_text()
    assert "exited with 3" in text
    assert (tmp_path / "site/index.html").exists()
    assert "nothing is old enough to be removed" in ended.stdout
    assert not (tmp_path / unattended.FILE).exists()
    # With nothing to go on with there is nothing to do, and nobody is told.
    again = process.run(argv(file, "--resume"), timeout_s=60)
    assert (again.exit_status, told(tmp_path)) == (0, [f"{name} failed 1"])


def test_a_night_is_gone_on_with_after_a_kill_and_one_at_a_time_runs(tmp_path: Path) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    file = write(tmp_path, f"touch {began}; while [ ! -e {go} ]; do sleep 0.05; done")
    running = process.start(argv(file))
    await_file(began, running)
    refused = process.run(argv(file), timeout_s=60)
    assert refused.exit_status == 4
    assert told(tmp_path) == []
    assert "did not begin" in (tmp_path / "told").read_text()
    assert "is running" in (tmp_path / "told").read_text()
    # The process of the night alone is killed, for want of memory: the same night goes on.
    began.unlink()
    (child,) = (tmp_path / ".night.lock").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    await_file(began, running)
    (name,) = night_file.names(tmp_path)
    # Who watches over it is asked to end.
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    assert told(tmp_path) == []
    # The next one begins with what was broken off.
    go.touch()
    ended = process.run(argv(file, "--resume"), timeout_s=120)
    assert ended.exit_status == 0, ended.stderr
    assert night_file.names(tmp_path) == (name,)
    night = night_file.load(night_file.path_of(tmp_path, name))
    assert [state for state, _ in cell_states(night, tmp_path).values()] == ["ok"]
    assert told(tmp_path) == [f"{name} ok 0"]


def test_what_was_broken_off_before_its_deadline_is_ended_and_tonights_night_begins(tmp_path: Path) -> None:
    began = tmp_path / "began"
    file = write(tmp_path, f"touch {began}; [ -e {tmp_path}/go ] || sleep 60")
    running = process.start(argv(file))
    await_file(began, running)
    (child,) = (tmp_path / ".night.lock").read_text().split()
    for pid in (running.pid, int(child)):
        os.kill(pid, signal.SIGKILL)
    running.kill()
    (name,) = night_file.names(tmp_path)
    path = night_file.path_of(tmp_path, name) / night_file.NIGHT_FILE
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "deadline_utc": plain["began_utc"]}))
    (tmp_path / "go").touch()
    ended = process.run(argv(file), timeout_s=120)
    assert ended.exit_status == 0, ended.stderr
    assert night_file.names(tmp_path) == (name, f"{name}.2")
    assert told(tmp_path) == [f"{name} failed 1", f"{name}.2 ok 0"]


def test_a_machine_that_goes_down_is_told_of_once_its_night_has_ended(tmp_path: Path) -> None:
    file = write(tmp_path, "true", attempts=1)
    text = file.read_text().replace("running = true", f'installed = "{os.uname().release}"')
    file.write_text(text.replace("here = true", 'here = true\nreboot = ["touch", "went-down"]'))
    down = process.run(argv(file), timeout_s=120, cwd=tmp_path)
    assert down.exit_status == 0, down.stderr
    assert (tmp_path / "went-down").exists()
    assert not (tmp_path / "told").exists()
    assert unattended.unfinished(tmp_path) == json.loads((tmp_path / "reboot.json").read_text())["night"]
    # It has not come up anew: that was its last try, and the night ends.
    up = process.run(argv(file, "--resume"), timeout_s=120, cwd=tmp_path)
    assert up.exit_status == 1, up.stderr
    (name,) = night_file.names(tmp_path)
    assert told(tmp_path) == [f"{name} failed 1"]
    assert "was to boot anew and did not" in (tmp_path / "told").read_text()
    assert unattended.unfinished(tmp_path) == ""


def test_an_alert_that_does_not_come_through_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path, "true")
    read = plan.read(file, run_words())
    said: list[str] = []
    assert unattended.end(read, "2026-11-25", unattended.Steps(0, 0, 0), "# All is well\n", said.append) == 0
    assert said == []
    file.write_text(file.read_text().replace('["sh", "-c", "{ echo', '["no-such-program", "-c", "{ echo'))
    read = plan.read(file, run_words())
    for status, wanted in ((0, 1), (4, 4)):
        steps = unattended.Steps(status, 0, 0)
        assert unattended.end(read, "2026-11-25", steps, "# All is well\n", said.append) == wanted
        assert "no-such-program was not found" in said.pop()


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("nights/2026-01-01/night.json", '{"schema_version": 1, "kind"'),
        (unattended.FILE, "{"),
        (unattended.FILE, '{"schema_version": 1, "night": "x"}'),
        ("reboot.json", "[]"),
    ],
)
def test_a_damaged_file_of_a_night_that_was_broken_off_is_told_and_tonights_begins(
    name: str, damaged: str, tmp_path: Path
) -> None:
    file = write(tmp_path, "true")
    (tmp_path / unattended.FILE).write_text('{"schema_version": 1, "night": "2026-01-01"}')
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(damaged)
    ended = process.run(argv(file), timeout_s=120)
    assert ended.exit_status == 0, ended.stderr
    first, last = [line for line in (tmp_path / "told").read_text().splitlines() if line[-2:] in {" 0", " 1"}]
    assert first.split()[-2:] == ["failed", "1"]
    assert last == f"{night_file.names(tmp_path)[-1]} ok 0"
    assert not last.startswith("2026-01-01")
    assert not (tmp_path / unattended.FILE).exists()


def test_a_full_disk_is_told(small_disk: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "true")
    file.write_text(file.read_text().replace("[night]", f'directory = "{small_disk}/lab"\n[night]'))
    (small_disk / "lab").mkdir()
    fill = process.run(["sh", "-c", f"head -c 100m /dev/zero >{small_disk}/filler"])
    assert "No space left" in fill.stderr
    ended = process.run(argv(file), timeout_s=120)
    assert ended.exit_status == 1
    assert "No space left" in (tmp_path / "told").read_text()
    pruned = process.run([sys.executable, "-m", "numabench", "nightly", "prune", str(file)], timeout_s=60)
    assert pruned.exit_status == 0, pruned.stderr


def test_a_night_that_cannot_be_judged_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, "true")
    (tmp_path / "acknowledged.toml").write_text("[[change]\n")
    assert process.run(argv(file), timeout_s=120).exit_status == 1
    (name,) = night_file.names(tmp_path)
    assert told(tmp_path) == [f"{name} failed 1"]
    assert "There is no report" in (tmp_path / "told").read_text()
