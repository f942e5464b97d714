"""Function symbols of ELF files (elf(5)): .symtab, or .dynsym where it was stripped. Nothing in a file is trusted."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench.host.identity import build_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
_SYMTAB, _STRTAB, _DYNSYM, _NOTE = 2, 3, 11, 7
_LOAD = 1
_NO_TYPE, _FUNCTION, _INDIRECT_FUNCTION = 0, 2, 10
_RESERVED_SECTIONS = 0xFF00
_GLOBAL, _WEAK = 1, 2
_MAX_FILE_BYTES = 4 << 30
# What is no file of a program, whatever a recording says of it.
_NO_PROGRAMS = ("/proc/", "/sys/", "/dev/")


@dataclass(frozen=True)
class ElfSymbols:
    """The functions of an ELF file by their addresses in it, sorted.

    `segments` are its PT_LOADs: file offset, address and bytes in the file.
    """

    build_id: str
    segments: tuple[tuple[int, int, int], ...]
    start: NDArray[np.uint64]
    end: NDArray[np.uint64]
    rank: NDArray[np.uint8]
    name: NDArray[np.uint32]
    strings: bytes
    is_full: bool

    def names_at(self, addresses: NDArray[np.uint64]) -> list[str]:
        """The function at each address in the file, empty where there is none."""
        import numpy as np

        at = np.searchsorted(self.start, addresses, side="right")
        first = np.searchsorted(self.start, self.start[np.maximum(at, 1) - 1]) if len(self.start) else at
        return [
            self._best(int(low), int(high), int(address))
            for low, high, address in zip(first.tolist(), at.tolist(), addresses.tolist(), strict=True)
        ]

    def _best(self, low: int, high: int, address: int) -> str:
        """Of aliases perf's choice: sized, strong, global, with fewer underscores, then the longer name."""
        found = [number for number in range(low, high) if address < self.end[number]]
        if not found:
            return ""
        names = [self._name(number) for number in found]
        return min(
            zip(found, names, strict=True),
            key=lambda pair: (self.rank[pair[0]], _underscores(pair[1]), -len(pair[1])),
        )[1]

    def _name(self, number: int) -> str:
        at = int(self.name[number])
        end = self.strings.find(b"\0", at)
        return self.strings[at : end if end >= 0 else len(self.strings)].decode(errors="replace")


def _underscores(name: str) -> int:
    return len(name) - len(name.lstrip("_"))


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
    start, end, rank, name = _functions(_content(data, table))
    strings_at = sections[table[6]] if table and table[6] < len(sections) else None
    return ElfSymbols(
        build_id=next(filter(None, (build_id(_content(data, row)) for row in sections if row[1] == _NOTE)), ""),
        segments=tuple((row[2], row[3], row[5]) for row in segments if row[0] == _LOAD),
        start=start,
        end=end,
        rank=rank,
        name=name,
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


def _functions(table: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint8], NDArray[np.uint32]]:
    """Start, end, rank among aliases and name of the functions that are defined, sorted by start."""
    import numpy as np

    kind = np.dtype(_SYMBOL)
    symbols = np.frombuffer(table[: len(table) // kind.itemsize * kind.itemsize], kind)
    types = symbols["info"] & 15
    # Functions written in assembler may be global labels alone: _start.
    is_label = (types == _NO_TYPE) & (symbols["info"] >> 4 == _GLOBAL) & (symbols["section"] < _RESERVED_SECTIONS)
    is_function = (types == _FUNCTION) | (types == _INDIRECT_FUNCTION) | is_label
    symbols = symbols[is_function & (symbols["section"] != 0) & (symbols["name"] != 0)]
    symbols = symbols[np.argsort(symbols["value"], kind="stable")]
    start, size, binding = symbols["value"].copy(), symbols["size"], symbols["info"] >> 4
    after = np.searchsorted(start, start, side="right")
    following = np.append(start, np.uint64(2**64 - 1))[after] if len(start) else start
    end = np.where(size == 0, following, start + np.minimum(size, np.uint64(2**64 - 1) - start))
    rank = np.where(size == 0, 4, 0) + np.where(binding == _WEAK, 2, 0) + np.where(binding == _GLOBAL, 0, 1)
    return start, end, rank.astype(np.uint8), symbols["name"].copy()


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
            own = ElfSymbols(**{**other.__dict__, "segments": segments})
    return own


def _elsewhere(identity: str, cache: Path) -> tuple[Path, ...]:
    if len(identity) < 4:
        return ()
    return (
        cache / ".build-id" / identity[:2] / identity[2:] / "elf",
        Path("/usr/lib/debug/.build-id") / identity[:2] / f"{identity[2:]}.debug",
    )
