"""Attempts at a block, and which of them may publish what: never a stale one, and nothing twice.

An attempt that begins takes the block's claim, and then fences every attempt before it: their `cells` directories are
renamed, so that a process of theirs that still lives finds nothing to publish where it looks. Both need no lock, and
hold on file systems without one, and between machines. What is published is one rename of a directory that is whole,
onto a name where nothing is: rename(2) refuses to replace a directory that is not empty.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.errors import ResultError
from numabench.fields import parse
from numabench.fleet import journal
from numabench.fleet.journal import Journal
from numabench.fleet.night_file import ATTEMPTS, CELLS, CLAIMS, SCHEMA_VERSION
from numabench.store import files
from numabench.store.trials import read_bytes
from numabench.store.writing import fsync_directory, json_file, refuse, write_durably

if TYPE_CHECKING:
    from pathlib import Path

ATTEMPT_FILE = "attempt.json"
CELL_FILE = files.CELL_FILE
EVENTS_FILE = "events.jsonl"
LOG_FILE = "log.txt"
RUNS = "runs"
_FENCED = "cells.fenced"
_NUMBER = re.compile(r"\.a(\d+)")


class Stale(ResultError):
    """A later attempt has taken the block over: what this one measured is not published."""


@dataclass(frozen=True)
class Attempt:
    """One try of one block, number `number`, by who holds `token`."""

    night: Path
    block: str
    number: int
    token: str

    @property
    def path(self) -> Path:
        """Its directory."""
        return self.night / ATTEMPTS / f"{self.block}.a{self.number}"

    @property
    def cells(self) -> Path:
        """Where its cells are until they are published; gone once a later attempt has begun."""
        return self.path / CELLS


def attempts(night: Path, block: str) -> tuple[Path, ...]:
    """The directories of a block's attempts, the earliest first."""
    return tuple(path for _, path in _numbered(night, block))


def attempt_of(night: Path, block: str, token: str) -> Path | None:
    """The directory of the attempt that a token is of; None where it came to none."""
    for path in reversed(attempts(night, block)):
        if any(event.text("token") == token for event in journal.events(path / EVENTS_FILE, "attempt-begun")):
            return path
    return None


def _numbered(night: Path, block: str) -> list[tuple[int, Path]]:
    found = []
    for path in (night / ATTEMPTS).glob(f"{block}.a*"):
        match = _NUMBER.fullmatch(path.name[len(block) :])
        if match:
            found.append((int(match[1]), path))
    return sorted(found)


def take(night: Path, block: str, token: str) -> Attempt:
    """Begin an attempt at a block. When this returns, no attempt that began before can publish any more.

    Raises `ResultError` where the night cannot be written, and `Stale` where a later one began meanwhile.
    """
    attempt = _new_attempt(night, block, token)
    claim = night / CLAIMS / block
    partial = claim.with_name(f".tmp-{block}.a{attempt.number}")
    try:
        Journal(attempt.path / EVENTS_FILE).append("attempt-begun", token=token)
        attempt.cells.mkdir()
        fsync_directory(attempt.path)
        write_durably(partial, json_file({"attempt": attempt.number, "token": token}))
        partial.rename(claim)
        fsync_directory(claim.parent)
        for number, path in _numbered(night, block):
            if number < attempt.number:
                _fence(path)
    except OSError as error:
        refuse(attempt.path, error)
    check(attempt)
    return attempt


def _new_attempt(night: Path, block: str, token: str) -> Attempt:
    """The next number that nobody has."""
    while True:
        number = max((number for number, _ in _numbered(night, block)), default=0) + 1
        attempt = Attempt(night, block, number, token)
        try:
            attempt.path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            refuse(attempt.path, error)
        return attempt


def _fence(path: Path) -> None:
    try:
        (path / CELLS).rename(path / _FENCED)
    except FileNotFoundError:
        return
    fsync_directory(path)


def check(attempt: Attempt) -> None:
    """Raise `Stale` where a later attempt has begun, or another has the claim, or the block has been ended."""
    if is_closed(attempt.night, attempt.block):
        raise Stale(f"block {attempt.block} has been ended", "nothing more of it is published")
    newest = max((number for number, _ in _numbered(attempt.night, attempt.block)), default=0)
    claim = parse(attempt.night / CLAIMS / attempt.block, read_bytes(attempt.night / CLAIMS / attempt.block))
    if newest > attempt.number or claim.count("attempt") > attempt.number or not attempt.cells.is_dir():
        raise Stale(
            f"attempt {attempt.number} at block {attempt.block} is stale: attempt {newest} has taken it over",
            "nothing of it is published",
        )


def close(night: Path, block: str) -> None:
    """End a block: when this returns, no attempt that has begun, or will begin, can publish anything of it.

    Raises `ResultError` where the night cannot be written.
    """
    marker = _closed(night, block)
    try:
        # The marker comes first: an attempt that begins meanwhile sees it, or is fenced here.
        write_durably(marker, b"")
        fsync_directory(marker.parent)
        for _, path in _numbered(night, block):
            _fence(path)
    except OSError as error:
        refuse(marker, error)


def is_closed(night: Path, block: str) -> bool:
    """Whether a block has been ended."""
    return _closed(night, block).exists()


def _closed(night: Path, block: str) -> Path:
    return night / CLAIMS / f".{block}.closed"


def published(night: Path, cell: str, boot: int) -> Path:
    """Where a cell's result of a boot is once it is published."""
    return night / CELLS / cell / f"boot-{boot:02}"


def write_cell(attempt: Attempt, cell: str, record: dict[str, Any]) -> None:
    """Write the cell.json of an attempt's cell, which is whole and complete with it. Raises `ResultError`."""
    path = attempt.cells / cell
    partial = path / f".tmp-{CELL_FILE}"
    try:
        write_durably(partial, json_file({"schema_version": SCHEMA_VERSION, "cell": cell, **record}))
        partial.rename(path / CELL_FILE)
        fsync_directory(path / RUNS)
        fsync_directory(path)
    except OSError as error:
        refuse(path, error)


def publish(attempt: Attempt, cell: str, boot: int) -> bool:
    """Publish a cell that the attempt has measured and written; False where it has been published before.

    Raises `Stale` where the attempt may not, and `ResultError` where the file system refuses.
    """
    check(attempt)
    target = published(attempt.night, cell, boot)
    try:
        target.parent.mkdir(exist_ok=True)
        fsync_directory(target.parent.parent)
        os.rename(attempt.cells / cell, target)  # noqa: PTH104  nothing but rename(2), whose refusals are the point
        fsync_directory(target.parent)
    except FileNotFoundError:
        check(attempt)
        raise ResultError(f"{attempt.cells / cell} is missing", "it was measured and is gone") from None
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        refuse(target, error)
    return True


def write_attempt(attempt: Attempt, record: dict[str, Any]) -> None:
    """Write attempt.json: who made the attempt, and on what it found itself. Raises `ResultError`."""
    file = attempt.path / ATTEMPT_FILE
    partial = file.with_name(f".tmp-{ATTEMPT_FILE}")
    full = {
        "schema_version": SCHEMA_VERSION,
        "block": attempt.block,
        "attempt": attempt.number,
        "token": attempt.token,
        **record,
    }
    try:
        write_durably(partial, json_file(full))
        partial.rename(file)
        fsync_directory(attempt.path)
    except OSError as error:
        refuse(file, error)
