"""TOML read with suspicion: all that is wrong with a file at once, each with line, key and what was expected."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from numabench import named_file
from numabench.errors import UsageError
from numabench.fleet.toml_lines import key_lines, line_of
from numabench.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path as File

    from numabench.fleet.toml_lines import Path

T = TypeVar("T")
_MAX_BYTES = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,47}")


@dataclass(frozen=True, order=True)
class Problem:
    """Something that cannot be meant; line 0 where none is known."""

    line: int
    where: str
    message: str


def nearest(word: str, known: Iterable[str]) -> str:
    """What is known and was probably meant, in words for the end of a message."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return "there is " + ", ".join(names[:12]) if names else "there is none"


class Document:
    """A TOML file, and what has been found wrong with it so far."""

    def __init__(self, file: File) -> None:
        """Read it. Raises `UsageError` where it cannot be read or is not TOML."""
        self.file = file
        self.problems: list[Problem] = []
        try:
            text = named_file.read(file, _MAX_BYTES).decode()
            self.values = tomllib.loads(text)
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}", "give the path of a lab's plan") from None
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{file} is not TOML: it is not UTF-8 at byte {error.start}", "see docs/nightly.md"
            ) from None
        # Of a number of thousands of digits Python says ValueError, tomllib does not say its own.
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is not TOML: {error}", "see https://toml.io, and docs/nightly.md") from None
        self.lines = key_lines(text, self.values)

    def wrong(self, path: Path, where: str, message: str) -> None:
        """Note a problem with what stands at `path`, which is called `where`."""
        problem = Problem(line_of(self.lines, path), where, message)
        if problem not in self.problems:
            self.problems.append(problem)

    def check(self) -> None:
        """Raise a `UsageError` that names all problems, by line, where there are any."""
        if not self.problems:
            return
        told = "\n  ".join(
            f"{self.file}{f':{problem.line}' if problem.line else ''}: {problem.where}: {problem.message}"
            for problem in sorted(self.problems)
        )
        count = len(self.problems)
        raise UsageError(f"the lab's plan has {'a mistake' if count == 1 else f'{count} mistakes'}:\n  {told}")

    @property
    def table(self) -> Table:
        """The whole of it."""
        return Table(self, (), "", self.values)


class Table:
    """A table. What is wrong is noted, and a value of the right type comes back; `close` notes keys that are left."""

    def __init__(self, document: Document, path: Path, label: str, values: dict[str, Any]) -> None:
        self.document, self.path, self.label, self.values = document, path, label, values
        self._asked: list[str] = []

    def wrong(self, key: str, message: str) -> None:
        """Note a problem with a key (empty: the table itself)."""
        where = f"{self.label}.{key}" if self.label and key else self.label or key
        self.document.wrong((*self.path, key) if key else self.path, where, message)

    def has(self, key: str) -> bool:
        """Whether a key is there."""
        self._asked.append(key)
        return key in self.values

    def close(self) -> None:
        """Note the keys that nobody asked for."""
        for key in self.values:
            if key not in self._asked:
                self.wrong(key, f"there is no such key; {nearest(key, set(self._asked))}")

    def _get(self, key: str, default: T, kind: type[T], wanted: str) -> T:
        if not self.has(key):
            return default
        value = self.values[key]
        if type(value) is kind:
            return value
        self.wrong(key, f"{_shown(value)} is not {wanted}")
        return default

    def text(self, key: str, default: str = "", wanted: str = "a text") -> str:
        """A text."""
        return self._get(key, default, str, wanted)

    def needed_text(self, key: str, wanted: str) -> str:
        """A text that must be there, and may not be empty."""
        value = self.text(key, "", wanted)
        if not value and (key not in self.values or self.values[key] == ""):
            self.wrong(key, f"it is missing: {wanted} is expected")
        return value

    def flag(self, key: str) -> bool:
        """True or false, by default false."""
        return self._get(key, False, bool, "true or false")

    def count(self, key: str, default: int, low: int, high: int) -> int:
        """An integer from `low` to `high`."""
        wanted = f"an integer from {low:,} to {high:,}"
        value = self._get(key, default, int, wanted)
        if key in self.values and not low <= value <= high:
            self.wrong(key, f"{value} is not {wanted}")
            return default
        return value

    def texts(self, key: str, wanted: str = "a list of texts") -> tuple[str, ...]:
        """A list of texts, or one; empty where absent."""
        if not self.has(key):
            return ()
        value = self.values[key]
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(each, str) and each for each in values):
            self.wrong(key, f"{_shown(value)} is not {wanted}")
            return ()
        return tuple(values)

    def duration(self, key: str, default_s: float | None) -> float | None:
        """Seconds of a duration as options have it: `8h`."""
        return self._parsed(key, default_s, parse_duration, "a duration, for example 8h")

    def size(self, key: str) -> int | None:
        """Bytes of a size as options have it: `1G`."""
        return self._parsed(key, None, parse_size, "a size, for example 1G")

    def _parsed(self, key: str, default: T | None, parse: Callable[[str], T], wanted: str) -> T | None:
        text = self.text(key, "", wanted)
        if not text:
            if self.values.get(key) == "":
                self.wrong(key, f"'' is not {wanted}")
            return default
        try:
            return parse(text)
        except UsageError as error:
            self.wrong(key, str(error))
            return default

    def one_of(self, key: str, default: str, choices: Sequence[str]) -> str:
        """One of some words."""
        value = self.text(key, default)
        if value != default and value not in choices:
            self.wrong(key, f"there is no '{value}'; {nearest(value, choices)}")
            return default
        return value

    def one_key(self, choices: Sequence[str]) -> str:
        """The one key of some that is there; the empty text, noted as a problem, where not exactly one is."""
        there = [key for key in choices if self.has(key)]
        if len(there) == 1:
            return there[0]
        what = f"{' and '.join(there)} exclude each other" if there else "it says nothing of what it is"
        self.wrong(there[1] if there else "", f"{what}: one of {', '.join(choices)} is expected")
        return ""

    def table(self, key: str) -> Table:
        """The table of that name; an empty one where it is absent."""
        return Table(self.document, (*self.path, key), key, self._get(key, {}, dict, "a table"))

    def named(self, key: str, what: str) -> list[tuple[str, Table]]:
        """The tables of a table, `[key.NAME]`, each with its name."""
        found = []
        for name, values in self._get(key, {}, dict, f"tables: write [{key}.NAME]").items():
            path, label = (*self.path, key, name), f"{key}.{name}"
            if not isinstance(values, dict):
                self.document.wrong(path, label, f"{_shown(values)} is not a {what}: write [{key}.{name}]")
                continue
            table = Table(self.document, path, label, values)
            check_name(table, "", name, what)
            found.append((name, table))
        return found

    def rows(self, key: str) -> list[Table]:
        """The tables of a list, `[[key]]`, called by their `name`, or by their place."""
        found = []
        for place, values in enumerate(self._get(key, [], list, f"a list of tables: write [[{key}]]")):
            if not isinstance(values, dict):
                self.wrong(key, f"{_shown(values)} is not a table: write [[{key}]]")
                continue
            name = values.get("name")
            label = f"{key} '{name}'" if isinstance(name, str) and name else f"{key} {place + 1}"
            found.append(Table(self.document, (*self.path, key, place), label, values))
        return found


def check_name(table: Table, key: str, name: str, what: str) -> None:
    """Note a name that cannot be part of a file's name."""
    if not _NAME.fullmatch(name):
        table.wrong(
            key, f"'{name}' cannot be a name of this {what}: at most 48 letters, digits, and . _ + -, no sign first"
        )


def _shown(value: object) -> str:
    """A value as its file has it, more or less."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
