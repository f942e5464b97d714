"""What a guest needs of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from numabench import process

INSTALL_HINT = (
    "on Debian or Ubuntu: apt-get install qemu-system-x86 busybox-static kmod binutils; pip install virtme-ng"
)


def virtme_run() -> str | None:
    """The path of virtme-ng's `virtme-run`: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "virtme-run"
    return str(beside) if os.access(beside, os.X_OK) else process.find_program("virtme-run")


def _is_static(program: str) -> bool:
    """Whether an ELF file names no interpreter (PT_INTERP, elf(5))."""
    pt_interp = 3
    with Path(program).open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return False
        offset = int.from_bytes(header[32:40], "little")
        entry_bytes = int.from_bytes(header[54:56], "little")
        count = int.from_bytes(header[56:58], "little")
        file.seek(offset)
        table = file.read(entry_bytes * count)
    return all(
        int.from_bytes(table[at : at + 4], "little") != pt_interp for at in range(0, entry_bytes * count, entry_bytes)
    )


def _busybox() -> str | None:
    """The busybox that virtme-ng would take for the guest's first steps."""
    for name in ("busybox-static", "busybox.static", "busybox"):
        path = process.find_program(name)
        if path:
            return path
    return None


def requirements() -> tuple[str, ...]:
    """Why no guest can run here, one sentence a reason; none where one can."""
    reasons = []
    machine = os.uname().machine
    if machine != "x86_64":
        reasons.append(f"guests are x86_64 and this machine is {machine}")
    if not process.find_program("qemu-system-x86_64"):
        reasons.append("qemu-system-x86_64 is not installed (package qemu-system-x86)")
    if not virtme_run():
        reasons.append("virtme-run is not installed (Python package virtme-ng)")
    busybox = _busybox()
    if busybox is None:
        reasons.append("busybox is not installed (package busybox-static)")
    elif not _is_static(busybox):
        reasons.append(f"{busybox} is not statically linked (package busybox-static)")
    reasons += [
        f"{program} is not installed (package kmod)"
        for program in ("depmod", "modprobe")
        if not process.find_program(program)
    ]
    if not process.find_program("file") and not process.find_program("strings"):
        reasons.append("neither strings nor file is installed (package binutils or file)")
    return tuple(reasons)
