"""Percentiles of few: what is only the longest under another name is not told."""

from __future__ import annotations

import pytest

from numabench.analysis.latency import known_percentile, percentile
from numabench.analysis.missing import Missing
from numabench.record import Latency


@pytest.mark.parametrize(("share", "least"), [(0.5, 2), (0.99, 100), (0.999, 1000)])
def test_as_many_as_one_in_so_many_are_needed(share: float, least: int) -> None:
    enough, few = (Latency(10, 20, 0, ((10, count - 1), (20, 1))) for count in (least, least - 1))
    assert known_percentile(enough, share) == percentile(enough, share)
    assert known_percentile(few, share) == Missing(
        f"{least - 1} timed are too few for the {share * 100:g} % that were quickest"
    )
