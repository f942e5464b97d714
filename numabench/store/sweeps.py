"""A sweep's directory: its plan, written once, and a run's directory for each unit that came to its end.

What is done is read from these directories alone. The format is in docs/result-format.md.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import shutil
from typing import TYPE_CHECKING, Any

from numabench.errors import ResultError
from numabench.fields import DAMAGED as IS_DAMAGED
from numabench.fields import Fields, parse
from numabench.record import (
    CANNOT_RUN,
    DAMAGED,
    DONE,
    LOST,
    PENDING,
    RUNNING,
    GuestPlan,
    Listed,
    Sweep,
    SweepAxis,
    SweepCell,
    SweepUnit,
)
from numabench.store.files import END_FILE, OUTCOMES, SCHEMA_VERSION, SWEEP_FILE, SWEEP_KIND, TRIALS, UNITS
from numabench.store.living import is_locked
from numabench.store.reading import check_version, listed, load
from numabench.store.trials import read_bytes
from numabench.store.writing import RUN_ID, check_writable, fsync_directory, json_file, refuse, replace, write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.record import Run

_FIRST_TRIAL = "0001"
_ASIDE = ".aside-"
# Axes whose values are read as numbers.
_FORMS = {"batch": re.compile("[0-9]{1,9}"), "pair": re.compile("[0-9]{1,5}>[0-9]{1,5}")}


def create_sweep(results_dir: Path, sweep_id: str, plan: dict[str, Any]) -> Path:
    """The directory of a new sweep, `results_dir/sweep_id`, with its plan; it is whole or absent at any moment.

    Raises `ResultError` where it cannot be written, or is there already.
    """
    check_writable(results_dir)
    path, partial = results_dir / sweep_id, results_dir / f".tmp-{sweep_id}"
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": SWEEP_KIND,
        "sweep_id": sweep_id,
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **plan,
    }
    if path.exists():
        raise ResultError(f"{path} is there already", "go on with it: numabench sweep --resume")
    try:
        for name in (UNITS, OUTCOMES):
            (partial / name).mkdir(parents=True)
        write_durably(partial / SWEEP_FILE, json_file(record))
        fsync_directory(partial)
        partial.rename(path)
        fsync_directory(results_dir)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        refuse(path, error)
    return path


def is_sweep(path: Path) -> bool:
    """Whether a directory is a sweep's."""
    return (path / SWEEP_FILE).is_file()


def load_sweep(path: Path) -> Sweep:
    """Read a sweep and the runs of its units. A unit whose run cannot be read is `damaged`, with the reason.

    Raises `ResultError` as `store.load` does where the plan itself is missing, cut or from the future.
    """
    return _read(path, with_runs=True)


def read_plan(path: Path) -> Sweep:
    """Read a sweep without the runs of its units: what is done, and what is not. Raises as `load_sweep`."""
    return _read(path, with_runs=False)


def _read(path: Path, *, with_runs: bool) -> Sweep:
    file = path / SWEEP_FILE
    plan = parse(file, read_bytes(file))
    if plan.fields.get("kind") != SWEEP_KIND:
        raise ResultError(f"{file} was not written by numabench", "`numabench list` shows results")
    check_version(plan)
    axes = tuple(_read_axis(row) for row in plan.rows("axes"))
    cells = tuple(_read_cell(row, axes) for row in plan.rows("cells"))
    units = enumerate(plan.rows("units"), 1)
    guest = plan.optional_object("guest")
    return Sweep(
        path=path,
        sweep_id=path.name,
        created_utc=plan.text("created_utc", ""),
        argv=tuple(plan.texts("argv")),
        workload=plan.text("workload"),
        axes=axes,
        cells=cells,
        repeats=plan.count("repeats"),
        seed=plan.count("seed"),
        timeout_s=plan.number("timeout_s", 0.0),
        stall_budget_s=plan.optional_quantity("stall_budget_s"),
        guest=None if guest is None else _read_guest(guest),
        units=tuple(_read_unit(path, index, row, len(cells), with_run=with_runs) for index, row in units),
        is_running=is_locked(path),
    )


def _read_axis(row: Fields) -> SweepAxis:
    name, values = row.text("name"), tuple(row.texts("values"))
    form = _FORMS.get(name)
    if not values or len(set(values)) != len(values) or (form and not all(map(form.fullmatch, values))):
        row.wrong("values", f"a list of different values of {name}")
    return SweepAxis(name, values)


def _read_cell(row: Fields, axes: Sequence[SweepAxis]) -> SweepCell:
    values = tuple(row.texts("values"))
    if len(values) != len(axes) or any(value not in axis.values for axis, value in zip(axes, values, strict=False)):
        row.wrong("values", "a value of each axis")
    return SweepCell(values, tuple(row.texts("argv")))


def _read_guest(guest: Fields) -> GuestPlan:
    return GuestPlan(
        nodes=guest.count("nodes"),
        kernel=guest.text("kernel"),
        cpus_per_node=guest.count("cpus_per_node", 1),
        memory_per_node_bytes=guest.optional_count("memory_per_node_bytes"),
    )


def _read_unit(path: Path, index: int, row: Fields, cells: int, *, with_run: bool) -> SweepUnit:
    name, cell, repeat = row.text("name"), row.count("cell"), row.count("repeat")
    if not RUN_ID.fullmatch(name):
        row.wrong("name", "a run's name")
    if cell >= cells:
        row.wrong("cell", "a cell's place")
    status, reasons = _state(path, name)
    run: Run | None = None
    if status == DONE and with_run:
        try:
            run = load(path / UNITS / name)
        except ResultError as error:
            status, reasons = DAMAGED, (error.message, _advice(error, path / UNITS / name))
    return SweepUnit(index, name, cell, repeat, status, reasons, run)


def _state(path: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """What became of a unit: a trial is there when it is whole, whatever else was not written."""
    if (path / UNITS / name / TRIALS / _FIRST_TRIAL).is_dir():
        return DONE, ()
    file = path / OUTCOMES / f"{name}.json"
    if not file.is_file():
        return PENDING, ()
    try:
        outcome = parse(file, read_bytes(file))
        status = outcome.text("status")
        if status not in {CANNOT_RUN, LOST}:
            outcome.wrong("status", "an outcome")
        return status, tuple(outcome.texts("reasons"))
    except ResultError as error:
        raise ResultError(error.message, _advice(error, file)) from None


def _advice(error: ResultError, path: Path) -> str:
    """What to do for a unit that cannot be read: one that is only not for us to read is not to be removed."""
    return f"remove {path} and go on with the sweep to have it run again" if error.hint == IS_DAMAGED else error.hint


def write_outcome(path: Path, name: str, status: str, reasons: tuple[str, ...]) -> None:
    """Record that a unit came to its end without a trial. Raises `ResultError`."""
    replace(path / OUTCOMES / f"{name}.json", {"status": status, "reasons": list(reasons)})


def set_aside(path: Path, name: str) -> int:
    """Give way for a unit that is run again: what it left so far is kept under a hidden name.

    Returns how often the unit was cut off in all, by a kill or with the machine; one that was interrupted, or ended by
    an error, said so in its end.json and does not count. Raises `ResultError`.
    """
    units = path / UNITS
    try:
        earlier = [
            entry for entry in units.iterdir() if re.fullmatch(rf"{re.escape(_ASIDE)}\d+-{re.escape(name)}", entry.name)
        ]
        if (units / name).exists():
            aside = units / f"{_ASIDE}{len(earlier) + 1}-{name}"
            (units / name).rename(aside)
            earlier.append(aside)
    except OSError as error:
        refuse(units / name, error)
    return sum(not (entry / END_FILE).exists() for entry in earlier)


def listed_sweep(path: Path) -> Listed:
    """A sweep among the runs of a results directory; where it ran is read from the first of its runs."""
    sweep = read_plan(path)
    first = None
    done = next((unit for unit in sweep.units if unit.status == DONE), None)
    if done is not None:
        with contextlib.suppress(ResultError):
            first = listed(path / UNITS / done.name)
    return Listed(
        path=path,
        run_id=sweep.sweep_id,
        created_utc=sweep.created_utc,
        workload=sweep.workload,
        where=first.where if first else "guest" if sweep.guest else "",
        kernel=first.kernel if first else "",
        nodes=first.nodes if first else (),
        status=RUNNING if sweep.is_running else "complete" if sweep.is_complete else "interrupted",
        trials=len(sweep.units) - sweep.pending,
        planned_trials=len(sweep.units),
        is_sweep=True,
    )
