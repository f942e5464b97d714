"""What a trial measures: a workload of our own, which speaks the protocol, or any program of the user's."""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numabench.errors import CannotRun, WorkloadError
from numabench.host.root import LIVE, Root
from numabench.process import Process, describe_exit
from numabench.workload.events import Event, EventReader
from numabench.workload.launch import launch_pinned

if TYPE_CHECKING:
    from collections.abc import Sequence

_READ_BYTES = 1 << 16
_LAST_WORDS = 5
_EXIT_PATIENCE_S = 10.0
_MAX_PROCESSES = 256


@dataclass(frozen=True)
class Slice:
    """Memory that some threads use: where it lies in which process."""

    pid: int
    address: int
    size_bytes: int


class Subject(Protocol):
    """Something that runs while a trial measures it. Methods raise `WorkloadError` when it fails."""

    name: str

    def start(self) -> None:
        """Start it."""

    def wait_ready(self, deadline: float) -> None:
        """Wait until it is ready to be measured. `deadline` is of time.monotonic()."""

    def go(self) -> None:
        """Let it begin."""

    def poll(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` for something of it; whether it has done its work."""

    def ask_stop(self) -> None:
        """Ask it to do no more."""

    def release(self, deadline: float) -> None:
        """Let it check its data and end."""

    def close(self) -> None:
        """End it if it still runs, with all that it started."""

    def pids(self) -> tuple[int, ...]:
        """Its processes now."""

    def threads(self) -> tuple[tuple[int, int], ...]:
        """Its threads now, as (process, thread)."""

    def slices(self) -> tuple[Slice, ...]:
        """Its memory now."""

    def stamps(self) -> dict[str, int | None]:
        """When it was ready, went and stopped, in CLOCK_MONOTONIC nanoseconds; None for what it did not reach."""

    def record(self) -> dict[str, Any]:
        """Its part of trial.json."""

    def output(self) -> bytes:
        """The lines it printed, where they are the protocol's."""


class OwnWorkload:
    """A workload of numabench's own: docs/workload-protocol.md."""

    def __init__(self, name: str, argv: Sequence[str], cpus: Sequence[int]) -> None:
        self.name = name
        self.argv = tuple(argv)
        self._cpus = tuple(cpus)
        self._reader = EventReader(name)
        self._events: list[Event] = []
        self._stack = contextlib.ExitStack()
        self._process: Process | None = None
        self._exit_status: int | None = None

    def start(self) -> None:
        """Start it with its output and both ends of the handshake on pipes."""
        self._stderr = self._stack.enter_context(tempfile.TemporaryFile())
        self._out, out_end = self._pipe()
        self._ready, ready_end = self._pipe()
        go_end, self._go = self._pipe(keep=1)
        try:
            self._process = launch_pinned(
                [*self.argv, "--ready-fd", str(ready_end), "--go-fd", str(go_end)],
                cpus=self._cpus,
                stdout=out_end,
                stderr=self._stderr.fileno(),
                pass_fds=(ready_end, go_end),
            )
        finally:
            for end in (out_end, ready_end, go_end):
                os.close(end)

    def _pipe(self, keep: int = 0) -> tuple[int, int]:
        ends = os.pipe()
        self._stack.callback(os.close, ends[keep])
        return ends

    def wait_ready(self, deadline: float) -> None:
        """Wait for its memory to be touched and its threads to stand at the barrier."""
        while not self._seen("ready"):
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
            self._events += self._reader.feed(data)
            return True
        if not self._seen("end"):
            assert self._process is not None
            self._exit_status = self._process.wait(_EXIT_PATIENCE_S)
            raise self._failure()
        return False

    def _failure(self) -> Exception:
        told = next((event for event in self._events if event["event"] == "error"), None)
        if told is not None and told.get("code") == "cannot-run":
            return CannotRun(self.name, (str(told.get("message")),))
        if told is not None:
            return WorkloadError(f"{self.name}: {told.get('message')}")
        how = "closed its output" if self._exit_status is None else describe_exit(self._exit_status)
        self._stderr.seek(0)
        words = self._stderr.read().decode(errors="replace").strip().splitlines()[-_LAST_WORDS:]
        said = "; it said: " + " / ".join(words) if words else ""
        return WorkloadError(f"{self.name} {how} after its line '{self._last()}'{said}")

    def _last(self) -> str:
        return str(self._events[-1]["event"]) if self._events else "none"

    def _seen(self, name: str) -> bool:
        return any(event["event"] == name for event in self._events)

    def _of(self, name: str) -> list[Event]:
        return [event for event in self._events if event["event"] == name]

    def _first(self, name: str) -> Event | None:
        return next(iter(self._of(name)), None)

    def _all_stopped(self) -> bool:
        start = self._first("start")
        return start is not None and len(self._of("stop")) >= int(start["processes"])

    def pids(self) -> tuple[int, ...]:
        """The processes that hold slices."""
        return tuple(sorted({event["pid"] for event in self._of("slice")}))

    def threads(self) -> tuple[tuple[int, int], ...]:
        """Its threads by their number in the slices."""
        ordered = sorted(self._of("thread"), key=lambda event: int(event["thread"]))
        return tuple((event["pid"], event["tid"]) for event in ordered)

    def slices(self) -> tuple[Slice, ...]:
        """The memory its threads store to."""
        return tuple(Slice(event["pid"], event["addr"], event["bytes"]) for event in self._of("slice"))

    def stamps(self) -> dict[str, int | None]:
        """Its own stamps of ready, go and stop; of several processes the first go and the last ready and stop."""
        times = {name: [int(event["t_ns"]) for event in self._of(name)] for name in ("ready", "go", "stop")}
        return {
            "ready": max(times["ready"], default=None),
            "go": min(times["go"], default=None),
            "stop": max(times["stop"], default=None),
        }

    def record(self) -> dict[str, Any]:
        """What it said of itself."""
        checks = self._of("check")
        wrong = next((check["first_wrong"] for check in checks if check["first_wrong"]), None)
        return {
            "argv": list(self.argv),
            "pid": self._process.pid if self._process else None,
            "exit_status": self._exit_status,
            "workload": self._first("start"),
            "threads": self._of("thread"),
            "slices": self._of("slice"),
            "done": self._of("done"),
            "check": {
                "bytes": sum(check["bytes"] for check in checks),
                "wrong": sum(check["wrong"] for check in checks),
                "first_wrong": wrong,
            }
            if checks
            else None,
            "first_touch": _added(self._of("first_touch")),
        }

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


class ForeignProgram:
    """A program of the user's own: measured from its start to its end, with all the processes it starts.

    It gets our standard error as its output, since our standard output is the report. Its memory is what its processes
    have mapped privately and anonymously, and all its threads are taken to use all of it.
    """

    def __init__(
        self, argv: Sequence[str], cpus: Sequence[int], mode: str, nodes: Sequence[int], root: Root = LIVE
    ) -> None:
        self.name = os.path.basename(argv[0])  # noqa: PTH119  a name to show, not a file to open
        self.argv = tuple(argv)
        self._cpus, self._mode, self._nodes, self._root = tuple(cpus), mode, tuple(nodes), root
        self._process: Process | None = None
        self._began_ns: int | None = None
        self._ended_ns: int | None = None
        self._exit_status: int | None = None
        self._asked = False

    def start(self) -> None:
        """Nothing yet: the program knows no barrier, so that it starts when the trial begins."""

    def wait_ready(self, deadline: float) -> None:
        """Ready at once."""

    def go(self) -> None:
        """Start it."""
        self._began_ns = time.monotonic_ns()
        self._process = launch_pinned(
            self.argv, cpus=self._cpus, mode=self._mode, nodes=self._nodes, stdout=2, stderr=2
        )

    def poll(self, timeout_s: float) -> bool:
        """Wait for its end."""
        assert self._process is not None
        self._exit_status = self._process.wait(max(timeout_s, 0.0))
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

    def release(self, deadline: float) -> None:
        """Its exit status says whether it did what it should; one that we ended did."""
        if self._exit_status and not self._asked:
            raise WorkloadError(f"{self.name} {describe_exit(self._exit_status)}")

    def close(self) -> None:
        """End it, with all that it started."""
        if self._process is not None:
            self._exit_status = self._process.kill()

    def pids(self) -> tuple[int, ...]:
        """It and its descendants, at most 256."""
        if self._process is None:
            return ()
        found, waiting = [], [self._process.pid]
        while waiting and len(found) < _MAX_PROCESSES:
            pid = waiting.pop()
            tasks = self._root.names(f"/proc/{pid}/task")
            if not tasks:
                continue
            found.append(pid)
            for task in tasks:
                children = self._root.read_or_none(f"/proc/{pid}/task/{task}/children")
                waiting += [int(child) for child in (children or "").split()]
        return tuple(sorted(found))

    def threads(self) -> tuple[tuple[int, int], ...]:
        """All threads of all its processes."""
        return tuple((pid, int(task)) for pid in self.pids() for task in self._root.names(f"/proc/{pid}/task"))

    def slices(self) -> tuple[Slice, ...]:
        """Its anonymous private writable mappings (proc_pid_maps(5)), without the kernel's own."""
        found = []
        for pid in self.pids():
            for line in (self._root.read_or_none(f"/proc/{pid}/maps") or "").splitlines():
                fields = line.split(maxsplit=5)
                name = fields[5] if len(fields) > 5 else ""
                if fields[1].startswith("rw") and fields[1].endswith("p") and (not name or name.startswith("[")):
                    low, high = (int(bound, 16) for bound in fields[0].split("-"))
                    found.append(Slice(pid, low, high - low))
        return tuple(found)

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
