"""A kernel's configuration: fragments of it, and whether what they ask for came about.

The format is .config's (Documentation/kbuild/kconfig.rst), which scripts/kconfig/merge_config.sh takes, too. Options
behind a line `# optional`, up to a line `# needed`, may be absent in some versions.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import named_file
from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SET = re.compile(r'(CONFIG_\w+)=([ymn]|-?\d+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*")', re.ASCII)
_UNSET = re.compile(r"# (CONFIG_\w+) is not set", re.ASCII)
_MAX_FRAGMENT_BYTES = 16 << 20
_DECLARATION = re.compile(r"^\s*(?:menu)?config\s+(\w+)\s*$", re.MULTILINE)
_DEPENDS = re.compile(r"^\s*depends on (.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """What a fragment asks for; `value` is as in .config, `n` for an option that is to be off."""

    name: str
    value: str
    where: str
    needed: bool

    @property
    def line(self) -> str:
        """As .config has it."""
        return f"# {self.name} is not set" if self.value == "n" else f"{self.name}={self.value}"


def read_fragment(path: Path) -> tuple[Option, ...]:
    """The options of a fragment. Raises `UsageError` for a line that is none, and for a file that cannot be read."""
    try:
        lines = named_file.read(path, _MAX_FRAGMENT_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the configuration fragment {path}: {reason}") from None
    options = []
    needed = True
    for number, text in enumerate(lines, 1):
        line = text.strip()
        found = _SET.fullmatch(line)
        unset = _UNSET.fullmatch(line)
        where = f"{path.name}:{number}"
        if found:
            options.append(Option(found[1], found[2], where, needed))
        elif unset:
            options.append(Option(unset[1], "n", where, needed))
        elif line in {"# optional", "# needed"}:
            needed = line == "# needed"
        elif line and not line.startswith("#"):
            raise UsageError(
                f"{path}:{number} is no kernel option: {line[:80]}",
                "lines are like CONFIG_KSM=y or # CONFIG_KSM is not set",
            )
    return tuple(options)


def merge(fragments: Iterable[Iterable[Option]]) -> tuple[Option, ...]:
    """All options by name; of those that are asked for twice, the later counts."""
    merged = {option.name: option for fragment in fragments for option in fragment}
    return tuple(merged[name] for name in sorted(merged))


def values(config: str) -> dict[str, str]:
    """What a .config sets; what is absent is off."""
    return {found[1]: found[2] for found in map(_SET.fullmatch, config.splitlines()) if found}


def untaken(options: Iterable[Option], config: Mapping[str, str]) -> tuple[Option, ...]:
    """The options that a configuration has otherwise than they were asked for."""
    return tuple(option for option in options if config.get(option.name, "n") != option.value)


def explain(options: Iterable[Option], config: Mapping[str, str], source: Path) -> tuple[str, ...]:
    """Why each option did not take, as far as the source's Kconfig files tell: a sentence for each."""
    wanted = tuple(options)
    declared = _declarations({option.name.removeprefix("CONFIG_") for option in wanted}, source)
    sentences = []
    for option in wanted:
        has = config.get(option.name, "n")
        reason = declared.get(option.name.removeprefix("CONFIG_"), "this kernel has no such option")
        sentences.append(f"{option.name}={option.value} ({option.where}) became {has}: {reason}")
    return tuple(sentences)


def _declarations(names: set[str], source: Path) -> dict[str, str]:
    """Where options are declared, and on what they depend there."""
    found: dict[str, str] = {}
    for path in _kconfig_files(source):
        text = path.read_text(encoding="utf-8", errors="replace")
        declarations = list(_DECLARATION.finditer(text))
        for at, declaration in enumerate(declarations):
            name = declaration[1]
            if name not in names or name in found:
                continue
            end = declarations[at + 1].start() if at + 1 < len(declarations) else len(text)
            needs = " and ".join(_DEPENDS.findall(text[declaration.end() : end]))
            line = text.count("\n", 0, declaration.end()) + 1
            found[name] = f"{path.relative_to(source)}:{line}" + (f" wants {needs}" if needs else " declares it")
    return found


def _kconfig_files(source: Path) -> Iterable[Path]:
    for directory, below, names in os.walk(source):
        below.sort()
        yield from (Path(directory) / name for name in sorted(names) if name.startswith("Kconfig"))
