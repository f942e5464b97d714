"""What must be put back, on disk before it is changed, so that a run killed at any moment can be undone.

One JSON object a line behind its CRC-32. A line is durable before what it announces is done, so that a last line which
a crash has torn announces nothing that was done. The journal is worth something for one boot: knobs do not outlive it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import zlib
from typing import TYPE_CHECKING, Any

from numabench.errors import NumabenchError, Unfit
from numabench.host.knob_records import is_record
from numabench.state_dir import JOURNAL, LOCK, VARIABLE, state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Who only looks whether the lock is held (`is_locked`) has it for some microseconds: that is waited for.
_PATIENCE_S, _RETRY_S = 0.2, 0.005


def default_state_dir() -> Path:
    """Where the journals lie (`numabench.state_dir`)."""
    from pathlib import Path

    return Path(state_dir())


def may_lock(directory: Path) -> bool:
    """Whether this user may take the lock and write journals there, or make the directory."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


@contextlib.contextmanager
def locked(directory: Path, otherwise: str = "") -> Iterator[None]:
    """Keep every other numabench with this state directory from knobs; the lock dies with its owner (flock(2)).

    `otherwise` ends the hints of its errors. Raises `Unfit` where another has it, and `NumabenchError` where the
    directory cannot be written.
    """
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            # Other users are to see what is set, whatever the umask.
            directory.chmod(0o755)
        file = (directory / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise _cannot_keep(directory, error, otherwise) from None
    with file:
        if not _lock(file.fileno()):
            file.seek(0)
            raise Unfit(
                f"another numabench (process {file.read().strip()}) has set the machine's knobs for its run",
                f"wait for it to end{otherwise}",
            )
        # Who holds it is for the message alone: a full disk must not end the run here.
        with contextlib.suppress(OSError):
            os.fchmod(file.fileno(), 0o644)
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_RETRY_S)
        else:
            return True


def is_locked(directory: Path) -> bool:
    """Whether a run lives that has set knobs."""
    try:
        with (directory / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _cannot_keep(directory: Path, error: OSError, otherwise: str) -> NumabenchError:
    is_denied = isinstance(error, PermissionError)
    hint = "run as root" if is_denied else f"set {VARIABLE} to a directory that can be written"
    return NumabenchError(
        f"cannot keep a journal of the machine's settings in {directory}: {error.strerror}", hint + otherwise
    )


class Journal:
    """A journal below a state directory that is `locked`; `records` are on disk, `damaged` lines cannot be read.

    Between `load` and `discard` nobody else may write it.
    """

    def __init__(self, directory: Path, name: str = JOURNAL, otherwise: str = "") -> None:
        self.records: list[dict[str, Any]] = []
        self.damaged = 0
        self.name = name
        self._directory, self._otherwise = directory, otherwise
        self._path = directory / name
        # Bytes of whole lines; what follows them a crash, or a full disk, has torn.
        self._whole: int | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Add a record that is durable when this returns. Raises `NumabenchError` where it cannot be."""
        text = json.dumps(record, separators=(",", ":"))
        line = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._add(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _cannot_keep(self._directory, error, self._otherwise) from None
        self.records.append(record)

    def _add(self, descriptor: int, line: bytes) -> None:
        size = os.fstat(descriptor).st_size
        whole = size if self._whole is None else self._whole
        if size > whole:
            os.ftruncate(descriptor, whole)
        if not size:
            os.fchmod(descriptor, 0o644)
        try:
            left = line
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, whole)
            self._whole = whole
            raise
        self._whole = whole + len(line)
        if not size:
            self._sync_directory()

    def load(self) -> Journal:
        """The same, with the records that a run before has left. Raises `NumabenchError` where it cannot be read."""
        if not self._path.is_file() and self._path.exists():
            raise NumabenchError(f"{self._path} is not a file", "move it away")
        try:
            text = self._path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            self._whole = 0
            return self
        except OSError as error:
            hint = "run as the user whose run it was, or as root" if isinstance(error, PermissionError) else ""
            raise NumabenchError(f"cannot read {self._path}: {error.strerror}", hint) from None
        *lines, torn = text.split(b"\n")
        self._whole = len(text) - len(torn)
        found = [_parsed(line) for line in lines]
        self.records = [record for record in found if record is not None]
        self.damaged = len(found) - len(self.records)
        return self

    def discard(self) -> None:
        """Remove it: all is put back. Raises `NumabenchError` where it cannot be."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)  # noqa: PTH108  a step of its own, that tests make fail
        except OSError as error:
            raise _cannot_keep(self._directory, error, self._otherwise) from None
        self.records, self.damaged, self._whole = [], 0, 0
        self._sync_directory()

    def set_aside(self) -> Path:
        """Keep the file under a name that no command reads; where it is now. Raises `NumabenchError`."""
        number = 1
        while (aside := self._directory / f"{self.name}.damaged-{number}").exists():
            number += 1
        try:
            self._path.rename(aside)
        except OSError as error:
            raise _cannot_keep(self._directory, error, self._otherwise) from None
        self.records, self.damaged, self._whole = [], 0, 0
        self._sync_directory()
        return aside

    def _sync_directory(self) -> None:
        # Some file systems (9p) cannot sync a directory; the file itself is synced.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's record; None where it is damaged, or of a kind that this numabench does not know."""
    crc, _, text = line.partition(b" ")
    if crc != f"{zlib.crc32(text):08x}".encode():
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if is_record(record) else None
