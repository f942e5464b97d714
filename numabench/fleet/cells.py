"""The cells of a night, the blocks that they are measured in, and what falls out of the time there is."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from numabench.fleet.plan import GUEST, HERE, SLURM, TWIN, fits
from numabench.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numabench.fleet.experiment import Experiment, Setting
    from numabench.fleet.plan import LabPlan, MachinePlan

_T = TypeVar("_T")
_SLUG_SIGNS = 80
# What a boot takes where no night has shown it: of a guest, and of a machine with its firmware.
GUESSED_GUEST_BOOT_S, GUESSED_BOOT_S = 30.0, 300.0


@dataclass(frozen=True)
class Cell:
    """One thing measured on one machine and kernel; its id is the same every night.

    `words` are those of `numabench run` without repeats, seed and place. `twin_of` is the cell that this one measures
    once more, under another name of the same kernel.
    """

    id: str
    experiment: str
    words: tuple[str, ...]
    kernel: str
    machine: str
    priority: int
    repeats: int
    boots: int
    guess_s: float
    timeout_s: float
    twin_of: str = ""

    @property
    def is_aa(self) -> bool:
        """Whether it is there to show the machine's own noise."""
        return bool(self.twin_of)


@dataclass(frozen=True)
class Block:
    """One boot of a machine with a kernel, and the cells measured in it, in order. `boot` counts from 1."""

    id: str
    machine: str
    kernel: str
    boot: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Durations:
    """What nights before have shown, in seconds: of a cell's run, by its id, and of a boot, by the machine's name."""

    run_s: Mapping[str, float]
    boot_s: Mapping[str, float]

    def run(self, cell: Cell) -> float:
        """How long a run of the cell should take."""
        return self.run_s.get(cell.id, cell.guess_s)

    def boot(self, machine: MachinePlan) -> float:
        """How long a boot of the machine should take."""
        if not machine.boots_anew:
            return 0.0
        return self.boot_s.get(machine.name, GUESSED_GUEST_BOOT_S if machine.kind == GUEST else GUESSED_BOOT_S)


def cell_id(experiment: Experiment, setting: Setting, kernel: str, machine: str) -> str:
    """A readable name, made the only one by 8 digits of a digest of what is measured, boots and repeats excluded."""
    meant = json.dumps({"words": setting.words, "kernel": kernel, "machine": machine}, sort_keys=True)
    slug = "-".join((experiment.name, *setting.values))[:_SLUG_SIGNS].rstrip("-")
    return f"{slug}.{kernel}.{machine}.{hashlib.sha256(meant.encode()).hexdigest()[:8]}"


def all_cells(plan: LabPlan) -> tuple[Cell, ...]:
    """Every cell of a plan, in its order; behind the first kernel's of an A/A experiment stands its twin."""
    return tuple(
        cell
        for experiment in plan.experiments
        for machine in experiment.machines
        for setting in experiment.settings
        for cell in _row(plan, experiment, setting, machine)
    )


def _row(plan: LabPlan, experiment: Experiment, setting: Setting, machine: str) -> list[Cell]:
    """A setting on a machine, with each kernel that it can run."""
    kernels = [name for name in experiment.kernels if fits(plan.kernels[name], plan.machines[machine])]
    boots = experiment.boots if plan.machines[machine].boots_anew else 1

    def cell(kernel: str, twin_of: str = "") -> Cell:
        return Cell(
            id=cell_id(experiment, setting, kernel, machine),
            experiment=experiment.name,
            words=setting.words,
            kernel=kernel,
            machine=machine,
            priority=experiment.priority,
            repeats=experiment.repeats,
            boots=boots,
            guess_s=setting.guess_s,
            timeout_s=setting.timeout_s,
            twin_of=twin_of,
        )

    cells = [cell(kernel) for kernel in kernels]
    if experiment.is_aa and cells:
        cells.insert(1, cell(f"{kernels[0]}{TWIN}", cells[0].id))
    return cells


def blocks(cells: Iterable[Cell], machines: Mapping[str, MachinePlan], seed: int) -> tuple[Block, ...]:
    """The boots of a night in order: A B, B A, A B... on each machine, machines taking turns.

    What drifts meanwhile so meets all kernels of a machine alike. Which kernel is A is drawn by the seed, and so is the
    order of cells in a boot, which is the same for all kernels of one boot number.
    """
    cells = list(cells)
    found: list[Block] = []
    for boot in range(1, max((cell.boots for cell in cells), default=0) + 1):
        for machine in machines:
            own = [cell for cell in cells if cell.machine == machine and cell.boots >= boot]
            kernels = _shuffled(dict.fromkeys(cell.kernel for cell in cells if cell.machine == machine), seed, machine)
            for kernel in kernels if boot % 2 else reversed(kernels):
                of_kernel = {(cell.experiment, cell.words): cell.id for cell in own if cell.kernel == kernel}
                order = _shuffled(dict.fromkeys((cell.experiment, cell.words) for cell in own), seed, machine, boot)
                ids = tuple(of_kernel[row] for row in order if row in of_kernel)
                if ids:
                    found.append(Block(f"b{boot:02}.{machine}.{kernel}", machine, kernel, boot, ids))
    return tuple(found)


def _shuffled(values: Iterable[_T], seed: int, *purpose: object) -> list[_T]:
    order = list(values)
    random.Random(f"{seed} {purpose}").shuffle(order)  # noqa: S311  an experiment's order, not a secret
    return order


def lane(machine: MachinePlan) -> str:
    """What runs one after another: all that this machine does itself; a machine of Slurm's waits for none of it."""
    return machine.name if machine.kind == SLURM else HERE


def fit(
    cells: Sequence[Cell], machines: Mapping[str, MachinePlan], durations: Durations, budget_s: float | None
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """The cells that fit into a night, and why each other one does not.

    What is measured falls out with all its kernels, since one kernel alone compares with nothing; the lowest priority
    falls out first, and of one priority what stands last in the plan.
    """
    if budget_s is None:
        return tuple(cells), {}
    rows: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.experiment, cell.words, cell.machine), []).append(cell)
    kept: dict[str, list[Cell]] = {}
    left_out: dict[str, str] = {}
    for row in sorted(rows.values(), key=lambda row: -row[0].priority):
        where = lane(machines[row[0].machine])
        before = kept.setdefault(where, [])
        total_s, used_s = (duration_s(part, machines, durations) for part in ([*before, *row], before))
        if total_s <= budget_s:
            before += row
            continue
        reason = (
            f"with its {len(row)} kernels it takes {format_seconds(total_s - used_s)} more, and of the budget of "
            f"{format_seconds(budget_s)} {format_seconds(max(budget_s - used_s, 0.0))} are left"
        )
        left_out |= dict.fromkeys((cell.id for cell in row), reason)
    stays = {cell.id for row in kept.values() for cell in row}
    return tuple(cell for cell in cells if cell.id in stays), left_out


def duration_s(cells: Iterable[Cell], machines: Mapping[str, MachinePlan], durations: Durations) -> float:
    """How long cells should take one after another, with their boots."""
    boots: dict[tuple[str, str], int] = {}
    runs_s = 0.0
    for cell in cells:
        runs_s += durations.run(cell) * cell.boots
        key = cell.machine, cell.kernel
        boots[key] = max(boots.get(key, 0), cell.boots)
    return runs_s + sum(count * durations.boot(machines[machine]) for (machine, _), count in boots.items())
