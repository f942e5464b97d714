"""Kernel symbols of a saved /proc/kallsyms: plain, gzip or zstd, modules and BPF programs included."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench import named_file
from numabench.host.build_id import build_id
from numabench.host.root import LIVE
from numabench.perf.attr import PerfDataError
from numabench.perf.extension import ffi, lib, made, require
from numabench.perf.zstd import Unpacker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from numabench.host.root import Root

_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Ten times what a kernel with every driver has.
_MAX_BYTES = 256 * 1024 * 1024
_REFERENCES = ("_text", "_stext")
# The padding in front of a function, where tracers write, is none.
_FUNCTION = re.compile(rb"^[0-9a-f]+ [tTwW] (?!__pfx_|__cfi_)(\S+)", re.MULTILINE)


class Kallsyms:
    """The symbols of one boot of one kernel. Of names for one address it has the last, as perf does."""

    def __init__(self, text: bytes, source: str = "kallsyms") -> None:
        """Parse the text of /proc/kallsyms.

        Raises `PerfDataError` where it holds no symbol, or where all addresses are zero: the kernel hid them.
        """
        require()
        if len(text) > _MAX_BYTES:
            raise PerfDataError(f"{source} is larger than any kernel's symbols")
        self.source = source
        self._text = text
        # The table points into the text, which the buffer keeps where it is.
        self._buffer = ffi.from_buffer(text)
        self.table: Any = made(lib.kallsyms_new(self._buffer, len(text)), lib.kallsyms_free)
        if not len(self):
            raise PerfDataError(f"{source} holds no kernel symbols")
        if not lib.kallsyms_last(self.table):
            raise PerfDataError(
                f"all addresses in {source} are zero: the kernel hid them from who saved it",
                "save it again as root, or after sysctl kernel.kptr_restrict=0",
            )

    @classmethod
    def read(cls, path: Path | str) -> Kallsyms:
        """The symbols in a file; see `Kallsyms`. Raises `PerfDataError` where it cannot be read or unpacked."""
        try:
            data = named_file.read(Path(path), _MAX_BYTES)
        except OSError as error:
            raise PerfDataError(f"cannot read {path}: {error.strerror}") from None
        return cls(_unpacked(data, str(path)), str(path))

    def __len__(self) -> int:
        return int(lib.kallsyms_count(self.table))

    def moved(self, reference_address: int) -> Kallsyms:
        """The symbols as they are in a boot that put the kernel's text (`_text` or `_stext`) at another address.

        Modules have places of their own in each boot: they are left out where the kernel's is another.
        """
        if not reference_address:
            return self
        found = [at for at in map(self.address_of, _REFERENCES) if at is not None]
        if not found or reference_address in found:
            return self
        other = object.__new__(Kallsyms)
        other.source, other._text, other._buffer = self.source, self._text, self._buffer
        delta = (reference_address - found[0]) % 2**64
        other.table = made(lib.kallsyms_moved(self.table, delta), lib.kallsyms_free)
        return other

    def address_of(self, name: str) -> int | None:
        """The address of a symbol by its exact name, or None. Aliases that `names` never gives are found, too."""
        at = self._text.find(f" {name}\n".encode())
        line = self._text.rfind(b"\n", 0, at) + 1
        return int(self._text[line : line + 16], 16) if at >= 0 else None

    def may_be_of(self, kernel_bytes: int) -> bool:
        """Whether these can be symbols of a kernel of which perf has mapped so many bytes.

        perf maps from `_text` to `_etext`, or to `_edata` where kallsyms has it (machine__get_running_kernel_start).
        """
        start = self.address_of(_REFERENCES[0])
        ends = [at for at in map(self.address_of, ("_etext", "_edata")) if at is not None]
        return start is None or not ends or not kernel_bytes or kernel_bytes in {end - start for end in ends}

    def resolve(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The number of the symbol that holds each address; `len(self)` where none does."""
        import numpy as np

        found = np.empty(len(addresses), np.uint32)
        words = np.ascontiguousarray(addresses)
        lib.kallsyms_resolve(
            self.table, ffi.from_buffer("uint64_t[]", words), len(words), ffi.from_buffer("uint32_t[]", found)
        )
        return np.minimum(found, np.uint32(len(self)))

    def name(self, number: int) -> str:
        """The name of a symbol by its number, `[unknown]` for the number that `resolve` gives where there is none."""
        if number >= len(self):
            return "[unknown]"
        words = lib.kallsyms_words(self.table, number)
        return self._part(words.name, words.name_bytes)

    def module(self, number: int) -> str:
        """The module that a symbol is in, empty for the kernel itself."""
        if number >= len(self):
            return ""
        words = lib.kallsyms_words(self.table, number)
        return self._part(words.module, words.module_bytes)

    def names(self) -> frozenset[str]:
        """The names of all functions and variables: what a kernel has, whether it was sampled or not."""
        return frozenset(self.name(number) for number in range(len(self)))

    def functions(self) -> frozenset[str]:
        """The raw names of all functions, those of modules and every alias included: what this kernel could run."""
        return frozenset(name.decode(errors="replace") for name in set(_FUNCTION.findall(self._text)))

    def _part(self, at: int, size_bytes: int) -> str:
        return self._text[at : at + size_bytes].decode(errors="replace")


def _unpacked(data: bytes, source: str) -> bytes:
    if data.startswith(_ZSTD_MAGIC):
        parts, size_bytes = [], 0
        for piece in Unpacker().feed(data):
            parts.append(piece)
            size_bytes += len(piece)
            if size_bytes > _MAX_BYTES:
                raise PerfDataError(f"{source} is larger than any kernel's symbols")
        return b"".join(parts)
    if data.startswith(_GZIP_MAGIC):
        import zlib

        try:
            return zlib.decompressobj(wbits=31).decompress(data, _MAX_BYTES + 1)
        except zlib.error as error:
            raise PerfDataError(f"{source} is corrupt: {error}") from None
    return data


def find_kallsyms(kernel_build_id: str, directory: Path | None = None, root: Root = LIVE) -> Kallsyms:
    """The symbols of the kernel with a build id: from perf's cache (~/.debug), or of this machine if it still runs.

    `directory` is the cache's. Raises `PerfDataError`, with what to do, where neither has them.
    """
    cache = (directory or Path.home() / ".debug") / "[kernel.kallsyms]" / (kernel_build_id or "-")
    for saved in (cache / "kallsyms", cache):
        if saved.is_file():
            return Kallsyms.read(saved)
    running = root.path("/sys/kernel/notes")
    if kernel_build_id and running.is_file() and build_id(running.read_bytes()) == kernel_build_id:
        return Kallsyms(root.path("/proc/kallsyms").read_bytes(), "/proc/kallsyms")
    raise PerfDataError(
        "the symbols of the kernel that was recorded are not here",
        "name a copy of its /proc/kallsyms, saved as root in the same boot",
    )
