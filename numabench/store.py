"""The result directory: written once, durably and whole trial by whole trial; read with suspicion.

The format, with its history, is docs/result-format.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import shutil
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from numabench.errors import ResultError
from numabench.fields import DAMAGED, Fields, parse
from numabench.record import (
    KILLED,
    RUNNING,
    Clock,
    DataCheck,
    Ending,
    KnobRestore,
    KnobWrite,
    Listed,
    Machine,
    MemorySlice,
    Note,
    Observed,
    PageCensus,
    Plan,
    Run,
    Sample,
    SamplerCost,
    Snapshot,
    ThreadWork,
    Trial,
    WorkloadThread,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "KIND",
    "SCHEMA_VERSION",
    "Run",
    "RunWriter",
    "check_writable",
    "create",
    "find",
    "held",
    "iterate",
    "load",
    "new_run_id",
]

# 1: the first.
SCHEMA_VERSION = 1
KIND = "numabench-run"

RUN_FILE = "run.json"
END_FILE = "end.json"
LOCK_FILE = "run.lock"
TRIALS = "trials"
TRIAL_FILE = "trial.json"
EVENTS_FILE = "events.jsonl"
SAMPLES_FILE = "samples.jsonl"

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_TRIAL_NAME = re.compile(r"\d{4,}")
_PROBE_BYTES = 1 << 20
# Directories on 9p and some FUSE file systems cannot be fsynced; their rename is as durable as they make it.
_NO_FSYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})


def new_run_id(workload: str, now_utc: str | None = None, suffix: str | None = None) -> str:
    """A name for a run that sorts by time: `20261123T043052Z-numa02-1a2b3c`.

    `now_utc` is a time as `20261123T043052Z` (default: now), `suffix` what tells runs of one second apart (default:
    6 random hexadecimal digits). Characters of `workload` that do not belong in a file name become `_`.
    """
    if now_utc is None:
        import time

        now_utc = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", workload)[:64].lstrip(".-") or "program"
    return f"{now_utc}-{name}-{os.urandom(3).hex() if suffix is None else suffix}"


def check_writable(results_dir: Path) -> None:
    """Make `results_dir` if need be and see that a megabyte can be stored in it; leaves nothing else behind.

    Raises `ResultError` with the reason (no permission, read-only, full, not a directory).
    """
    probe = results_dir / f".probe-{os.getpid()}"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        try:
            _write_durably(probe, b"\0" * _PROBE_BYTES)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        _refuse(results_dir, error)


def create(results_dir: Path, run_id: str) -> RunWriter:
    """Open the result directory of a new run, `results_dir/run_id`, before anything runs.

    Raises `ResultError` where it cannot be written, where it is there already, and for a name that is not one.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ResultError(f"{run_id!a} is not a run's name", "use letters, digits, dot, dash and underscore")
    check_writable(results_dir)
    path = results_dir / run_id
    try:
        (path / TRIALS).mkdir(parents=True)
        _fsync_directory(path)
        _fsync_directory(results_dir)
    except FileExistsError:
        raise ResultError(f"{path} is there already", "results are written once: choose another --run-id") from None
    except OSError as error:
        _refuse(path, error)
    return RunWriter(path, _take_lock(path / LOCK_FILE))


class RunWriter:
    """Writes one run. Every method is durable when it returns, and leaves either a whole file or trial, or none.

    Each raises `ResultError` where the file system refuses; what was written before stays as it was. Until the end is
    written, the writer is given up or the process dies, the lock whose descriptor it is given shows that the run lives.
    """

    def __init__(self, path: Path, lock_fd: int | None = None) -> None:
        self.path = path
        self._unlock = (lambda: None) if lock_fd is None else weakref.finalize(self, os.close, lock_fd)

    def write_run(self, run: dict[str, Any]) -> None:
        """Write run.json."""
        self._replace(self.path / RUN_FILE, run)

    def scratch(self, index: int) -> Path:
        """A new directory for what is recorded during trial number `index`; `write_trial` takes the files from there.

        Readers ignore it, and it is gone when the trial is written.
        """
        path = self.path / TRIALS / f".tmp-{index:04}-recordings"
        try:
            path.mkdir()
        except OSError as error:
            _refuse(path, error)
        return path

    def write_trial(
        self,
        index: int,
        trial: dict[str, Any],
        events: bytes,
        samples: Iterable[dict[str, Any]],
        recordings: Sequence[Path] = (),
    ) -> None:
        """Write trial number `index`, counted from 1: its facts, the workload's own lines, and what was sampled.

        `recordings` are files in the trial's `scratch`: they are moved into its directory.
        """
        trials = self.path / TRIALS
        final, partial = trials / f"{index:04}", trials / f".tmp-{index:04}"
        sampled = b"".join(_json_line(sample) for sample in samples)
        files = {EVENTS_FILE: {"bytes": len(events)}, SAMPLES_FILE: {"bytes": len(sampled)}}
        try:
            partial.mkdir()
            for recording in recordings:
                files[recording.name] = {"bytes": recording.stat().st_size}
                _fsync_file(recording)
                recording.rename(partial / recording.name)
            _write_durably(partial / EVENTS_FILE, events)
            _write_durably(partial / SAMPLES_FILE, sampled)
            _write_durably(partial / TRIAL_FILE, _json_file({**trial, "files": files}))
            _fsync_directory(partial)
            partial.rename(final)
            _fsync_directory(trials)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            _refuse(final, error)
        finally:
            shutil.rmtree(trials / f".tmp-{index:04}-recordings", ignore_errors=True)

    def write_end(self, end: dict[str, Any]) -> None:
        """Write end.json: a run without it was killed, or is running as long as its lock is held."""
        for left in (self.path / TRIALS).glob(".tmp-*-recordings"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            self._replace(self.path / END_FILE, end)
        finally:
            self._release()

    def discard(self) -> None:
        """Remove the directory of a run that ended before run.json was written; one that holds more stays."""
        if (self.path / RUN_FILE).exists():
            return
        with contextlib.suppress(OSError):
            for name in (END_FILE, f".tmp-{END_FILE}", f".tmp-{RUN_FILE}"):
                (self.path / name).unlink(missing_ok=True)
            (self.path / TRIALS).rmdir()
            self._release()
            self.path.rmdir()

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            (self.path / LOCK_FILE).unlink(missing_ok=True)
        self._unlock()

    def _replace(self, path: Path, record: dict[str, Any]) -> None:
        partial = path.with_name(f".tmp-{path.name}")
        try:
            _write_durably(partial, _json_file(record))
            partial.rename(path)
            _fsync_directory(path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)
            _refuse(path, error)


@contextlib.contextmanager
def held(results_dir: Path, run_id: str) -> Iterator[None]:
    """Show, as long as the block runs, that a run lives whose own lock cannot be seen here: a guest's, through 9p.

    It is a lock on a file beside the run's directory, since the guest makes that one.
    """
    file = _outer_lock(results_dir / run_id)
    descriptor = _take_lock(file)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            os.close(descriptor)


def _outer_lock(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _take_lock(file: Path) -> int | None:
    """A descriptor of a lock file, which shows that a run lives; None where the file system has no locks.

    The file gets its name when it is locked, so that no reader can be there before.
    """
    partial = file.with_name(f".tmp-{file.name}")
    descriptor = None
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial.rename(file)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return None
    return descriptor


def _is_locked(path: Path) -> bool:
    """Whether a process holds one of a run's locks; False where that cannot be seen."""
    return any(_is_held(file) for file in (path / LOCK_FILE, _outer_lock(path.absolute())))


def _is_held(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in {errno.EWOULDBLOCK, errno.EACCES}
    finally:
        os.close(descriptor)
    return False


def _json_file(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1, allow_nan=False).encode("ascii") + b"\n"


def _json_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def _refuse(path: Path, error: OSError) -> NoReturn:
    hints = {
        errno.ENOSPC: "free some space, or choose another directory with --results",
        errno.EDQUOT: "free some space, or choose another directory with --results",
        errno.EROFS: "choose a directory that can be written with --results",
    }
    hint = hints.get(error.errno or 0, "choose another directory with --results")
    raise ResultError(f"cannot write results to {path}: {error.strerror or error}", hint) from error


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
    trials = tuple(_read_trial(directory, len(nodes)) for directory in _trial_directories(path))
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
    )


def iterate(results_dir: Path) -> Iterator[Listed]:
    """The runs below a results directory by name, which is by time; also what cannot be read, with the reason.

    Only headers are read, no trial. Raises `ResultError` where the directory itself cannot be listed.
    """
    try:
        paths = sorted(entry for entry in results_dir.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise ResultError(f"cannot list {results_dir}: {error.strerror}", "pass --results DIR") from error
    for path in paths:
        try:
            yield _listed(path)
        except ResultError as error:
            yield Listed(path, path.name, unreadable=error.message)


def find(results_dir: Path, word: str) -> Path:
    """The run that a user means: a path, a run's name below `results_dir` or the beginning of one, or `last`.

    Raises `ResultError` when there is none or more than one.
    """
    direct = Path(word)
    if word not in {"", "last"} and direct.is_dir():
        return direct
    names = _run_names(results_dir)
    if word == "last":
        if not names:
            raise ResultError(f"there is no run in {results_dir}", "make one with `numabench run`, or pass --results")
        return results_dir / names[-1]
    matches = [name for name in names if word and name.startswith(word)]
    if word in matches or len(matches) == 1:
        return results_dir / (word if word in matches else matches[0])
    if matches:
        some = ", ".join(matches[:3]) + (", ..." if len(matches) > 3 else "")
        raise ResultError(f"{word!a} is the beginning of {len(matches)} runs: {some}", "write more of its name")
    raise ResultError(
        f"there is no run {word!a}, neither as a path nor in {results_dir}", "`numabench list` shows what there is"
    )


def _run_names(results_dir: Path) -> list[str]:
    try:
        return sorted(
            entry.name
            for entry in results_dir.iterdir()
            if not entry.name.startswith(".") and (entry / RUN_FILE).is_file()
        )
    except OSError:
        return []


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ResultError(f"{file} is missing", DAMAGED) from None
    except OSError as error:
        raise ResultError(f"cannot read {file}: {error.strerror}", "see who may read it") from None


def _read_header(path: Path) -> tuple[Fields, Fields]:
    """run.json and its plan, once it is sure to be ours and not from the future."""
    if not path.is_dir():
        raise ResultError(f"there is no directory {path}", "`numabench list` shows what there is")
    file = path / RUN_FILE
    if not file.is_file():
        if _is_locked(path):
            raise ResultError(f"{path} is a run that has just begun: it has no {RUN_FILE} yet", "try again in a moment")
        raise ResultError(f"{path} is not a numabench result: it has no {RUN_FILE}", "`numabench list` shows results")
    run = parse(file, _read_bytes(file))
    if run.fields.get("kind") != KIND:
        raise ResultError(f"{file} was not written by numabench", "`numabench list` shows results")
    version = run.integer("schema_version")
    if version > SCHEMA_VERSION:
        raise ResultError(
            f"{file} has schema version {version}, this numabench reads up to {SCHEMA_VERSION}", "update numabench"
        )
    if version < 1:
        run.wrong("schema_version", "a schema version")
    return run, run.object("plan")


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


def _listed(path: Path) -> Listed:
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
    locked = _is_locked(path)
    if not file.exists():
        if locked:
            return Ending(RUNNING, "", "", ())
        return Ending(KILLED, "there is no end.json, and no process on this machine holds its lock", "", ())
    end = parse(file, _read_bytes(file))
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


def _read_trial(directory: Path, nodes: int) -> Trial:
    trial = parse(directory / TRIAL_FILE, _read_bytes(directory / TRIAL_FILE))
    if not (directory / EVENTS_FILE).is_file():
        raise ResultError(f"{directory / EVENTS_FILE} is missing", DAMAGED)
    _check_size(directory / EVENTS_FILE, trial)
    check, pages = trial.optional_object("check"), trial.optional_object("pages")
    first_touch = trial.optional_object("first_touch")
    sampler = trial.object("sampler")
    counters = trial.object("counters")
    observed = trial.optional_object("observe")
    return Trial(
        index=trial.count("index"),
        placement=trial.text("placement"),
        role=trial.text("role"),
        status=trial.text("status"),
        message=trial.text("message", ""),
        exit_status=trial.optional_integer("exit_status"),
        clock=_read_clock(trial.object("clock")),
        slices=tuple(
            MemorySlice(row.count("pid"), row.count("bytes"), row.indices("threads")) for row in trial.rows("slices")
        ),
        threads=tuple(
            WorkloadThread(
                row.count("thread"), row.count("pid"), row.count("tid", 0), row.text("name", ""), row.text("policy", "")
            )
            for row in trial.rows("threads")
        ),
        done=tuple(_read_work(row) for row in trial.rows("done")),
        check=None
        if check is None
        else DataCheck(check.count("bytes"), check.count("wrong"), check.object("first_wrong").fields or None),
        first_touch=None if first_touch is None else first_touch.node_counts("nodes"),
        before=_read_snapshot(counters.optional_object("before")),
        after=_read_snapshot(counters.optional_object("after")),
        pages=None if pages is None else _read_census(pages),
        sampler=SamplerCost(
            sampler.count("samples", 0),
            sampler.count("interval_ns", 0),
            sampler.count("cpu_ns", 0),
            sampler.number("busy", 0.0),
        ),
        samples=_read_samples(directory / SAMPLES_FILE, trial, nodes + 1),
        knobs=trial.texts_by_name("knobs"),
        observed=None if observed is None else _read_observed(directory, trial, observed),
    )


def _read_observed(directory: Path, trial: Fields, observed: Fields) -> Observed:
    """What a pass recorded. A trial that failed may have no recording."""
    name, kallsyms = observed.text("file"), observed.text("kallsyms", "")
    for key, value in (("file", name), ("kallsyms", kallsyms)):
        if "/" in value or value in {".", ".."}:
            observed.wrong(key, "a file's name")
    file = directory / name
    if name in trial.object("files").fields:
        if not file.is_file():
            raise ResultError(f"{file} is missing", DAMAGED)
        _check_size(file, trial)
    return Observed(
        recipe=observed.text("recipe"),
        file=file if file.is_file() else None,
        kallsyms=directory.parents[1] / kallsyms if kallsyms else None,
        events=tuple(observed.texts("events")),
        frequency_hz=observed.optional_count("frequency_hz"),
        size_bytes=file.stat().st_size if file.is_file() else 0,
        perf_version=observed.text("perf", ""),
        enabled_ns=observed.optional_integer("enabled"),
        disabled_ns=observed.optional_integer("disabled"),
        functions=observed.texts_by_name("functions"),
        not_counted=observed.texts_by_name("not_counted"),
        missed=observed.counts("missed"),
    )


def _check_size(file: Path, trial: Fields) -> None:
    """A file that was cut where a line ends is found by its size."""
    stored = trial.object("files").optional_object(file.name)
    if stored is not None and stored.count("bytes") != file.stat().st_size:
        raise ResultError(f"{file} has {file.stat().st_size} bytes, {stored.count('bytes')} were written", DAMAGED)


def _read_clock(clock: Fields) -> Clock:
    return Clock(*(clock.optional_integer(name) for name in ("started", "ready", "go", "stop", "ended")))


def _read_work(row: Fields) -> ThreadWork:
    return ThreadWork(
        row.count("pid"), row.count("thread"), row.count("bytes"), row.count("elapsed_ns"), row.count("cpu_ns", 0)
    )


def _read_census(pages: Fields) -> PageCensus:
    before, after = pages.object("before"), pages.object("after")
    return PageCensus(
        before=before.node_counts("nodes"),
        after=after.node_counts("nodes"),
        before_status=before.counts("status"),
        after_status=after.counts("status"),
        moved=pages.pair_counts("moved"),
        unknown=pages.count("unknown", 0),
    )


def _read_snapshot(snapshot: Fields | None) -> Snapshot | None:
    if snapshot is None:
        return None
    return Snapshot(
        t_ns=snapshot.integer("t_ns"),
        vmstat=snapshot.counts("vmstat"),
        interrupts=snapshot.counts("interrupts"),
        nodes=snapshot.object("nodes").fields,
        sched=snapshot.object("sched").fields,
        pressure=snapshot.object("pressure").fields,
        loadavg=snapshot.numbers("loadavg"),
        cpu_stalled_us=snapshot.object("pressure").object("cpu").object("some").optional_count("total_us"),
    )


def _read_samples(file: Path, trial: Fields, columns: int) -> tuple[Sample, ...]:
    data = _read_bytes(file)
    _check_size(file, trial)
    if data and not data.endswith(b"\n"):
        raise ResultError(f"{file} is cut in its last line", DAMAGED)
    samples = tuple(_read_sample(parse(file, line), columns) for line in data.splitlines())
    if any(later.t_ns < earlier.t_ns for earlier, later in itertools.pairwise(samples)):
        raise ResultError(f"{file}: its samples are not in the order of time", DAMAGED)
    return samples


def _read_sample(sample: Fields, columns: int) -> Sample:
    rows = sample.matrix("pages", columns)
    sizes = sample.integers("slice_bytes") if "slice_bytes" in sample.fields else None
    if sizes is not None and (len(sizes) != len(rows) or min(sizes, default=0) < 0):
        sample.wrong("slice_bytes", "a size for each slice")
    return Sample(
        t_ns=sample.integer("t_ns"),
        pages=rows,
        cpu_nodes=sample.integers("cpu_node"),
        status=sample.counts("status"),
        vmstat=sample.counts("vmstat"),
        slice_bytes=sizes,
        due_ns=sample.optional_integer("due_ns"),
    )
