"""Build ids: what tells one kernel, or one program, from every other."""

from __future__ import annotations

import struct

_NT_GNU_BUILD_ID = 3


def build_id(notes: bytes) -> str:
    """The build id among ELF notes as hex digits, empty where there is none (elf(5), Notes).

    /sys/kernel/notes holds the running kernel's.
    """
    at = 0
    while at + 12 <= len(notes):
        name_bytes, content_bytes, kind = struct.unpack_from("=III", notes, at)
        name_at = at + 12
        content_at = name_at + _aligned(name_bytes)
        at = content_at + _aligned(content_bytes)
        if kind == _NT_GNU_BUILD_ID and notes[name_at : name_at + name_bytes] == b"GNU\0" and at <= len(notes):
            return notes[content_at : content_at + content_bytes].hex()
    return ""


def _aligned(size_bytes: int) -> int:
    return (size_bytes + 3) & ~3
