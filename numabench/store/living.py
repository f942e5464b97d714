"""Which runs live: each holds a lock on a file that other processes can see."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

from numabench.errors import ResultError, Unfit
from numabench.store.files import LOCK_FILE, SWEEP_LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_LOCK_ATTEMPTS, _LOCK_PAUSE_S = 3, 0.05


@contextlib.contextmanager
def held(results_dir: Path, run_id: str) -> Iterator[None]:
    """Show, as long as the block runs, that a run lives whose own lock cannot be seen here: a guest's, through 9p.

    It is a lock on a file beside the run's directory, since the guest makes that one.
    """
    file = _outer_lock(results_dir / run_id)
    descriptor = take_lock(file)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            os.close(descriptor)


def _outer_lock(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def take_lock(file: Path) -> int | None:
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


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep every other process from going on with a sweep as long as the block runs; the lock dies with its owner.

    The file stays: one that is removed could be locked by two. Raises `Unfit` where another has it. A file system
    without locks keeps nobody off.
    """
    try:
        descriptor = os.open(path / SWEEP_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ResultError(f"cannot write to {path}: {error.strerror}", "see who may write there") from error
    try:
        _lock_alone(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock_alone(descriptor: int, path: Path) -> None:
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                return
        else:
            return
        # Who asks whether the lock is held (`is_locked`) holds it for a moment.
        time.sleep(_LOCK_PAUSE_S * (attempt + 1 < _LOCK_ATTEMPTS))
    raise Unfit(f"{path.name} is being run by another process", "wait for it to end, or end it")


def is_locked(path: Path) -> bool:
    """Whether a process holds one of a run's or a sweep's locks; False where that cannot be seen."""
    return any(_is_held(file) for file in (path / LOCK_FILE, path / SWEEP_LOCK_FILE, _outer_lock(path.absolute())))


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
