"""Running a sweep: every unit that has not come to its end, in the recorded order, each as a run of its own."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from numabench import store
from numabench.errors import CannotRun, ResultError, Unfit, UsageError
from numabench.experiment.matrix import described
from numabench.record import CANNOT_RUN, DONE, LOST, PENDING
from numabench.units import format_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.experiment.progress import Progress
    from numabench.record import Sweep

# A unit that ends its guest, or its machine, is not asked for again and again.
MAX_CUTS = 3
SEEDS = 2**31
# What of an identity must be the same for the units of one sweep to be compared with each other.
IDENTITY = ("numabench", "where", "accelerator", "hostname", "machine_id_hash")


class RunUnit(Protocol):
    """Runs the words of `numabench run` to their end."""

    def __call__(self, argv: tuple[str, ...], results_dir: Path, run_id: str, progress: Progress) -> None:
        """Leave the run in `results_dir/run_id`.

        Raises `CannotRun` where something is found missing, and `UsageError` for what cannot be meant.
        """


class _UnitProgress:
    """What a unit says is where the sweep is: its knobs and its end are in its own record."""

    def __init__(self, progress: Progress, unit: str) -> None:
        self._progress, self._unit = progress, unit

    def say(self, text: str) -> None:
        self.status(text)

    def status(self, text: str) -> None:
        self._progress.status(f"{self._unit}: {text}")


def run_sweep(path: Path, run_unit: RunUnit, progress: Progress, *, who: dict[str, Any]) -> None:
    """Run what of a sweep has not come to its end; whole units are left as they are.

    `who` is the machine's `host.identity.identity()`. Raises `Unfit` where another process runs the sweep, and where
    what was run so far ran on another machine or kernel; and what `run_unit` raises, but for `CannotRun` and
    `UsageError`, which are the unit's outcome.
    """
    with store.alone(path):
        sweep = store.read_plan(path)
        _check_identity(sweep, who)
        _run_pending(sweep, run_unit, progress)


def _run_pending(sweep: Sweep, run_unit: RunUnit, progress: Progress) -> None:
    pending = [unit for unit in sweep.units if unit.status == PENDING]
    total, began = len(sweep.units), time.monotonic()
    for done, unit in enumerate(pending):
        cell = sweep.cells[unit.cell]
        words = f"unit {unit.index} of {total}: {described(sweep.axes, cell.values)} (repeat {unit.repeat})"
        rest_s = (time.monotonic() - began) / done * (len(pending) - done) if done else None
        progress.say(words if rest_s is None else f"{words}; about {format_seconds(rest_s)} left")
        cuts = store.set_aside(sweep.path, unit.name)
        if cuts >= MAX_CUTS:
            reasons = (f"it was cut off {cuts} times, with the process, the guest or the machine that ran it",)
            store.write_outcome(sweep.path, unit.name, LOST, reasons)
            progress.say(f"unit {unit.index} is left out: {reasons[0]}")
            continue
        argv = (*cell.argv, "--seed", str((sweep.seed + unit.repeat) % SEEDS))
        try:
            run_unit(argv, sweep.path / store.UNITS, unit.name, _UnitProgress(progress, f"{unit.index}/{total}"))
        except CannotRun as error:
            store.write_outcome(sweep.path, unit.name, CANNOT_RUN, error.reasons)
            progress.say(f"unit {unit.index}: {error}")
        except UsageError as error:
            # It could be meant when the sweep began: a size that nobody asked for is of the memory that is free.
            store.write_outcome(sweep.path, unit.name, CANNOT_RUN, (error.message,))
            progress.say(f"unit {unit.index}: {error}")


def _check_identity(sweep: Sweep, who: dict[str, Any]) -> None:
    """Refuse to go on elsewhere: times of two kernels in one table would be compared by everyone who reads it."""
    before = _recorded_identity(sweep)
    if before is None:
        return
    kept, now = _identity(before), _identity(who)
    differs = [f"{name} was {kept[name]!a} and is {now[name]!a}" for name in kept if kept[name] != now[name]]
    if differs:
        raise Unfit(f"{sweep.sweep_id} began elsewhere: " + "; ".join(differs), "go on with it there, or begin anew")


def _recorded_identity(sweep: Sweep) -> dict[str, Any] | None:
    """That of the first unit which can be read: what is damaged comes into no table."""
    for unit in sweep.units:
        if unit.status == DONE:
            with contextlib.suppress(ResultError):
                return store.load(sweep.path / store.UNITS / unit.name).identity
    return None


def _identity(record: dict[str, Any]) -> dict[str, object]:
    kernel, cpu = record.get("kernel") or {}, record.get("cpu") or {}
    return {
        **{name: record.get(name, "") for name in IDENTITY},
        "kernel": f"{kernel.get('release', '')} {kernel.get('version', '')}",
        "cpu": f"{cpu.get('count', '')} x {cpu.get('model', '')}",
    }
