"""What speaks against a run: each finding from a run that deserves it, and none from one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import synthetic_run

from numabench import store
from numabench.analysis import finding, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.analysis.finding import Finding
    from numabench.analysis.verdict import Verdict


def judge(
    tmp_path: Path,
    samples: list[dict[str, Any]] | None = None,
    *,
    run: dict[str, Any] | None = None,
    end: dict[str, Any] | None = synthetic_run.END,
    placement: str = "default",
    moved: int = synthetic_run.SLICE_PAGES,
    **trial: Any,
) -> Verdict:
    record = {**synthetic_run.trial_record(1, placement, moved), **trial}
    entry = (record, synthetic_run.samples() if samples is None else samples)
    return verdict.judge(
        store.load(synthetic_run.write(tmp_path, run or synthetic_run.run_record((placement,)), [entry], end))
    )


def one(found: Verdict, code: str) -> Finding:
    (matching,) = [entry for entry in found.findings if entry.code == code]
    assert matching.cause
    assert matching.remedy
    return matching


def test_three_clean_repeats_of_three_placements_have_no_finding(tmp_path: Path) -> None:
    found = verdict.judge(store.load(synthetic_run.write_three_placements(tmp_path)))
    assert found.findings == ()
    assert found.is_valid


def test_one_repeat_informs_and_stays_valid(tmp_path: Path) -> None:
    found = judge(tmp_path)
    assert [entry.code for entry in found.findings] == ["few-repeats"]
    assert found.is_valid


def test_pages_that_stay_remote_in_a_free_placement_make_it_invalid(tmp_path: Path) -> None:
    found = judge(tmp_path, synthetic_run.still_samples(remote=True), moved=0)
    assert set(found.codes(finding.INVALID)) == {"not-converged", "nothing-migrated"}
    assert "0.0%" in one(found, "not-converged").cause


def test_pages_that_stay_remote_are_right_for_inverse(tmp_path: Path) -> None:
    assert judge(tmp_path, synthetic_run.still_samples(remote=True), placement="inverse", moved=0).is_valid


def test_pages_that_stay_local_are_right_for_hard_and_wrong_for_inverse(tmp_path: Path) -> None:
    local = synthetic_run.still_samples(remote=False)
    assert judge(tmp_path / "hard", local, placement="hard", moved=0).is_valid
    found = judge(tmp_path / "inverse", local, placement="inverse", moved=0)
    assert found.codes(finding.INVALID) == ("baseline-misplaced",)


def test_pages_that_move_although_bound_make_a_baseline_invalid(tmp_path: Path) -> None:
    found = judge(tmp_path, synthetic_run.still_samples(remote=False), placement="hard", moved=4000)
    assert "baseline-moved" in found.codes(finding.INVALID)


def test_a_free_placement_that_was_right_from_the_start_is_only_told_so(tmp_path: Path) -> None:
    found = judge(tmp_path, synthetic_run.still_samples(remote=False), moved=0)
    assert found.is_valid
    assert one(found, "nothing-migrated").weight == finding.BIASES


@pytest.mark.parametrize("name", ["kernel.numa_balancing", "numa_balancing"])
def test_balancing_that_was_off_makes_it_invalid(tmp_path: Path, name: str) -> None:
    found = judge(tmp_path, run=synthetic_run.run_record(knobs={name: "0"}))
    assert found.codes(finding.INVALID) == ("balancing-off",)


def test_fewer_than_two_scan_passes_are_too_short(tmp_path: Path) -> None:
    trial = synthetic_run.trial_record()
    counters = trial["counters"]
    counters["after"]["vmstat"]["numa_pte_updates"] = 3 * synthetic_run.SLICE_PAGES
    found = judge(tmp_path, counters=counters)
    assert one(found, "too-short").weight == finding.BIASES
    assert "1.5 times" in one(found, "too-short").cause
    remote = judge(tmp_path / "remote", synthetic_run.still_samples(remote=True), counters=counters)
    assert one(remote, "too-short").weight == finding.INVALID


def test_a_trial_shorter_than_the_scan_delay_is_too_short(tmp_path: Path) -> None:
    clock = {**synthetic_run.trial_record()["clock"], "stop": synthetic_run.GO_NS + synthetic_run.SECOND_NS // 2}
    assert "first scan, 1 s after" in one(judge(tmp_path, clock=clock), "too-short").cause


def test_failed_migrations_are_partial(tmp_path: Path) -> None:
    counters = synthetic_run.trial_record()["counters"]
    counters["after"]["vmstat"]["pgmigrate_fail"] += 2048
    assert "2,048 of 10,240" in one(judge(tmp_path, counters=counters), "partial-migration").cause


def test_counts_that_disagree_are_told_by_direction(tmp_path: Path) -> None:
    pages = synthetic_run.trial_record()["pages"]
    more = judge(tmp_path / "more", pages={**pages, "moved": {"0>1": 2000}})
    assert "to and fro" in one(more, "counts-disagree").cause
    less = judge(tmp_path / "less", pages={**pages, "moved": {"0>1": 16000}})
    assert "of which the kernel counted 8,192" in one(less, "counts-disagree").cause


def test_other_load_and_other_migrations_contaminate(tmp_path: Path) -> None:
    counters = synthetic_run.trial_record()["counters"]
    counters["after"]["vmstat"]["pgmigrate_success"] += 2000
    assert "2,000 of 10,192" in one(judge(tmp_path / "other", counters=counters), "contaminated").cause
    counters = synthetic_run.trial_record()["counters"]
    counters["before"]["loadavg"] = [7.5, 1.0, 1.0]
    assert "7.50 on 2 CPUs" in one(judge(tmp_path / "load", counters=counters), "contaminated").cause


def test_wrong_data_makes_it_invalid(tmp_path: Path) -> None:
    found = judge(tmp_path, check={"bytes": 100, "wrong": 1, "first_wrong": {"addr": 1, "found": 0, "expected": 1}})
    assert found.codes(finding.INVALID) == ("corrupt-data",)


def test_a_placement_without_a_trial_that_went_well_is_invalid(tmp_path: Path) -> None:
    found = judge(tmp_path, status="timeout", message="not done in 30 min")
    assert found.codes(finding.INVALID) == ("no-trial",)
    assert "not done in 30 min" in one(found, "trial-failed").cause


def test_a_killed_run_is_told(tmp_path: Path) -> None:
    found = judge(tmp_path, end=None)
    assert "1 of 1 trials were run: the run is killed" in one(found, "incomplete").cause


def late(delay_s: float) -> list[dict[str, Any]]:
    """Samples that were planned, of which the fourth came late."""
    samples = [{**sample, "due_ns": sample["t_ns"] - 1_000_000} for sample in synthetic_run.samples()]
    samples[3]["due_ns"] = samples[3]["t_ns"] - round(delay_s * synthetic_run.SECOND_NS)
    del samples[0]["due_ns"], samples[-1]["due_ns"]
    return samples


def test_a_sample_that_came_late_is_lost(tmp_path: Path) -> None:
    found = one(judge(tmp_path, late(3.2)), "lost-samples")
    assert found.cause == "1 of 11 samples came late, up to 3.2 s after they were due"


@pytest.mark.parametrize(("interval_s", "delay_s", "is_lost"), [(1.0, 2.9, False), (0.1, 1.1, True), (0.1, 0.9, False)])
def test_a_sample_is_lost_beyond_a_second_and_three_intervals(
    tmp_path: Path, interval_s: float, delay_s: float, is_lost: bool
) -> None:
    run = synthetic_run.run_record()
    run["plan"]["interval_s"] = interval_s
    found = judge(tmp_path, late(delay_s), run=run)
    assert ("lost-samples" in found.codes(finding.BIASES)) == is_lost


def test_samples_far_apart_on_purpose_are_not_lost(tmp_path: Path) -> None:
    apart = [sample for second, sample in enumerate(synthetic_run.samples()) if not 3 <= second <= 6]
    assert judge(tmp_path / "unplanned", apart).codes(finding.BIASES) == ()
    planned = [{**sample, "due_ns": sample["t_ns"] - 5} for sample in apart]
    assert judge(tmp_path / "planned", planned).codes(finding.BIASES) == ()


def test_fewer_than_three_samples_with_pages_are_few(tmp_path: Path) -> None:
    samples = synthetic_run.samples()
    for sample in samples[2:]:
        sample["pages"] = [[0, 0, 0], [0, 0, 0]]
    found = judge(tmp_path, samples)
    assert one(found, "few-samples").cause == "2 of 11 samples held pages, at least 3 are needed"
    assert found.codes(finding.INVALID) == ()


@pytest.mark.parametrize(
    ("name", "weight"), [("kernel.numa_balancing", finding.INVALID), ("thp.enabled", finding.BIASES)]
)
def test_a_knob_that_somebody_changed_is_told_with_the_trials(tmp_path: Path, name: str, weight: str) -> None:
    kept = {"kernel.numa_balancing": "1", "thp.enabled": "madvise", "vm.swappiness": "60"}
    run = synthetic_run.run_record(repeats=3, knobs={"kernel.numa_balancing": "1", "thp.enabled": "madvise"})
    trials = [
        ({**synthetic_run.trial_record(index), "knobs": {**kept, **({name: "0"} if index > 1 else {})}}, [])
        for index in (1, 2, 3)
    ]
    found = one(verdict.judge(store.load(synthetic_run.write(tmp_path, run, trials))), "knob-changed")
    assert (found.weight, found.trials, found.placement) == (weight, (2, 3), "")
    assert name in found.cause


def test_a_knob_that_the_kernel_rounds_was_not_changed(tmp_path: Path) -> None:
    run = synthetic_run.run_record(knobs={"kernel.numa_balancing": "1", "kernel.numa_balancing_scan_size_mb": "256"})
    rounded = {"name": "kernel.numa_balancing_scan_size_mb", "before": "64", "wanted": "255", "outcome": "set"}
    run["knobs"].append({**rounded, "message": "the kernel made it 256"})
    found = judge(tmp_path, run=run, knobs={"kernel.numa_balancing_scan_size_mb": "256"})
    assert found.codes(finding.BIASES) == ()


def balancing_off(tmp_path: Path, knobs: dict[str, str], outcome: str | None, wanted: str = "1") -> str:
    run = synthetic_run.run_record(knobs={"kernel.numa_balancing": "0"})
    run["plan"]["knobs"] = knobs
    run["knobs"] = [] if outcome is None else [{**run["knobs"][0], "wanted": wanted, "outcome": outcome}]
    return one(judge(tmp_path, run=run), "balancing-off").remedy


def test_balancing_that_was_off_is_mended_by_what_left_it_so(tmp_path: Path) -> None:
    assert balancing_off(tmp_path / "no-tune", {}, None).startswith("leave out --no-tune")
    assert balancing_off(tmp_path / "denied", {"numa_balancing": "1"}, "denied").startswith("run as root")
    assert balancing_off(tmp_path / "asked", {"numa_balancing": "0"}, "kept", "0") == "leave out --balancing 0"


def test_a_run_still_going_is_not_called_killed(tmp_path: Path) -> None:
    writer = store.create(tmp_path, "run")
    writer.write_run(synthetic_run.run_record(repeats=2))
    writer.write_trial(1, synthetic_run.trial_record(), b"", synthetic_run.samples())
    found = one(verdict.judge(store.load(writer.path)), "incomplete")
    assert found.cause == "1 of 2 trials were run so far: the run is still going"
    writer.write_end(synthetic_run.END | {"status": "failed"})


def test_a_knob_that_was_denied_is_told(tmp_path: Path) -> None:
    run = synthetic_run.run_record()
    run["knobs"][0] |= {"outcome": "denied", "message": "Permission denied"}
    assert one(judge(tmp_path, run=run), "knob-denied").weight == finding.BIASES


def test_a_guest_and_notes_inform(tmp_path: Path) -> None:
    run = synthetic_run.run_record(where="guest")
    run["notes"] = [{"code": "scaled", "message": "smaller", "remedy": "more memory"}]
    found = judge(tmp_path, run=run)
    assert set(found.codes(finding.INFORMS)) == {"guest-times", "scaled", "few-repeats"}


def test_a_virtual_machine_that_is_no_guest_of_ours_informs(tmp_path: Path) -> None:
    found = judge(tmp_path, run=synthetic_run.run_record(virtualization="kvm"))
    assert one(found, "virtual-machine").weight == finding.INFORMS
    assert found.is_valid


def test_halves_are_free_within_and_an_odd_node_is_its_own_mirror(tmp_path: Path) -> None:
    run = synthetic_run.run_record(("inverse",))
    run["plan"]["nodes"] = [0, 1, 2]
    threads = [{"pid": 77, "tid": n, "thread": n} for n in range(3)]
    slices = [{"pid": 77, "bytes": 1 << 20, "threads": [n]} for n in range(3)]
    pages = [[0, 0, 9, 0], [0, 9, 0, 0], [9, 0, 0, 0]]
    samples = [{**synthetic_run.sample(n, 0, cpu_nodes=(0, 1, 2)), "pages": pages} for n in range(11)]
    assert judge(tmp_path, samples, run=run, placement="inverse", moved=0, threads=threads, slices=slices).is_valid


def test_rates_far_apart_are_unstable_and_one_finding_names_all_trials(tmp_path: Path) -> None:
    slow = [synthetic_run.sample(second, synthetic_run.moved_share(second, 1, 9)) for second in range(11)]
    fast = [synthetic_run.sample(second, synthetic_run.moved_share(second, 1, 5)) for second in range(11)]
    trials = [
        ({**synthetic_run.trial_record(index), "sampler": {"busy": 0.05}}, sampled)
        for index, sampled in enumerate((slow, fast, fast), 1)
    ]
    found = verdict.judge(store.load(synthetic_run.write(tmp_path, synthetic_run.run_record(repeats=3), trials)))
    assert one(found, "unstable").placement == "default"
    assert one(found, "sampler-busy").trials == (1, 2, 3)
