"""Kernels that must not be booted on a machine again before somebody has looked: quarantine.json of a lab."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from numabench.fields import parse
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import fsync_directory, json_file, refuse, write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUARANTINE_FILE = "quarantine.json"
# 1: the first.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Quarantined:
    """A kernel on a machine, by their nicknames; why, since when (UTC), and the night that saw it."""

    machine: str
    kernel: str
    why: str
    since_utc: str
    night: str


def read(lab: Path) -> tuple[Quarantined, ...]:
    """What a lab has in quarantine. Raises `ResultError` for a file that is damaged or newer than this numabench."""
    file = lab / QUARANTINE_FILE
    if not file.exists():
        return ()
    fields = parse(file, read_bytes(file))
    check_version(fields, SCHEMA_VERSION)
    return tuple(Quarantined(**row.strings("machine kernel why since_utc night")) for row in fields.rows("quarantined"))


def find(lab: Path, machine: str, kernel: str) -> Quarantined | None:
    """The entry of a kernel on a machine, or None. Raises as `read` does."""
    return next((entry for entry in read(lab) if (entry.machine, entry.kernel) == (machine, kernel)), None)


def add(lab: Path, entry: Quarantined) -> None:
    """Put a kernel of a machine in quarantine; the entry that is there already stays. Raises `ResultError`."""
    with _locked(lab):
        entries = read(lab)
        if any((each.machine, each.kernel) == (entry.machine, entry.kernel) for each in entries):
            return
        _write(lab, (*entries, entry))


def release(lab: Path, machine: str, kernel: str) -> bool:
    """Take a kernel of a machine out again; whether it was in quarantine. Raises `ResultError`."""
    with _locked(lab):
        entries = read(lab)
        stay = tuple(each for each in entries if (each.machine, each.kernel) != (machine, kernel))
        if len(stay) < len(entries):
            _write(lab, stay)
        return len(stay) < len(entries)


@contextlib.contextmanager
def _locked(lab: Path) -> Iterator[None]:
    """Held while the file is read and written again: two nights of one lab may end a kernel at once."""
    try:
        descriptor = os.open(lab, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        refuse(lab, error)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(lab: Path, entries: tuple[Quarantined, ...]) -> None:
    file = lab / QUARANTINE_FILE
    partial = lab / f".tmp-{QUARANTINE_FILE}"
    record = {"schema_version": SCHEMA_VERSION, "quarantined": [asdict(entry) for entry in entries]}
    try:
        write_durably(partial, json_file(record))
        partial.rename(file)
        fsync_directory(lab)
    except OSError as error:
        refuse(file, error)
