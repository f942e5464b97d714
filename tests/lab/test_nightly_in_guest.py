"""A night in guests: each block boots the kernel that it is for, what is killed goes on, a wrong one is found out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from numabench import process, store
from numabench.cli.run_words import run_words
from numabench.fleet import cells, journal, night_file, plan, prepare, publish, quarantine
from numabench.fleet.ledger import Ledger, cell_states
from numabench.fleet.night import run_night
from numabench.host.root import LIVE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.fleet.night_file import Night
    from numabench.lab.kernels import Kernel

pytestmark = pytest.mark.lab

LAB = """\
[night]
boots = 1
repeats = 1
seed = {seed}
[kernels.old]
cached = "{old}"
[kernels.new]
cached = "{new}"
[machines.vm]
guest = {{ nodes = 2 }}
[[experiment]]
name = "pages"
workload = "pingpong"
options = {{ nodes = 2, size = "4M", loops = 1, batch = 512 }}
aa = true
[[experiment]]
name = "calls"
workload = "pingpong"
options = {{ nodes = 2, size = "4M", loops = 1, batch = 64 }}
kernels = "old"
"""


def write(tmp_path: Path, old: Kernel, new: Kernel) -> plan.LabPlan:
    """A plan whose first block is that of two cells."""
    file = tmp_path / "lab.toml"
    for seed in range(100):
        file.write_text(LAB.format(seed=seed, old=old.name, new=new.name))
        lab = plan.read(file, run_words())
        if cells.blocks(cells.all_cells(lab), lab.machines, seed)[0].kernel == "old":
            return lab
    raise AssertionError("no seed has it first")


def await_second_cell(lab: Path, running: process.Process) -> Night:
    """The night, once its first cell is published and its second has begun."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert running.wait(0.1) is None, "it ended before"
        for name in night_file.names(lab):
            night = night_file.load(night_file.path_of(lab, name))
            for path in publish.attempts(night.path, night.blocks[0].id)[-1:]:
                events = journal.events(path / publish.EVENTS_FILE, "cell-begun")
                if len({event.text("cell") for event in events}) == 2:
                    return night
    raise AssertionError("no second cell began")


def guests_of(night: Night) -> list[str]:
    """The processes of guests that the night's directory is shared with."""
    told = {pid: LIVE.read_or_none(f"/proc/{pid}/cmdline") or "" for pid in LIVE.names("/proc") if pid.isdecimal()}
    return [pid for pid, words in told.items() if "qemu" in words and str(night.path) in words]


def test_a_night_of_three_kernels_is_killed_and_goes_on(
    kernel_6_1: Kernel, lab_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    kernel_6_12 = lab_kernel("debian:bookworm-backports")
    lab = write(tmp_path, kernel_6_1, kernel_6_12)
    argv = [sys.executable, "-m", "numabench", "nightly", "run", str(lab.file)]
    running = process.start(argv)
    night = await_second_cell(tmp_path, running)
    assert guests_of(night)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(10)
    deadline = time.monotonic() + 30
    while guests_of(night):
        assert time.monotonic() < deadline, "a guest outlives its night"
        time.sleep(0.1)
    first = [path.parents[1].name for path in night.path.glob("cells/*/boot-01/cell.json")]
    assert first
    ended = process.run([*argv, "--resume"], timeout_s=500)
    assert ended.exit_status == 0, ended.stderr
    assert {state for state, _ in cell_states(night, tmp_path).values()} == {"ok"}
    releases = {"old": kernel_6_1.release, "old-aa": kernel_6_1.release, "new": kernel_6_12.release}
    boots: dict[str, set[str]] = {}
    for name, cell in night.cells.items():
        path = publish.published(night.path, name, 1)
        record = json.loads((path / publish.CELL_FILE).read_text())
        run = store.load(path / publish.RUNS / record["runs"][0])
        assert run.complete
        assert run.identity["where"] == "guest"
        assert run.machine.kernel_release == releases[cell.kernel]
        boots.setdefault(cell.kernel, set()).add(run.identity["boot_id"])
        # What was published before the kill is what it was, of the first attempt.
        assert (record["attempt"] == 1) == (name in first or cell.kernel != "old")
    # The block that was killed has two boots, of which one is that of the cell that had been published.
    assert {kernel: len(ids) for kernel, ids in boots.items()} == {"old": 2, "old-aa": 1, "new": 1}
    assert len(set.union(*boots.values())) == 4


FULL = """\
[night]
boots = 1
repeats = 1
attempts = 1
[kernels.old]
cached = "{old}"
[machines.vm]
guest = {{ nodes = 1 }}
[[experiment]]
name = "long"
program = ["sleep", "3"]
options = {{ nodes = 1, no-tune = true, warmup = 0 }}
"""


def test_a_disk_that_fills_up_under_a_guest_ends_the_night(kernel_6_1: Kernel, tmp_path: Path) -> None:
    lab = tmp_path / "small"
    lab.mkdir()
    mounted = process.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(lab)])
    if mounted.exit_status != 0:
        pytest.skip("a tmpfs cannot be mounted here: " + mounted.stderr.strip())
    try:
        (lab / "lab.toml").write_text(FULL.format(old=kernel_6_1.name))
        argv = [sys.executable, "-m", "numabench", "nightly", "run", str(lab / "lab.toml")]
        running = process.start(argv)
        deadline = time.monotonic() + 120
        while not list(lab.glob("nights/*/attempts/*/cells/*/runs/*/run.json")):
            assert running.wait(0.02) is None, "it ended before"
            assert time.monotonic() < deadline
        with contextlib.suppress(OSError), (lab / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        assert running.wait(120) == 1
        (name,) = night_file.names(lab)
        night = night_file.load(night_file.path_of(lab, name))
        assert journal.events(night.path / journal.JOURNAL_FILE, "night-ended")[-1].text("how") == "disk-full"
        # It can go on once there is room: that was no try, and nothing has ended.
        book = Ledger(night, lab)
        assert book.tries(night.blocks[0]) == 0
        assert len(book.open_cells(night.blocks[0])) == 1
    finally:
        process.run(["umount", "-l", str(lab)]).check("umount")


class Quiet:
    """Hears and says nothing."""

    def say(self, text: str) -> None:
        """Drop it."""

    status = say


def test_a_guest_with_another_kernel_publishes_nothing(
    kernel_6_1: Kernel, lab_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    lab = write(tmp_path, kernel_6_1, lab_kernel("debian:bookworm-backports"))
    night = prepare.make_night(lab, "2026-11-25", prepare.choose(lab, cells.Durations({}, {})), lambda _text: None)
    new = night.kernels["new"]
    block = next(block for block in night.blocks if block.kernel == "new")
    # Under the name of 6.12 a boot loader gives 6.1.
    kernels = {"new": dataclasses.replace(new, wish=kernel_6_1.name)}
    night = dataclasses.replace(
        night, attempts=1, kernels=kernels, blocks=(block,), cells={name: night.cells[name] for name in block.cells}
    )
    night_file.create(night)
    assert run_night(night, tmp_path, Quiet()) == "done"
    ((state, reason),) = cell_states(night, tmp_path).values()
    assert state == "blocked"
    assert f"the kernel is {kernel_6_1.release} and not {new.release}" in reason
    assert not list((night.path / night_file.CELLS).iterdir())
    (attempt,) = publish.attempts(night.path, block.id)
    assert json.loads((attempt / publish.ATTEMPT_FILE).read_text())["release"] == kernel_6_1.release
    # Once is not yet too often.
    assert not quarantine.read(tmp_path)
