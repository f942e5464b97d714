"""How long runs and boots took in nights before, as far as the nights' own files say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.fields import parse
from numabench.fleet import journal, night_file
from numabench.fleet.cells import Durations
from numabench.fleet.publish import CELL_FILE
from numabench.store.trials import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

# Older nights say less of tonight: workloads and kernels have changed since.
_NIGHTS = 5


def durations(lab: Path) -> Durations:
    """The mean times of the last nights. Nights that cannot be read say nothing."""
    runs: dict[str, list[float]] = {}
    boots: dict[str, list[float]] = {}
    for name in night_file.names(lab)[-_NIGHTS:]:
        path = night_file.path_of(lab, name)
        _read_runs(path, runs)
        _read_boots(path, boots)
    return Durations(_means(runs), _means(boots))


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(several) / len(several) for name, several in values.items()}


def _read_runs(night: Path, found: dict[str, list[float]]) -> None:
    for file in night.glob(f"{night_file.CELLS}/*/boot-*/{CELL_FILE}"):
        try:
            elapsed_s = parse(file, read_bytes(file)).optional_quantity("elapsed_s")
        except ResultError:
            continue
        if elapsed_s is not None:
            found.setdefault(file.parents[1].name, []).append(elapsed_s)


def _read_boots(night: Path, found: dict[str, list[float]]) -> None:
    try:
        machines = {block.id: block.machine for block in night_file.load(night).blocks}
        for event in journal.events(night / journal.JOURNAL_FILE, "booted"):
            boot_s = event.optional_quantity("boot_s")
            machine = machines.get(event.text("block"))
            if boot_s is not None and machine is not None:
                found.setdefault(machine, []).append(boot_s)
    except ResultError:
        return
