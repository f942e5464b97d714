"""What movers did, of a run whose answers are known by hand (tests/driven_run.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import driven_run
import pytest

from numabench import store
from numabench.analysis.latency import percentile
from numabench.analysis.missing import Missing
from numabench.analysis.moves import Amount, Moves, moves, stall

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Trial


def trial_with(tmp_path: Path, **changed: Any) -> Trial:
    (trial,) = store.load(driven_run.write(tmp_path, trials=[driven_run.trial_record(**changed)])).trials
    return trial


def moves_of(tmp_path: Path, **changed: Any) -> Moves:
    found = moves(trial_with(tmp_path, **changed))
    assert isinstance(found, Moves)
    return found


def test_counts_are_sums_over_the_movers(tmp_path: Path) -> None:
    found = moves_of(tmp_path)
    assert (found.movers, found.passes, found.calls, found.positive, found.asked_again) == (2, 4, 16, 2, 2)
    assert found.requested == Amount(8192, 8192)
    assert found.confirmed == Amount(8096, 8096)
    assert (found.already.units, found.retried.units, found.left.units) == (0, 96, 96)
    assert found.status == (("EBUSY", 192),)
    assert found.refused == 192


def test_the_rate_adds_up_the_movers_each_by_its_own_time_without_queries(tmp_path: Path) -> None:
    found = moves_of(tmp_path)
    # 4,000 pages in 2 s, and 4,096 in 1 s.
    assert found.pages_per_s == pytest.approx(2000 + 4096)
    assert found.mb_per_s == pytest.approx(6096 * 4096 / 1e6)
    # 0.8 + 0.6 + 0.4 + 0.2 s in calls, of 2 + 1 s.
    assert found.busy_share == pytest.approx(2 / 3)


def test_each_direction_has_its_own_pages_rate_and_latency(tmp_path: Path) -> None:
    there, back = moves_of(tmp_path).steps
    assert (there.source, there.target, there.moved.pages, there.calls) == (0, 1, 4048, 8)
    assert (back.source, back.target, back.moved.pages, back.calls) == (1, 0, 4048, 8)
    assert there.mb_per_s == pytest.approx(4048 * 4096 / 1e6 / 1.2)
    assert back.mb_per_s == pytest.approx(4048 * 4096 / 1e6 / 0.8)
    assert not isinstance(back.latency, Missing)
    assert (back.latency.count, back.latency.min_ns, back.latency.max_ns) == (8, 50_000_000, 150_000_000)


def test_huge_pages_are_counted_in_both_sizes(tmp_path: Path) -> None:
    start = {"event": "start", "page_bytes": 4096, "driver": {"name": "move_pages", "unit_bytes": 2 << 20}}
    found = moves_of(tmp_path, workload=start)
    assert found.confirmed == Amount(8096, 8096 * 512)
    assert found.pages_per_s == pytest.approx(6096 * 512)
    assert found.mb_per_s == pytest.approx(6096 * (2 << 20) / 1e6)


def test_statuses_and_errors_come_by_name_with_the_most_frequent_first(tmp_path: Path) -> None:
    movers = [
        driven_run.mover(0, status={"EBUSY": 3, "ENOENT": 5, "unset": 0}, call_errors={"ENOMEM": 1}),
        driven_run.mover(1, status={"EBUSY": 4}, call_errors={"ENOMEM": 1, "EACCES": 1}),
    ]
    found = moves_of(tmp_path, movers=movers)
    assert found.status == (("EBUSY", 7), ("ENOENT", 5))
    assert found.call_errors == (("ENOMEM", 2), ("EACCES", 1))


def test_a_mover_that_confirmed_nothing_has_no_rate(tmp_path: Path) -> None:
    still = driven_run.mover(0, confirmed=0, left=4096, directions=[])
    found = moves_of(tmp_path, movers=[still])
    assert found.mb_per_s == Missing("no page was found on its target")
    assert found.latency == Missing("no call was made")


def test_calls_that_went_several_ways_are_of_no_step(tmp_path: Path) -> None:
    found = moves_of(tmp_path, movers=[driven_run.interleaved()])
    assert [(step.source, step.target, step.moved.units, step.calls) for step in found.steps] == [
        (0, 1, 2048, 0),
        (1, 0, 2048, 0),
    ]
    assert {step.mb_per_s for step in found.steps} == {Missing("its calls moved pages other ways, too")}
    assert found.busy_share == pytest.approx(0.8)
    assert not isinstance(found.mixed, Missing)
    assert found.mixed == found.latency
    assert (found.mixed.count, found.mixed.max_ns) == (8, 100_000_000)
    assert isinstance(moves_of(tmp_path / "one", movers=[driven_run.mover(0)]).mixed, Missing)


def test_the_stall_is_that_of_all_victims(tmp_path: Path) -> None:
    found = stall(trial_with(tmp_path, victims=[driven_run.victim(2), driven_run.victim(3)]))
    assert not isinstance(found, Missing)
    assert found.count == 2000
    assert found.max_ns == 30_000_000
    assert 20_000 <= percentile(found, 0.99) <= 20_000 * 33 / 32


def test_a_trial_without_movers_and_victims_says_so(tmp_path: Path) -> None:
    trial = trial_with(tmp_path, movers=[], victims=[])
    assert moves(trial) == Missing("the trial has no movers")
    assert stall(trial) == Missing("the trial has no victims")
