"""What a trial measures: a workload of our own, which speaks the protocol, or any program of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Slice:
    """Memory that some threads use: where it lies in which process."""

    pid: int
    address: int
    size_bytes: int


class Subject(Protocol):
    """Something that runs while a trial measures it. Methods raise `WorkloadError` when it fails."""

    name: str
    memory_changes: bool

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
