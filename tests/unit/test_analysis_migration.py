"""The three counts, the rate and the costs, of runs whose answers are known by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import synthetic_run

from numabench import store
from numabench.analysis import costs, migration, score
from numabench.analysis.missing import Missing
from numabench.analysis.spread import spread, t95

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run

PAGES = synthetic_run.SLICE_PAGES
MOVED_MB = PAGES * 4096 / 1e6


def run_of(tmp_path: Path, trial: dict[str, Any] | None = None, samples: list[dict[str, Any]] | None = None) -> Run:
    entry = (trial or synthetic_run.trial_record(), synthetic_run.samples() if samples is None else samples)
    return store.load(synthetic_run.write(tmp_path, trials=[entry]))


def test_the_three_counts_agree_in_a_clean_run(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    counts = migration.counts(run, run.trials[0])
    assert isinstance(counts.requested, Missing)
    assert "asks for no page" in counts.requested.reason
    assert counts.confirmed == PAGES
    assert counts.confirmed_bytes == PAGES * 4096
    assert counts.by_pair == (((0, 1), PAGES),)
    assert (counts.kernel.total, counts.kernel.misplaced, counts.kernel.other) == (PAGES, PAGES, 0)
    assert (counts.kernel.promoted, counts.kernel.demoted, counts.kernel.failed) == (0, 0, 0)
    assert isinstance(counts.kernel.thp_success, Missing)
    assert counts.disagreement is None


def test_pages_that_went_to_and_fro_make_the_kernel_count_more(tmp_path: Path) -> None:
    trial = synthetic_run.trial_record()
    trial["pages"]["moved"] = {"0>1": 3000}
    run = run_of(tmp_path, trial)
    disagreement = migration.counts(run, run.trials[0]).disagreement
    assert disagreement == migration.Disagreement(kernel_pages=PAGES, confirmed_pages=3000)
    assert disagreement.is_kernel_more


def test_a_kernel_that_counts_less_disagrees_the_other_way(tmp_path: Path) -> None:
    trial = synthetic_run.trial_record()
    trial["counters"]["after"]["vmstat"]["numa_pages_migrated"] = 1000 + 100
    run = run_of(tmp_path, trial)
    disagreement = migration.counts(run, run.trials[0]).disagreement
    assert disagreement is not None
    assert not disagreement.is_kernel_more


def test_what_is_neither_balancing_nor_demotion_had_other_reasons(tmp_path: Path) -> None:
    trial = synthetic_run.trial_record()
    trial["counters"]["after"]["vmstat"]["pgmigrate_success"] += 3000
    trial["counters"]["after"]["vmstat"]["pgdemote_kswapd"] = 1000
    run = run_of(tmp_path, trial)
    kernel = migration.kernel_count(run.trials[0])
    assert (kernel.misplaced, kernel.demoted, kernel.other) == (PAGES, 1000, 2000)


def test_the_rate_is_of_the_window_and_bounded_by_the_samples_beside_it(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    found = migration.throughput(run, run.trials[0])
    assert isinstance(found, migration.Throughput)
    # A fifth of the pages a second, from 2 s to 7 s.
    assert found.start_s == pytest.approx(2.05, rel=1e-3)
    assert found.end_s == pytest.approx(6.95, rel=1e-3)
    assert found.resolution_s == 1.0
    assert found.mb_per_s == pytest.approx(MOVED_MB / 5, rel=1e-3)
    assert found.low_mb_per_s == pytest.approx(0.98 * MOVED_MB / 5)
    assert found.high_mb_per_s == pytest.approx(0.98 * MOVED_MB / 3)
    assert found.low_mb_per_s < MOVED_MB / 5 < found.high_mb_per_s


@pytest.mark.parametrize("seen", [(0.0, 0.5, 0.5, 0.5, 1.0), (0.0, 0.02, 0.98, 1.0), (0.0, 0.0, 0.9, 0.95, 0.985, 1.0)])
def test_the_rate_is_within_its_bounds_however_the_samples_fall(tmp_path: Path, seen: tuple[float, ...]) -> None:
    samples = [synthetic_run.sample(2 * number, share) for number, share in enumerate(seen)]
    run = run_of(tmp_path, samples=samples)
    found = migration.throughput(run, run.trials[0])
    assert isinstance(found, migration.Throughput)
    assert found.mb_per_s is not None
    assert found.low_mb_per_s <= found.mb_per_s
    assert found.high_mb_per_s is None or found.mb_per_s <= found.high_mb_per_s


def test_a_migration_between_two_samples_has_only_a_lower_bound(tmp_path: Path) -> None:
    samples = [synthetic_run.sample(second, 0.0 if second < 4 else 1.0) for second in range(11)]
    run = run_of(tmp_path, samples=samples)
    found = migration.throughput(run, run.trials[0])
    assert isinstance(found, migration.Throughput)
    assert found.mb_per_s is None
    assert found.high_mb_per_s is None
    assert found.low_mb_per_s == pytest.approx(0.98 * MOVED_MB)


def test_there_is_no_rate_where_nothing_moved(tmp_path: Path) -> None:
    run = run_of(tmp_path, synthetic_run.trial_record(moved=0), synthetic_run.still_samples(remote=False))
    assert migration.throughput(run, run.trials[0]) == Missing("no page ended on another node")


def test_rates_a_second_add_up_to_the_kernels_count(tmp_path: Path) -> None:
    rates = migration.migrated_rates(run_of(tmp_path).trials[0])
    assert sum(rate for _, rate in rates) == PAGES
    assert [t_s for t_s, rate in rates if rate] == [3.0, 4.0, 5.0, 6.0, 7.0]


def test_costs_are_per_two_mebibytes_that_the_kernel_migrated(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    found = {cost.name: cost for cost in costs.costs(run, run.trials[0])}
    # 32 MiB are 16 times 2 MiB.
    assert (found["TLB interrupts"].total, found["TLB interrupts"].per_2mb) == (160, 10.0)
    assert found["hinting faults"].per_2mb == 2500.0
    assert found["PTE updates"].per_2mb == 3072.0
    assert found["TLB flushes sent"].per_2mb == Missing("this kernel has no nr_tlb_remote_flush")


def test_costs_of_less_than_two_megabytes_are_not_known(tmp_path: Path) -> None:
    run = run_of(tmp_path, synthetic_run.trial_record(moved=511))
    assert {cost.per_2mb for cost in costs.costs(run, run.trials[0]) if cost.name == "TLB interrupts"} == {
        Missing("the kernel migrated less than 2 MB")
    }


def test_a_placement_half_way_between_hard_and_inverse_scores_a_half(tmp_path: Path) -> None:
    run = store.load(synthetic_run.write_three_placements(tmp_path))
    assert score.scores(run) == (score.PlacementScore("default", 0.5),)
    seconds = score.placement_seconds(run, "inverse")
    assert seconds is not None
    assert seconds.median == pytest.approx(1.5)


def test_a_score_needs_all_three_placements(tmp_path: Path) -> None:
    (entry,) = score.scores(run_of(tmp_path))
    assert isinstance(entry.score, Missing)
    assert "hard was not run" in entry.score.reason


def test_there_is_no_score_where_inverse_is_not_slower(tmp_path: Path) -> None:
    trials = []
    for index, placement in enumerate(("default", "hard", "inverse"), 1):
        trials.append((synthetic_run.trial_record(index, placement), synthetic_run.samples()))
    run = store.load(synthetic_run.write(tmp_path, synthetic_run.run_record(("default", "hard", "inverse")), trials))
    (entry,) = score.scores(run)
    assert isinstance(entry.score, Missing)
    assert "not clearly slower" in entry.score.reason


def test_a_spread_has_an_interval_from_three_values_on() -> None:
    assert spread([]) is None
    two = spread([1.0, 3.0])
    assert two is not None
    assert (two.median, two.low, two.high, two.ci95) == (2.0, 1.0, 3.0, None)
    three = spread([1.0, 2.0, 4.0])
    assert three is not None
    assert three.ci95 is not None
    # Logarithms 0, ln 2, 2 ln 2: mean ln 2, deviation ln 2; 4.303 / sqrt(3) = 2.4843.
    assert three.ci95[0] == pytest.approx(2 * 2**-2.4843, rel=1e-3)
    assert three.ci95[1] == pytest.approx(2 * 2**2.4843, rel=1e-3)
    zero = spread([0.0, 1.0, 2.0])
    assert zero is not None
    assert zero.ci95 is None


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (10, 2.228), (30, 2.042), (40, 2.021), (120, 1.980)])
def test_quantiles_of_t_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t95(degrees) == pytest.approx(quantile, abs=1e-3)
