"""How long calls and accesses took: percentiles and sums of log-linear histograms, as HdrHistogram has them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.record import Latency

if TYPE_CHECKING:
    from collections.abc import Iterable

# A bucket is as wide as its lowest value has bits beyond these: 32 of them to a power of two.
_EXACT_BITS = 6
# 1,000 times (1 - 0.999) is a little less than 1.
_ROUNDING = 1e-9


def percentile(latency: Latency, share: float) -> float:
    """The time within which that share (0 to 1) was done, in ns; 0 where nothing was.

    It is the largest value of the bucket that holds it, at most the largest that was seen: at most 3.2 % too high.
    """
    rank = max(math.ceil(share * latency.count), 1)
    seen = 0
    for low_ns, count in latency.buckets:
        seen += count
        if seen >= rank:
            return float(min(low_ns + _width_ns(low_ns) - 1, latency.max_ns))
    return float(latency.max_ns)


def known_percentile(latency: Latency, share: float) -> float | Missing:
    """The percentile where enough was timed for one to be above it; of fewer it is their longest under another name."""
    if latency.count * (1 - share) < 1 - _ROUNDING:
        return Missing(f"{latency.count} timed are too few for the {share * 100:g} % that were quickest")
    return percentile(latency, share)


def _width_ns(low_ns: int) -> int:
    return 1 << max(low_ns.bit_length() - _EXACT_BITS, 0)


def merged(latencies: Iterable[Latency]) -> Latency | None:
    """Several histograms as one; None where none of them holds anything."""
    held = [latency for latency in latencies if latency.buckets]
    if not held:
        return None
    counts: Counter[int] = Counter()
    for latency in held:
        counts.update(dict(latency.buckets))
    return Latency(
        min_ns=min(latency.min_ns for latency in held),
        max_ns=max(latency.max_ns for latency in held),
        sum_ns=sum(latency.sum_ns for latency in held),
        buckets=tuple(sorted(counts.items())),
    )


def survival(latency: Latency) -> tuple[tuple[float, float], ...]:
    """The share that took longer than a time in ns, at the end of each bucket but the last, whose share is zero."""
    total, seen = latency.count, 0
    points = [(float(latency.min_ns), 1.0)]
    for low_ns, count in latency.buckets[:-1]:
        seen += count
        points.append((float(low_ns + _width_ns(low_ns) - 1), (total - seen) / total))
    return tuple(points)
