"""Cells over repeats, the knee and the stall budget, of sweeps whose answers are known by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import driven_sweep
import pytest
from driven_sweep import BATCHES, MB_PER_S, THREADS, trial
from scipy import stats

from numabench import store
from numabench.analysis.missing import Missing
from numabench.analysis.spread import spread, t95
from numabench.analysis.sweep import CellFigures, interval, knee, largest_in_budget, summarize
from numabench.record import SweepAxis, SweepCell

if TYPE_CHECKING:
    from pathlib import Path


def cell(rates: tuple[float, ...] = (), stalls_ns: tuple[float, ...] = ()) -> CellFigures:
    nothing = dict.fromkeys(("pages_per_s", "call_p50_ns", "call_p99_ns", "call_p999_ns", "stall_p50_ns"))
    return CellFigures(
        cell=SweepCell((), ()),
        units=(),
        mb_per_s=spread(rates),
        stall_p99_ns=spread(stalls_ns),
        stall_p999_ns=None,
        pairs=(),
        status=(),
        why_not=(),
        cannot_run=False,
        **nothing,
    )


def rates(**by_batch: tuple[float, ...]) -> list[tuple[int, CellFigures]]:
    """Cells by batch: `b8=(1.0, 2.0)` has two repeats."""
    return [(int(name[1:]), cell(values)) for name, values in by_batch.items()]


def told(found: object) -> str:
    assert isinstance(found, Missing)
    return found.reason


def test_the_knee_is_the_smallest_batch_that_is_shown_to_come_near_all_larger_ones() -> None:
    points = rates(b1=(10, 10.1, 10.2), b8=(50, 51, 52), b64=(90, 91, 92), b512=(92, 93, 93.5))
    assert knee(points) == 64


def test_a_batch_that_falls_back_behind_the_best_is_beyond_the_knee() -> None:
    assert knee(rates(b1=(10, 10.1, 10.2), b8=(90, 91, 92), b64=(50, 50.5, 51), b512=(40, 40.5, 41))) == 8
    # A dip is not the knee: what is above it comes later.
    points = rates(b1=(50, 50.5, 51), b8=(20, 20.2, 20.4), b64=(90, 90.5, 91), b512=(89, 90, 91))
    assert knee(points) == 64


@pytest.mark.parametrize(
    "points",
    [
        # Half as much again, by two standard deviations: to take it for nothing would be to make a result of noise.
        rates(b1=(100, 110, 90), b64=(150, 165, 135)),
        rates(b1=(100, 120, 80), b8=(150, 180, 120), b64=(190, 228, 152)),
        rates(b1=(100, 120), b8=(100, 120)),
    ],
)
def test_noise_is_no_knee(points: list[tuple[int, CellFigures]]) -> None:
    assert not isinstance(knee(points), int)


def test_what_still_rises_is_told_where_that_is_shown_and_else_that_nothing_is() -> None:
    assert told(knee(rates(b1=(10, 10.1, 10.2), b8=(50, 51, 52)))) == "it still rises at 8, the largest batch"
    assert told(knee(rates(b1=(10, 20, 40), b8=(11, 21, 45)))).startswith("these repeats do not show")


def test_from_three_repeats_on_the_interval_is_of_the_mean() -> None:
    # Logarithms 1, 2 and 3: mean 2, deviation 1, so that the interval is exp(2 -+ t(2) / sqrt(3)), t(2) = 4.303.
    values = tuple(math.exp(power) for power in (1, 2, 3))
    half = 4.303 / math.sqrt(3)
    found = spread(values)
    assert found is not None
    assert interval(found) == pytest.approx((math.exp(2 - half), math.exp(2 + half)))
    assert t95(2) == 4.303


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.05, 1.3])
def test_the_ratio_of_two_batches_is_welchs(scale: float) -> None:
    slow, fast = (100.0, 104.0, 97.0, 101.0), tuple(scale * value for value in (99.0, 101.0, 100.5, 99.5))
    low, high = stats.ttest_ind(
        [math.log(value) for value in fast], [math.log(value) for value in slow], equal_var=False
    ).confidence_interval(0.95)
    found = knee(rates(b1=slow, b8=fast))
    # Degrees of freedom are rounded down, so the interval here is a little wider than scipy's.
    if math.exp(high) >= 1.1:
        assert found != 1
    elif math.exp(high) < 1.08:
        assert found == 1
    if found == Missing("it still rises at 8, the largest batch"):
        assert low > 0


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (rates(b1=(10,), b8=(50,)), "one repeat has no interval: ask for --repeats 3 or more"),
        (rates(b1=(10, 11), b8=(50,)), "one repeat has no interval: ask for --repeats 3 or more"),
        (rates(b8=(50, 52)), "fewer than two batches have a rate"),
        (rates(b1=(), b8=(50, 52)), "fewer than two batches have a rate"),
        ([], "fewer than two batches have a rate"),
    ],
)
def test_no_knee_is_made_up(points: list[tuple[int, CellFigures]], reason: str) -> None:
    assert told(knee(points)) == reason


def test_the_largest_batch_in_budget_keeps_it_with_its_whole_interval() -> None:
    points = [(1, cell((), (10e3, 11e3))), (8, cell((), (50e3, 99e3))), (64, cell((), (60e3, 101e3)))]
    assert largest_in_budget(points, 100e-6) == 8
    assert largest_in_budget(points, 102e-6) == 64
    assert told(largest_in_budget(points, 11e-6)) == "no batch keeps it"
    assert told(largest_in_budget([(1, cell((1.0, 2.0)))], 1.0)) == "no batch has victims"
    assert told(largest_in_budget([(1, cell((), (5.0,)))], 1.0)).startswith("one repeat has no interval")


def test_cells_have_the_figures_of_their_units(tmp_path: Path) -> None:
    path = driven_sweep.write(
        tmp_path,
        (BATCHES, THREADS),
        lambda values, repeat: trial(int(values["threads"]) * repeat, stall_ns=1000 * int(values["batch"])),
    )
    summary = summarize(store.load_sweep(path), stall_budget_s=70e-6)
    assert len(summary.cells) == 8
    first = next(cell for cell in summary.cells if cell.cell.values == ("8", "2"))
    assert first.mb_per_s is not None
    assert first.mb_per_s.values == pytest.approx([2 * MB_PER_S, 4 * MB_PER_S, 6 * MB_PER_S])
    assert first.pages_per_s is not None
    assert first.pages_per_s.median == pytest.approx(4000)
    assert first.call_p50_ns is not None
    assert first.call_p50_ns.median == 1e6
    assert first.call_p99_ns is None, "of ten calls the 99 % that were quickest are all of them"
    assert first.stall_p99_ns is not None
    assert first.stall_p99_ns.values == (8000.0,) * 3
    assert [(curve.fixed, curve.in_budget) for curve in summary.curves] == [
        ((("threads", "1"),), 64),
        ((("threads", "2"),), 64),
    ]
    # All batches have the same rates, which differ as much among themselves.
    assert all(told(curve.knee).startswith("these repeats do not show") for curve in summary.curves)
    (pair,) = first.pairs
    # 1,000 pages at rate 2 in 10 ms of calls.
    assert pair.mb_per_s is not None
    assert (pair.source, pair.target, pair.mb_per_s.low) == (0, 1, pytest.approx(2 * MB_PER_S * 100))


def test_what_did_not_go_well_has_no_figures_and_its_reason(tmp_path: Path) -> None:
    axes = (SweepAxis("batch", ("1", "8")),)
    failed = {"status": "workload-failed", "message": "pingpong exited with 1"}
    path = driven_sweep.write(
        tmp_path,
        axes,
        lambda values, repeat: None if values["batch"] == "8" else trial(1.0, **(failed if repeat == 2 else {})),
    )
    for unit in store.read_plan(path).units:
        if unit.cell == 1:
            store.write_outcome(path, unit.name, "cannot-run", ("no huge page is free",))
    summary = summarize(store.load_sweep(path))
    one, eight = summary.cells
    assert one.mb_per_s is not None
    assert len(one.mb_per_s.values) == 2
    assert (one.why_not, one.cannot_run) == (("workload-failed: pingpong exited with 1",), False)
    assert (eight.mb_per_s, eight.why_not, eight.cannot_run) == (None, ("no huge page is free",), True)
    assert told(summary.curves[0].knee) == "fewer than two batches have a rate"
    assert summary.curves[0].in_budget is None
    assert "trial-failed" in [finding.code for finding in summary.findings]


def test_statuses_are_added_up_by_name(tmp_path: Path) -> None:
    made = trial()
    made["movers"][0]["status"] = {"EBUSY": 3, "ENOENT": 5, "unset": 0}
    path = driven_sweep.write(tmp_path, (SweepAxis("batch", ("1", "8")),), lambda _values, _repeat: made)
    assert summarize(store.load_sweep(path)).cells[0].status == (("ENOENT", 15), ("EBUSY", 9))
