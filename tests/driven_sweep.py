"""Sweeps whose answers are known by hand: units are the driven run of `driven_run`, with other numbers.

A sweep of batches by threads; each unit's one mover moves 1,000 pages of 4,096 bytes in a second, times its rate: 4.096
MB/s at a rate of 1. Its calls took 1 ms each, and the victims' accesses what the unit says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import driven_run
import synthetic_run
from driven_run import MILLISECOND_NS
from synthetic_run import SECOND_NS

from numabench import store
from numabench.experiment import matrix
from numabench.record import SweepAxis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PAGES = 1000
MB_PER_S = PAGES * 4096 / 1e6
SWEEP_ID = "20261123T050000Z-sweep-pingpong-1a2b3c"


def trial(rate: float = 1.0, stall_ns: int = 1000, **changed: Any) -> dict[str, Any]:
    """A trial of one mover with that rate, and one victim whose accesses all took so long."""
    confirmed = round(PAGES * rate)
    busy_ns = 10 * MILLISECOND_NS
    direction = {
        "from": 0,
        "to": 1,
        "pages": confirmed,
        "calls": 10,
        "busy_ns": busy_ns,
        "latency": driven_run.histogram([MILLISECOND_NS] * 10),
    }
    mover = driven_run.mover(
        0, calls=10, requested=confirmed, confirmed=confirmed, elapsed_ns=SECOND_NS, directions=[direction]
    )
    victim = driven_run.victim(1, latency=driven_run.histogram([stall_ns] * 100), longest=[])
    return driven_run.trial_record(1, movers=[mover], victims=[victim], **changed)


def write(
    results: Path,
    axes: Sequence[SweepAxis],
    unit: Callable[[dict[str, str], int], dict[str, Any] | None],
    repeats: int = 3,
    **changed: Any,
) -> Path:
    """A sweep with the trial that `unit` gives for a cell's values and a repeat; None: it has not run."""
    cells = matrix.cells("pingpong", axes, ())
    plan = {"argv": ["numabench", "sweep"], "timeout_s": 60.0, "stall_budget_s": None, "guest": None}
    path = store.create_sweep(
        results, SWEEP_ID, {**plan, **matrix.plan("pingpong", axes, cells, repeats, 7), **changed}
    )
    for entry in store.read_plan(path).units:
        values = {axis.name: value for axis, value in zip(axes, cells[entry.cell].values, strict=True)}
        made = unit(values, entry.repeat)
        if made is not None:
            write_unit(path, entry.name, made)
    return path


def write_unit(path: Path, name: str, made: dict[str, Any]) -> None:
    """A unit's run, with that trial."""
    record = driven_run.run_record(victims={"count": 1, "access": "write", "pattern": "sequential", "on": "target"})
    synthetic_run.write(
        path / "units", record, [(made, synthetic_run.samples())], synthetic_run.END | {"restored": []}, name
    )


BATCHES = SweepAxis("batch", ("1", "8", "64", "512"))
THREADS = SweepAxis("threads", ("1", "2"))
