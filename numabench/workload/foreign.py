"""A program of the user's own, seen from outside."""

from __future__ import annotations

import time
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from numabench import signals
from numabench.errors import WorkloadError
from numabench.host import processes
from numabench.host.root import LIVE, Root
from numabench.process import Process, describe_exit
from numabench.reaper import Reaper
from numabench.units import NS_PER_S
from numabench.workload.launch import launch_pinned
from numabench.workload.subject import Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_PROCESSES = 256
_MAX_SLICES = 64


class ForeignProgram:
    """A program of the user's own: measured from its start to its end, with all the processes it starts.

    It gets our standard error as its output, since our standard output is the report. Its memory is what its processes
    have mapped privately and anonymously (the 64 largest mappings), and all its threads are taken to use all of it. It
    is ended with all that it started, but for processes that have left its session (daemons), at the end, after
    `duration_s` if one is given, and when this process dies.
    """

    memory_changes = True

    def __init__(
        self,
        argv: Sequence[str],
        cpus: Sequence[int],
        mode: str,
        nodes: Sequence[int],
        *,
        duration_s: float | None = None,
        root: Root = LIVE,
    ) -> None:
        self.name = PurePath(argv[0]).name
        self.argv = tuple(argv)
        self._cpus, self._mode, self._nodes, self._root = tuple(cpus), mode, tuple(nodes), root
        self._duration_s = duration_s
        self._process: Process | None = None
        self._began_ns: int | None = None
        self._ended_ns: int | None = None
        self._exit_status: int | None = None
        self._asked = False
        self._reaper: Reaper | None = None

    def start(self) -> None:
        """Nothing yet: the program knows no barrier, so that it starts when the trial begins."""

    def wait_ready(self, deadline: float) -> None:
        """Ready at once."""

    def go(self) -> None:
        """Start it."""
        self._reaper = Reaper()
        with signals.held():
            self._began_ns = time.monotonic_ns()
            self._process = launch_pinned(
                self.argv, cpus=self._cpus, mode=self._mode, nodes=self._nodes, stdout=2, stderr=2
            )
        self._reaper.watch(self._process.pid)

    def poll(self, timeout_s: float) -> bool:
        """Wait for its end."""
        assert self._process is not None
        assert self._began_ns is not None
        left_s = timeout_s
        if self._duration_s is not None:
            left_s = min(left_s, self._duration_s - (time.monotonic_ns() - self._began_ns) / NS_PER_S)
        self._exit_status = self._process.wait(max(left_s, 0.0))
        if self._exit_status is None and left_s < timeout_s:
            self.ask_stop()
        if self._exit_status is None:
            return False
        self._ended_ns = self._ended_ns or time.monotonic_ns()
        return True

    def ask_stop(self) -> None:
        """End it: it cannot be asked."""
        assert self._process is not None
        self._asked = True
        self._exit_status = self._process.kill()
        self._ended_ns = time.monotonic_ns()

    def release(self, deadline: float) -> None:  # noqa: ARG002  it has ended already
        """Its exit status says whether it did what it should; one that we ended did."""
        if self._exit_status and not self._asked:
            raise WorkloadError(f"{self.name} {describe_exit(self._exit_status)}")

    def close(self) -> None:
        """End it, with all that it started."""
        if self._process is not None:
            self._exit_status = self._process.kill()
        if self._reaper is not None:
            self._reaper.forget()
            self._reaper.reap()
            self._reaper = None

    def pids(self) -> tuple[int, ...]:
        """It and its descendants, at most 256."""
        return () if self._process is None else processes.tree(self._root, self._process.pid)[:_MAX_PROCESSES]

    def threads(self) -> tuple[tuple[int, int], ...]:
        """All threads of all its processes."""
        return tuple((pid, tid) for pid in self.pids() for tid in processes.threads(self._root, pid))

    def slices(self) -> tuple[Slice, ...]:
        """Its writable, private and anonymous memory."""
        found = [
            Slice(pid, address, size_bytes)
            for pid in self.pids()
            for address, size_bytes in processes.private_mappings(self._root, pid)
        ]
        return tuple(sorted(found, key=lambda piece: -piece.size_bytes)[:_MAX_SLICES])

    def stamps(self) -> dict[str, int | None]:
        """When it began and ended, as seen from outside."""
        return {"ready": self._began_ns, "go": self._began_ns, "stop": self._ended_ns}

    def record(self) -> dict[str, Any]:
        """What can be said of it from outside."""
        return {
            "argv": list(self.argv),
            "pid": self._process.pid if self._process else None,
            "exit_status": self._exit_status,
            "workload": None,
            "threads": [],
            "slices": [],
            "done": [],
            "check": None,
            "first_touch": None,
        }

    def output(self) -> bytes:
        """Nothing: it does not speak the protocol."""
        return b""
