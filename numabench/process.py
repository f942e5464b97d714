"""The one door to other programs, built on `sh`: argv lists, deadlines, and nothing left running."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.errors import CannotRun, ProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import sh

_DEBUG = "NUMABENCH_DEBUG"
_OUTPUT_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Completed:
    """A program that ended: its exit status (negative: the signal that killed it) and what it printed."""

    argv: tuple[str, ...]
    exit_status: int
    stdout: str
    stderr: str

    def check(self, what: str) -> Completed:
        """The same, or a `ProgramError` that says what failed and ends with the program's last words."""
        if self.exit_status == 0:
            return self
        words = (self.stderr.strip() or self.stdout.strip()).splitlines()[-8:]
        raise ProgramError(
            f"{what} failed: {paste(self.argv)} {describe_exit(self.exit_status)}"
            + (": " + "\n  ".join(words) if words else "")
        )


def describe_exit(exit_status: int) -> str:
    """An exit status in words: `exited with 3`, `was killed by SIGSEGV`."""
    if exit_status >= 0:
        return f"exited with {exit_status}"
    try:
        return f"was killed by {signal.Signals(-exit_status).name}"
    except ValueError:
        return f"was killed by signal {-exit_status}"


def paste(argv: Sequence[str]) -> str:
    """A command line that can be pasted into a shell."""
    return shlex.join(argv)


def set_debug(enabled: bool) -> None:
    """Have every started program's command line printed on stderr, also by the processes started from here."""
    if enabled:
        os.environ[_DEBUG] = "1"


def find_program(name: str) -> str | None:
    """The path of a program on PATH or in the system's sbin directories, or None."""
    import shutil

    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")


def require_program(name: str) -> str:
    """The path of a program that can be started. Raises `CannotRun`, with the reason, for one that cannot."""
    if "/" not in name and (found := find_program(name)):
        return found
    if "/" in name and os.access(name, os.X_OK) and not os.path.isdir(name):  # noqa: PTH112  beside os.access
        return name
    there = "/" in name and os.path.exists(name)  # noqa: PTH110
    raise CannotRun(name, (f"the program {name} " + ("may not be executed" if there else "was not found"),))


def _command(argv: Sequence[str]) -> sh.Command:
    import sh

    if os.environ.get(_DEBUG):
        print(f"+ {paste(argv)}", file=sys.stderr, flush=True)
    return sh.Command(require_program(argv[0]))


class Process:
    """A program running in a session of its own, so that it and all it started can be ended together."""

    def __init__(self, argv: tuple[str, ...], running: sh.RunningCommand) -> None:
        self.argv = argv
        self._running = running
        self.pid: int = running.pid
        self.exit_status: int | None = None
        # The child may be reaped already: then there is no pidfd, and wait() answers at once.
        try:
            self._pidfd: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._pidfd = None

    def fileno(self) -> int:
        """A descriptor that turns readable when the program ends, for select(); -1 when it has ended already."""
        return -1 if self._pidfd is None else self._pidfd

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit status (negative: the signal that killed it), or None if it still runs at the deadline."""
        if self.exit_status is not None:
            return self.exit_status
        if self._pidfd is not None and timeout_s is not None:
            readable, _, _ = select.select([self._pidfd], [], [], max(timeout_s, 0.0))
            if not readable:
                return None
        import sh

        try:
            self._running.wait()
            status = self._running.exit_code
        except sh.ErrorReturnCode as error:
            status = error.exit_code
        self.exit_status = int(status)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        return self.exit_status

    def interrupt(self) -> None:
        """Send it SIGINT, as Ctrl-C does: it alone, and not what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def kill(self, grace_s: float = 2.0) -> int:
        """End the whole session: SIGTERM, then SIGKILL after `grace_s` seconds. The exit status."""
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            status = self.wait(patience_s)
            if status is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
                return status
        raise AssertionError("wait() without a deadline returns a status")


def start(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start a program in a session of its own, forked by the calling thread, whose policy and affinity it inherits.

    `stdin`, `stdout` and `stderr` are open descriptors (none: /dev/null); `pass_fds` keep their numbers. Raises
    `CannotRun` where the program is not found or may not be executed.
    """
    command = _command(argv)
    with contextlib.ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "r+b", buffering=0))  # noqa: PTH123  a raw descriptor
        out = null.fileno() if stdout is None else stdout
        err = null.fileno() if stderr is None else stderr
        into = os.fdopen(os.dup(null.fileno() if stdin is None else stdin), "rb", buffering=0)
        stack.enter_context(into)
        for fd in pass_fds:
            os.set_inheritable(fd, True)
            stack.callback(os.set_inheritable, fd, False)
        try:
            running = command(
                *argv[1:],
                _in=into,
                _out=out,
                _err=err,
                _bg=True,
                _bg_exc=False,
                _new_session=True,
                _pass_fds=set(pass_fds),
                _env=None if env is None else dict(env),
                _cwd=None if cwd is None else str(cwd),
                _return_cmd=True,
            )
        except OSError as error:
            raise CannotRun(argv[0], (f"{argv[0]}: {error.strerror}",)) from None
    return Process(tuple(argv), running)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 60.0,
    stdin_text: str = "",
) -> Completed:
    """Run a program to its end and keep what it printed.

    Raises `CannotRun` where it is not found and `ProgramError` where it outlives `timeout_s` (it is then killed with
    all it started). An exit status is data: see `Completed.check`.
    """
    import tempfile

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as into:
        into.write(stdin_text.encode())
        into.seek(0)
        began = time.monotonic()
        process = start(argv, stdin=into.fileno(), stdout=out.fileno(), stderr=err.fileno(), env=env, cwd=cwd)
        try:
            status = process.wait(timeout_s)
        except BaseException:
            process.kill()
            raise
        if status is None:
            process.kill()
            elapsed_s = time.monotonic() - began
            raise ProgramError(f"{paste(argv)} did not end in {elapsed_s:.0f} s and was killed")
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(_OUTPUT_LIMIT_BYTES).decode(errors="replace"))
    return Completed(tuple(argv), status, texts[0], texts[1])
