"""What systemd makes of a lab's units: the real one, as process 1 of namespaces of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import systemd_here

from numabench import process
from numabench.cli.run_words import run_words
from numabench.errors import Unfit
from numabench.fleet import install, night_file, plan, units
from numabench.fleet.ledger import cell_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from systemd_here import Systemd

    from numabench.fleet.units import Units

KNOB = "/proc/sys/vm/stat_interval"
# What systemd would take apart, expand, or unescape.
HOSTILE = "la b %h $HOME ${PATH} \"q\" 'a' \\x20 ;"
PLAN = """\
[lab]
name = "my % {{lab}} $HOME"
[night]
deadline = "{deadline}"
attempts = 3
[alert]
command = ["./tell"]
on = ["always"]
[kernels.now]
running = true
[machines.box]
here = true
[[experiment]]
name = "waits"
program = ["sh", "-c", "touch began; while [ ! -e go ]; do sleep 0.05; done"]
options = {{ nodes = 1, profile = "knob.toml" }}
"""
TELL = """\
#!/bin/sh
knob=$(cat /proc/sys/vm/stat_interval)
{ echo "$NUMABENCH_LAB|$NUMABENCH_NIGHT|$NUMABENCH_STATE|$NUMABENCH_EXIT|$knob"; cat; } >>told
"""


def write_plan(lab: Path) -> Path:
    lab.mkdir(parents=True)
    (lab / "lab.toml").write_text(PLAN.format(deadline=time.strftime("%H:%M", time.localtime(time.time() + 7200))))
    (lab / "knob.toml").write_text('inherits = "none"\n[knobs]\n"vm.stat_interval" = 10\n')
    (lab / "tell").write_text(TELL)
    (lab / "tell").chmod(0o755)
    return lab / "lab.toml"


def of_plan(file: Path, **more: bool) -> tuple[plan.LabPlan, Units]:
    with contextlib.chdir(file.parent):
        read = plan.read(file, run_words())
    made = units.units(
        read, "*-*-* 22:00:00", install.own_python(), install.own_variables(), is_user=more.get("is_user", True)
    )
    return read, made


def nightly(*words: str) -> list[str]:
    return [sys.executable, "-m", "numabench", "nightly", *words]


def checked_by_systemd(directory: Path, made: Units) -> str:
    """What `systemd-analyze verify` finds wrong."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: scripts/setup test")
    paths = [str(directory / name) for name in made.texts]
    told = process.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *paths])
    return f"{told.exit_status}{told.stdout}{told.stderr}"


@pytest.mark.parametrize("is_user", [True, False])
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, is_user: bool) -> None:
    read, made = of_plan(write_plan(tmp_path / HOSTILE), is_user=is_user)
    directory = tmp_path / "units"
    directory.mkdir()
    for name, text in made.texts.items():
        (directory / name).write_text(text)
    assert checked_by_systemd(directory, made) == "0"
    (directory / made.timer).write_text(made.texts[made.timer].replace("22:00", "25:00"))
    assert checked_by_systemd(directory, made) != "0"
    assert {units.owner(text) for text in made.texts.values()} == {str(read.file)}


def test_only_what_is_ours_is_written_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "is_running", lambda **_: False)
    read, made = of_plan(write_plan(tmp_path / "lab"))
    directory = tmp_path / "units"
    said: list[str] = []
    assert not install.remove(read, made, directory, is_user=True, say=said.append)
    for _ in range(2):
        assert not install.install(read, made, directory, is_user=True, say=said.append)
    assert {path.name: path.read_text() for path in directory.iterdir()} == dict(made.texts)
    # Another lab of that name, and a unit of somebody else's.
    other, others = of_plan(write_plan(tmp_path / "other"))
    before = {path.name: path.read_text() for path in directory.iterdir()}
    for act in (install.install, install.remove):
        with pytest.raises(Unfit, match="of another plan"):
            act(other, others, directory, is_user=True, say=said.append)
    (directory / made.timer).write_text("[Timer]\n")
    for act in (install.install, install.remove):
        with pytest.raises(Unfit, match="not numabench's"):
            act(read, made, directory, is_user=True, say=said.append)
    (directory / made.timer).write_text(before[made.timer])
    (directory / "mine.timer").write_text("[Timer]\n")
    assert {path.name for path in directory.iterdir()} == {*before, "mine.timer"}
    assert install.remove(read, made, directory, is_user=True, say=said.append)
    assert [path.name for path in directory.iterdir()] == ["mine.timer"]


def test_the_command_prints_writes_and_refuses(tmp_path: Path) -> None:
    file = write_plan(tmp_path / "lab")
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_RUNTIME_DIR": str(tmp_path)}
    directory = tmp_path / "config/systemd/user"

    def ask(*words: str) -> process.Completed:
        return process.run(nightly("install", str(file), "--user", *words), env=environment)

    shown = ask("--at", "4:05", "--dry-run").check("install").stdout
    assert not directory.exists()
    assert "OnCalendar=*-*-* 04:05:00" in shown
    ask("--at", "4:05").check("install")
    assert shown == "".join(f"# {directory / name}\n{(directory / name).read_text()}\n" for name in shown_names(shown))
    assert ask("--at", "25:00").exit_status == 2
    wrong = ask("--on-calendar", "Someday 22:00")
    assert (wrong.exit_status, "Traceback" in wrong.stderr) == (2, False)
    ask("--remove").check("remove")
    assert not list(directory.iterdir())


def shown_names(shown: str) -> list[str]:
    return [Path(line).name for line in shown.splitlines() if line.startswith("# /")]


# ---- by a systemd that runs


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    (tmp_path / "knob").write_text("1\n")
    return tmp_path / "knob"


@pytest.fixture
def systemd(tmp_path: Path, knob: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    reason = systemd_here.obstacle()
    if reason:
        pytest.skip(reason)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "units").mkdir()
    with systemd_here.running(tmp_path / "units", tmp_path / "log", knob=KNOB, knob_file=knob) as found:
        yield found


def await_file(path: Path, timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.05)


def test_a_night_that_systemd_runs_is_put_back_and_gone_on_with(tmp_path: Path, systemd: Systemd, knob: Path) -> None:
    lab = tmp_path / HOSTILE
    file = write_plan(lab)
    installed = systemd.run(nightly("install", str(file), "--system", "--on-calendar", "*-*-* *:*:*"))
    assert installed.exit_status == 0, installed.stderr
    timer = next(line.split("/")[-1] for line in installed.stdout.splitlines() if line.endswith(".timer"))
    service, resume = timer.replace(".timer", ".service"), timer.replace(".timer", "-resume.service")
    # The timer begins it, and leaves the one that runs alone.
    await_file(lab / "began")
    first = systemd.show(service, "MainPID", "NRestarts", "InvocationID")
    assert knob.read_text().strip() == "10"
    time.sleep(1.5)
    assert systemd.show(service, "MainPID", "NRestarts", "InvocationID") == first
    systemd.systemctl("stop", timer)
    assert systemd.show(service, "ActiveState")["ActiveState"] == "active"
    # SIGKILL: the knob is put back, it is told, and the other unit goes on.
    (lab / "began").unlink()
    systemd.systemctl("kill", "--kill-whom=main", "--signal=KILL", service)
    systemd.await_state(service, "failed")
    assert systemd.show(service, "Result")["Result"] == "signal"
    (name,) = night_file.names(lab)
    assert (lab / "told").read_text().splitlines()[0] == f"my % {{lab}} $HOME|{name}|failed|1|1"
    await_file(lab / "began")
    assert systemd.show(resume, "ActiveState")["ActiveState"] == "active"
    assert knob.read_text().strip() == "10"
    # Stopped, it puts the knob back itself, and does not begin again by itself.
    systemd.systemctl("stop", resume)
    assert systemd.await_state(resume, "inactive") == "inactive"
    assert knob.read_text().strip() == "1"
    assert json.loads((lab / "unattended.json").read_text())["night"] == name
    # A boot begins it again, and it comes to its end: the same night.
    (lab / "go").touch()
    systemd.systemctl("start", resume)
    systemd.await_state(resume, "inactive")
    assert systemd.show(resume, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert night_file.names(lab) == (name,)
    night = night_file.load(night_file.path_of(lab, name))
    assert [state for state, _ in cell_states(night, lab).values()] == ["ok"]
    assert not (lab / "unattended.json").exists()
    assert (lab / "told").read_text().count(f"my % {{lab}} $HOME|{name}|ok|0|1\n") == 1
    # With nothing to go on with it does not even begin.
    systemd.systemctl("start", resume)
    assert systemd.show(resume, "ConditionResult")["ConditionResult"] == "no"
    removed = systemd.run(nightly("install", str(file), "--system", "--remove"))
    assert removed.exit_status == 0, removed.stderr
    left = {path.name for path in (tmp_path / "units").rglob("*") if "numabench" in path.name}
    assert left == set()
    assert knob.read_text().strip() == "1"
