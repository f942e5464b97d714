"""A workload of our own, started, listened to and ended: docs/workload-protocol.md."""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from numabench import signals
from numabench.errors import CannotRun, WorkloadError
from numabench.host import cpuset
from numabench.process import Process, describe_exit
from numabench.workload.events import Event, EventReader
from numabench.workload.launch import launch_pinned
from numabench.workload.subject import Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

_READ_BYTES = 1 << 16
_LAST_WORDS = 5
_EXIT_PATIENCE_S = 10.0


class OwnWorkload:
    """A workload of numabench's own: docs/workload-protocol.md."""

    memory_changes = False

    def __init__(self, name: str, argv: Sequence[str], cpus: Sequence[int], *, mems: Sequence[int] = ()) -> None:
        """`mems` are the nodes of a cpuset of its own that it enters before it begins; none: it stays in ours."""
        self.name = name
        self.argv = tuple(argv)
        self._cpus, self._mems = tuple(cpus), tuple(mems)
        self._reader = EventReader(name)
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._last = "none"
        self._stack = contextlib.ExitStack()
        self._process: Process | None = None
        self._exit_status: int | None = None

    def start(self) -> None:
        """Start it with its output and both ends of the handshake on pipes."""
        self._stderr = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack closes it
        self._out, out_end = self._pipe()
        self._ready, ready_end = self._pipe()
        go_end, self._go = self._pipe(keep=1)
        argv = self._confined([*self.argv, "--ready-fd", str(ready_end), "--go-fd", str(go_end)])
        err = self._stderr.fileno()
        passed = (ready_end, go_end)
        try:
            with signals.held():
                self._process = launch_pinned(argv, cpus=self._cpus, stdout=out_end, stderr=err, pass_fds=passed)
        finally:
            for end in (out_end, ready_end, go_end):
                os.close(end)

    def _confined(self, argv: list[str]) -> list[str]:
        """The command in a cpuset of its own, where it is to have one; the cpuset goes when it is closed."""
        if not self._mems:
            return argv
        own = self._stack.enter_context(cpuset.confined(self._mems, self._cpus))
        return own.entering([*argv, "--cpuset-mems", str(own.mems_file)])

    def _pipe(self, keep: int = 0) -> tuple[int, int]:
        ends = os.pipe()
        self._stack.callback(os.close, ends[keep])
        return ends

    def wait_ready(self, deadline: float) -> None:
        """Wait for its memory to be touched and its threads to stand at the barrier."""
        while not self._events["ready"]:
            if not self._read(deadline - time.monotonic()) and time.monotonic() >= deadline:
                raise WorkloadError(f"{self.name} was not ready in time and was ended")

    def go(self) -> None:
        """Open the barrier."""
        self._tell(b"G")

    def ask_stop(self) -> None:
        """Ask the threads to stop, as if the duration had ended."""
        self._tell(b"S")

    def _tell(self, word: bytes) -> None:
        # A workload that has died meanwhile is found, with its reason, by the next read.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, word)

    def poll(self, timeout_s: float) -> bool:
        """Read what it prints; whether all its processes have stopped."""
        if not self._all_stopped():
            self._read(timeout_s)
        return self._all_stopped()

    def release(self, deadline: float) -> None:
        """Have it check its data, and wait for its end."""
        self._tell(b"X")
        assert self._process is not None
        while self._read(deadline - time.monotonic()):
            pass
        status = self._process.wait(max(deadline - time.monotonic(), 0.0))
        if status is None:
            raise WorkloadError(f"{self.name} did not end in time after its work was done, and was ended")
        self._exit_status = status
        if status != 0:
            raise self._failure()

    def close(self) -> None:
        """End it and close the pipes."""
        if self._process is not None and self._exit_status is None:
            self._exit_status = self._process.kill()
        self._stack.close()

    def _read(self, timeout_s: float) -> bool:
        """Take in what it printed within the time; False at the time's end or at the end of its output."""
        readable, _, _ = select.select([self._out], [], [], max(timeout_s, 0.0))
        if not readable:
            return False
        data = os.read(self._out, _READ_BYTES)
        if data:
            for event in self._reader.feed(data):
                self._last = event["event"]
                self._events[self._last].append(event)
            return True
        if not self._events["end"]:
            assert self._process is not None
            self._exit_status = self._process.wait(_EXIT_PATIENCE_S)
            raise self._failure()
        return False

    def _failure(self) -> Exception:
        told = self._first("error")
        if told is not None and told.get("code") == "cannot-run":
            return CannotRun(self.name, (str(told.get("message")),))
        if told is not None:
            return WorkloadError(f"{self.name}: {told.get('message')}")
        how = "closed its output" if self._exit_status is None else describe_exit(self._exit_status)
        self._stderr.seek(0)
        words = self._stderr.read().decode(errors="replace").strip().splitlines()[-_LAST_WORDS:]
        said = "; it said: " + " / ".join(words) if words else ""
        return WorkloadError(f"{self.name} {how} after its line '{self._last}'{said}")

    def _first(self, name: str) -> Event | None:
        return next(iter(self._events[name]), None)

    def _all_stopped(self) -> bool:
        start = self._first("start")
        return start is not None and len(self._events["stop"]) >= int(start["processes"])

    def pids(self) -> tuple[int, ...]:
        """The processes that hold slices."""
        return tuple(sorted({event["pid"] for event in self._events["slice"]}))

    def threads(self) -> tuple[tuple[int, int], ...]:
        """Its threads by their number in the slices."""
        ordered = sorted(self._events["thread"], key=lambda event: int(event["thread"]))
        return tuple((event["pid"], event["tid"]) for event in ordered)

    def slices(self) -> tuple[Slice, ...]:
        """The memory its threads store to."""
        return tuple(Slice(event["pid"], event["addr"], event["bytes"]) for event in self._events["slice"])

    def stamps(self) -> dict[str, int | None]:
        """Its own stamps of ready, go and stop; of several processes the first go and the last ready and stop."""
        times = {name: [int(event["t_ns"]) for event in self._events[name]] for name in ("ready", "go", "stop")}
        return {
            "ready": max(times["ready"], default=None),
            "go": min(times["go"], default=None),
            "stop": max(times["stop"], default=None),
        }

    def record(self) -> dict[str, Any]:
        """What it said of itself."""
        checks = self._events["check"]
        wrong = next((check["first_wrong"] for check in checks if check.get("first_wrong")), None)
        return {
            "argv": list(self.argv),
            "pid": self._process.pid if self._process else None,
            "exit_status": self._exit_status,
            "workload": self._first("start"),
            "threads": self._events["thread"],
            "slices": self._events["slice"],
            "done": self._events["done"],
            "check": {
                "bytes": sum(check["bytes"] for check in checks),
                "wrong": sum(check["wrong"] for check in checks),
                "first_wrong": wrong,
            }
            if checks
            else None,
            "first_touch": _added(self._events["first_touch"]),
            "movers": self._events["mover"],
            "victims": self._events["victim"],
            "wrong_words": self._events["wrong"],
            "units": next((event for event in self._events["pages"] if event["edge"] == "end"), None),
            "family": self._family(),
        }

    def _family(self) -> Event | None:
        """What it said of the processes that inherit its memory, and of what they did."""
        family = self._first("family")
        return None if family is None else {**(self._first("churn") or {}), **family}

    def output(self) -> bytes:
        """Every byte it printed."""
        return bytes(self._reader.raw)


def _added(counts: list[Event]) -> dict[str, dict[str, int]] | None:
    """The first-touch counts of several processes as one."""
    if not counts:
        return None
    total: dict[str, dict[str, int]] = {"nodes": {}, "other": {}}
    for count in counts:
        for kind, sums in total.items():
            for key, pages in count[kind].items():
                sums[key] = sums.get(key, 0) + pages
    return total
