"""Command lines of numabench run in a fork of this process, which has its modules loaded: emulated, that takes long.

Only a process without threads is forked, since a lock that another thread holds would stay locked (fork(2)).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Main(Protocol):
    """Numabench's command line."""

    def __call__(self, argv: Sequence[str]) -> NoReturn:
        """Run the words behind `numabench`, print errors on stderr, and exit."""


class Forked:
    """A command line that runs. The process is of the caller's group, and ends with it."""

    def __init__(self, main: Main, argv: Sequence[str], output: int) -> None:
        """Start it; all that it prints goes to the descriptor `output`."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(main, argv, output)
        self._pidfd = os.pidfd_open(self.pid)
        self._status: int | None = None

    def wait(self, timeout_s: float) -> int | None:
        """The exit status (negative: the signal that killed it), or None where it still runs after that time."""
        if self._status is None:
            readable, _, _ = select.select([self._pidfd], [], [], max(timeout_s, 0.0))
            if readable:
                _, status = os.waitpid(self.pid, 0)
                self._status = os.waitstatus_to_exitcode(status)
                os.close(self._pidfd)
        return self._status

    def end(self, grace_s: float) -> None:
        """Have it end as Ctrl-C does, and after `grace_s` seconds at once."""
        for number, patience_s in ((signal.SIGINT, grace_s), (signal.SIGKILL, 60.0)):
            if self.wait(0.0) is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + patience_s
            while self.wait(deadline - time.monotonic()) is None and time.monotonic() < deadline:
                pass


def _run(main: Main, argv: Sequence[str], output: int) -> NoReturn:
    """What the new process does: nothing of its parent's is ended or cleared up by it."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for ours, standard in ((null, 0), (output, 1), (output, 2)):
            os.dup2(ours, standard)
        main(argv)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  of a process that ends here, as the interpreter would end it
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
