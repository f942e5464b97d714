"""What can go wrong in a night on a cluster, made to happen: each story is a night, and leaves the cluster well.

The cells are real runs of numabench, which publishes them; the program that they measure ends once a file is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_cluster import KERNELS, Cluster

from numabench import process, store
from numabench.cli.run_words import run_words
from numabench.fleet import cells, journal, night_file, plan, prepare, publish, quarantine
from numabench.fleet.slurm_starts import START_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numabench.fleet.night_file import Night

_PATIENCE_S = 150.0
_ROOT = Path(__file__).parents[1]
_DRIVER = Path(__file__).with_name("slurm_driver.py")
# No knob is written: two nodes of one host would fight for them.
_LAB = """
[night]
boots = {boots}
repeats = 1
attempts = {attempts}
seed = 1

[kernels.old]
installed = "{k6_12}"
features = ["k6_12"]

[kernels.new]
installed = "{k6_18}"
features = ["k6_18"]

[machines.m]
slurm = {{ {machine} }}

[[experiment]]
name = "held"
program = [{program}]
kernels = ["{kernel}"]
options = {{ nodes = 1, no-tune = true, warmup = 0 }}

[[experiment]]
name = "quick"
program = ["/bin/true"]
kernels = ["{kernel}"]
options = {{ nodes = 1, no-tune = true, warmup = 0 }}
"""
_THREE_KERNELS = """
[night]
boots = 1
repeats = 1
attempts = {attempts}

[kernels.v6_12]
installed = "{k6_12}"
features = ["k6_12"]

[kernels.v6_18]
installed = "{k6_18}"
features = ["k6_18"]

[kernels.v7_2]
installed = "{k7_2}"
features = ["k7_2"]

[machines.m]
slurm = {{ {machine} }}

[[experiment]]
name = "held"
program = [{program}]
options = {{ nodes = 1, no-tune = true, warmup = 0 }}

[[experiment]]
name = "true"
program = ["/bin/true"]
options = {{ nodes = 1, no-tune = true, warmup = 0 }}

[[experiment]]
name = "sleep"
program = ["/bin/sleep", "0.2"]
options = {{ nodes = 1, no-tune = true, warmup = 0 }}

[[experiment]]
name = "copy"
program = ["/bin/cp", "/bin/true", "/dev/null"]
options = {{ nodes = 1, no-tune = true, warmup = 0 }}
"""
_PROGRAM = """#!/bin/sh
: >"{lab}/began.$$"
while [ -e "{lab}/hold" ]; do sleep 0.05; done
"""


@dataclass
class Story:
    """A night under way on a cluster."""

    cluster: Cluster
    lab: Path
    night: Night
    driver: process.Process

    @property
    def block(self) -> cells.Block:
        """Its only block, or its first."""
        return self.night.blocks[0]

    def hold(self) -> None:
        """Have the cells that begin wait."""
        (self.lab / "hold").touch()

    def release(self) -> None:
        """Let them end."""
        (self.lab / "hold").unlink(missing_ok=True)

    def attempts(self) -> tuple[Path, ...]:
        """The directories of the first block's attempts."""
        return publish.attempts(self.night.path, self.block.id)

    def until(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + _PATIENCE_S
        while not is_so():
            if time.monotonic() > deadline:
                raise AssertionError(f"it never came to this: {what}\n{self.told()}")
            time.sleep(0.05)

    def until_held(self, attempt: int = 1) -> str:
        """Wait until the held cell of an attempt runs; the node that it runs on."""
        self.until(f"attempt {attempt} holds", lambda: len(list(self.lab.glob("began.*"))) >= attempt)
        record = json.loads((self.attempts()[attempt - 1] / publish.ATTEMPT_FILE).read_text())
        return str(record["node"])

    def job(self) -> str:
        """The number of the first block's job."""
        return journal.events(self.night.path / journal.JOURNAL_FILE, "block-begun")[-1].fields["job"]

    def drive(self) -> None:
        """Go on with the night in a new process."""
        self.driver = _drive(self.cluster, self.night)

    def finish(self) -> Ending:
        """Wait until the night has ended; what came of it, checked for what no night may come to."""
        status = self.driver.wait(_PATIENCE_S)
        assert status == 0, f"the night ended with {status}\n{self.told()}"
        return ending(self.night)

    def told(self) -> str:
        """What there is to read for whoever looks for the reason."""
        files = [self.lab / "driver.txt", *sorted(self.night.path.glob("jobs/*")), *self.night.path.glob("*/*/log.txt")]
        texts = [f"--- {file}\n{file.read_text(errors='replace')[-3000:]}" for file in files if file.is_file()]
        return "\n".join([*texts, self.cluster.log()])


@dataclass(frozen=True)
class Ending:
    """How a night ended: state and reason of each cell by its experiment, and the token of what it published."""

    states: dict[str, str]
    reasons: dict[str, str]
    tokens: dict[str, str]
    tries: int
    failed_starts: tuple[str, ...]
    quarantined: tuple[quarantine.Quarantined, ...]


def ending(night: Night) -> Ending:
    """The ending of a night of which each cell must have ended once, and been published once or not at all."""
    ended = journal.events(night.path / journal.JOURNAL_FILE, "cell-ended")
    keys = [(event.text("block"), event.text("cell")) for event in ended]
    assert sorted(keys) == sorted((block.id, cell) for block in night.blocks for cell in block.cells), keys
    states, reasons, tokens = {}, {}, {}
    for event in ended:
        cell, block = night.cells[event.text("cell")], night.block(event.text("block"))
        states[cell.experiment], reasons[cell.experiment] = event.text("state"), event.text("reason")
        path = publish.published(night.path, cell.id, block.boot)
        assert path.is_dir() == (event.text("state") == "ok"), event.fields
        if path.is_dir():
            record = json.loads((path / publish.CELL_FILE).read_text())
            runs = list((path / publish.RUNS).iterdir())
            assert [run.name for run in runs] == record["runs"]
            assert store.load(runs[0]).complete
            tokens[cell.experiment] = record["token"]
        # What is not published lies with its attempt, and nowhere else.
        stray = [found for found in night.path.glob(f"cells/{cell.id}/*") if found != path]
        assert len(night.blocks) > 1 or not stray, stray
    return Ending(
        states,
        reasons,
        tokens,
        sum(len(publish.attempts(night.path, block.id)) for block in night.blocks),
        tuple(e.text("reason") for e in journal.events(night.path / journal.JOURNAL_FILE, START_FAILED)),
        quarantine.read(night.path.parent.parent),
    )


@contextlib.contextmanager
def story(
    cluster: Cluster,
    machine: str,
    kernel: str = "old",
    *,
    plan: str = _LAB,
    boots: int = 1,
    attempts: int = 3,
    deadline_s: float = 0.0,
) -> Iterator[Story]:
    """A night that has begun and whose cells hold; a block of each boot of the kernel, on a machine of that plan."""
    lab = cluster.base / f"lab-{time.monotonic_ns()}"
    write_lab(lab, machine, kernel, plan=plan, boots=boots, attempts=attempts)
    (lab / "hold").touch()
    night = write_night(lab, deadline_s)
    told = Story(cluster, lab, night, _drive(cluster, night))
    try:
        yield told
    finally:
        told.release()
        told.driver.kill()


def write_lab(
    lab: Path, machine: str, kernel: str = "old", *, plan: str = _LAB, boots: int = 1, attempts: int = 3
) -> None:
    """A lab's directory with its plan and its program; `machine` is what the plan says of it."""
    lab.mkdir(exist_ok=True)
    program = lab / "program"
    program.write_text(_PROGRAM.format(lab=lab))
    program.chmod(0o755)
    words = {"machine": machine, "kernel": kernel, "boots": boots, "attempts": attempts, **KERNELS}
    (lab / "lab.toml").write_text(plan.format(program=json.dumps(str(program)), **words))


def write_night(lab: Path, deadline_s: float = 0.0) -> Night:
    """The night of a lab's plan, written."""
    read = plan.read(lab / "lab.toml", run_words())
    night = prepare.make_night(read, "2026-11-25", prepare.choose(read, cells.Durations({}, {})), print)
    if deadline_s:
        deadline = night_file.now_utc() + datetime.timedelta(seconds=deadline_s)
        night = dataclasses.replace(night, deadline_utc=deadline.isoformat())
    night_file.create(night)
    return night


def _drive(cluster: Cluster, night: Night) -> process.Process:
    words = [sys.executable, str(_DRIVER), str(night.path), str(cluster.roots)]
    with (night.path.parent.parent / "driver.txt").open("ab", buffering=0) as out:
        environment = {**cluster.environment, "PYTHONPATH": str(_ROOT)}
        return process.start(words, env=environment, stdout=out.fileno(), stderr=out.fileno())


ANY = 'features = ["k6_12"]'


def node_killed(cluster: Cluster) -> Ending:
    """A node loses its power while it measures: Slurm begins the job again on the other one."""
    with story(cluster, ANY) as told:
        node = told.until_held()
        cluster.kill_node(node)
        told.release()
        end = told.finish()
    cluster.mend_node(node)
    cluster.wait_for_nodes([node])
    return end


def three_kernels(cluster: Cluster) -> Ending:
    """Three kernels x four programs on two nodes, one of which loses its power in the middle, and comes up again."""
    with story(cluster, 'partition = "lab"', plan=_THREE_KERNELS) as told:
        told.until("a cell holds", lambda: bool(list(told.lab.glob("began.*"))))
        held = next(iter(told.night.path.glob(f"attempts/*/{publish.ATTEMPT_FILE}")))
        node = json.loads(held.read_text())["node"]
        cluster.kill_node(node)
        told.release()
        cluster.mend_node(node)
        end = told.finish()
    assert end.tries == len(KERNELS) + 1, end
    cluster.wait_for_nodes([node])
    return end


def disk_full(cluster: Cluster) -> Ending:
    """The lab's file system fills up while a cell is measured: the night ends, and goes on once there is room."""
    lab = cluster.base / "small"
    lab.mkdir()
    process.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(lab)]).check("mount")
    try:
        write_lab(lab, ANY)
        (lab / "hold").touch()
        night = write_night(lab)
        told = Story(cluster, lab, night, _drive(cluster, night))
        told.until_held()
        with contextlib.suppress(OSError), (lab / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        told.release()
        assert told.driver.wait(_PATIENCE_S) == 1, told.told()
        assert not publish.is_closed(night.path, told.block.id)
        assert not [event for event in journal.read(night.path / journal.JOURNAL_FILE) if "state" in event.fields]
        assert "no room" in told.told() or "No space" in told.told(), told.told()
        (lab / "filler").unlink()
        told.drive()
        try:
            return told.finish()
        finally:
            told.driver.kill()
    finally:
        process.run(["umount", "-l", str(lab)]).check("umount")


def whole_command(cluster: Cluster) -> str:
    """`numabench nightly run` itself, on the kernel that runs here, a node killed in the middle; what it printed."""
    lab = cluster.base / "whole"
    write_lab(lab, 'partition = "lab"', "old")
    file = lab / "lab.toml"
    file.write_text(file.read_text().replace(KERNELS["k6_12"], os.uname().release))
    (lab / "hold").touch()
    argv = [sys.executable, "-m", "numabench", "nightly", "run", str(file), "--night", "2026-11-25"]
    environment = {**cluster.environment, "PYTHONPATH": str(_ROOT)}
    with (lab / "out.txt").open("wb", buffering=0) as out:
        running = process.start(argv, env=environment, stdout=out.fileno(), stderr=out.fileno())
    try:
        told = Story(cluster, lab, _when_there(lab / "nights" / "2026-11-25"), running)
        node = told.until_held()
        cluster.kill_node(node)
        told.release()
        end = told.finish()
    finally:
        running.kill()
    assert end.states == {"held": "ok", "quick": "ok"}, end
    assert end.tokens["held"] == f"{told.job()}.1", end
    cluster.mend_node(node)
    cluster.wait_for_nodes([node])
    return (lab / "out.txt").read_text()


def _when_there(path: Path) -> Night:
    """A night once it has been written."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (path / night_file.NIGHT_FILE).exists():
        assert time.monotonic() < deadline, f"there is no {path}"
        time.sleep(0.1)
    return night_file.load(path)


def slurmd_killed(cluster: Cluster) -> Ending:
    """Only a node's slurmd dies: Slurm begins the job again elsewhere while the first one still measures."""
    with story(cluster, ANY) as told:
        node = told.until_held()
        cluster.kill_slurmd(node)
        told.until_held(attempt=2)
        told.release()
        first = told.attempts()[0]
        end = told.finish()
        # The first one has measured to its end, and finds no place to write that to.
        output = next(told.night.path.glob("jobs/*"))
        told.until("the first attempt finds itself stale", lambda: "is stale" in output.read_text())
        assert not (first / night_file.CELLS).exists(), told.told()
        assert end.tries == 2, told.told()
        assert end.tokens["held"] == f"{told.job()}.1", end
    cluster.start_node(node)
    cluster.wait_for_nodes([node])
    return end


def controller_restarted(cluster: Cluster) -> Ending:
    """slurmctld dies; the job ends while it is away, and it comes back."""
    with story(cluster, ANY) as told:
        told.until_held()
        cluster.kill_controller()
        told.release()
        time.sleep(2.0)
        cluster.start_controller()
        end = told.finish()
    cluster.heal()
    return end


def controller_forgets(cluster: Cluster) -> Ending:
    """slurmctld comes back without its state: it knows of no job, and gives numbers out again."""
    with story(cluster, ANY) as told:
        told.until_held()
        cluster.kill_controller()
        for file in (cluster.base / "state").glob("job_state*"):
            file.unlink()
        cluster.start_controller()
        told.until("a job is submitted anew", lambda: "; again" in (told.lab / "driver.txt").read_text())
        told.release()
        end = told.finish()
    cluster.heal()
    return end


def requeued(cluster: Cluster) -> Ending:
    """Somebody has Slurm begin the job again."""
    with story(cluster, ANY) as told:
        told.until_held()
        process.run(["scontrol", "requeue", str(told.job())], env=cluster.environment).check("requeueing")
        told.until("the first attempt was ended", lambda: "attempt-ended" in _events(told.attempts()[0]))
        told.release()
        return told.finish()


def night_killed(cluster: Cluster) -> Ending:
    """The night itself is killed while a job runs, and goes on later: the job is taken over as it is."""
    with story(cluster, ANY) as told:
        told.until_held()
        os.kill(told.driver.pid, signal.SIGKILL)
        told.driver.wait()
        told.drive()
        told.until("the job is taken over", lambda: "goes on as" in (told.lab / "driver.txt").read_text())
        told.release()
        return told.finish()


def deadline_passed(cluster: Cluster) -> Ending:
    """What measures is not done when the night has to end."""
    with story(cluster, ANY, deadline_s=25.0) as told:
        told.until_held()
        end = told.finish()
        processes = f'"{told.lab}'
        told.until("nothing of it is left running", lambda: processes not in _command_lines())
        return end


def cancelled(cluster: Cluster) -> Ending:
    """Somebody cancels the job in Slurm."""
    with story(cluster, ANY) as told:
        told.until_held()
        process.run(["scancel", str(told.job())], env=cluster.environment).check("cancelling")
        return told.finish()


def drained(cluster: Cluster) -> Ending:
    """The only node that a machine may be is out of service."""
    words = ["scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=a broken fan"]
    process.run(words, env=cluster.environment).check("draining")
    with story(cluster, 'nodes = ["n1"]') as told:
        end = told.finish()
    cluster.heal()
    return end


def wrong_kernel(cluster: Cluster, node: str = "n1") -> Ending:
    """A node falls back to the kernel before whenever it is to boot the new one."""
    boots = cluster.boots(node)
    cluster.write_kernel(node, "k6_12")
    cluster.fail_boots(node, "fall-back")
    with story(cluster, f'nodes = ["{node}"], reboot = true', "new", boots=2) as told:
        told.release()
        end = told.finish()
        assert cluster.boots(node) - boots == 2, told.told()
    cluster.fail_boots(node, "")
    cluster.wait_for_nodes([node])
    return end


def never_boots(cluster: Cluster, node: str = "n2") -> Ending:
    """A node does not come up with the new kernel; it is mended, and does not come up once more."""
    boots = cluster.boots(node)
    cluster.fail_boots(node, "dead")
    with story(cluster, f'nodes = ["{node}"], reboot = true', "new", boots=2) as told:
        told.release()
        told.until("the boot has failed", lambda: "no node came up" in _text(told.night.path / journal.JOURNAL_FILE))
        cluster.mend_node(node)
        end = told.finish()
        assert cluster.boots(node) - boots == 2, told.told()
    cluster.fail_boots(node, "")
    cluster.mend_node(node)
    cluster.wait_for_nodes([node])
    return end


def _events(attempt: Path) -> str:
    return _text(attempt / publish.EVENTS_FILE)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _command_lines() -> str:
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            texts.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(texts)
