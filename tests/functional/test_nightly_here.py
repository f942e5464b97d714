"""A night on this machine: what it leaves, however it ends, and how it goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process, store
from numabench.fleet import journal, night_file, publish, quarantine
from numabench.fleet.ledger import MAX_BAD_BOOTS, cell_states
from numabench.host.root import LIVE

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.fleet.night_file import Night

HERE = """\
[night]
repeats = 1
attempts = {attempts}
[kernels.now]
running = true
[machines.box]
here = true
"""
OPTIONS = "options = { nodes = 1, no-tune = true }\n"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other runs on this machine have set is theirs to put back."""
    monkeypatch.setenv("NUMABENCH_STATE_DIR", str(tmp_path / "state"))


def experiment(name: str, *program: str) -> str:
    return f'[[experiment]]\nname = "{name}"\nprogram = {json.dumps(program)}\n{OPTIONS}'


def write(lab: Path, *experiments: str, head: str = HERE, attempts: int = 2) -> Path:
    lab.mkdir(exist_ok=True)
    (lab / "lab.toml").write_text(head.replace("{attempts}", str(attempts)) + "".join(experiments))
    return lab / "lab.toml"


def argv(file: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "numabench", "nightly", "run", str(file), *words]


def run(file: Path, *words: str, timeout_s: float = 120.0) -> process.Completed:
    return process.run(argv(file, *words), timeout_s=timeout_s)


def the_night(lab: Path) -> Night:
    (name,) = night_file.names(lab)
    return night_file.load(night_file.path_of(lab, name))


def check_published(night: Night) -> set[str]:
    """The cells that are published, each of which must be whole; those of `ok` must all be there, and no others."""
    found = set()
    for path in sorted((night.path / night_file.CELLS).glob("*/boot-*")):
        record = json.loads((path / publish.CELL_FILE).read_text())
        (run_id,) = record["runs"]
        loaded = store.load(path / publish.RUNS / run_id)
        assert loaded.complete
        assert [entry.name for entry in (path / publish.RUNS).iterdir()] == [run_id]
        found.add(path.parent.name)
    states = cell_states(night, night.path.parent.parent)
    assert found == {name for name, (state, _) in states.items() if state == "ok"}
    return found


def states(night: Night) -> dict[str, tuple[str, str]]:
    return {name.split(".")[0]: told for name, told in cell_states(night, night.path.parent.parent).items()}


def waiting_program(tmp_path: Path, name: str) -> tuple[list[str], Path]:
    """A program that says that it runs, and waits for a file before it ends; the words, and the file that it makes."""
    began = tmp_path / f"{name}.began"
    return ["sh", "-c", f"touch {began}; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"], began


def await_file(path: Path, running: process.Process) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert running.wait(0.02) is None, "it ended before"
        assert time.monotonic() < deadline


def test_each_cell_ends_as_what_it_is(tmp_path: Path) -> None:
    flaky = ["sh", "-c", f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 3; }}"]
    file = write(
        tmp_path / "lab",
        experiment("good", "true"),
        experiment("bad", "false"),
        experiment("absent", "/does/not/exist"),
        experiment("flaky", *flaky),
    )
    ended = run(file)
    assert ended.exit_status == 1, ended.stderr
    night = the_night(tmp_path / "lab")
    told = states(night)
    assert {name: state for name, (state, _) in told.items()} == {
        "good": "ok",
        "bad": "failed",
        "absent": "blocked",
        "flaky": "ok",
    }
    assert "exited with 1" in told["bad"][1]
    assert "/does/not/exist" in told["absent"][1]
    assert len(check_published(night)) == 2
    tries = dict.fromkeys(told, 0)
    for path in publish.attempts(night.path, night.blocks[0].id):
        for event in journal.events(path / publish.EVENTS_FILE, "cell-begun"):
            tries[event.text("cell").split(".")[0]] += 1
    # Twice in a boot, and that twice; what cannot run here is not asked again, nor is what is well.
    assert tries == {"good": 1, "bad": 4, "absent": 1, "flaky": 2}
    assert ended.stdout.splitlines()[0] == f"night {night.name}: done: 2 ok, 1 failed, 1 blocked"
    again = run(file, "--resume")
    assert again.stdout == ended.stdout
    # What ran is on record as a command that can be pasted.
    (cell,) = (night.path / night_file.CELLS).glob("good.*/boot-01/cell.json")
    words = json.loads(cell.read_text())["again"]
    by_hand = process.run([sys.executable, "-m", *words], cwd=tmp_path, timeout_s=60)
    assert by_hand.exit_status == 0, by_hand.stderr
    (run_path,) = (tmp_path / "results").iterdir()
    (recorded,) = (night.path / night_file.CELLS).glob("good.*/boot-01/runs/*")
    assert store.load(run_path).planned == store.load(recorded).planned


def test_a_night_that_is_killed_anywhere_goes_on_and_does_nothing_twice(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    count = tmp_path / "count"
    names = [f"cell{number}" for number in range(5)]
    programs = [experiment(name, "sh", "-c", f"echo {name} >>{count}; sleep 0.2") for name in names]
    file = write(lab, *programs, attempts=10)
    chance = random.Random(7)  # noqa: S311
    kills = 0

    def resume() -> list[str]:
        """One that was killed before the night began leaves none."""
        return ["--resume"] if night_file.names(lab) else []

    for _ in range(8):
        running = process.start(argv(file, *resume()))
        if running.wait(chance.uniform(0.6, 2.2)) is not None:
            break
        os.kill(running.pid, signal.SIGKILL)
        running.wait(10)
        kills += 1
    ended = run(file, *resume())
    assert ended.exit_status == 0, ended.stderr
    assert kills >= 2
    night = the_night(lab)
    assert {name.split(".")[0] for name in check_published(night)} == set(names)
    # What had been published was not measured again: of each cell at most the one that a kill cut off is.
    assert len(count.read_text().split()) <= len(names) + kills


def test_sigterm_ends_all_of_it_whole_and_it_goes_on(tmp_path: Path) -> None:
    words, began = waiting_program(tmp_path, "slow")
    file = write(tmp_path / "lab", experiment("slow", *words), experiment("good", "true"), attempts=1)
    running = process.start(argv(file))
    await_file(began, running)
    refused = run(file, "--resume")
    assert refused.exit_status == 4
    assert f"is running (process {running.pid})" in refused.stderr
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait(30) == 128 + signal.SIGTERM
    assert not [pid for pid in LIVE.names("/proc") if pid.isdecimal() and str(began) in cmdline(pid)]
    night = the_night(tmp_path / "lab")
    events = journal.read(night.path / journal.JOURNAL_FILE)
    assert [event.text("how") for event in events if "how" in event.fields] == ["interrupted", "interrupted"]
    (attempt,) = publish.attempts(night.path, night.blocks[0].id)
    runs = [store.load(path) for path in attempt.glob("*/*/runs/*slow*")] + [
        store.load(path) for path in attempt.glob("failed/*slow*")
    ]
    assert [run.ending.status for run in runs] == ["interrupted"]
    (tmp_path / "go").touch()
    assert run(file, "--resume").exit_status == 0
    assert len(check_published(night)) == 2


def cmdline(pid: str) -> str:
    return (LIVE.read_or_none(f"/proc/{pid}/cmdline") or "").replace("\0", " ")


def test_the_deadline_ends_what_runs_and_blocks_the_rest(tmp_path: Path) -> None:
    words, _ = waiting_program(tmp_path, "slow")
    head = HERE.replace("[night]\n", '[night]\nbudget = "1h"\nseed = 4\n')
    file = write(tmp_path / "lab", *(experiment(f"slow{n}", *words, str(n)) for n in range(2)), head=head)
    running = process.start(argv(file))
    deadline = time.monotonic() + 30
    while not night_file.names(tmp_path / "lab"):
        assert time.monotonic() < deadline
        assert running.wait(0.01) is None
    running.kill()
    night = the_night(tmp_path / "lab")
    plain = json.loads((night.path / night_file.NIGHT_FILE).read_text())
    soon = night_file.now_utc().timestamp() + 12
    plain["deadline_utc"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(soon))
    (night.path / night_file.NIGHT_FILE).write_text(json.dumps(plain))
    ended = run(file, "--resume")
    assert ended.exit_status == 1
    told = states(the_night(tmp_path / "lab"))
    assert {state for state, _ in told.values()} == {"blocked"}
    assert sum("deadline came while it ran" in reason for _, reason in told.values()) == 1


def test_a_disk_that_fills_up_ends_the_night_with_what_it_has(small_disk: Path) -> None:
    filler = small_disk / "filler"
    fill = ["sh", "-c", f"head -c 100m /dev/zero >{filler} 2>/dev/null; exit 0"]
    file = write(small_disk, *(experiment(f"fills{n}", *fill, str(n)) for n in range(3)))
    ended = run(file)
    assert ended.exit_status == 1, ended.stderr
    assert "disk-full" in ended.stdout
    night = the_night(small_disk)
    before = check_published(night)
    assert journal.events(night.path / journal.JOURNAL_FILE, "night-ended")[-1].text("how") == "disk-full"
    assert not (night.path / night_file.RESERVE_FILE).exists()
    filler.unlink()
    filler.mkdir()  # now nothing more can fill it
    assert run(file, "--resume").exit_status == 0
    assert len(check_published(night)) == 3
    assert before <= check_published(night)


# ---- a machine that boots other kernels, as it is seen from its boot loader


TREE = {"release": "/proc/sys/kernel/osrelease", "boot_id": "/proc/sys/kernel/random/boot_id", "line": "/proc/cmdline"}
REBOOTS = """\
[night]
boots = BOOTS
repeats = 1
attempts = 3
seed = 1
[kernels.old]
installed = "6.1.0-1"
[kernels.new]
installed = "6.12.0-1"
parameters = ["quiet"]
[machines.box]
here = true
reboot = ["sh", "-c", "echo {release} >>LOADER"]
"""


class Machine:
    """A machine of which only the boot loader and what tells of the running kernel are there.

    `comes_up` says which release a boot comes up with, given the one that was asked for; None: it does not go down.
    """

    def __init__(self, directory: Path) -> None:
        self.root, self.loader = directory / "root", directory / "loader"
        self.boots: list[str] = []
        self.boot("0.0.0")

    def head(self, boots: int = 1) -> str:
        """The beginning of a plan for it."""
        return REBOOTS.replace("LOADER", str(self.loader)).replace("BOOTS", str(boots))

    def boot(self, release: str) -> None:
        self.boots.append(release)
        texts = {"release": release, "boot_id": f"boot-{len(self.boots)}", "line": "root=/dev/sda quiet"}
        for name, path in TREE.items():
            file = self.root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{texts[name]}\n")

    def night(self, file: Path, comes_up: Any) -> process.Completed:
        """Run the night as an init script would: each time that the machine is up again, till it does not go down."""
        for turn in range(20):
            asked_before = self.asked()
            ended = run(file, "--root", str(self.root), *(["--resume"] if turn else []))
            asked = self.asked()
            if asked == asked_before:
                return ended
            assert "goes down for" in ended.stderr
            assert ended.exit_status == 0
            release = comes_up(asked[-1])
            if release is not None:
                self.boot(release)
        raise AssertionError("it goes down for ever")

    def asked(self) -> list[str]:
        return self.loader.read_text().split() if self.loader.exists() else []


def test_a_machine_boots_each_kernel_in_turns_and_the_night_goes_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = write(tmp_path / "lab", experiment("good", "true"), head=machine.head(boots=2))
    ended = machine.night(file, lambda asked: asked)
    assert ended.exit_status == 0, ended.stderr
    first, second = machine.boots[1:3]
    assert machine.boots[1:] == [first, second, second, first]
    night = the_night(tmp_path / "lab")
    assert len(check_published(night)) == 2
    for path in (night.path / night_file.ATTEMPTS).iterdir():
        told = json.loads((path / publish.ATTEMPT_FILE).read_text())
        assert told["release"] == night.kernels[told["kernel"]].release
    assert not (tmp_path / "lab" / "reboot.json").exists()


def test_a_wrong_kernel_publishes_nothing_and_is_not_booted_a_third_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = write(tmp_path / "lab", experiment("good", "true"), head=machine.head())
    ended = machine.night(file, lambda _asked: "6.1.0-1")
    assert ended.exit_status == 1
    night = the_night(tmp_path / "lab")
    assert [name.split(".")[1] for name in check_published(night)] == ["old"]
    assert machine.asked().count("6.12.0-1") == MAX_BAD_BOOTS
    told = cell_states(night, tmp_path / "lab")
    ((state, reason),) = [told[name] for name in told if ".new." in name]
    assert state == "blocked"
    assert "new is in quarantine on box: 2 boots failed: wrong-kernel: the kernel is 6.1.0-1 and not 6.12.0-1" in reason
    (entry,) = quarantine.read(tmp_path / "lab")
    assert (entry.machine, entry.kernel) == ("box", "new")
    # The next night does not try it again.
    run(file, "--root", str(machine.root))
    assert machine.asked().count("6.12.0-1") == MAX_BAD_BOOTS


def test_a_machine_that_does_not_go_down_is_no_new_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = write(tmp_path / "lab", experiment("good", "true"), head=machine.head())
    ended = machine.night(file, lambda _asked: None)
    assert ended.exit_status == 1
    night = the_night(tmp_path / "lab")
    assert not check_published(night)
    assert {state for state, _ in cell_states(night, tmp_path / "lab").values()} == {"blocked"}
    assert len(quarantine.read(tmp_path / "lab")) == 2


def test_a_boot_loader_that_fails_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    head = machine.head().replace(f"echo {{release}} >>{machine.loader}", "echo no such entry >&2; exit 1")
    file = write(tmp_path / "lab", experiment("good", "true"), head=head)
    ended = machine.night(file, lambda asked: asked)
    assert ended.exit_status == 1
    assert "no such entry" in ended.stdout


def test_a_night_without_room_is_refused_before_it_begins(small_disk: Path) -> None:
    file = write(small_disk, experiment("good", "true"))
    assert run(file).exit_status == 0
    night = the_night(small_disk)
    (boot,) = (night.path / night_file.CELLS).glob("good.*/boot-01")
    (boot / "runs" / "recording").write_bytes(b"x" * (3 << 20))
    refused = run(file)
    assert (refused.exit_status, refused.stdout) == (4, "")
    assert "are free (see what can go: numabench nightly prune" in refused.stderr
    assert night_file.names(small_disk) == (night.name,)
    planned = process.run([*argv(file)[:-2], "plan", str(file)]).check("plan").stdout
    assert "the night's results should take 3" in planned
