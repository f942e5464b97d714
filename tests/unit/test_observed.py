"""What is said of a run's passes: findings about recordings, slow-down, and result files that are damaged."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import synthetic_run

from numabench import store
from numabench.analysis import observed, verdict
from numabench.analysis.missing import Missing
from numabench.analysis.observed import Observation, Quality
from numabench.errors import ResultError

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run

GOOD = Quality(samples=100_000, lost=100, throttled=0, unsymbolised_share=0.01, is_truncated=False)
OBSERVE = {
    "recipe": "cpu",
    "file": "cpu.data",
    "events": ["cpu-clock"],
    "frequency_hz": 499,
    "perf": "6.1.187",
    "argv": ["perf", "record"],
    "enabled": synthetic_run.GO_NS - 1,
    "disabled": synthetic_run.GO_NS + 11 * synthetic_run.SECOND_NS,
    "kallsyms": "kallsyms-0123.zst",
}


def write(results: Path, observe: dict[str, Any], *, content: bytes = b"PERFILE2", slower: int = 1) -> Path:
    """Two trials, one measured and one observed, which took `slower` times as long for the same work."""
    record = synthetic_run.run_record()
    record["plan"]["order"] = [["default", "measure"], ["default", "observe:cpu"]]
    trial = {**copy.deepcopy(synthetic_run.trial_record(2)), "role": "observe:cpu", "observe": observe}
    for work in trial["done"]:
        work["elapsed_ns"] *= slower
    writer = store.create(results, synthetic_run.RUN_ID)
    writer.write_run(record)
    first = synthetic_run.trial_record(1)
    writer.write_trial(1, first, b"{}\n", synthetic_run.samples())
    recording = writer.scratch(2) / "cpu.data"
    recording.write_bytes(content)
    writer.write_trial(2, trial, b"{}\n", synthetic_run.samples(), [recording])
    writer.write_end(synthetic_run.END)
    return writer.path


def observation(run: Run, quality: Quality) -> Observation:
    return Observation(run.trials[1], "cpu", quality, 1, 1.0, 1)


def test_a_recording_is_moved_into_its_trial_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = write(tmp_path, OBSERVE)
    assert sorted(entry.name for entry in (path / "trials").iterdir()) == ["0001", "0002"]
    kept = store.load(path).trials[1].observed
    assert kept is not None
    assert kept.file == path / "trials" / "0002" / "cpu.data"
    assert kept.size_bytes == 8
    assert kept.kallsyms == path / "kallsyms-0123.zst"
    assert kept.events == ("cpu-clock",)


def test_observed_trials_do_not_count_as_measured(tmp_path: Path) -> None:
    run = store.load(write(tmp_path, OBSERVE))
    assert [trial.counts for trial in run.trials] == [True, False]


@pytest.mark.parametrize("name", ["../../run.json", "..", "a/b", "."])
@pytest.mark.parametrize("key", ["file", "kallsyms"])
def test_a_recording_outside_of_the_run_is_refused(tmp_path: Path, key: str, name: str) -> None:
    path = write(tmp_path, {**OBSERVE, key: name})
    with pytest.raises(ResultError, match=key):
        store.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("recipe", 3), ("events", "cpu"), ("enabled", "now"), ("functions", []), ("frequency_hz", -1), ("file", None)],
)
def test_a_value_of_the_wrong_kind_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = write(tmp_path, {**OBSERVE, key: value})
    with pytest.raises(ResultError, match=key):
        store.load(path)


def test_a_recording_that_is_gone_or_cut_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, OBSERVE)
    recording = path / "trials" / "0002" / "cpu.data"
    recording.write_bytes(b"PERF")
    with pytest.raises(ResultError, match="4 bytes, 8 were written"):
        store.load(path)
    recording.unlink()
    with pytest.raises(ResultError, match="is missing"):
        store.load(path)


def test_a_killed_runs_unfinished_recording_is_ignored_and_an_ended_ones_removed(tmp_path: Path) -> None:
    writer = store.create(tmp_path, synthetic_run.RUN_ID)
    writer.write_run(synthetic_run.run_record())
    (writer.scratch(1) / "cpu.data").write_bytes(b"half")
    assert store.load(writer.path).trials == ()
    writer.write_end({**synthetic_run.END, "status": "interrupted"})
    assert list((writer.path / "trials").iterdir()) == []


@pytest.mark.parametrize(
    ("quality", "code"),
    [
        (Quality(100_000, 101, 0, 0.0, is_truncated=False), "recording-lost"),
        (Quality(100_000, 0, 1, 0.0, is_truncated=False), "recording-throttled"),
        (Quality(100_000, 0, 0, 0.011, is_truncated=False), "recording-unsymbolised"),
        (Quality(100_000, 0, 0, None, is_truncated=True), "recording-cut"),
    ],
)
def test_what_a_recording_lacks_is_a_finding(tmp_path: Path, quality: Quality, code: str) -> None:
    run = store.load(write(tmp_path, OBSERVE))
    without = {found.code for found in verdict.judge(run, [observation(run, GOOD)]).findings}
    (found,) = [one for one in verdict.judge(run, [observation(run, quality)]).findings if one.code not in without]
    assert found.code == code
    assert found.trials == (2,)
    assert found.remedy


def test_slow_down_is_the_time_for_the_same_work_over_the_measured_median(tmp_path: Path) -> None:
    run = store.load(write(tmp_path, OBSERVE, slower=3))
    assert observed.slowdown(run, run.trials[1]) == pytest.approx(3.0)


def test_slow_down_without_a_measured_trial_is_not_known(tmp_path: Path) -> None:
    path = write(tmp_path, OBSERVE)
    trial_file = path / "trials" / "0001" / "trial.json"
    trial_file.write_text(json.dumps({**json.loads(trial_file.read_text()), "role": "warmup"}))
    run = store.load(path)
    assert isinstance(observed.slowdown(run, run.trials[1]), Missing)


def test_a_recording_that_is_none_is_told_on_stderr_and_the_report_is_shown(tmp_path: Path) -> None:
    import sys

    from numabench import process

    path = write(tmp_path, OBSERVE, content=b"not a recording at all")
    ended = process.run([sys.executable, "-m", "numabench", "report", str(path)])
    assert ended.exit_status == 0
    assert "cpu.data is no perf.data" in ended.stderr
    assert "verdict" in ended.stdout
