"""Tidy frames, whose sums are known by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import synthetic_run

import numabench
from numabench.errors import ResultError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_loads_as_tidy_frames(tmp_path: Path) -> None:
    frames = numabench.load(synthetic_run.write_three_placements(tmp_path, repeats=1))
    assert list(frames.trials["placement"]) == ["default", "hard", "inverse"]
    assert list(frames.trials["moved_pages"]) == [8192, 0, 0]
    assert list(frames.trials["moved_bytes"]) == [32 << 20, 0, 0]
    assert list(frames.trials["pages_after_node1"]) == [8192, 0, 0]
    assert set(frames.trials["elapsed_s"]) == {10.0}
    # 3 trials, 11 samples, 2 slices, 2 nodes and elsewhere.
    assert len(frames.samples) == 3 * 11 * 2 * 3
    last = frames.samples.query("trial == 1 and t_s == 10 and slice == 1").set_index("node")["pages"]
    assert last.to_dict() == {0: 0, 1: 256, -1: 0}
    assert set(frames.samples["size_bytes"]) == {32 << 20}
    threads = frames.threads.groupby("thread")["cpu_node"].unique()
    assert [list(nodes) for nodes in threads] == [[0], [1]]
    counters = frames.counters.set_index(["trial", "counter"])["delta"]
    assert counters[1, "numa_pages_migrated"] == 8192
    assert counters[1, "TLB"] == 160
    series = frames.series.query("trial == 1 and counter == 'numa_pages_migrated'")["value"]
    assert series.max() - series.min() == 8192


def test_a_trial_that_failed_early_has_no_rows_but_its_own(tmp_path: Path) -> None:
    failed = {"index": 1, "placement": "default", "role": "measure", "status": "workload-failed", "message": "it died"}
    frames = numabench.load(synthetic_run.write(tmp_path, trials=[(failed, [])]))
    assert list(frames.trials["status"]) == ["workload-failed"]
    assert frames.trials["moved_pages"].isna().all()
    for frame in (frames.samples, frames.threads, frames.counters, frames.series):
        assert frame.empty
        assert "trial" in frame.columns


def test_frames_of_what_is_no_run_are_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        numabench.load(tmp_path)
