"""Recordings of a run made comparable: the tree of the workload's own threads, and the names that its kernel has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis import observed
from numabench.analysis.missing import Missing
from numabench.analysis.recorded import cpu_event
from numabench.comparison.kernel_tree import TreeBuilder
from numabench.comparison.side import Recorded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from numabench.comparison.kernel_tree import KernelTree
    from numabench.perf import Kallsyms, Profile
    from numabench.perf.symbols import SymbolTable
    from numabench.record import Run, Trial


class Recorder:
    """Makes `Recorded` of recordings that were read; kernels and chains seen before are not looked into again.

    `table` has the functions' names; those of two sides must come from one table.
    """

    def __init__(self, table: SymbolTable | None = None) -> None:
        self._trees = TreeBuilder(table)
        self._vocabularies: dict[frozenset[str], frozenset[str]] = {}

    def record(
        self, run: Run, trial: Trial, profile: Profile, symbols: Kallsyms | None, *, everything: bool = False
    ) -> Recorded | None:
        """What a pass recorded of the workload, or of everything; None where it did not sample the CPU."""
        import numpy as np

        pids = () if everything else observed.workload_pids(trial)
        own = np.isin(profile.groups["pid"], pids) if pids else profile.groups["pid"] != 0
        tree = self.tree(profile, symbols, own)
        if tree is None:
            return None
        migrated = observed.migrated_bytes(run, trial)
        return Recorded(
            run_id=run.run_id,
            boot_id=str(run.identity.get("boot_id", "")),
            trial=trial.index,
            tree=tree,
            migrated_bytes=None if isinstance(migrated, Missing) else migrated,
            names=None if symbols is None else self.vocabulary(symbols),
        )

    def tree(
        self, profile: Profile, symbols: Kallsyms | None, select: NDArray[np.bool_] | None = None
    ) -> KernelTree | None:
        """The tree of the event that samples CPUs, of the groups that `select` chooses; None without samples."""
        event = cpu_event(profile)
        if event is None:
            return None
        found = profile.tree(event, kallsyms=symbols, user=False, select=select)
        if not found.count.any():
            return None
        parents, numbers, samples, weights = (
            column.tolist() for column in (found.parent, found.name, found.count, found.period)
        )
        return self._trees.of_arrays(parents, numbers, found.names, samples, weights)

    def vocabulary(self, symbols: Kallsyms) -> frozenset[str]:
        """The canonical names of all functions of a kernel."""
        raw = symbols.functions()
        found = self._vocabularies.get(raw)
        if found is None:
            found = self._vocabularies[raw] = frozenset(map(self._trees.table.canonical, raw))
        return found
