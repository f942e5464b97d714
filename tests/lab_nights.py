"""A lab whose nights are known: published boots of real run directories, whose time per GiB is what is asked."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import synthetic_run

from numabench.fleet import night_file
from numabench.fleet.cells import Cell, blocks
from numabench.fleet.night_file import Night, NightKernel
from numabench.fleet.plan import HERE, INSTALLED, MachinePlan
from numabench.store import index

if TYPE_CHECKING:
    from collections.abc import Sequence

CELL = "numa02.v6.box.1a2b3c4d"
FIGURE = "default/seconds_per_gib"
AGAIN = ["numabench", "run", "numa02", "--repeats", "1", "--native"]


def dates(count: int) -> list[str]:
    return [f"2026-{9 + day // 28:02}-{1 + day % 28:02}" for day in range(count)]


@cache
def _template() -> Path:
    return synthetic_run.write(Path(mkdtemp(prefix="numabench-test-")))


def write_night(
    lab: Path,
    night: str,
    cells: Sequence[str] = (CELL,),
    twins: Sequence[str] = (),
    kernels: Sequence[NightKernel] = (),
    *,
    boots: int = 1,
) -> Path:
    """A night's directory with its plan; a cell's name says its kernel and machine, and `kernels` more of the first."""
    names = [cell.split(".")[1] for cell in cells]
    given = {kernel.name: kernel for kernel in kernels}
    machines = {cell.split(".")[2]: MachinePlan(cell.split(".")[2], HERE, reboot=("true",)) for cell in cells}
    planned = {
        cell: Cell(
            id=cell,
            experiment=cell.split(".")[0],
            words=(cell.split(".")[0],),
            kernel=kernel,
            machine=cell.split(".")[2],
            priority=50,
            repeats=1,
            boots=boots,
            guess_s=10.0,
            timeout_s=60.0,
            twin_of=cells[0] if cell in twins else "",
        )
        for cell, kernel in zip(cells, names, strict=True)
    }
    made = Night(
        path=lab / "nights" / night,
        lab="test",
        seed=1,
        attempts=2,
        began_utc=f"{night[:10]}T22:00:00+00:00",
        start_by_utc="",
        deadline_utc="",
        kernels={name: given.get(name, NightKernel(name, INSTALLED, "", name)) for name in dict.fromkeys(names)},
        machines=machines,
        blocks=blocks(planned.values(), machines, 1),
        cells=planned,
        left_out={},
    )
    night_file.create(made)
    return made.path


def publish(night: Path, seconds: float, boot: int = 1, cell: str = CELL) -> Path:
    """A boot of a cell in which 10 GiB were stored in so many seconds."""
    path = night / "cells" / cell / f"boot-{boot:02}"
    run = path / "runs" / f"{night.name}-b{boot:02}-{cell}"
    shutil.copytree(_template(), run)
    record = json.loads((run / "run.json").read_text())
    record["run_id"] = run.name
    record["identity"]["boot_id"] = f"boot-{night.name}-{boot}"
    (run / "run.json").write_text(json.dumps(record))
    trial_file = run / "trials" / "0001" / "trial.json"
    trial = json.loads(trial_file.read_text())
    for work in trial["done"]:
        work["elapsed_ns"] = round(seconds * synthetic_run.SECOND_NS)
    trial_file.write_text(json.dumps(trial))
    (path / "cell.json").write_text(json.dumps({"attempt": 2, "state": "ok", "again": AGAIN}))
    return path


def write_lab(lab: Path, seconds: Sequence[Sequence[float]]) -> list[str]:
    """A lab with a night a row, in which each boot took so many seconds; its nights."""
    names = dates(len(seconds))
    for name, boots in zip(names, seconds, strict=True):
        night = write_night(lab, name)
        for boot, took in enumerate(boots, 1):
            publish(night, took, boot)
    return names


def everything(lab: Path) -> list[object]:
    """All that an index can be asked."""
    with index.open_index(lab) as opened:
        found: list[object] = [opened.nights(), opened.cells()]
        for cell in opened.cells():
            found += [opened.metrics(cell.name), list(opened.every_series(cell.name))]
            found += [opened.runs(cell.name, night) for night in opened.nights()]
        return [*found, *(sorted(opened.values(night)) for night in opened.nights())]
