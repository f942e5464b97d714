"""What a night would do, as data and as text."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.fleet.cells import duration_s, lane
from numabench.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.fleet.cells import Durations
    from numabench.fleet.plan import LabPlan
    from numabench.fleet.prepare import Chosen

NO_HISTORY = "no A/A history yet"
# What people ask for first.
_MAIN = ("mb_per_s", "seconds_per_gib")


@dataclass(frozen=True)
class Outlook:
    """A plan, what was chosen of it for a night, and what nights before have shown.

    `smallest_change` is, by machine and figure, the smallest relative change that the night can show, from that
    machine's A/A cells; a machine without such a history is not there. `missing` says of kernels why they cannot be
    had.
    """

    plan: LabPlan
    chosen: Chosen
    durations: Durations
    smallest_change: Mapping[str, Mapping[str, float]]
    missing: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        cells = {cell.id: cell for cell in self.chosen.cells}
        return {
            "lab": self.plan.name,
            "seed": self.chosen.seed,
            "budget_s": self.plan.night.budget_s,
            "deadline": self.plan.night.deadline or None,
            "duration_s": self._lanes(),
            "blocks": [
                {
                    "id": block.id,
                    "machine": block.machine,
                    "kernel": block.kernel,
                    "boot": block.boot,
                    "boot_s": self.durations.boot(self.plan.machines[block.machine]),
                    "cells": [
                        {
                            "id": name,
                            "words": list(cells[name].words),
                            "repeats": cells[name].repeats,
                            "priority": cells[name].priority,
                            "twin_of": cells[name].twin_of or None,
                            "duration_s": self.durations.run(cells[name]),
                            "is_guess": name not in self.durations.run_s,
                        }
                        for name in block.cells
                    ],
                }
                for block in self.chosen.blocks
            ],
            "left_out": self.chosen.left_out,
            "missing_kernels": dict(self.missing),
            "smallest_change": {name: self._smallest(name) for name in self._machines()},
        }

    def _machines(self) -> list[str]:
        return list(dict.fromkeys(cell.machine for cell in self.chosen.cells))

    def _lanes(self) -> dict[str, float]:
        """How long it should take, by what goes on beside each other."""
        machines = self.plan.machines
        lanes = dict.fromkeys(lane(machines[name]) for name in self._machines())
        return {
            name: duration_s(
                (cell for cell in self.chosen.cells if lane(machines[cell.machine]) == name), machines, self.durations
            )
            for name in lanes
        }

    def text(self) -> str:
        """It for people."""
        return "\n".join((*self._head(), "", *self._blocks(), *self._left_out(), "", *self._changes()))

    def _head(self) -> list[str]:
        rules, chosen = self.plan.night, self.chosen
        cells, blocks = len(chosen.cells), len(chosen.blocks)
        lines = [f"kernel {name} cannot be had, its cells will be blocked: {why}" for name, why in self.missing.items()]
        lines += [f"lab {self.plan.name}: {cells} cells in {blocks} boots, seed {chosen.seed}"]
        budget = "no budget" if rules.budget_s is None else f"a budget of {format_seconds(rules.budget_s)}"
        deadline = f", all ended by {rules.deadline}" if rules.deadline else ""
        lines += [f"  {name}: about {format_seconds(s)}; {budget}{deadline}" for name, s in self._lanes().items()]
        guessed = sum(cell.id not in self.durations.run_s for cell in chosen.cells)
        if guessed:
            lines.append(f"  the times of {guessed} cells are guesses (~): no night has shown them yet")
        return lines

    def _blocks(self) -> list[str]:
        cells = {cell.id: cell for cell in self.chosen.cells}
        lines = []
        for block in self.chosen.blocks:
            boot_s = self.durations.boot(self.plan.machines[block.machine])
            lines.append(
                f"{block.id}" + (f"  boot {_about(boot_s, self._knows_boot(block.machine))}" if boot_s else "")
            )
            width = max(len(name) for name in block.cells)
            for name in block.cells:
                known = name in self.durations.run_s
                lines.append(f"  {name:<{width}}  {_about(self.durations.run(cells[name]), known)}")
        return lines

    def _knows_boot(self, machine: str) -> bool:
        return machine in self.durations.boot_s

    def _left_out(self) -> list[str]:
        left_out = self.chosen.left_out
        return ["", "left out:", *(f"  {name}: {reason}" for name, reason in left_out.items())] if left_out else []

    def _changes(self) -> list[str]:
        return [
            "smallest change that the night can show:",
            *(f"  {name}: {_smallest_words(self._smallest(name))}" for name in self._machines()),
        ]

    def _smallest(self, machine: str) -> dict[str, float] | None:
        found = self.smallest_change.get(machine)
        return dict(found) if found else None


def _smallest_words(smallest: Mapping[str, float] | None) -> str:
    """The figures that people ask for first, and how it stands with all."""
    if smallest is None:
        return NO_HISTORY
    main = [name for name in smallest if name.rpartition("/")[2] in _MAIN]
    told = [f"{name.removeprefix('default/')} {smallest[name]:.1%}" for name in main]
    return ", ".join([*told, f"in the middle of {len(smallest)} figures {statistics.median(smallest.values()):.1%}"])


def _about(duration_s: float, is_known: bool) -> str:
    return f"{'' if is_known else '~'}{format_seconds(duration_s)}"
