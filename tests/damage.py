"""What can become of a file of a result: by a kill, a full disk, a careless hand."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUBBISH = bytes(range(256)) * 16
_DEEP = b'{"a":' * 50_000
VALUES: tuple[Any, ...] = (None, True, -1, 2**70, 1e308, "\x1b[2J\u202e\udcff", "", [], {}, [[]], [{}], "9" * 5000)


def _write(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _with_json(words: bytes) -> Callable[[Path], object]:
    """The first number of a file becomes these words."""
    import re

    return lambda path: path.write_bytes(re.sub(rb"(?<=[:\[ ])\d+", words, path.read_bytes(), count=1))


def _cut(path: Path, part: float) -> None:
    os.truncate(path, int(path.stat().st_size * part))


def _in_place_of_it(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def become(path: Path) -> None:
        path.unlink()
        make(path)

    return become


KINDS: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: path.unlink(),
    "emptied": _write(b""),
    "cut to a half": lambda path: _cut(path, 0.5),
    "cut by its last byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "rubbish": _write(RUBBISH),
    "longer": lambda path: path.write_bytes(path.read_bytes() + RUBBISH),
    "deep": _write(_DEEP),
    "an empty object": _write(b"{}\n"),
    "huge number": _with_json(b"9" * 5000),
    "infinite number": _with_json(b"1e400"),
    "no number": _with_json(b"NaN"),
    "unreadable": lambda path: path.chmod(0),
    "a directory": _in_place_of_it(lambda path: path.mkdir()),
    "a fifo": _in_place_of_it(os.mkfifo),
    "a loop": _in_place_of_it(lambda path: path.symlink_to(path.name)),
    "endless": _in_place_of_it(lambda path: path.symlink_to("/dev/zero")),
}
# Those of which what is no JSON is no other than of the rest.
OF_ANY = {name: do for name, do in KINDS.items() if "number" not in name}
VERSIONS = (b"99", b"0", b"-1", b"true", b'"1"', b"null", b"1.5", b"9" * 400)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Have a file be as it was when the block ends, whatever has become of it."""
    data, mode = path.read_bytes(), path.stat().st_mode
    try:
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(mode)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a document."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def changed(document: Any, place: tuple[Any, ...], value: Any) -> bytes:
    """The document with another value in one place."""
    copy = json.loads(json.dumps(document))
    if not place:
        return json.dumps(value).encode()
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return json.dumps(copy).encode()
