"""Reading a run: nothing in its files is trusted."""

from __future__ import annotations

import re
from pathlib import Path

from numabench.errors import ResultError
from numabench.fields import DAMAGED, Fields, parse
from numabench.record import (
    KILLED,
    RUNNING,
    BootTurn,
    Ending,
    FamilyPlan,
    KnobRestore,
    KnobWrite,
    Listed,
    Machine,
    MachineFinding,
    MoverPlan,
    Note,
    Plan,
    Run,
    Trial,
    VictimPlan,
)
from numabench.store.files import END_FILE, KIND, RUN_FILE, SCHEMA_VERSION, SWEEP_FILE, TRIALS
from numabench.store.living import is_locked
from numabench.store.trials import read_bytes, read_trial

# What a run's name ends with that is one of several boots (lab.boots).
_BOOT = re.compile(r"(?<=-b)\d+$")
_TRIAL_NAME = re.compile(r"\d{4,}")


def load(path: Path | str) -> Run:
    """Read a run's directory.

    Unknown keys are ignored, as is what a killed writer left unfinished. Raises `ResultError`, naming the file and
    what to do, for a directory that is not a result, has a newer schema, or holds a file that is missing, cut or not
    what it should be.
    """
    path = Path(path)
    run, plan = _read_header(path)
    ending = _read_ending(path)
    nodes = plan.ids("nodes")
    planned = _read_plan(plan)
    identity = run.object("identity")
    machine = _read_machine(identity)
    trials = tuple(read_trial(directory, len(nodes)) for directory in _trial_directories(path))
    _check_trials(path, trials, len(planned.order), ending.status)
    return Run(
        path=path,
        run_id=run.text("run_id"),
        created_utc=run.text("created_utc"),
        identity=identity.fields,
        plan=plan.fields,
        machine=machine,
        planned=planned,
        workload=_workload_name(plan),
        nodes=nodes,
        placements=tuple(plan.texts("placements")),
        planned_trials=len(planned.order),
        page_bytes=max(identity.count("page_bytes", 4096), 1),
        huge_page_bytes=identity.count("huge_page_bytes", 0),
        knobs=tuple(KnobWrite(**knob.strings("name path before wanted outcome message")) for knob in run.rows("knobs")),
        notes=tuple(Note(**note.strings("code message remedy")) for note in run.rows("notes")),
        trials=trials,
        ending=ending,
        boot=_read_boot(run.optional_object("boot")),
        doctor=_read_doctor(run),
    )


def find(results_dir: Path, word: str, *, having: tuple[str, ...] = (RUN_FILE,)) -> Path:
    """The run that a user means: a path, a run's name below `results_dir` or the beginning of one, or `last`.

    `having` are the files of which a directory has one to be meant: a run's, or a sweep's, too. Raises `ResultError`
    when there is none or more than one.
    """
    direct = Path(word)
    if word not in {"", "last"} and direct.is_dir():
        return direct
    names = _names(results_dir, having)
    what = "sweep" if having == (SWEEP_FILE,) else "run"
    if word == "last":
        if not names:
            raise ResultError(
                f"there is no {what} in {results_dir}", f"make one with `numabench {what}`, or pass --results"
            )
        return results_dir / names[-1]
    matches = [name for name in names if word and name.startswith(word)]
    if word in matches or len(matches) == 1:
        return results_dir / (word if word in matches else matches[0])
    if matches:
        some = ", ".join(matches[:3]) + (", ..." if len(matches) > 3 else "")
        raise ResultError(f"{word!a} is the beginning of {len(matches)} {what}s: {some}", "write more of its name")
    raise ResultError(
        f"there is no {what} {word!a}, neither as a path nor in {results_dir}", "`numabench list` shows what there is"
    )


def find_all(results_dir: Path, word: str) -> tuple[Path, ...]:
    """All runs that a word means, oldest first: a path, every run whose name begins so, or `last`.

    Where the last run is one of several boots of one command, `last` means all of these. Raises `ResultError` where
    there is none.
    """
    direct = Path(word)
    if word not in {"", "last"} and direct.is_dir():
        return (direct,)
    names = _names(results_dir, (RUN_FILE,))
    beginning = _BOOT.sub("", names[-1]) if word == "last" and names else word
    found = [name for name in names if beginning and name.startswith(beginning)]
    if not found:
        return (find(results_dir, word),)
    return tuple(results_dir / name for name in ([word] if word in found else found))


def read_note(directory: Path, name: str) -> Fields:
    """What `write_note` wrote. Raises `ResultError` where it is missing or cut."""
    return parse(directory / name, read_bytes(directory / name))


def _names(results_dir: Path, having: tuple[str, ...]) -> list[str]:
    try:
        return sorted(
            entry.name
            for entry in results_dir.iterdir()
            if not entry.name.startswith(".") and any((entry / file).is_file() for file in having)
        )
    except OSError:
        return []


def _read_header(path: Path) -> tuple[Fields, Fields]:
    """run.json and its plan, once it is sure to be ours and not from the future."""
    if not path.is_dir():
        raise ResultError(f"there is no directory {path}", "`numabench list` shows what there is")
    file = path / RUN_FILE
    if not file.is_file():
        if (path / SWEEP_FILE).is_file():
            raise ResultError(f"{path} is a sweep, a directory of runs", "name one of those in its units directory")
        if is_locked(path):
            raise ResultError(f"{path} is a run that has just begun: it has no {RUN_FILE} yet", "try again in a moment")
        raise ResultError(f"{path} is not a numabench result: it has no {RUN_FILE}", "`numabench list` shows results")
    run = parse(file, read_bytes(file))
    if run.fields.get("kind") != KIND:
        raise ResultError(f"{file} was not written by numabench", "`numabench list` shows results")
    check_version(run)
    return run, run.object("plan")


def check_version(record: Fields, newest: int = SCHEMA_VERSION) -> None:
    """Refuse, with `ResultError`, a file that is from the future: of a newer version than the `newest` of its kind."""
    version = record.integer("schema_version")
    if version > newest:
        raise ResultError(
            f"{record.file} has schema version {version}, this numabench reads up to {newest}",
            "update numabench",
        )
    if version < 1:
        record.wrong("schema_version", "a schema version")


def _read_boot(boot: Fields | None) -> BootTurn | None:
    if boot is None:
        return None
    return BootTurn(boot.text("series"), boot.count("turn"), boot.count("of"), boot.text("kernel"))


def _read_doctor(run: Fields) -> tuple[MachineFinding, ...] | None:
    if run.fields.get("doctor") is None:
        return None
    keys = "code weight subject cause effect remedy source"
    return tuple(MachineFinding(**finding.strings(keys)) for finding in run.rows("doctor"))


def _read_plan(plan: Fields) -> Plan:
    return Plan(
        argv=tuple(plan.texts("argv")),
        driver=plan.text("driver", "autonuma"),
        order=plan.text_pairs("order"),
        size_bytes=plan.count("size_bytes", 0),
        threads=plan.count("threads", 0),
        loops=plan.count("loops", 0),
        duration_s=plan.optional_quantity("duration_s"),
        start_node=plan.optional_count("start_node"),
        interval_s=plan.optional_quantity("interval_s"),
        seed=plan.optional_integer("seed"),
        scaled=tuple(plan.texts("scaled")),
        knobs=None if plan.fields.get("knobs") is None else plan.texts_by_name("knobs"),
        mover=_read_mover_plan(plan.optional_object("mover")),
        victims=_read_victim_plan(plan.optional_object("victims")),
        verify=plan.fields.get("verify") is True,
        obstacles=plan.counts("obstacles"),
        family=_read_family_plan(plan.optional_object("family")),
    )


def _read_mover_plan(mover: Fields | None) -> MoverPlan | None:
    if mover is None:
        return None
    return MoverPlan(
        mover=mover.text("mover"),
        flags=tuple(mover.texts("flags")),
        batch=mover.optional_count("batch"),
        order=mover.text("order"),
        pages=mover.text("pages"),
        mover_on=mover.text("mover_on"),
        route=mover.text("route"),
        retries=mover.count("retries"),
        sharing=mover.text("sharing"),
    )


def _read_victim_plan(victims: Fields | None) -> VictimPlan | None:
    if victims is None:
        return None
    return VictimPlan(victims.count("count"), victims.text("access"), victims.text("pattern"), victims.text("on"))


def _read_family_plan(family: Fields | None) -> FamilyPlan | None:
    if family is None:
        return None
    return FamilyPlan(
        family.count("depth"), family.count("fanout"), family.text("mover_at"), tuple(family.texts("churn"))
    )


def _read_machine(identity: Fields) -> Machine:
    kernel, cpu = identity.object("kernel"), identity.object("cpu")
    return Machine(
        **identity.strings("where accelerator virtualization hostname thp_enabled"),
        kernel_release=kernel.text("release", ""),
        kernel_version=kernel.text("version", ""),
        cpu_model=cpu.text("model", ""),
        cpu_count=cpu.count("count", 0),
        knobs=identity.texts_by_name("knobs"),
    )


def _workload_name(plan: Fields) -> str:
    """The workload's name, or for a program of the user's own that program's file name."""
    command = plan.texts("command")
    return plan.text("workload") if not command else command[0].rsplit("/", 1)[-1]


def listed(path: Path) -> Listed:
    """A run by its header. Raises `ResultError`."""
    run, plan = _read_header(path)
    identity = run.object("identity")
    return Listed(
        path=path,
        run_id=path.name,
        created_utc=run.text("created_utc", ""),
        workload=_workload_name(plan),
        where=identity.text("where", ""),
        kernel=identity.object("kernel").text("release", ""),
        nodes=plan.ids("nodes"),
        status=_read_ending(path).status,
        trials=len(_trial_directories(path)),
        planned_trials=len(plan.array("order")),
    )


def _read_ending(path: Path) -> Ending:
    file = path / END_FILE
    # The lock first: a run that ends between the two looks is one that has ended.
    locked = is_locked(path)
    if not file.exists():
        if locked:
            return Ending(RUNNING, "", "", ())
        return Ending(KILLED, "there is no end.json, and no process on this machine holds its lock", "", ())
    end = parse(file, read_bytes(file))
    return Ending(
        status=end.text("status"),
        message=end.text("message", ""),
        finished_utc=end.text("finished_utc", ""),
        restored=tuple(KnobRestore(**row.strings("name path value outcome message")) for row in end.rows("restored")),
    )


def _trial_directories(path: Path) -> list[Path]:
    try:
        entries = [entry for entry in (path / TRIALS).iterdir() if _TRIAL_NAME.fullmatch(entry.name)]
    except OSError as error:
        raise ResultError(f"cannot list {path / TRIALS}: {error.strerror}", DAMAGED) from None
    return sorted(entries, key=lambda entry: int(entry.name))


def _check_trials(path: Path, trials: tuple[Trial, ...], planned: int, status: str) -> None:
    wanted = planned if status == "complete" else len(trials)
    for index, trial in enumerate(trials, 1):
        if trial.index != index:
            raise ResultError(f"{path / TRIALS}: trial {index} is missing", DAMAGED)
    if len(trials) < wanted:
        raise ResultError(f"{path / TRIALS}: trial {len(trials) + 1} of {planned} is missing", DAMAGED)
