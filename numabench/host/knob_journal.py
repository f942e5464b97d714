"""What must be put back, on disk before it is changed, so that a run killed at any moment can be undone.

One JSON object a line behind its CRC-32. A line is durable before what it announces is done, so that a last line which
a crash has torn announces nothing that was done. The journal is worth something for one boot: knobs do not outlive it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from typing import TYPE_CHECKING, Any

from numabench.errors import NumabenchError, Unfit
from numabench.state_dir import JOURNAL, LOCK, state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def default_state_dir() -> Path:
    """Where the journals lie (`numabench.state_dir`)."""
    from pathlib import Path

    return Path(state_dir())


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other numabench with this state directory from knobs; the lock dies with its owner (flock(2)).

    Raises `Unfit` where another has it, and `NumabenchError` where the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise _cannot_keep(directory, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Unfit(
                f"another numabench (process {file.read().strip()}) has set the machine's knobs for its run",
                "wait for it to end, or pass --no-tune",
            ) from None
        # Who holds it is for the message alone: a full disk must not end the run here.
        with contextlib.suppress(OSError):
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


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


def _cannot_keep(directory: Path, error: OSError) -> NumabenchError:
    return NumabenchError(
        f"cannot keep a journal of the machine's settings in {directory}: {error.strerror}",
        "set XDG_STATE_HOME to a directory that can be written, or pass --no-tune",
    )


class Journal:
    """A journal below a state directory that is `locked`; `records` are those on disk."""

    def __init__(self, directory: Path, name: str = JOURNAL) -> None:
        self.records: list[dict[str, Any]] = []
        self._directory = directory
        self._path = directory / name

    def append(self, record: dict[str, Any]) -> None:
        """Add a record that is durable when this returns. Raises `NumabenchError` where it cannot be."""
        text = json.dumps(record, separators=(",", ":"))
        line = f"{zlib.crc32(text.encode()):08x} {text}\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_keep(self._directory, error) from None
        self._sync_directory()
        self.records.append(record)

    def load(self) -> Journal:
        """The same, with the records that a run before has left: up to the first line that is torn."""
        if not self._path.is_file() and self._path.exists():
            raise NumabenchError(f"{self._path} is not a file", "move it away")
        try:
            lines = self._path.read_bytes().split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return self
        except OSError as error:
            raise NumabenchError(
                f"cannot read {self._path}: {error.strerror}", "run as the user whose run it was, or as root"
            ) from None
        for line in lines:
            crc, _, text = line.partition(b" ")
            if crc != f"{zlib.crc32(text):08x}".encode() or not text:
                break
            self.records.append(json.loads(text))
        return self

    def cut(self) -> None:
        """Take away what a crash has torn behind the loaded records: what is appended there no `load` would find."""
        try:
            lines = self._path.read_bytes().split(b"\n")[: len(self.records)]
            with self._path.open("r+b") as file:
                file.truncate(file.write(b"".join(line + b"\n" for line in lines)))
                os.fsync(file.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise _cannot_keep(self._directory, error) from None

    def discard(self) -> None:
        """Remove it: all is put back."""
        self.records.clear()
        self._path.unlink(missing_ok=True)
        self._sync_directory()

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Some file systems (9p) cannot sync a directory; the file itself is synced.
            with contextlib.suppress(OSError):
                os.fsync(fd)
        finally:
            os.close(fd)
