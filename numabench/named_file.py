"""Files that a user names: read within bounds and without waiting for ever, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

# perf writes to its pipe as soon as it has started what it records.
FIFO_WAIT_S = 30.0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[FileIO]:
    """A file to read, without a buffer. Raises `OSError` where it cannot be, or is a fifo that nobody writes to.

    A fifo is waited for until it has something to read, `FIFO_WAIT_S` seconds at most.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise _refused(errno.EISDIR, path)
        if stat.S_ISFIFO(mode):
            _await_writer(descriptor, path)
        os.set_blocking(descriptor, True)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _await_writer(descriptor: int, path: Path) -> None:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    if not waiting.poll(FIFO_WAIT_S * 1000):
        raise _refused(errno.ETIMEDOUT, path, f"nobody has written to this fifo in {FIFO_WAIT_S:g} s")


def read(path: Path, limit_bytes: int) -> bytes:
    """All of a file. Raises `OSError` as `opened` does, and where it has more bytes than the limit."""
    parts, left_bytes = [], limit_bytes + 1
    with opened(path) as file:
        while left_bytes > 0 and (part := file.read(min(left_bytes, 1 << 20))):
            parts.append(part)
            left_bytes -= len(part)
    if left_bytes <= 0:
        raise _refused(errno.EFBIG, path, f"it has more than {limit_bytes >> 20} MiB")
    return b"".join(parts)


def write(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, whole or not at all: what had its name stays until then. Raises `OSError`.

    A device, a fifo, which must have a reader, and a file in a directory that may not be written are written to as they
    are.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode):
        _write_through(path, parts)
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not os.access(target, os.W_OK, effective_ids=True):
        raise _refused(errno.EACCES, path)
    if target.exists() and not os.access(target.parent, os.W_OK | os.X_OK, effective_ids=True):
        _write_through(target, parts)
        return
    partial = target.with_name(f".numabench-{os.getpid()}-{os.urandom(3).hex()}")
    try:
        with partial.open("xb") as file:
            file.writelines(parts)
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def _write_through(path: Path, parts: Iterable[bytes]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise _refused(errno.ENXIO, path, "nobody reads this fifo") from None
        raise
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
        file.writelines(parts)


def check_directory(path: Path) -> None:
    """See that a directory can be written to, or made, without doing so. Raises `OSError`."""
    at = path
    while not (at.exists() or at.is_symlink()) and at != at.parent:
        at = at.parent
    if not stat.S_ISDIR(at.stat().st_mode):
        raise _refused(errno.ENOTDIR, path)
    if not os.access(at, os.W_OK | os.X_OK, effective_ids=True):
        raise _refused(errno.EACCES, path)


def check_file(path: Path) -> None:
    """See that a file can be written, without doing so. Raises `OSError`."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        check_directory(path.parent)
        return
    if stat.S_ISDIR(mode):
        raise _refused(errno.EISDIR, path)
    if not os.access(path, os.W_OK, effective_ids=True):
        raise _refused(errno.EACCES, path)


def _refused(code: int, path: Path, why: str = "") -> OSError:
    return OSError(code, why or os.strerror(code), str(path))
