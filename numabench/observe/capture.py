"""perf beside a trial: started with its events off, switched on and off through its control descriptors, ended well."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tempfile
import time
from typing import TYPE_CHECKING, Any, Protocol

from numabench import process, signals
from numabench.errors import ObserveError
from numabench.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# In an emulated guest perf is up after ten seconds, most of them for its own files; on a busy host after many more.
START_PATIENCE_S = 180.0
ANSWER_PATIENCE_S = 180.0
END_PATIENCE_S = 300.0
_ACK_BYTES = 64
_LAST_WORDS = 6


class Observer(Protocol):
    """What a trial has attached. Methods raise `ObserveError` where it fails."""

    def attach(self) -> None:
        """Have everything up, and counting nothing yet."""

    def enable(self) -> None:
        """Begin, just before GO."""

    def disable(self) -> None:
        """End, as soon as the work has stopped."""

    def detach(self) -> None:
        """Have everything written."""

    def close(self) -> None:
        """Leave nothing running, whatever happened before."""

    def record(self) -> dict[str, Any] | None:
        """What trial.json has as `observe`; None where nothing was attached."""

    def files(self) -> tuple[Path, ...]:
        """What it recorded: files to be kept with the trial."""


class Nothing:
    """Nothing is attached while throughput is measured."""

    def attach(self) -> None:
        """Nothing."""

    def enable(self) -> None:
        """Nothing."""

    def disable(self) -> None:
        """Nothing."""

    def detach(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def record(self) -> dict[str, Any] | None:
        """Nothing."""
        return None

    def files(self) -> tuple[Path, ...]:
        """None."""
        return ()


class Perf:
    """`perf record` or `perf stat`, of all CPUs, writing to `output`.

    The events are off from its start (-D -1) until `enable`. Since perf acknowledges each command, both moments are
    known: `enabled_ns` and `disabled_ns` of CLOCK_MONOTONIC enclose all that was recorded. Whatever ends numabench, a
    small process of its own ends perf.
    """

    def __init__(self, argv: Sequence[str], output: Path) -> None:
        self.argv = (*argv, "-D", "-1", "-o", str(output))
        self.output = output
        self.enabled_ns: int | None = None
        self.disabled_ns: int | None = None
        self._stack = contextlib.ExitStack()
        self._process: process.Process | None = None
        self._reaper: Reaper | None = None

    def attach(self) -> None:
        """Start it, and wait until it listens."""
        self._words = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack closes it
        self._reaper = Reaper()
        control_end, self._control = self._pipe(1)
        self._ack, ack_end = self._pipe(0)
        try:
            with signals.held():
                self._process = process.start(
                    [*self.argv, f"--control=fd:{control_end},{ack_end}"],
                    stdout=self._words.fileno(),
                    stderr=self._words.fileno(),
                    pass_fds=(control_end, ack_end),
                )
            self._reaper.watch(self._process.pid)
        finally:
            os.close(control_end)
            os.close(ack_end)
        # They are off already: this asks whether it listens, in a word that every perf with --control knows.
        self._command("disable", START_PATIENCE_S)

    def _pipe(self, keep: int) -> tuple[int, int]:
        ends = os.pipe()
        self._stack.callback(os.close, ends[keep])
        return ends

    def enable(self) -> None:
        """Switch its events on."""
        self.enabled_ns = time.monotonic_ns()
        self._command("enable", ANSWER_PATIENCE_S)

    def disable(self) -> None:
        """Switch its events off."""
        self._command("disable", ANSWER_PATIENCE_S)
        self.disabled_ns = time.monotonic_ns()

    def detach(self) -> None:
        """Have it write what is left, and end."""
        assert self._process is not None
        self._process.interrupt()
        status = self._process.wait(END_PATIENCE_S)
        # It ends as Ctrl-C ends it, after all is written.
        if status not in {0, -signal.SIGINT}:
            raise self._failure("did not end in time" if status is None else process.describe_exit(status))
        if not self.output.is_file():
            raise self._failure("wrote no file")

    def close(self) -> None:
        """End it if it still runs."""
        if self._process is not None:
            self._process.kill()
        if self._reaper is not None:
            self._reaper.forget()
            self._reaper.reap()
            self._reaper = None
        self._stack.close()

    def _command(self, word: str, patience_s: float) -> None:
        assert self._process is not None
        try:
            os.write(self._control, f"{word}\n".encode())
        except BrokenPipeError:
            raise self._failure("ended") from None
        ends: list[int | process.Process] = [self._ack, self._process]
        readable, _, _ = select.select(ends, [], [], patience_s)
        if self._ack not in readable or not os.read(self._ack, _ACK_BYTES):
            status = self._process.wait(0)
            raise self._failure("did not answer" if status is None else process.describe_exit(status))

    def _failure(self, how: str) -> ObserveError:
        self._words.seek(0)
        said = " / ".join(self._words.read().decode(errors="replace").split("\n")[:_LAST_WORDS]).strip(" /")
        return ObserveError(f"perf {how}" + (f": {said}" if said else ""))
