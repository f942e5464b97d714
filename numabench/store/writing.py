"""Writing a run: durably, and whole trial by whole trial."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from numabench.errors import ResultError
from numabench.store.files import END_FILE, EVENTS_FILE, LOCK_FILE, RUN_FILE, SAMPLES_FILE, TRIAL_FILE, TRIALS
from numabench.store.living import take_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_ASIDE = ".aside-"
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_PROBE_BYTES = 1 << 20
# Directories on 9p and some FUSE file systems cannot be fsynced; their rename is as durable as they make it.
_NO_FSYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})


def is_run_id(word: str) -> bool:
    """Whether a word can be a run's name."""
    return RUN_ID.fullmatch(word) is not None


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
            write_durably(probe, b"\0" * _PROBE_BYTES)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        refuse(results_dir, error)


def create(results_dir: Path, run_id: str) -> RunWriter:
    """Open the result directory of a new run, `results_dir/run_id`, before anything runs.

    Raises `ResultError` where it cannot be written, where it is there already, and for a name that is not one.
    """
    if not is_run_id(run_id):
        raise ResultError(f"{run_id!a} is not a run's name", "use letters, digits, dot, dash and underscore")
    check_writable(results_dir)
    path = results_dir / run_id
    try:
        (path / TRIALS).mkdir(parents=True)
        fsync_directory(path)
        fsync_directory(results_dir)
    except FileExistsError:
        raise ResultError(f"{path} is there already", "results are written once: choose another --run-id") from None
    except OSError as error:
        refuse(path, error)
    return RunWriter(path, take_lock(path / LOCK_FILE))


def write_note(directory: Path, name: str, values: dict[str, Any]) -> None:
    """Write what a directory of runs is about, making the directory where it is not there. Raises `ResultError`."""
    check_writable(directory)
    replace(directory / name, values)


def hide(path: Path) -> None:
    """Put a run's directory aside under a hidden name, so that one of its name can be made. Raises `ResultError`."""
    try:
        earlier = sum(entry.name.endswith(f"-{path.name}") for entry in path.parent.glob(f"{_ASIDE}*"))
        path.rename(path.parent / f"{_ASIDE}{earlier + 1}-{path.name}")
        fsync_directory(path.parent)
    except OSError as error:
        refuse(path, error)


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
        replace(self.path / RUN_FILE, run)

    def scratch(self, index: int) -> Path:
        """A new directory for what is recorded during trial number `index`; `write_trial` takes the files from there.

        Readers ignore it, and it is gone when the trial is written.
        """
        path = self.path / TRIALS / f".tmp-{index:04}-recordings"
        try:
            path.mkdir()
        except OSError as error:
            refuse(path, error)
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
            write_durably(partial / EVENTS_FILE, events)
            write_durably(partial / SAMPLES_FILE, sampled)
            write_durably(partial / TRIAL_FILE, json_file({**trial, "files": files}))
            fsync_directory(partial)
            partial.rename(final)
            fsync_directory(trials)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            refuse(final, error)
        finally:
            shutil.rmtree(trials / f".tmp-{index:04}-recordings", ignore_errors=True)

    def write_end(self, end: dict[str, Any]) -> None:
        """Write end.json: a run without it was killed, or is running as long as its lock is held."""
        for left in (self.path / TRIALS).glob(".tmp-*-recordings"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            replace(self.path / END_FILE, end)
        finally:
            self._release()

    def discard(self) -> None:
        """Remove the directory of a run that ended before run.json was written; one that holds more stays."""
        if (self.path / RUN_FILE).exists():
            return
        with contextlib.suppress(OSError):
            for left in (self.path / END_FILE, *self.path.glob(".tmp-*.json")):
                left.unlink(missing_ok=True)
            (self.path / TRIALS).rmdir()
            self._release()
            self.path.rmdir()

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            (self.path / LOCK_FILE).unlink(missing_ok=True)
        self._unlock()


def replace(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON file, which is whole or absent at any moment, whoever else does so. Raises `ResultError`."""
    partial = path.with_name(f".tmp-{os.urandom(4).hex()}-{path.name}")
    try:
        write_durably(partial, json_file(record))
        partial.rename(path)
        fsync_directory(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        refuse(path, error)


def json_file(record: dict[str, Any]) -> bytes:
    """What a JSON file holds."""
    return json.dumps(record, indent=1, allow_nan=False).encode("ascii") + b"\n"


def _json_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and have it on the disk. Raises `OSError`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fsync_directory(path: Path) -> None:
    """Have a directory's names on the disk, where its file system can. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def refuse(path: Path, error: OSError) -> NoReturn:
    """Raise `ResultError` for what the file system would not have."""
    hints = {
        errno.ENOSPC: "free some space, or choose another directory with --results",
        errno.EDQUOT: "free some space, or choose another directory with --results",
        errno.EROFS: "choose a directory that can be written with --results",
    }
    hint = hints.get(error.errno or 0, "choose another directory with --results")
    raise ResultError(f"cannot write results to {path}: {error.strerror or error}", hint) from error
