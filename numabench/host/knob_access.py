"""How a knob's value is read and written: a file, or a process that is stopped and goes on."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from numabench.host.knob_table import PROCESS

if TYPE_CHECKING:
    from numabench.host.root import Root

RUNNING, STOPPED = "running", "stopped"
# Fields of /proc/PID/stat behind the name (proc_pid_stat(5)): state, and, the 22nd of all, when it began.
_STATE, _BEGAN = 0, 19
_PATIENCE_S, _RETRY_S = 1.0, 0.001


def shown(text: str) -> str:
    """A knob's value in the text of its file: of `always [madvise] never` the word in brackets, else the text."""
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else text.strip()


def read(root: Root, path: str, kind: str) -> str:
    """The value at a path. Raises `OSError`."""
    text = root.read(path)
    if kind == PROCESS:
        return STOPPED if _stat(text)[_STATE] in {"T", "t"} else RUNNING
    return shown(text)


def write(root: Root, path: str, value: str, kind: str) -> None:
    """Write a value; to a process, stop it or let it go on. Raises `OSError`."""
    if kind != PROCESS:
        descriptor = os.open(root.path(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            # In one call: each is a write of its own to the kernel. What it took is read back.
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)
        return
    if not root.is_live or value not in {RUNNING, STOPPED}:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    os.kill(int(path.split("/")[2]), signal.SIGSTOP if value == STOPPED else signal.SIGCONT)
    # A signal takes effect when the process is scheduled next.
    deadline = time.monotonic() + _PATIENCE_S
    while read(root, path, kind) != value and time.monotonic() < deadline:
        time.sleep(_RETRY_S)


def check_writable(root: Root, path: str, kind: str) -> None:
    """Raise the `OSError` that writing there would: to open a knob for writing does nothing to it."""
    if kind != PROCESS:
        os.close(os.open(root.path(path), os.O_WRONLY | os.O_CLOEXEC))
    elif root.is_live:
        os.kill(int(path.split("/")[2]), 0)


def began(root: Root, path: str) -> str:
    """When a process began, in ticks since boot: with its number it names it for good. Empty where it is gone."""
    text = root.read_or_none(path)
    return _stat(text)[_BEGAN] if text else ""


def _stat(text: str) -> list[str]:
    return text.rpartition(")")[2].split()
