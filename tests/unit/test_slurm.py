"""Slurm by its commands: what they are asked, and what their words mean. What Slurm does: tests/lab/test_slurm.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from slurm_stories import write_lab, write_night

from numabench import process
from numabench.errors import CannotRun, ProgramError, ResultError
from numabench.fleet import publish, quarantine, slurm, slurm_job
from numabench.fleet.journal import JOURNAL_FILE, Journal
from numabench.fleet.slurm import Job, JobRequest, Node
from numabench.fleet.slurm_starts import START_FAILED, Starts

# As squeue and sinfo of Slurm 22.05.8 print it, but for their blanks: a field is 1000 signs wide.
SQUEUE = """\
4\x1fCANCELLED\x1f0\x1f\x1fb01.m.old\x1fResources\x1f
12\x1fPENDING\x1f1\x1f\x1fb02.m.new\x1fReqNodeNotAvail, UnavailableNodes:n1\x1f
6\x1fRUNNING\x1f0\x1fn1\x1fb01.any.old\x1fNone\x1f
"""
SINFO = """\
n1\x1fdown*\x1fgenoa,k6_12,k6_18\x1freboot timed out\x1f
n2\x1fallocated\x1f(null)\x1fnone\x1f
n1\x1fdown*\x1fgenoa,k6_12,k6_18\x1freboot timed out\x1f
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose programs are found before all others."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    return path


def program(path: Path, out: str = "", err: str = "", status: int = 0) -> None:
    """A program that prints words, and keeps what it was called with beside it."""
    path.with_suffix(".out").write_text(out)
    path.with_suffix(".err").write_text(err)
    path.write_text(f'#!/bin/sh\necho "$@" >"{path}.argv"\ncat "{path}.out"\ncat "{path}.err" >&2\nexit {status}\n')
    path.chmod(0o755)


def test_a_job_asks_for_one_whole_node_with_all_features() -> None:
    asked = JobRequest(
        name="numabench-2026-11-25-1a2b3c4d",
        comment="b01.genoa.k612",
        script="",
        output=Path("/lab/100 %/b01.txt"),
        minutes=90,
        exclude=("n3", "n4"),
        constraint=("genoa", "k6_12"),
        partition="lab",
        reboot=True,
    )
    assert asked.argv() == [
        "sbatch",
        "--parsable",
        "--job-name=numabench-2026-11-25-1a2b3c4d",
        "--comment=b01.genoa.k612",
        "--nodes=1",
        "--ntasks=1",
        "--exclusive",
        "--requeue",
        "--export=NIL",
        "--open-mode=append",
        "--output=/lab/100 %%/b01.txt",
        "--time=90",
        "--exclude=n3,n4",
        "--constraint=genoa&k6_12",
        "--partition=lab",
        "--reboot",
    ]


def test_jobs_are_read_by_their_fields(commands: Path) -> None:
    program(commands / "squeue", SQUEUE)
    assert slurm.jobs("a-night") == (
        Job(4, "CANCELLED", 0, "", "b01.m.old", "Resources"),
        Job(6, "RUNNING", 0, "n1", "b01.any.old", ""),
        Job(12, "PENDING", 1, "", "b02.m.new", "ReqNodeNotAvail, UnavailableNodes:n1"),
    )
    assert "--states=all --name=a-night" in (commands / "squeue.argv").read_text()
    assert [job.has_ended for job in slurm.jobs("a-night")] == [True, False, False]
    assert [job.is_waiting for job in slurm.jobs("a-night")] == [False, False, True]


@pytest.mark.parametrize(
    "row", ["4\x1fDREAMING\x1f0\x1f\x1f\x1f\x1f", "x\x1fRUNNING\x1f0\x1f\x1f\x1f\x1f", "4 RUNNING"]
)
def test_a_job_that_is_not_understood_is_an_error(commands: Path, row: str) -> None:
    program(commands / "squeue", f"{row}\n")
    with pytest.raises(ProgramError):
        slurm.jobs("a-night")


def test_a_node_in_two_partitions_is_one_node(commands: Path) -> None:
    program(commands / "sinfo", SINFO)
    assert slurm.nodes() == (
        Node("n1", "down*", ("genoa", "k6_12", "k6_18"), "reboot timed out"),
        Node("n2", "allocated", (), ""),
    )


@pytest.mark.parametrize(
    ("state", "is_usable"),
    [
        *(("idle", True), ("allocated", True), ("allocated#", True), ("completing", True), ("idle~", True)),
        *(("down", False), ("down*", False), ("idle*", False), ("drained", False), ("draining@", False)),
        *(("unknown", False), ("inval", False)),
    ],
)
def test_a_node_is_usable_where_slurm_would_begin_a_job_on_it(state: str, is_usable: bool) -> None:
    assert Node("n1", state, (), "").is_usable is is_usable


def test_a_controller_that_is_silent_is_told_from_one_that_refuses(commands: Path, tmp_path: Path) -> None:
    asked = JobRequest("n", "c", "#!/bin/sh\n", tmp_path / "out", 1)
    failed = "sbatch: error: Batch job submission failed: "
    program(commands / "sbatch", err=f"{failed}Unable to contact slurm controller (connect failure)\n", status=1)
    with pytest.raises(slurm.SilentController, match="Unable to contact"):
        slurm.submit(asked)
    program(commands / "sbatch", err=f"{failed}Invalid feature specification\n", status=1)
    with pytest.raises(slurm.Refused, match="submission failed: Invalid feature specification"):
        slurm.submit(asked)
    program(commands / "sbatch", "17;cluster\n")
    assert slurm.submit(asked) == 17
    program(commands / "sbatch", "Submitted batch job 17\n")
    with pytest.raises(ProgramError, match="no job's number"):
        slurm.submit(asked)


def test_a_host_without_slurm_is_told_what_is_missing(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_program", lambda name: None if name == "sbatch" else f"/usr/bin/{name}")
    with pytest.raises(CannotRun, match="sbatch was not found"):
        slurm.check_installed()


def test_a_machine_of_several_nodes_is_any_of_them_and_no_other(tmp_path: Path) -> None:
    nodes = [Node("n1", "idle", ("k6_12",), ""), Node("n2", "idle", ("k6_12",), ""), Node("n3", "idle", (), "")]
    write_lab(tmp_path / "lab", 'nodes = ["n1", "n2"], features = ["k6_12"]')
    night = write_night(tmp_path / "lab")
    (block,) = night.blocks
    asked = slurm_job.request(night, block, block.cells, nodes, None)
    assert (asked.node, asked.exclude, asked.constraint, asked.reboot) == ("", ("n3",), ("k6_12",), False)
    assert [node.name for node in slurm_job.candidates(night.machines["m"], nodes)] == ["n1", "n2"]


@pytest.mark.parametrize(("restarts", "token"), [(None, "12.0"), ("3", "12.3")])
def test_the_script_runs_the_block_whatever_its_path_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: str | None, token: str
) -> None:
    lab = tmp_path / 'it\'s a "lab" $HOME'
    write_lab(lab, 'nodes = ["n1"]')
    night = write_night(lab)
    echo = tmp_path / "echo"
    echo.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    echo.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(echo))
    environment = {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n1"}
    environment |= {} if restarts is None else {"SLURM_RESTART_COUNT": restarts}
    script = slurm_job.script(night, night.blocks[0], tmp_path / "the roots")
    done = process.run(["/bin/sh"], env=environment, stdin_text=script).check("the script")
    assert json.loads(done.stdout) == [
        *("-m", "numabench", "nightly", "block", str(night.path), "b01.m.old"),
        *("--attempt-token", token, "--root", f"{tmp_path}/the roots/n1"),
    ]


def test_an_ended_block_takes_nothing_of_attempts_before_or_after(tmp_path: Path) -> None:
    write_lab(tmp_path / "lab", 'nodes = ["n1"]')
    night = write_night(tmp_path / "lab")
    (block,) = night.blocks
    cell = block.cells[0]
    attempt = publish.take(night.path, block.id, "1.0")
    (attempt.cells / cell / publish.RUNS).mkdir(parents=True)
    publish.write_cell(attempt, cell, {})
    publish.close(night.path, block.id)
    with pytest.raises(publish.Stale, match="has been ended"):
        publish.publish(attempt, cell, block.boot)
    with pytest.raises(publish.Stale, match="has been ended"):
        publish.take(night.path, block.id, "1.1")
    assert not publish.published(night.path, cell, block.boot).exists()


def test_a_kernel_is_in_quarantine_until_it_is_released(tmp_path: Path) -> None:
    entry = quarantine.Quarantined("epyc1", "k618", "2 boots failed", "2026-11-25T01:02:03+00:00", "2026-11-25")
    assert quarantine.find(tmp_path, "epyc1", "k618") is None
    quarantine.add(tmp_path, entry)
    quarantine.add(tmp_path, quarantine.Quarantined("epyc1", "k618", "again", "", ""))
    assert quarantine.read(tmp_path) == (entry,)
    assert quarantine.find(tmp_path, "epyc2", "k618") is None
    assert quarantine.release(tmp_path, "epyc1", "k618")
    assert not quarantine.release(tmp_path, "epyc1", "k618")
    assert quarantine.read(tmp_path) == ()


def test_boots_that_put_a_kernel_in_quarantine_do_not_do_so_again(tmp_path: Path) -> None:
    write_lab(tmp_path, 'partition = "lab"')
    made = write_night(tmp_path)
    (block,) = made.blocks
    book = Journal(made.path / JOURNAL_FILE)
    starts = Starts(made, book)

    def fail() -> None:
        number = len(starts.failed_boots("m", "old"))
        book.append(START_FAILED, block=block.id, token=f"7.{number}", is_boot=True, reason="it never came up")

    fail()
    fail()
    assert len(starts.failed_boots("m", "old")) == 2
    starts.note_quarantined("m", "old")
    assert starts.failed_boots("m", "old") == ()
    fail()
    assert starts.failed_boots("m", "old") == ("it never came up",)
    fail()
    starts.note_quarantined("m", "old")
    assert starts.failed_boots("m", "old") == ()
    assert starts.failed_boots("m", "new") == ()


def test_an_attempt_that_was_interrupted_or_had_no_room_is_no_try(tmp_path: Path) -> None:
    write_lab(tmp_path, 'partition = "lab"')
    made = write_night(tmp_path)
    (block,) = made.blocks
    starts = Starts(made, Journal(made.path / JOURNAL_FILE))
    for number, how in enumerate(("interrupted", "disk-full", "", "done")):
        attempt = publish.take(made.path, block.id, f"{number}.0")
        if how:
            Journal(attempt.path / publish.EVENTS_FILE).append("attempt-ended", how=how, reasons=[], at="")
    assert starts.tries(block) == 2


def test_a_quarantine_of_a_newer_numabench_is_refused(tmp_path: Path) -> None:
    (tmp_path / quarantine.QUARANTINE_FILE).write_text('{"schema_version": 2, "quarantined": []}')
    with pytest.raises(ResultError, match="update numabench"):
        quarantine.read(tmp_path)
