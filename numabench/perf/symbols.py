"""One name for each kernel function, whatever the compiler, the configuration or the kernel's age made of it.

`canonical` follows the rules in this order: what the compiler adds (`.isra.0`, `.constprop.0`, `.part.0`, `.cold`,
`.llvm.123`, `.lto_priv.0`), an offset, the allocation-tagging suffix `_noprof` (since v6.10), the system-call wrappers
(`__x64_sys_`, `__se_sys_`, `SyS_`...: all `sys_`), paravirtual variants of the lock slow paths, and the renames of
`numabench.perf.symbol_table`, page to folio foremost. Nothing is lost: a `Symbol` keeps the raw name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from numabench import named_file
from numabench.errors import UsageError
from numabench.perf.symbol_table import RENAMES, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_COMPILER = re.compile(
    r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv|localalias|warm|unlikely|clone|str|__uniq)(?:\.?\d+)*)+$"
)
_OFFSET = re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?$")
_NOPROF = re.compile(r"(?<=.)_noprof$")
# Since Linux kernel commit d5a00528b58c ("syscalls/core, syscalls/x86: Rename struct pt_regs-based sys_*()") (in v4.17)
# the entry is __x64_sys_; SyS_ came before. compat_ ones keep their own name: they are other functions.
_SYSCALL = re.compile(
    r"^(?:SyS_|__se_sys_|__do_sys_|__x64_sys_|__ia32_sys_|__arm64_sys_|__riscv_sys_|__s390x?_sys_|ksys_)(?=\w)"
)
_COMPAT_SYSCALL = re.compile(r"^(?:__se_|__do_|__x64_|__ia32_|__arm64_)(?=compat_sys_)")
_LOCK_VARIANT = re.compile(r"^(?:native_|__pv_)(?=queued_spin_lock_slowpath$|flush_tlb_(?:multi|others)$)")
_MAX_TABLE_BYTES = 16 << 20
_PATCHABLE = re.compile(r"^__(?:pfx|cfi)_(?=\w)")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function: the name that is the same on every kernel, and the one it had on this."""

    name: str
    raw: str


@dataclass(frozen=True)
class SymbolTable:
    """Renames from any kernel's name to the one of today, and back.

    `renames` maps each former name to its successor, which may have been renamed again.
    """

    renames: Mapping[str, str] = field(default_factory=lambda: RENAMES)
    version: int = VERSION
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def canonical(self, raw: str) -> str:
        """The name of today for a raw one; a name that no rule knows comes back as it is."""
        found = self._known.get(raw)
        if found is None:
            found = self._known[raw] = self._follow(raw)
        return found

    def symbol(self, raw: str) -> Symbol:
        """The canonical name together with the raw one."""
        return Symbol(self.canonical(raw), raw)

    def former_names(self, name: str) -> tuple[str, ...]:
        """The names in the table that a canonical one had on other kernels, sorted."""
        return tuple(sorted(old for old in self.renames if old != name and self.canonical(old) == name))

    def stack(self, frames: Iterable[str]) -> tuple[str, ...]:
        """The canonical names of a chain, in its order; frames in a row that became one (`.cold`) are merged."""
        names: list[str] = []
        before = ""
        for raw in frames:
            name = self.canonical(raw)
            if not names or names[-1] != name or raw == before:
                names.append(name)
            before = raw
        return tuple(names)

    def with_renames(self, more: Mapping[str, str]) -> SymbolTable:
        """A table with more renames, which come before those it had. Raises `UsageError` for a circle."""
        renames = {**self.renames, **more}
        for name in more:
            _follow_renames(name, renames)
        return SymbolTable(renames, self.version)

    def _follow(self, raw: str) -> str:
        return _follow_renames(strip(raw), self.renames)


def _follow_renames(name: str, renames: Mapping[str, str]) -> str:
    seen = {name}
    while name in renames:
        name = renames[name]
        if name in seen:
            raise UsageError(f"the renames of {name!a} run in a circle", "let each name lead to a newer one")
        seen.add(name)
    return name


def strip(raw: str) -> str:
    """A kernel function's name without what compiler, configuration and architecture added; no rename is applied.

    Two functions of different code keep different names: `do_sys_open` is not `sys_open`, `__alloc_pages` not
    `alloc_pages`, and a name that is only a suffix (`.part.0`) stays.
    """
    name = _OFFSET.sub("", raw)
    name = _COMPILER.sub("", name) or raw
    name = _PATCHABLE.sub("", name)
    name = _COMPAT_SYSCALL.sub("", name)
    name = _SYSCALL.sub("sys_", name)
    name = _NOPROF.sub("", name)
    return _LOCK_VARIANT.sub("", name)


def load(path: Path) -> SymbolTable:
    """The table extended by a TOML file of the user's: `[rename]` with lines `old_name = "new_name"`.

    Raises `UsageError`, naming the file, where it cannot be read or holds something else.
    """
    import tomllib

    try:
        document = tomllib.loads(named_file.read(path, _MAX_TABLE_BYTES).decode())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "pass a TOML file with a [rename] table") from None
    # Of a number of thousands of digits Python says ValueError, tomllib does not say its own.
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}", 'write lines such as old_name = "new_name"') from None
    renames = document.get("rename", {})
    unknown = sorted(set(document) - {"rename"})
    if unknown or not isinstance(renames, dict) or not all(isinstance(new, str) and new for new in renames.values()):
        raise UsageError(f"{path} is not a table of renames", 'write [rename] and lines such as old_name = "new_name"')
    return SymbolTable().with_renames(renames)
