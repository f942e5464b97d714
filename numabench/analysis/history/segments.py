"""Where a series is best cut into levels: the optimum that PELT finds (Killick and others, JASA 107, 2012), exactly.

A cut into segments costs the sum of absolute deviations of each value from its segment's median, and a penalty a
segment. Where nothing changes PELT cannot leave out a single pair of ends, and what takes time is the cost of each
pair. Here all of them come at a constant price each: of a sorted list from which values are taken out one by one, the
median moves by at most one place at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]


def absolute_costs(values: Floats) -> Floats:
    """For each end (row) and each start (column) the sum of absolute deviations from the median of values[start:end].

    Rows are 0 to n, columns 0 to n - 1; where the start is not before the end there is infinity.
    """
    import numpy as np

    n = len(values)
    costs = np.full((n + 1, n), np.inf)
    if not n:
        return costs
    shifted = values - np.median(values)
    order = np.argsort(shifted, kind="stable")
    by_rank = np.concatenate([[0.0], shifted[order], [0.0]])
    rank = np.empty(n, np.intp)
    rank[order] = np.arange(1, n + 1)
    after, before, middle = _lists(rank)
    starts = np.arange(n)
    total = np.cumsum(shifted[::-1])[::-1].copy()
    # The sum of those up to the lower median, that one with them.
    low = np.array([by_rank[np.sort(rank[start:])[: (n - start + 1) // 2]].sum() for start in range(n)])
    for end in range(n, 0, -1):
        own = starts[:end]
        is_odd = (end - own) % 2 == 1
        costs[end, :end] = np.maximum(total - 2 * low + is_odd * by_rank[middle], 0.0)
        if end == 1:
            break
        own = own[:-1]
        is_odd, total, low, middle = is_odd[:-1], total[:-1], low[:-1], middle[:-1]
        gone = rank[end - 1]
        is_below = gone < middle
        moves = np.where(is_odd, gone >= middle, gone <= middle)
        target = np.where(is_odd, before[middle, own], after[middle, own])
        taken = np.where(is_odd, np.where(is_below, by_rank[gone], by_rank[middle]), moves * by_rank[gone])
        low = low - taken + np.where(moves & ~is_odd, by_rank[target], 0.0)
        total = total - shifted[end - 1]
        middle = np.where(moves, target, middle)
        left, right = before[gone, own], after[gone, own]
        after[left, own] = right
        before[right, own] = left
    return costs


def _lists(rank: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The values from each start on as linked lists by rank (row: rank, column: start), and their lower medians."""
    import numpy as np

    n = len(rank)
    after = np.empty((n + 2, n), np.intp)
    before = np.empty((n + 2, n), np.intp)
    following, preceding = np.arange(1, n + 3), np.arange(-1, n + 1)
    for start in range(n):
        after[:, start], before[:, start] = following, preceding
        left, right = preceding[rank[start]], following[rank[start]]
        following[left], preceding[right] = right, left
    middle = np.array([np.sort(rank[start:])[(n - start - 1) // 2] for start in range(n)])
    return after, before, middle


def best_cut(costs: Floats, penalty: float, shortest: int) -> tuple[int, ...]:
    """Where new segments begin in the cheapest cut of all values, ascending; none where one level is cheapest.

    `costs` are those of `absolute_costs`, each segment costs `penalty` more (in the values' unit) and has `shortest`
    values or more.
    """
    import numpy as np

    n = costs.shape[1]
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    begin = np.zeros(n + 1, np.intp)
    for end in range(shortest, n + 1):
        sums = best[: end - shortest + 1] + costs[end, : end - shortest + 1]
        begin[end] = place = int(sums.argmin())
        best[end] = sums[place] + penalty
    cuts = []
    place = n if n >= shortest else 0
    while place:
        place = int(begin[place])
        cuts.append(place)
    return tuple(reversed(cuts[:-1]))
