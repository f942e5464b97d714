"""What has booted: the running kernel as it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from numabench.host.build_id import build_id
from numabench.host.root import LIVE, Root


@dataclass(frozen=True)
class Booted:
    """A boot of a kernel; what cannot be read is empty. The boot id is another one after each boot (random(4))."""

    release: str
    build_id: str
    boot_id: str
    cmdline: str


def booted(root: Root = LIVE) -> Booted:
    """What runs now."""
    notes = (root.read_or_none("/sys/kernel/notes") or "").encode("utf-8", "surrogateescape")
    return Booted(
        release=_line(root, "/proc/sys/kernel/osrelease"),
        build_id=build_id(notes),
        boot_id=_line(root, "/proc/sys/kernel/random/boot_id"),
        cmdline=_line(root, "/proc/cmdline"),
    )


def _line(root: Root, name: str) -> str:
    return (root.read_or_none(name) or "").strip().strip("\0")
