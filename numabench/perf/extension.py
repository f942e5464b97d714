"""The one door to the extension numabench._perfdata, which may be absent where nothing was built."""

from __future__ import annotations

from typing import Any

from numabench.errors import CannotRun

try:
    from numabench._perfdata import ffi, lib
except ImportError:
    ffi = lib = None

__all__ = ["checked", "ffi", "lib", "made", "require"]


def require() -> None:
    """Raise `CannotRun` where the extension is not built."""
    if lib is None:
        raise CannotRun("reading perf.data", ("the extension numabench._perfdata is not built",), "reinstall numabench")


def made(pointer: Any, free: Any) -> Any:
    """What a constructor of the extension made, freed with the last reference to it. Raises `MemoryError`."""
    if pointer == ffi.NULL:
        raise MemoryError("no memory to read perf.data")
    return ffi.gc(pointer, free)


def checked(result: int) -> int:
    """A result that is not negative. Raises `MemoryError`."""
    if result < 0:
        raise MemoryError("no memory to read perf.data")
    return result
