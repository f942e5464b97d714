"""Two sets of call trees compared node by node, over runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from numabench.comparison import projection
from numabench.comparison.boots import of_recordings
from numabench.comparison.forest import unify
from numabench.comparison.tables import tables
from numabench.comparison.tested import FEWEST_BOOTS, Tested, compare_costs, compare_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.comparison.boots import Boots
    from numabench.comparison.change import Verdict
    from numabench.comparison.forest import Forest
    from numabench.comparison.side import Recorded
    from numabench.comparison.tables import Table

MIN_SHARE = 0.0005


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node of the two trees: shares are 0 to 1 of all samples (means over boots), inclusive of what is below.

    `parent` is the index of the caller's row, -1 for the roots; rows come parents first, heaviest first. `delta` is B's
    share less A's with its 95 % interval `ci95` (None below three boots a side); `per_2mb_a` and `_b` are the event's
    weight (ns for cpu-clock) for each 2 MiB that were migrated, None where that is not known. `phase` is that of the
    samples at and below the node, empty where they are of several. `raw_a` and `raw_b` are the names that the function
    has on each side.

    `verdict` is about the share: a `q` below the rate asked for is none where `TreeDiff.permutation_p` says that other
    assignments of boots to sides show as much. `cost_verdict` is about the weight for each 2 MiB, which does not change
    where another function gets faster; it is `not comparable` where a side does not know what was migrated.
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
    cost_q: float | None = None
    cost_verdict: Verdict = "insufficient"


@dataclass(frozen=True, slots=True)
class Folded:
    """A function that only the kernel of `side` has: its samples count for its caller. `share` is inclusive, 0 to 1."""

    name: str
    side: Literal["a", "b"]
    share: float
    self_share: float

    @property
    def verdict(self) -> Verdict:
        """That its share on the other side is 0 means nothing."""
        return "not comparable"


@dataclass(frozen=True)
class TreeDiff:
    """Two sets of trees.

    `nodes` are of the tree from the outermost caller down; `functions` the same by function, and `phases` by phase of
    migration (its name is "phase" or "phase, waiting for LOCK"), both without parents.

    `runs_a` and `runs_b` are the recordings that took part, `boots_a` and `boots_b` the boots that they are of: below
    three boots on a side nothing has a verdict. `folded` are what one kernel lacks, heaviest first, `whole_share` the
    share of each side's samples whose every frame both kernels have, and `kept_frames` that of its frames, weighted by
    samples. `permutation_p` and `cost_permutation_p` are how often the greatest statistic of all that is shown would be
    as great with boots assigned to the sides otherwise, None where there are too few ways to be as rare as was asked
    for. `notes` are what must be known to read the rest.
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
    boots_a: int = 0
    boots_b: int = 0
    cost_permutation_p: float | None = None
    notes: tuple[str, ...] = ()


def diff(a: Sequence[Recorded], b: Sequence[Recorded], *, fdr: float = 0.05, min_share: float = MIN_SHARE) -> TreeDiff:
    """Compare the recordings of two sides, at least one each.

    What is below `min_share` of all samples (0 to 1, over the boots of both sides) is left out; `fdr` is the false
    discovery rate, and the chance of any verdict where nothing changed. Recordings of one boot are averaged: boots
    differ by more than runs of one.
    """
    import numpy as np

    if not a or not b:
        raise ValueError("a side without recordings cannot be compared")
    whole = unify((*a, *b))
    names_a, names_b = projection.vocabulary(a), projection.vocabulary(b)
    keeps = np.array(projection.in_both(whole.names, names_a.names, names_b.names), np.bool_)
    projected = projection.project(whole.tree, keeps)
    boots = of_recordings(a, b, whole.samples, whole.weight)
    shown = tables(whole.projected(projected.tree, projected.number), boots, min_share)
    shares = compare_shares([table.shares for table in shown], boots, fdr)
    costs = compare_costs([table.costs for table in shown], [table.shares for table in shown], boots, fdr)
    raw = _RawNames(a), _RawNames(b)
    nodes, functions, phases = (
        _changes(table, share, cost, boots, raw)
        for table, share, cost in zip(shown, shares.tables, costs.tables, strict=True)
    )
    own = whole.own @ boots.average
    return TreeDiff(
        nodes=nodes,
        functions=functions,
        phases=phases,
        folded=_folded(whole, boots, keeps, names_a.names, min_share),
        runs_a=len(a),
        runs_b=len(b),
        samples_a=int(whole.samples[: len(a)].sum()),
        samples_b=int(whole.samples[len(a) :].sum()),
        whole_share=_parts(projected.whole @ own, own.sum(axis=0), boots),
        kept_frames=_parts(projected.kept_frames @ own, projected.frames @ own, boots),
        permutation_p=shares.permutation_p,
        boots_a=boots.count_a,
        boots_b=boots.count_b,
        cost_permutation_p=costs.permutation_p,
        notes=_notes(names_a, names_b, boots),
    )


def _changes(
    table: Table, share: Tested | None, cost: Tested | None, boots: Boots, raw: tuple[_RawNames, _RawNames]
) -> tuple[NodeChange, ...]:
    import numpy as np

    share_a, share_b = (side.tolist() for side in boots.means(table.shares))
    self_a, self_b = (side.tolist() for side in boots.means(table.own))
    cost_a, cost_b = (side.tolist() for side in boots.means(table.costs))
    never_a, never_b = (
        np.logical_not(side.any(axis=1)).tolist()
        for side in (table.shares[:, : boots.count_a], table.shares[:, boots.count_a :])
    )
    p, q, half, changed = _columns(share, len(table.names))
    _, cost_q, _, cost_changed = _columns(cost, len(table.names))
    is_known = not np.isnan(boots.cost).any()
    rows = []
    for row, name in enumerate(table.names):
        delta = share_b[row] - share_a[row]
        verdict = _verdict(delta, changed[row], never_a[row], never_b[row])
        of_cost = _verdict(cost_b[row] - cost_a[row], cost_changed[row], never_a[row], never_b[row])
        width = half[row]
        rows.append(
            NodeChange(
                name=name,
                parent=table.parents[row],
                depth=table.depths[row],
                share_a=share_a[row],
                share_b=share_b[row],
                self_a=self_a[row],
                self_b=self_b[row],
                delta=delta,
                ci95=None if width is None else (delta - width, delta + width),
                p=p[row],
                q=q[row],
                per_2mb_a=_known(cost_a[row]),
                per_2mb_b=_known(cost_b[row]),
                phase=table.phases[row],
                verdict=verdict,
                raw_a=raw[0].of(name),
                raw_b=raw[1].of(name),
                cost_q=cost_q[row],
                cost_verdict=of_cost if is_known else "not comparable",
            )
        )
    return tuple(rows)


def _columns(
    tested: Tested | None, size: int
) -> tuple[list[float | None], list[float | None], list[float | None], list[bool | None]]:
    if tested is None:
        return [None] * size, [None] * size, [None] * size, [None] * size
    return tested.p.tolist(), tested.q.tolist(), tested.half_width.tolist(), tested.changed.tolist()


def _verdict(delta: float, changed: bool | None, never_a: bool, never_b: bool) -> Verdict:
    if changed is None:
        return "insufficient"
    if not changed:
        return "no change found"
    if never_a or never_b:
        return "appeared" if never_a else "disappeared"
    return "grown" if delta > 0 else "shrunk"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _parts(some: NDArray[np.float64], every: NDArray[np.float64], boots: Boots) -> tuple[float, float]:
    """What part one sum is of another on both sides, at most 1: rounding may make it a little more."""
    (some_a, some_b), (every_a, every_b) = boots.means(some), boots.means(every)
    return _part(float(some_a), float(every_a)), _part(float(some_b), float(every_b))


def _part(some: float, every: float) -> float:
    return min(some / every, 1.0) if every else 1.0


class _RawNames:
    """The names that a side's kernel has for a function, found when they are asked for."""

    def __init__(self, recordings: Sequence[Recorded]) -> None:
        self._tables = [recording.raw_names for recording in recordings]
        self._known: dict[str, tuple[str, ...]] = {}

    def of(self, name: str) -> tuple[str, ...]:
        """The raw names, sorted."""
        found = self._known.get(name)
        if found is None:
            every = set().union(*(table.get(name, ()) for table in self._tables))
            found = self._known[name] = tuple(sorted(every))
        return found


def _folded(
    whole: Forest, boots: Boots, keeps: NDArray[np.bool_], names_a: frozenset[str], min_share: float
) -> tuple[Folded, ...]:
    """The functions that one kernel lacks, the heaviest first."""
    if keeps.all():
        return ()
    inclusive = whole.tree.inclusive(whole.own)
    shares, own = (
        boots.means(rows @ boots.average)
        for rows in projection.shares_by_name(whole.tree, inclusive, whole.own, len(whole.names))
    )
    found = []
    for number in (~keeps).nonzero()[0].tolist():
        name = whole.names[number]
        side = 0 if name in names_a else 1
        if shares[side][number] >= min_share:
            word: Literal["a", "b"] = "b" if side else "a"
            found.append(Folded(name, word, float(shares[side][number]), float(own[side][number])))
    return tuple(sorted(found, key=lambda one: (-one.share, one.name)))


def _notes(a: projection.Vocabulary, b: projection.Vocabulary, boots: Boots) -> tuple[str, ...]:
    """What must be known to read the comparison."""
    notes = [
        f"the symbols of {side}'s kernel were not saved: only functions that were sampled on both sides are compared"
        for side, names in (("A", a), ("B", b))
        if not names.is_whole
    ]
    if min(boots.count_a, boots.count_b) < FEWEST_BOOTS:
        notes.append(
            f"{boots.count_a} boots against {boots.count_b} tell nothing about chance: a picture, not a verdict "
            f"(record {FEWEST_BOOTS} boots a side, better 5)"
        )
    return tuple(notes)
