"""Two sets of call trees compared node by node, over runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numabench.comparison.change import Verdict


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node of the two trees: shares are 0 to 1 of all samples (means over runs), inclusive of what is below.

    `parent` is the index of the caller's row, -1 for the roots; rows come parents first. `delta` is B's share less A's
    with its 95 % interval `ci95` (None below three runs a side); `per_2mb_a` and `_b` are the event's weight (ns for
    cpu-clock) for each 2 MB that were migrated, None where that is not known. `phase` is that of the samples at and
    below the node, empty where they are of several. `raw_a` and `raw_b` are the names that the function has on each
    side.
    """

    name: str
    parent: int
    depth: int
    share_a: float
    share_b: float
    self_a: float
    self_b: float
    delta: float
    ci95: tuple[float, float] | None
    p: float | None
    q: float | None
    per_2mb_a: float | None
    per_2mb_b: float | None
    phase: str
    verdict: Verdict
    raw_a: tuple[str, ...]
    raw_b: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """A function that only one kernel has: its samples count for its caller. `share` is inclusive, 0 to 1."""

    name: str
    side: str
    share: float
    self_share: float


@dataclass(frozen=True)
class TreeDiff:
    """Two sets of trees.

    `nodes` are of the tree from the outermost caller down; `functions` the same by function, and `phases` by phase of
    migration (its name is "phase" or "phase, waiting for LOCK"), both without parents.

    `runs_a` and `runs_b` are the recordings that took part; below three on a side nothing has a verdict. `folded` are
    what one kernel lacks, `whole_share` the share of each side's samples whose every frame both kernels have, and
    `kept_frames` that of its frames, weighted by samples. `permutation_p` is that of the greatest statistic over all
    nodes where the runs allow for enough permutations, else None.
    """

    nodes: tuple[NodeChange, ...]
    functions: tuple[NodeChange, ...]
    phases: tuple[NodeChange, ...]
    folded: tuple[Folded, ...]
    runs_a: int
    runs_b: int
    samples_a: int
    samples_b: int
    whole_share: tuple[float, float]
    kept_frames: tuple[float, float]
    permutation_p: float | None
