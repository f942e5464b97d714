"""Slurm by its own commands: sbatch, squeue, sinfo, scancel. It needs no accounting database and no daemon of ours.

sacct is not asked: without slurmdbd it knows nothing. slurmctld forgets a job MinJobAge (300 s) after its end, so that
what became of a job is read from the directory that it wrote, and Slurm is asked only for what still happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import CannotRun, ProgramError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# A controller that is busy, or whose host does not answer, takes MessageTimeout (10 s), and commands try again.
_ANSWER_S = 60.0
PROGRAMS = ("sbatch", "squeue", "sinfo", "scancel")
# JOB STATE CODES of squeue(1), up to Slurm 24.11. A job in one of these ends no more and starts no more.
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"}
)
# In these it has nodes that boot, run it, or are tidied up behind it.
STARTED = frozenset({"COMPLETING", "CONFIGURING", "RESIZING", "RUNNING", "SIGNALING", "STAGE_OUT", "STOPPED"}) | {
    "SUSPENDED"
}
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
# NODE STATE CODES of sinfo(1) in which no job is begun; `*` behind any state: the node does not answer.
_UNUSABLE = frozenset(
    {"allocated+drain", "blocked", "down", "drain", "drained", "draining", "error", "fail", "failing", "future"}
    | {"inval", "no_respond", "reboot_requested", "unknown", "unk"}
)
_FLAGS = "*#!%$@^-~+"
# How the client library says that it is the controller which did not answer, and not that it refused.
_SILENT = (
    "Unable to contact slurm controller",
    "Unable to establish controller machine",
    "Unable to establish control machine address",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Communication connection failure",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "in standby mode",
    "temporarily unable to accept",
    "Munge encode failed",
)
# Read with a sign that no value holds; without sizes the fields are cut off at 20 signs.
_SIGN = "\x1f"
_JOB_FIELDS = ("JobID", "State", "RestartCnt", "NodeList", "Comment", "Reason")
_NODE_FIELDS = ("NodeList", "StateLong", "Features", "Reason")
_WIDTH = 1000


class SilentController(ProgramError):
    """slurmctld did not answer: it is being started again, or its host or the network is gone."""


class Refused(ProgramError):
    """Slurm will not have a job: a feature, node, partition or time limit that it does not have."""


@dataclass(frozen=True)
class JobRequest:
    """A job of one whole node: the node `node` where it is named, none of `exclude`, with all features of `constraint`.

    `reboot` has the node booted before the job, which Slurm lets root, SlurmUser and operators ask for.
    """

    name: str
    comment: str
    script: str
    output: Path
    minutes: int
    node: str = ""
    exclude: tuple[str, ...] = ()
    constraint: tuple[str, ...] = ()
    partition: str = ""
    reboot: bool = False

    def argv(self) -> list[str]:
        """The command line of sbatch, which reads the script from its standard input.

        NIL (since Slurm 21.08): the job gets nothing of the environment of who submits.
        """
        words = ["sbatch", "--parsable", f"--job-name={self.name}", f"--comment={self.comment}"]
        words += ["--nodes=1", "--ntasks=1", "--exclusive", "--requeue", "--export=NIL", "--open-mode=append"]
        words += [f"--output={_literal(self.output)}", f"--time={self.minutes}"]
        if self.node:
            words.append(f"--nodelist={self.node}")
        if self.exclude:
            words.append(f"--exclude={','.join(self.exclude)}")
        if self.constraint:
            words.append(f"--constraint={'&'.join(self.constraint)}")
        if self.partition:
            words.append(f"--partition={self.partition}")
        return [*words, "--reboot"] if self.reboot else words


@dataclass(frozen=True)
class Job:
    """A job as slurmctld has it now; `nodes` and `reason` are its words, `restarts` says how often it was requeued."""

    id: int
    state: str
    restarts: int
    nodes: str
    comment: str
    reason: str

    @property
    def has_ended(self) -> bool:
        """Whether it neither runs nor will run again."""
        return self.state in ENDED

    @property
    def is_waiting(self) -> bool:
        """Whether it has no node."""
        return self.state in WAITING

    @property
    def is_running(self) -> bool:
        """Whether its script runs, or is tidied up behind."""
        return self.state in STARTED and self.state != "CONFIGURING"

    @property
    def was_not_launched(self) -> bool:
        """Whether Slurm holds it since its node's slurmd did not take it; it stays held until somebody says otherwise.

        A reason is a disk that is full, or a number that the node knows: a slurmctld that was killed before it saved
        its state gives the same numbers out again.
        """
        return "launch failed" in self.reason.lower()


@dataclass(frozen=True)
class Node:
    """A node as slurmctld has it now; `reason` is why it is down or drained."""

    name: str
    state: str
    features: tuple[str, ...]
    reason: str

    @property
    def is_usable(self) -> bool:
        """Whether Slurm would begin a job on it, now or when the one on it has ended."""
        return "*" not in self.state and self.state.rstrip(_FLAGS) not in _UNUSABLE


def token(job_id: int, restarts: int) -> str:
    """The name of the attempt that a start of a job is: a requeued job keeps its number and counts its starts."""
    return f"{job_id}.{restarts}"


def _literal(path: Path) -> str:
    r"""A path for --output, where % begins a pattern and \ turns all of them off."""
    text = str(path)
    return text.replace("%", "%%") if "\\" not in text else text


def check_installed() -> None:
    """Raise `CannotRun` where a command of Slurm's is missing."""
    missing = [f"{name} was not found" for name in PROGRAMS if process.find_program(name) is None]
    if missing:
        raise CannotRun(
            "a night on Slurm's nodes", tuple(missing), "run it on a node that submits jobs: docs/cluster.md"
        )


def submit(request: JobRequest) -> int:
    """Submit a job; its number. Raises `Refused`, and `SilentController`, after which it may be there nevertheless."""
    done = _ask(request.argv(), "submitting a job", request.script)
    number = done.stdout.strip().splitlines()[-1:] or [""]
    text = number[0].partition(";")[0]
    if not text.isdecimal():
        raise ProgramError(f"sbatch printed {done.stdout[:200]!a} and no job's number")
    return int(text)


def jobs(name: str) -> tuple[Job, ...]:
    """The jobs of that name that slurmctld remembers, by number. Raises `SilentController`."""
    argv = ["squeue", "--noheader", "--states=all", f"--name={name}", f"--Format={_format(_JOB_FIELDS)}"]
    rows = _rows(_ask(argv, "asking for jobs").stdout, len(_JOB_FIELDS))
    return tuple(sorted(map(_job, rows), key=lambda job: job.id))


def _job(row: Sequence[str]) -> Job:
    number, state, restarts, nodes, comment, reason = row
    known = ENDED | STARTED | WAITING
    if not number.isdecimal() or not restarts.isdecimal() or state not in known:
        raise ProgramError(f"squeue tells of a job what is not understood: {number!a}, {state!a}, {restarts!a}")
    return Job(int(number), state, int(restarts), nodes, comment, reason)


def nodes(names: Iterable[str] = (), partition: str = "") -> tuple[Node, ...]:
    """Nodes by name, or all (of a partition). Raises `SilentController`."""
    argv = ["sinfo", "--noheader", "--Node", f"--Format={_format(_NODE_FIELDS)}"]
    chosen = ",".join(names)
    argv += [f"--nodes={chosen}"] if chosen else []
    argv += [f"--partition={partition}"] if partition else []
    rows = _rows(_ask(argv, "asking for nodes").stdout, len(_NODE_FIELDS))
    # A node has a row for each of its partitions.
    found = {row[0]: Node(row[0], row[1].lower(), tuple(filter(None, row[2].split(","))), row[3]) for row in rows}
    return tuple(found.values())


def cancel(job_ids: Sequence[int]) -> None:
    """Cancel jobs; one that has ended is left alone. Raises `SilentController`."""
    if job_ids:
        _ask(["scancel", "--quiet", *(str(number) for number in job_ids)], "cancelling a job")


def minutes(seconds: float) -> int:
    """A time limit that does not end before that many seconds."""
    return max(math.ceil(seconds / 60), 1)


def _format(fields: Sequence[str]) -> str:
    return ",".join(f"{field}:{_WIDTH}{_SIGN}" for field in fields)


def _rows(text: str, count: int) -> list[list[str]]:
    """The rows of a command's table; each field ends with the sign that was asked for."""
    rows = []
    for line in text.splitlines():
        if not line.strip():
            continue
        values = [value.strip() for value in line.split(_SIGN)]
        if len(values) < count:
            raise ProgramError(f"a row of {len(values)} fields and not {count} came from Slurm: {line[:200]!a}")
        rows.append([_none_is_empty(value) for value in values[:count]])
    return rows


def _none_is_empty(value: str) -> str:
    return "" if value in {"(null)", "None", "none", "N/A"} else value


def _ask(argv: Sequence[str], what: str, stdin_text: str = "") -> process.Completed:
    try:
        done = process.run(argv, timeout_s=_ANSWER_S, stdin_text=stdin_text)
    except ProgramError as error:
        raise SilentController(f"{what}: {error.message}", "is slurmctld up?") from None
    if done.exit_status == 0:
        return done
    told = done.stderr.strip() or done.stdout.strip()
    if any(words in told for words in _SILENT):
        raise SilentController(f"{what}: {told.splitlines()[-1]}", "is slurmctld up?")
    kind = Refused if argv[0] == "sbatch" else ProgramError
    raise kind(f"{what}: {argv[0]} {process.describe_exit(done.exit_status)}: {_last(told)}", "see docs/cluster.md")


def _last(text: str) -> str:
    """The last words of a command, without its own name before them."""
    line = (text.splitlines() or ["it said nothing"])[-1]
    return line.partition("error: ")[2] or line
