"""The header of an x86 kernel image (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from numabench.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC_AT = 0x202
_VERSION_POINTER_AT = 0x20E
_SETUP_BYTES = 64 * 1024
# It becomes a file name: no slash, and no dot in front.
_RELEASE = re.compile(r"(\w[\w.+~-]*)(?: |$)", re.ASCII)


def release(image: Path) -> str:
    """The kernel release that an image names itself, as `uname -r` will say.

    Raises `UsageError` for what is no bzImage or names no version, and `OSError` where it cannot be read.
    """
    with image.open("rb") as file:
        setup = file.read(_SETUP_BYTES)
    if setup[_MAGIC_AT : _MAGIC_AT + 4] != b"HdrS":
        raise UsageError(f"{image} is not an x86 kernel image", "give a bzImage or vmlinuz, not a vmlinux or package")
    start = int.from_bytes(setup[_VERSION_POINTER_AT : _VERSION_POINTER_AT + 2], "little") + 0x200
    named = _RELEASE.match(setup[start : start + 256].split(b"\0")[0].decode("ascii", errors="replace"))
    if not named:
        raise UsageError(f"{image} names no kernel version in its header")
    return named[1]
