"""Nights of few cells, made by hand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from numabench.fleet import cells, night_file
from numabench.fleet.plan import HERE, RUNNING, MachinePlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.fleet.cells import Cell
    from numabench.fleet.night_file import Night

QUICK = ("run", "--nodes", "1", "--no-tune")


def cell(
    name: str, program: Sequence[str] = ("true",), *, kernel: str = "now", machine: str = "box", **more: int
) -> Cell:
    """A cell of a program that runs here."""
    return cells.Cell(
        id=f"{name}.{kernel}.{machine}",
        experiment=name,
        words=(*QUICK, "--", *program),
        kernel=kernel,
        machine=machine,
        priority=more.get("priority", 50),
        repeats=more.get("repeats", 1),
        boots=more.get("boots", 1),
        guess_s=float(more.get("guess_s", 10)),
        timeout_s=float(more.get("timeout_s", 60)),
    )


def night(lab: Path, *measured: Cell, attempts: int = 2, reboot: Sequence[str] = (), deadline_utc: str = "") -> Night:
    """A night of this machine's kernel, written below `lab`."""
    machines = {"box": MachinePlan("box", HERE, reboot=tuple(reboot))}
    made = night_file.Night(
        path=lab / "nights" / "2026-11-25",
        lab="test",
        seed=1,
        attempts=attempts,
        began_utc=night_file.now_utc().isoformat(),
        start_by_utc="",
        deadline_utc=deadline_utc,
        kernels={
            name: night_file.NightKernel(name, RUNNING, "", os.uname().release)
            for name in dict.fromkeys(one.kernel for one in measured)
        },
        machines=machines,
        blocks=cells.blocks(measured, machines, 1),
        cells={one.id: one for one in measured},
        left_out={},
    )
    night_file.create(made)
    return made
