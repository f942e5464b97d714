"""One side of a comparison: runs of one kernel with one setting, grouped by the boots that they ran in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.comparison.kernel_tree import KernelTree
    from numabench.record import Run


@dataclass(frozen=True)
class Recorded:
    """What one observing pass saw of the workload's own threads, as far as call trees are compared.

    `tree` is of the CPU's event, `migrated_bytes` what the kernel migrated meanwhile (None where that is not known),
    `names` the canonical names of all functions of the kernel (from its saved kallsyms; None where there are none).
    """

    run_id: str
    boot_id: str
    trial: int
    tree: KernelTree
    migrated_bytes: int | None
    names: frozenset[str] | None

    @property
    def raw_names(self) -> Mapping[str, tuple[str, ...]]:
        """The names that this kernel has for those in the tree."""
        return self.tree.raw_names


@dataclass(frozen=True)
class Side:
    """Some runs under one name; `recorded` are their passes that sampled the CPU, in the order of `runs`."""

    name: str
    runs: tuple[Run, ...]
    recorded: tuple[Recorded, ...] = ()

    @property
    def boots(self) -> tuple[tuple[Run, ...], ...]:
        """The runs by the boot that they ran in, boots in the order of their first run."""
        by_boot: dict[str, list[Run]] = {}
        for run in self.runs:
            by_boot.setdefault(str(run.identity.get("boot_id", "")) or run.run_id, []).append(run)
        return tuple(tuple(runs) for runs in by_boot.values())
