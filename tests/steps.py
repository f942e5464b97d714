"""The steps by which numabench changes what outlives it, each made to fail, cut short, or be the last of its process.

A step is a call that writes, syncs, cuts, removes or renames a file: those of the journals, and those of the knobs.
What lies between two steps changes nothing that outlives the process, so that to end it there is to end it at a step.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CALLS = ((os, "write"), (os, "fsync"), (os, "ftruncate"), (os, "unlink"), (Path, "rename"), (Path, "mkdir"))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _error(number: int) -> Callable[[], None]:
    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


# What becomes of the step that is reached: how much of it is done, and how it ends.
ENDINGS: dict[str, tuple[float, Callable[[], None]]] = {
    "killed before it": (0, _kill),
    "killed in the midst of it": (0.5, _kill),
    "it fails, EIO": (0, _error(errno.EIO)),
    "half of it is done, ENOSPC": (0.5, _error(errno.ENOSPC)),
    "it is done, and fails, EIO": (1, _error(errno.EIO)),
    "only half of it is done": (0.5, lambda: None),
}


def endings(step: str) -> tuple[str, ...]:
    """Those that a step of that name may have: only a write can be done by half."""
    return tuple(name for name, (share, _) in ENDINGS.items() if step == "write" or share != 0.5)


@contextlib.contextmanager
def acting_at(number: int, ending: str) -> Iterator[list[str]]:
    """Have the step of that number (from 0 on; -1: none) end so; the list gets the name of every step."""
    done: list[str] = []
    share, act = ENDINGS[ending] if number >= 0 else (1.0, lambda: None)

    def wrapped(name: str, genuine: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            if len(done) - 1 != number:
                return genuine(*arguments, **options)
            told = None
            if name == "write" and 0 < share < 1:
                descriptor, data = arguments
                told = genuine(descriptor, data[: len(data) // 2])
            elif share:
                told = genuine(*arguments, **options)
            act()
            return told

        return call

    with contextlib.ExitStack() as stack:
        for owner, name in _CALLS:
            genuine = getattr(owner, name)
            stack.enter_context(mock.patch.object(owner, name, wrapped(name, genuine)))
        yield done
