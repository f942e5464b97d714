"""A lab whose morning is known: one cell got slower four nights ago, one is well, one failed and one was blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lab_nights
import numpy as np
import recorded_nights

from numabench.fleet import ledger, night_file
from numabench.fleet.outcome import BLOCKED, FAILED, OK, Outcome
from numabench.fleet.publish import LOG_FILE, take

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SLOW, WELL, TWIN = "numa02.v7.box.2a2b3c4d", "numa02.v6.box.1a2b3c4d", "numa02.v6-aa.box.5a2b3c4d"
BROKEN, BARRED = "broken.v6.box.3a2b3c4d", "barred.v6.box.4a2b3c4d"
CELLS = (WELL, SLOW, TWIN, BROKEN, BARRED)
OUTCOMES = {BROKEN: Outcome(FAILED, "<b>out of memory</b> | `x`"), BARRED: Outcome(BLOCKED, "needs 4 nodes")}
NIGHTS, BOOTS, LAST_SLOW = 24, 2, 4
PLAN = """\
[lab]
name = "cellar"
[kernels.v6]
installed = "v6"
[machines.box]
here = true
reboot = "kexec"
[[experiment]]
name = "numa02"
workload = "numa02"
"""


def end(night: Path, cells: Sequence[str], outcomes: dict[str, Outcome] | None = None, *, how: str = "done") -> None:
    """Have a night's journal say what became of its cells."""
    made = night_file.load(night)
    book = ledger.Ledger(made, night.parent.parent)
    for block in made.blocks:
        for cell in set(cells) & set(block.cells):
            book.end_cell(block, cell, (outcomes or {}).get(cell, Outcome(OK)))
    if how:
        book.note("night-ended", how=how)


def write(lab: Path, *, slower: float = 1.1, recorded: bool = True) -> list[str]:
    """The lab; in its last nights the slow cell takes so many times as long. Its nights."""
    chance = np.random.default_rng(5)
    names = lab_nights.dates(NIGHTS)
    for place, name in enumerate(names):
        is_slow = place >= NIGHTS - LAST_SLOW
        cells = CELLS if place == NIGHTS - 1 else CELLS[:3]
        night = lab_nights.write_night(lab, name, cells, twins=(TWIN,), boots=BOOTS)
        for cell in CELLS[:3]:
            for boot in range(1, BOOTS + 1):
                seconds = 10 * np.exp(chance.normal(0, 0.01)) * (slower if cell == SLOW and is_slow else 1)
                path = lab_nights.publish(night, float(seconds), boot, cell)
                if recorded and cell == SLOW and place >= NIGHTS - LAST_SLOW - 3:
                    recorded_nights.add(next((path / "runs").iterdir()), 0.6 if is_slow else 0.3)
        end(night, cells, OUTCOMES)
    attempt = take(lab / "nights" / names[-1], "b01.box.v6", "token")
    words = f"+ numabench run broken --run-id {names[-1]}-b01-a1t1-{BROKEN}"
    log = f"+ numabench run other --run-id x-{SLOW}\nfine\n{words} --native\n<b>boom</b>\n+ numabench run x\nafter\n"
    (attempt.path / LOG_FILE).write_text(log)
    (lab / "lab.toml").write_text(PLAN)
    return names
