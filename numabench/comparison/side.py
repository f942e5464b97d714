"""One side of a comparison: runs of one kernel with one setting, grouped by the boots that they ran in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.analysis.callchain import Stack
    from numabench.record import Run


@dataclass(frozen=True)
class Recorded:
    """What one observing pass saw of the workload's own threads, as far as call trees are compared.

    `stacks` are those of the CPU's event, `migrated_bytes` what the kernel migrated meanwhile (None where that is not
    known), `names` the canonical names of all functions of the kernel (from its saved kallsyms; None where there are
    none), and `raw_names` the raw ones by canonical name, only of those in `stacks`.
    """

    run_id: str
    boot_id: str
    trial: int
    stacks: tuple[Stack, ...]
    migrated_bytes: int | None
    names: frozenset[str] | None
    raw_names: Mapping[str, tuple[str, ...]]


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
