"""On which line of a TOML file a key stands: tomllib tells it of mistakes in the syntax alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str | int, ...]

_PART = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)"""
_NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_NAME})\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(rf"\s*({_NAME})\s*=")
_LONG_STRINGS = ('"""', "'''")


def key_lines(text: str, document: Mapping[str, Any]) -> dict[Path, int]:
    """The line, counted from 1, of each table and key that `document`, parsed from `text`, has.

    A path's parts are keys, and places in lists. Keys within an inline table or a list are not there: they stand on
    their owner's line, or below it.
    """
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    long_string = ""
    for number, line in enumerate(text.splitlines(), 1):
        inside, long_string = bool(long_string), _still_open(line, long_string)
        if inside:
            continue
        header, key = _HEADER.fullmatch(line), _KEY.match(line)
        if header:
            table = _table(_parts(header[2]), header[1] == "[[", counts)
            path = table
        elif key:
            path = (*table, *_parts(key[1]))
        else:
            continue
        if _is_there(document, path):
            found.setdefault(path, number)
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest table above it that has one; 0 where none has."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _still_open(line: str, mark: str) -> str:
    """The mark of the string of several lines that is open at the end of a line, given what is at its beginning."""
    if mark:
        return "" if mark in line else mark
    return next((each for each in _LONG_STRINGS if line.count(each) % 2), "")


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, name))


def _table(parts: tuple[str, ...], is_list: bool, counts: dict[Path, int]) -> Path:
    """The path of a table's header; a table in a list has its place, and tables below one are of the last there."""
    path: Path = ()
    for depth, part in enumerate(parts, 1):
        path = (*path, part)
        if depth == len(parts) and is_list:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _is_there(document: object, path: Path) -> bool:
    for part in path:
        if isinstance(document, dict):
            if part not in document:
                return False
            document = document[part]
        elif isinstance(document, list) and isinstance(part, int) and part < len(document):
            document = document[part]
        else:
            return False
    return True
