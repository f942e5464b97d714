"""acknowledged.toml: changes that somebody has explained, so that they alarm no more. People may edit it.

[[change]]
cell = "pingpong-batch-8.v612.box.1a2b3c4d"
metric = "default/mb_per_s"                     # "*" is every figure of the cell
night = "2026-11-25"
reason = "the pool was halved on purpose"
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import tomllib
from typing import TYPE_CHECKING

from numabench import named_file
from numabench.analysis.history.night import ANY_METRIC, Known
from numabench.errors import ResultError, UsageError
from numabench.store.index import open_index
from numabench.store.writing import fsync_directory, refuse, write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACKNOWLEDGED_FILE = "acknowledged.toml"
_MAX_BYTES = 4 << 20
_LOCK_FILE = ".acknowledged.lock"
_ENTRY = "change"
_KEYS = ("cell", "metric", "night", "reason")


def read(lab: Path) -> tuple[Known, ...]:
    """The known changes of a lab; none where it has no such file. Raises `ResultError`, naming the entry."""
    path = lab / ACKNOWLEDGED_FILE
    try:
        return _parsed(path, named_file.read(path, _MAX_BYTES))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror}", "see who may read it") from error


def _parsed(path: Path, data: bytes) -> tuple[Known, ...]:
    try:
        plain = tomllib.loads(data.decode())
    # Of a number of thousands of digits Python says ValueError, tomllib does not say its own.
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path}: {error}", "correct it, or take it away") from error
    for key in plain:
        if key != _ENTRY:
            raise ResultError(f"{path}: unknown key {key!a}", f"begin each entry with [[{_ENTRY}]]")
    entries = plain.get(_ENTRY, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ResultError(f"{path}: '{_ENTRY}' is not a list of tables", f"begin each entry with [[{_ENTRY}]]")
    return tuple(_known(path, number, entry) for number, entry in enumerate(entries, 1))


def _known(path: Path, number: int, entry: dict[str, object]) -> Known:
    for key in (*_KEYS, *entry):
        if key not in _KEYS:
            raise ResultError(f"{path}: change {number} has an unknown key '{key}'", f"it takes {', '.join(_KEYS)}")
        value = entry.get(key)
        if not isinstance(value, str) or not value.strip():
            raise ResultError(f"{path}: change {number}: '{key}' is not a text", f"it takes {', '.join(_KEYS)}")
    return Known(*(str(entry[key]) for key in _KEYS))


def add(lab: Path, known: Known) -> None:
    """Add a known change to a lab's file, which is whole at any moment.

    Raises `UsageError` for a cell, figure or night that the lab does not have, `ResultError` where there is no index,
    or the file cannot be read or written.
    """
    _check(lab, known)
    with _alone(lab):
        old = read(lab)
        if known not in old:
            _append(lab / ACKNOWLEDGED_FILE, old, known)


@contextlib.contextmanager
def _alone(lab: Path) -> Iterator[None]:
    """Have everybody else who adds to the file wait as long as the block runs; the lock dies with its owner."""
    try:
        file = (lab / _LOCK_FILE).open("ab")
    except OSError as error:
        refuse(lab / ACKNOWLEDGED_FILE, error)
    with file:
        # A file system without locks keeps nobody off.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _append(path: Path, old: tuple[Known, ...], known: Known) -> None:
    partial = path.with_name(f".tmp-{path.name}")
    values = zip(_KEYS, (known.cell, known.metric, known.night, known.reason), strict=True)
    entry = "".join([f"[[{_ENTRY}]]\n", *(f"{key} = {_text(value)}\n" for key, value in values)])
    try:
        before = path.read_text(encoding="utf-8").rstrip("\n") + "\n\n" if path.exists() else ""
        data = (before + entry).encode()
        if not _is_read_as(path, data, (*old, known)):
            raise ResultError(
                f"{path}: an entry cannot be added behind what is there", f"begin each entry with [[{_ENTRY}]]"
            )
        write_durably(partial, data)
        partial.replace(path)
        fsync_directory(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        refuse(path, error)


def _is_read_as(path: Path, data: bytes, wanted: tuple[Known, ...]) -> bool:
    """Whether a file will be read as is meant: TOML that people write has other ways to say the same."""
    try:
        return len(data) <= _MAX_BYTES and _parsed(path, data) == wanted
    except ResultError:
        return False


def _text(value: str) -> str:
    """A basic string of TOML: JSON's, but for one sign."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _check(lab: Path, known: Known) -> None:
    if not known.reason.strip():
        raise UsageError("a change is acknowledged with a reason", "--reason TEXT")
    if not _is_utf_8(known.reason):
        raise UsageError(f"--reason {known.reason!a} is not UTF-8", "write it in another way")
    with open_index(lab) as index:
        nights, cells = index.nights(), [cell.name for cell in index.cells()]
        if known.night not in nights:
            raise UsageError(f"the lab has no night {known.night!a}", f"it has {_some(nights[::-1])}")
        if known.cell not in cells:
            raise UsageError(f"the lab has no cell {known.cell!a}", f"it has {_some(cells)}")
        metrics = [metric.name for metric in index.metrics(known.cell)]
        if known.metric not in {*metrics, ANY_METRIC}:
            raise UsageError(f"the cell has no figure {known.metric!a}", f"it has {_some(metrics)}, and '*' is all")


def _is_utf_8(text: str) -> bool:
    """Whether a word of the command line was (PEP 383)."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "none"
