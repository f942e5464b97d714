"""JSON read with suspicion: every value is of the type asked for, or an error names its file and key."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

from numabench.errors import ResultError

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED = "it is damaged: restore it from a copy, or run again"
_COUNT_LIMIT = 1 << 64


class Fields:
    """A JSON object of a file. Each method returns a value of the asked type or raises `ResultError` naming both."""

    def __init__(self, file: Path, fields: object, where: str = "") -> None:
        self.file, self.where = file, where
        if not isinstance(fields, dict):
            self.fields: dict[str, Any] = {}
            self.wrong("", "an object")
        self.fields = fields

    def wrong(self, key: str, wanted: str) -> NoReturn:
        """Raise for a key that is not what was wanted (an empty key: the object itself)."""
        name = ".".join(part for part in (self.where, key) if part)
        what = f"'{name}' is not {wanted}" if name else f"it does not hold {wanted}"
        raise ResultError(f"{self.file}: {what}", DAMAGED)

    def _get(self, key: str, default: object = None) -> Any:
        value = self.fields.get(key)
        return default if value is None else value

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self._get(key, default)
        if not isinstance(value, str):
            self.wrong(key, "a text")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty where absent."""
        values = self.array(key)
        if not all(isinstance(value, str) for value in values):
            self.wrong(key, "a list of texts")
        return values

    def text_pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """A list of pairs of texts; empty where absent."""
        pairs = self.array(key)
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(value, str) for value in pair):
                self.wrong(key, "a list of pairs of texts")
        return tuple((first, second) for first, second in pairs)

    def texts_by_name(self, key: str) -> dict[str, str]:
        """An object of texts; empty where absent."""
        inner = self.object(key)
        return {name: inner.text(name) for name in inner.fields}

    def strings(self, keys: str) -> dict[str, str]:
        """Some texts; null and absent are empty."""
        return {key: self.text(key, "") for key in keys.split()}

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer below 2^64."""
        value = self._get(key, default)
        if type(value) is not int or abs(value) >= _COUNT_LIMIT:
            self.wrong(key, "an integer")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """An integer that is not negative."""
        value = self.integer(key, default)
        if value < 0:
            self.wrong(key, "a count")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self._get(key, default)
        if not _is_number(value):
            self.wrong(key, "a number")
        return float(value)

    def optional_quantity(self, key: str) -> float | None:
        """A finite number that is not negative, or None where it is null or absent."""
        if self.fields.get(key) is None:
            return None
        value = self.number(key, 0.0)
        if value < 0:
            self.wrong(key, "a number that is not negative")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers; empty where absent."""
        values = self.array(key)
        if not all(_is_number(value) for value in values):
            self.wrong(key, "a list of numbers")
        return tuple(float(value) for value in values)

    def optional_integer(self, key: str) -> int | None:
        """An integer, or None where it is null or absent."""
        return None if self.fields.get(key) is None else self.integer(key)

    def optional_count(self, key: str) -> int | None:
        """An integer that is not negative, or None where it is null or absent."""
        return None if self.fields.get(key) is None else self.count(key)

    def array(self, key: str) -> list[Any]:
        """A list of anything; empty where absent."""
        value = self._get(key, [])
        if not isinstance(value, list):
            self.wrong(key, "a list")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers; empty where absent."""
        return self._integers(key, self.array(key))

    def indices(self, key: str) -> tuple[int, ...]:
        """A list of integers that are not negative; empty where absent."""
        return self._integers(key, self.array(key), 0)

    def ids(self, key: str) -> tuple[int, ...]:
        """A list of different node ids, at least one."""
        found = self.integers(key)
        if not found or min(found) < 0 or len(set(found)) != len(found):
            self.wrong(key, "a list of node ids")
        return found

    def _integers(self, key: str, values: object, low: int = -_COUNT_LIMIT) -> tuple[int, ...]:
        if not isinstance(values, list) or not all(type(n) is int and low <= n < _COUNT_LIMIT for n in values):
            self.wrong(key, "a list of integers")
        return tuple(values)

    def count_pairs(self, key: str) -> tuple[tuple[int, int], ...]:
        """A list of pairs of counts; empty where absent."""
        pairs = tuple(self._integers(key, pair, 0) for pair in self.array(key))
        if any(len(pair) != 2 for pair in pairs):
            self.wrong(key, "a list of pairs of counts")
        return tuple((first, second) for first, second in pairs)

    def matrix(self, key: str, columns: int) -> tuple[tuple[int, ...], ...]:
        """A table of counts with that many columns."""
        rows = tuple(self._integers(key, row, 0) for row in self.array(key))
        if any(len(row) != columns for row in rows):
            self.wrong(key, f"a table of {columns} columns (the plan's nodes and one for elsewhere)")
        return rows

    def object(self, key: str) -> Fields:
        """The object of that name; an empty one where it is null or absent."""
        return Fields(self.file, self._get(key, {}), f"{self.where}.{key}".lstrip("."))

    def optional_object(self, key: str) -> Fields | None:
        """The object of that name, or None where it is null, empty or absent."""
        return None if self.fields.get(key) in (None, {}) else self.object(key)

    def rows(self, key: str) -> list[Fields]:
        """A list of objects; empty where absent."""
        return [
            Fields(self.file, row, f"{self.where}.{key}[{place}]".lstrip("."))
            for place, row in enumerate(self.array(key))
        ]

    def counts(self, key: str) -> dict[str, int]:
        """An object of counts; empty where absent."""
        inner = self.object(key)
        return {name: inner.count(name) for name in inner.fields}

    def node_counts(self, key: str) -> dict[int, int]:
        """An object of counts by node id."""
        return {self._node(key, name): pages for name, pages in self.counts(key).items()}

    def pair_counts(self, key: str) -> dict[tuple[int, int], int]:
        """An object of counts by two node ids, written `0>1`."""
        pairs = {}
        for name, pages in self.counts(key).items():
            source, _, target = name.partition(">")
            pairs[self._node(key, source), self._node(key, target)] = pages
        return pairs

    def _node(self, key: str, name: str) -> int:
        if not re.fullmatch(r"[0-9]{1,5}", name):
            self.wrong(f"{key}.{name!a}", "of a node's number")
        return int(name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _COUNT_LIMIT


def _reject(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


def parse(file: Path, data: bytes) -> Fields:
    """The object that `data`, read from `file`, holds as JSON; NaN and infinities are refused. Raises `ResultError`."""
    try:
        return Fields(file, json.loads(data.decode(), parse_constant=_reject, parse_float=_finite))
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{file} is cut or not JSON: {ascii(str(error))[1:-1][:120]}", DAMAGED) from None
