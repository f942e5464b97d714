"""The running kernel's symbols and modules, saved beside recordings: perf.data lacks them, and KASLR moves them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from typing import TYPE_CHECKING

from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from pathlib import Path

# Of all runs of a results directory: what one boot has is stored once, and every run links to it.
SHARED = ".symbols"
_LEVEL = 3
_HIDDEN = b"0000000000000000 "


def read(root: Root = LIVE) -> bytes:
    """The text of /proc/kallsyms, empty where it may not be read."""
    try:
        return root.path("/proc/kallsyms").read_bytes()
    except OSError:
        return b""


def are_hidden(kallsyms: bytes) -> bool:
    """Whether the kernel hides its addresses from us (kernel.kptr_restrict); some per-CPU data is at zero anyway."""
    for line in reversed(kallsyms[-(1 << 16) :].splitlines()):
        if b"\t" not in line:
            return line.startswith(_HIDDEN)
    lines = kallsyms.splitlines()
    return not lines or lines[-1].startswith(_HIDDEN)


def save(run: Path, kallsyms: bytes, root: Root = LIVE) -> str:
    """Store symbols in a run's directory as `kallsyms-HASH.zst`, with /proc/modules beside them; the file's name.

    The name is that of the content. Where the results directory holds it already, the run gets a link to it. Raises
    `OSError` where it cannot be written.
    """
    name = _store(run, "kallsyms", kallsyms)
    modules = (root.read_or_none("/proc/modules") or "").encode("utf-8", "surrogateescape")
    if modules:
        _store(run, "modules", modules)
    return name


def _store(run: Path, kind: str, content: bytes) -> str:
    name = f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}.zst"
    if (run / name).exists():
        return name
    shared = run.parent / SHARED
    with contextlib.suppress(OSError):
        os.link(shared / name, run / name)
        return name
    partial = run / f".tmp-{name}"
    try:
        with partial.open("wb") as file:
            file.write(_packed(content))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(run / name)
    finally:
        partial.unlink(missing_ok=True)
    # Sharing saves room, and is all that is lost where a file system has no links.
    with contextlib.suppress(OSError):
        shared.mkdir(exist_ok=True)
        _forget_unused(shared)
        os.link(run / name, shared / name)
    return name


def _forget_unused(shared: Path) -> None:
    """Remove what no run links to any more: its runs were deleted."""
    for file in shared.iterdir():
        if file.stat().st_nlink == 1:
            file.unlink()


def _packed(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return bytes(zstd.compress(content, _LEVEL))
