"""The figures of runs whose answers are known by hand (tests/synthetic_run.py, tests/driven_run.py)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import driven_run
import pytest
import synthetic_run
from synthetic_run import PAGE
from unit.test_kernel_counts import COUNTS

from numabench import store
from numabench.analysis import kernel_counts
from numabench.analysis.contention import Contended, ContentionReport, Waits
from numabench.analysis.observed import Observation
from numabench.comparison.metrics import aligned, unreached, values

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.comparison.metrics import Values
    from numabench.record import Run

MIB = 1 << 20


def named(found: Values, placement: str = "default") -> dict[str, tuple[float, ...]]:
    names = [metric.name for where, metric in found if where == placement]
    assert len(names) == len(set(names))
    return {metric.name: each for (where, metric), each in found.items() if where == placement}


@pytest.fixture
def numa02(tmp_path: Path) -> Run:
    return store.load(synthetic_run.write(tmp_path))


@pytest.fixture
def pingpong(tmp_path: Path) -> Run:
    return store.load(driven_run.write(tmp_path))


def test_balancing_is_told_by_what_it_moved_and_when(numa02: Run) -> None:
    found = named(values(numa02))
    assert found["mb_per_s"] == pytest.approx((8192 * PAGE / 5 / 1e6,), rel=0.01)
    assert found["seconds_per_gib"] == (1.0,)
    assert found["confirmed_bytes"] == (8192 * PAGE,)
    assert found["time_to.pages_local_90"] == (6.0,)
    assert found["reached.pages_local_90"] == (1.0,)
    assert found["pages_local_at_end"] == (1.0,)
    assert found["time_to.threads_settled"] == (0.0,)
    # 160 interrupts for 32 MiB.
    assert found["cost.tlb_interrupts"] == (10.0,)
    assert found["cost.hinting_faults"] == (40_000 / 16,)
    assert found["kernel_pages.total"] == (8192.0,)
    assert found["kernel_pages.demoted"] == (0.0,)
    assert not any(name.startswith(("call_ns", "access_ns", "pages_left")) for name in found)
    assert unreached(numa02) == {}


def test_movers_and_victims_are_told_by_their_own_clocks(pingpong: Run) -> None:
    found = named(values(pingpong))
    assert found["confirmed_bytes"] == (driven_run.CONFIRMED * PAGE,)
    assert found["mb_per_s"] == pytest.approx(((4000 / 2 + 4096) * PAGE / 1e6,))
    assert found["pages_left"] == (96.0,)
    assert found["failures"] == (192.0,)
    assert found["failures.EBUSY"] == (192.0,)
    assert found["call_errors"] == (0.0,)
    assert found["call_ns.max"] == (200e6,)
    assert "call_ns.p99" not in found, "16 calls have no hundredth"
    assert found["access_ns.p50"] == pytest.approx((1000,), rel=1 / 32)
    assert found["access_ns.p99"] == pytest.approx((20_000,), rel=1 / 32)
    assert found["access_ns.p99.9"] == pytest.approx((1e6,), rel=1 / 32)
    assert found["access_ns.max"] == (30e6,)
    # Of movers time for the same work is the rate again, and threads that are bound settle at once.
    assert "seconds_per_gib" not in found
    assert not any(name.startswith(("time_to.", "reached.")) for name in found)


def test_units_and_directions_are_told(pingpong: Run, numa02: Run) -> None:
    metrics = {metric.name: metric for run in (pingpong, numa02) for _, metric in values(run)}
    assert (metrics["mb_per_s"].unit, metrics["mb_per_s"].better, metrics["mb_per_s"].is_time) == (
        "MB/s",
        "higher",
        True,
    )
    assert (metrics["access_ns.p99"].unit, metrics["access_ns.p99"].better) == ("ns", "lower")
    assert (metrics["cost.tlb_interrupts"].better, metrics["cost.tlb_interrupts"].is_time) == ("lower", False)
    assert (metrics["kernel_pages.total"].better, metrics["kernel_pages.total"].step) == ("neither", 1.0)
    assert metrics["time_to.pages_local_99"].step == 1.0


def test_how_much_is_done_in_a_given_time_depends_on_the_clock(tmp_path: Path) -> None:
    by_duration = store.load(driven_run.write(tmp_path / "a", driven_run.run_record(duration_s=10.0)))
    by_loops = store.load(driven_run.write(tmp_path / "b"))
    for run, is_time in ((by_duration, True), (by_loops, False)):
        told = {metric.name: metric.is_time for _, metric in values(run)}
        assert told["confirmed_bytes"] == told["kernel_pages.total"] == told["pages_left"] == is_time


def stuck(index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A trial whose pages never get beyond a half of them local."""
    trial = synthetic_run.trial_record(index, moved=0)
    return trial, [copy.deepcopy(synthetic_run.sample(second, 0.0)) for second in range(11)]


def two_trials(tmp_path: Path) -> Run:
    trials = [(synthetic_run.trial_record(1), synthetic_run.samples()), stuck(2)]
    return store.load(synthetic_run.write(tmp_path, synthetic_run.run_record(repeats=2), trials))


def test_what_a_trial_ended_before_is_left_out_and_said(tmp_path: Path) -> None:
    run = two_trials(tmp_path)
    found = named(values(run))
    assert found["time_to.pages_local_90"] == (6.0,)
    assert found["reached.pages_local_90"] == (0.5,)
    assert found["pages_local_at_end"] == (1.0, 0.5)
    told = {metric.name: counts for (_, metric), counts in unreached(run).items()}
    assert told["time_to.pages_local_90"] == (1, 2)
    assert "time_to.threads_settled" not in told


def test_where_no_trial_came_to_it_there_is_only_the_share(tmp_path: Path) -> None:
    run = store.load(synthetic_run.write(tmp_path, trials=[stuck(1)]))
    found = named(values(run))
    assert "time_to.pages_local_90" not in found
    assert found["reached.pages_local_90"] == (0.0,)


def test_a_rate_of_which_only_a_bound_is_known_is_left_out_and_said(tmp_path: Path) -> None:
    at_once = [synthetic_run.sample(second, float(second > 2)) for second in range(11)]
    run = store.load(synthetic_run.write(tmp_path, trials=[(synthetic_run.trial_record(), at_once)]))
    assert "mb_per_s" not in named(values(run))
    assert [metric.name for _, metric in unreached(run)] == ["mb_per_s"]


def test_warm_ups_and_failures_are_not_compared(tmp_path: Path) -> None:
    record = synthetic_run.run_record(repeats=3)
    record["plan"]["order"] = [["default", "warmup"], ["default", "measure"], ["default", "measure"]]
    changed = ({"role": "warmup"}, {}, {"status": "timeout"})
    trials = [
        (synthetic_run.trial_record(index) | change, synthetic_run.samples()) for index, change in enumerate(changed, 1)
    ]
    run = store.load(synthetic_run.write(tmp_path, record, trials))
    assert {len(each) for each in values(run).values()} == {1}


def test_each_placement_has_its_own(tmp_path: Path) -> None:
    run = store.load(synthetic_run.write_three_placements(tmp_path))
    found = values(run)
    per_gib = {name: named(found, name)["seconds_per_gib"] for name in ("default", "hard", "inverse")}
    assert per_gib == {"default": (1.0,) * 3, "hard": (0.5,) * 3, "inverse": (1.5,) * 3}


def counted(run: Run, **changed: Any) -> Observation:
    counts = kernel_counts.reduce(COUNTS, {}, 4 * MIB)
    told = {"recipe": "cost", "quality": None, "own_samples": 0, "slowdown": 1.0, "migrated_bytes": 4 * MIB}
    return Observation(**{"trial": run.trials[0], "counts": counts, **told, **changed})


def test_a_pass_that_counts_tells_what_2_mb_cost_the_kernel(numa02: Run) -> None:
    found = named(values(numa02, [counted(numa02), counted(numa02)]))
    assert found["kernel.rmap_lock_acquisitions"] == (1024.0, 1024.0)
    assert found["kernel.rmap_lock_acquisitions.unmap"] == (512.0, 512.0)
    assert found["kernel.rmap_lock_acquisitions.remap"] == (512.0, 512.0)
    assert found["kernel.tlb_flushes"] == (516.0, 516.0)
    assert found["kernel.page_table_walks"] == (1025.0, 1025.0)
    assert found["kernel.waits.rwsem:R"] == (2.5, 2.5)
    assert found["kernel.waits.mutex"] == (2.0, 2.0)
    assert "kernel.waits.page lock" not in found
    assert not any("flush_tlb_mm_range" in name for name in found)


def test_a_pass_that_failed_or_moved_nothing_tells_nothing(numa02: Run, tmp_path: Path) -> None:
    failed = synthetic_run.trial_record() | {"status": "observe-failed"}
    run = store.load(synthetic_run.write(tmp_path / "failed", trials=[(failed, synthetic_run.samples())]))
    assert values(run, [counted(run)]) == {}
    assert values(numa02, [counted(numa02, migrated_bytes=MIB)]) == values(numa02)


def waits(count: int, total_ns: int) -> Waits:
    return Waits(count, total_ns, total_ns, (count,))


def lock_pass(run: Run, *classes: tuple[str, int, int]) -> Observation:
    rows = tuple(Contended((name,), waits(count, total_ns), 1) for name, count, total_ns in classes)
    total = waits(sum(row.waits.count for row in rows), sum(row.waits.total_ns for row in rows))
    report = ContentionReport(total, 1, 0, 0, 0, rows, (), (), ())
    return counted(run, recipe="lock", counts=None, waits=report)


def test_lock_waits_are_told_by_class_and_one_that_a_pass_did_not_see_is_none(numa02: Run) -> None:
    with_reads = lock_pass(numa02, ("rwsem:R", 10, 4000), ("mutex", 2, 100))
    found = named(values(numa02, [with_reads, lock_pass(numa02, ("mutex", 4, 300))]))
    assert found["lock_waits"] == (6.0, 2.0)
    assert found["lock_waits.mutex"] == (1.0, 2.0)
    assert sorted(found["lock_waits.rwsem:R"]) == [0.0, 5.0]
    assert found["lock_wait_ns.mutex"] == (50.0, 150.0)


def test_what_only_another_run_saw_by_name_is_none_here(numa02: Run, pingpong: Run, tmp_path: Path) -> None:
    clean = store.load(
        driven_run.write(
            tmp_path / "clean", trials=[driven_run.trial_record(movers=[driven_run.mover(0), driven_run.mover(1)])]
        )
    )
    dirty, filled, balanced = aligned([values(pingpong), values(clean), values(numa02)])
    assert named(dirty)["failures.EBUSY"] == (192.0,)
    assert named(filled)["failures.EBUSY"] == (0.0,)
    assert "failures.EBUSY" not in named(balanced), "balancing has no statuses, which is not to have none"
    assert "kernel_pages.total" in named(balanced)
