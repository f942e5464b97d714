"""Function symbols of ELF files (elf(5)): .symtab, or .dynsym where it was stripped. Nothing in a file is trusted."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench.host.build_id import build_id
from numabench.perf.extension import checked, ffi, lib, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMTAB, _STRTAB, _DYNSYM, _NOTE = 2, 3, 11, 7
_LOAD = 1
_MAX_FILE_BYTES = 4 << 30
# What is no file of a program, whatever a recording says of it.
_NO_PROGRAMS = ("/proc/", "/sys/", "/dev/")


@dataclass(frozen=True)
class ElfSymbols:
    """The symbol table of an ELF file.

    `segments` are its PT_LOADs: file offset, address and bytes in the file. `table` holds the symbols as they stand in
    the file, `strings` their names, and `is_full` says that they are those of .symtab.
    """

    build_id: str
    segments: tuple[tuple[int, int, int], ...]
    table: bytes
    strings: bytes
    is_full: bool

    def names_at(self, addresses: NDArray[np.uint64]) -> list[str]:
        """The function at each address in the file, empty where there is none.

        Of functions at one address it is perf's choice: sized, strong, global, with fewer underscores, then the longer
        name.
        """
        import numpy as np

        require()
        distinct, which = np.unique(np.asarray(addresses, np.uint64), return_inverse=True)
        found = np.empty(len(distinct), np.uint64)
        with self.elf_table() as table:
            checked(
                lib.elf_functions(
                    table, ffi.from_buffer("uint64_t[]", distinct), len(distinct), ffi.from_buffer("uint64_t[]", found)
                )
            )
        names = [self._name(at) for at in found.tolist()]
        return [names[number] for number in which.tolist()]

    @contextmanager
    def elf_table(self) -> Iterator[Any]:
        """The table as the extension takes it, for as long as it is used."""
        symbols, strings = ffi.from_buffer("uint8_t[]", self.table), ffi.from_buffer("char[]", self.strings)
        yield ffi.new("struct elf_table *", (symbols, len(self.table), strings, len(self.strings)))

    def _name(self, at: int) -> str:
        if at == lib.ELF_NONE:
            return ""
        end = self.strings.find(b"\0", at)
        return self.strings[at : end if end >= 0 else len(self.strings)].decode(errors="replace")


def read_elf(path: Path) -> ElfSymbols | None:
    """The symbols of an ELF file of a 64-bit little-endian machine, None for anything else or what cannot be read."""
    if str(path).startswith(_NO_PROGRAMS):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not _HEADER.size <= status.st_size <= _MAX_FILE_BYTES:
            return None
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data:
            return parse_elf(data)
    except OSError:
        return None
    finally:
        os.close(fd)


def parse_elf(data: bytes | mmap.mmap) -> ElfSymbols | None:
    """The symbols in an ELF file's bytes; see `read_elf`."""
    if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x02\x01":
        return None
    _, _, _, _, _, segments_at, sections_at, _, _, segment_bytes, segment_count, section_bytes, section_count, _ = (
        _HEADER.unpack(data[: _HEADER.size])
    )
    segments = _table(data, segments_at, segment_bytes, segment_count, _SEGMENT)
    sections = _table(data, sections_at, section_bytes, section_count, _SECTION)
    table = next((row for kind in (_SYMTAB, _DYNSYM) for row in sections if row[1] == kind), None)
    strings_at = sections[table[6]] if table and table[6] < len(sections) else None
    return ElfSymbols(
        build_id=next(filter(None, (build_id(_content(data, row)) for row in sections if row[1] == _NOTE)), ""),
        segments=tuple((row[2], row[3], row[5]) for row in segments if row[0] == _LOAD),
        table=_content(data, table),
        strings=_content(data, strings_at),
        is_full=bool(table and table[1] == _SYMTAB),
    )


def _table(data: bytes | mmap.mmap, at: int, row_bytes: int, count: int, row: struct.Struct) -> list[tuple[int, ...]]:
    """The rows of a table of headers that lie within the file."""
    if row_bytes < row.size or at > len(data):
        return []
    count = min(count, (len(data) - at) // row_bytes)
    return [row.unpack(data[at + i * row_bytes : at + i * row_bytes + row.size]) for i in range(count)]


def _content(data: bytes | mmap.mmap, section: tuple[int, ...] | None) -> bytes:
    """A section's bytes as far as they lie within the file."""
    no_bits = 8
    return data[section[4] : section[4] + section[5]] if section and section[1] != no_bits else b""


def find_symbols(path: str, wanted_build_id: str, cache: Path | None = None) -> ElfSymbols | None:
    """The symbols of a program that was recorded, or None where its file is gone or is another one by its build id.

    A full symbol table is looked for in perf's cache, in /usr/lib/debug, and then in the file itself, whose own
    segments say where its code is mapped. `cache` is ~/.debug unless it is given.
    """
    own = read_elf(Path(path)) if path.startswith("/") else None
    if own and wanted_build_id and own.build_id != wanted_build_id:
        own = None
    identity = own.build_id if own else wanted_build_id
    for other_path in _elsewhere(identity, cache or Path.home() / ".debug"):
        if own and own.is_full:
            break
        other = read_elf(other_path)
        if other and other.build_id == identity and (other.is_full or not own):
            segments = own.segments if own else other.segments
            own = replace(other, segments=segments)
    return own


def _elsewhere(identity: str, cache: Path) -> tuple[Path, ...]:
    if len(identity) < 4:
        return ()
    return (
        cache / ".build-id" / identity[:2] / identity[2:] / "elf",
        Path("/usr/lib/debug/.build-id") / identity[:2] / f"{identity[2:]}.debug",
    )
