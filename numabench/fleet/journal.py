"""What happened, one event a line behind its CRC-32, each on the disk before what it announces is relied on."""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING

from numabench.fields import Fields, parse
from numabench.store.trials import read_bytes
from numabench.store.writing import fsync_directory, refuse, write_durably

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL_FILE = "journal.jsonl"


class Journal:
    """A journal that one process at a time writes.

    What a crash tore off its end is taken away when it is opened. Damage before that, which is none of ours, costs the
    lines that it is in: the file is kept as `*.damaged`, and goes on with the others.
    """

    def __init__(self, path: Path) -> None:
        """Open it, making it where it is not there. Raises `ResultError`."""
        self.path = path
        try:
            is_new = not path.exists()
            with path.open("ab") as file:
                data = path.read_bytes()
                whole, end = _whole(data)
                if sum(map(len, whole)) < end:
                    _set_aside(path, data, whole)
                elif len(data) > end:
                    os.ftruncate(file.fileno(), end)
                    os.fsync(file.fileno())
            if is_new:
                fsync_directory(path.parent)
        except OSError as error:
            refuse(path, error)

    def append(self, event: str, **values: object) -> None:
        """Add an event, durably. Raises `ResultError`; nothing of the event is then left."""
        text = json.dumps({"event": event, **values}, separators=(",", ":"), allow_nan=False)
        line = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                _write_whole(file.fileno(), line)
        except OSError as error:
            refuse(self.path, error)


def _write_whole(descriptor: int, line: bytes) -> None:
    """Add a line durably, or nothing. Raises `OSError`."""
    before = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise


def _whole(data: bytes) -> tuple[list[bytes], int]:
    """The lines of a journal's text that hold what was written, and where the last of them ends."""
    lines, end, at = [], 0, 0
    for line in data.splitlines(keepends=True):
        at += len(line)
        crc, _, text = line.rstrip(b"\n").partition(b" ")
        if line.endswith(b"\n") and crc == f"{zlib.crc32(text):08x}".encode():
            lines.append(line)
            end = at
    return lines, end


def _set_aside(path: Path, data: bytes, whole: list[bytes]) -> None:
    """Keep a damaged journal beside one of its whole lines. Raises `OSError`."""
    write_durably(path.with_name(f"{path.name}.damaged"), data)
    partial = path.with_name(f".tmp-{path.name}")
    write_durably(partial, b"".join(whole))
    partial.replace(path)
    fsync_directory(path.parent)


def read(path: Path) -> tuple[Fields, ...]:
    """The events of a journal, those that are whole; none where there is no journal.

    Raises `ResultError` where it cannot be read, or where its lines are whole and not what was written.
    """
    if not os.path.lexists(path):
        return ()
    whole, _ = _whole(read_bytes(path))
    return tuple(parse(path, line.partition(b" ")[2]) for line in whole)


def events(path: Path, kind: str) -> tuple[Fields, ...]:
    """Those of one kind."""
    return tuple(event for event in read(path) if event.text("event") == kind)
