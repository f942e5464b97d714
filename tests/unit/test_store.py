"""Result directories: whole trials or none, and readers that trust nothing."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import driven_run
import pytest
import synthetic_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numabench import process, store
from numabench.errors import NumabenchError, ResultError
from numabench.frames import make_frames
from numabench.report import run_json
from numabench.report.run_text import render
from numabench.store import writing

TESTS = Path(synthetic_run.__file__).parent


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return synthetic_run.write(tmp_path)


def write_driven(results: Path) -> Path:
    """A driven run with everything that one may leave."""
    family = {"depth": 3, "fanout": 2, "mover_at": "parent", "churn": ["fork"]}
    record = driven_run.run_record(obstacles={"pinned": 8}, family=family)
    longest = [{**access, "call": driven_run.wrong_word()["call"]} for access in driven_run.victim()["longest"]]
    left = {
        "victims": [driven_run.victim(longest=longest)],
        "wrong_words": [driven_run.wrong_word()],
        "family": driven_run.FAMILY,
        "units": driven_run.units(),
    }
    return driven_run.write(results, record, [driven_run.trial_record(**left)])


@pytest.fixture(params=[synthetic_run.write, write_driven])
def any_run_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made: Path = request.param(tmp_path)
    return made


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_what_was_written_is_read(run_path: Path) -> None:
    run = store.load(run_path)
    assert run.run_id == synthetic_run.RUN_ID
    assert run.complete
    assert run.nodes == (0, 1)
    assert run.page_bytes == 4096
    assert run.identity["hostname"] == "box"
    assert [(knob.before, knob.wanted, knob.outcome) for knob in run.knobs] == [("0", "1", "set")]
    (trial,) = run.trials
    assert trial.counts
    assert trial.clock.go_ns == synthetic_run.GO_NS
    assert trial.pages is not None
    assert trial.pages.moved == {(0, 1): 8192}
    assert trial.slices[1].threads == (1,)
    assert [sample.pages[1] for sample in trial.samples[6:8]] == [(51, 205, 0), (0, 256, 0)]


def test_unknown_keys_are_ignored(run_path: Path) -> None:
    before = store.load(run_path)
    edit(run_path / "run.json", of_the_future=[1])
    edit(run_path / "trials/0001/trial.json", of_the_future={"a": None})
    edit(run_path / "end.json", of_the_future="x")
    assert store.load(run_path) == before


def test_a_run_without_an_end_was_killed(tmp_path: Path) -> None:
    run = store.load(synthetic_run.write(tmp_path, end=None))
    assert not run.complete
    assert run.ending.status == "killed"
    assert len(run.trials) == 1


def test_what_a_killed_writer_left_unfinished_is_ignored(run_path: Path) -> None:
    before = store.load(run_path)
    (run_path / "trials/.tmp-0002").mkdir()
    (run_path / "trials/.tmp-0002/trial.json").write_text("{")
    (run_path / ".tmp-end.json").write_text("{")
    assert store.load(run_path) == before


def test_files_hold_one_json_object_a_line_and_no_nan(run_path: Path) -> None:
    for line in (run_path / "trials/0001/samples.jsonl").read_text().splitlines():
        assert isinstance(json.loads(line), dict)
    writer = store.RunWriter(run_path)
    with pytest.raises(ValueError, match="JSON"):
        writer.write_trial(2, {"index": 2, "busy": float("nan")}, b"", [])
    assert not (run_path / "trials/0002").exists()


@pytest.mark.parametrize("name", ["run.json", "trials/0001/trial.json", "end.json"])
def test_a_json_file_cut_anywhere_is_refused_by_name(run_path: Path, name: str) -> None:
    file = run_path / name
    whole = file.read_bytes()
    for size in range(len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ResultError, match=name.rsplit("/", 1)[-1]) as caught:
            store.load(run_path)
        assert caught.value.hint


def test_lines_cut_anywhere_are_refused_by_name(run_path: Path) -> None:
    for name in ("samples.jsonl", "events.jsonl"):
        file = run_path / "trials/0001" / name
        whole = file.read_bytes()
        for size in range(0, len(whole), 7):
            file.write_bytes(whole[:size])
            with pytest.raises(ResultError, match=name):
                store.load(run_path)
        file.write_bytes(whole)
    assert store.load(run_path).complete


@pytest.mark.parametrize("name", ["trial.json", "samples.jsonl", "events.jsonl"])
def test_a_missing_file_of_a_trial_is_named(run_path: Path, name: str) -> None:
    (run_path / "trials/0001" / name).unlink()
    with pytest.raises(ResultError, match=f"{name} is missing"):
        store.load(run_path)


def test_a_missing_trial_of_a_complete_run_is_named(tmp_path: Path) -> None:
    path = synthetic_run.write_three_placements(tmp_path, repeats=1)
    shutil.rmtree(path / "trials/0003")
    with pytest.raises(ResultError, match="trial 3 of 3 is missing"):
        store.load(path)
    shutil.rmtree(path / "trials/0001")
    with pytest.raises(ResultError, match="trial 1 is missing"):
        store.load(path)


def test_what_is_not_ours_is_refused(tmp_path: Path, run_path: Path) -> None:
    with pytest.raises(ResultError, match="there is no directory"):
        store.load(tmp_path / "none")
    with pytest.raises(ResultError, match=r"is not a numabench result: it has no run\.json"):
        store.load(tmp_path)
    with pytest.raises(ResultError, match="/ is not a numabench result"):
        store.load("/")
    edit(run_path / "run.json", kind="something-else")
    with pytest.raises(ResultError, match="was not written by numabench"):
        store.load(run_path)


def test_a_newer_schema_is_refused_and_the_hint_is_to_update(run_path: Path) -> None:
    edit(run_path / "run.json", schema_version=2)
    with pytest.raises(ResultError, match="schema version 2") as caught:
        store.load(run_path)
    assert "update" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clock", {"go": "soon"}),
        ("clock", []),
        ("index", True),
        ("pages", {"moved": {"0-1": 3}}),
        ("pages", {"moved": {"0>1": -3}}),
        ("slices", [{"pid": 1}]),
        ("check", {"bytes": 10**40, "wrong": 0}),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_file(run_path: Path, key: str, value: object) -> None:
    edit(run_path / "trials/0001/trial.json", **{key: value})
    with pytest.raises(ResultError, match=rf"trial\.json: '{key}"):
        store.load(run_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("plan.order", [{}]),
        ("plan.order", [7]),
        ("plan.order", [["default"]]),
        ("plan.argv", [7]),
        ("plan.duration_s", 10**400),
        ("plan.duration_s", -1),
        ("plan.interval_s", 10**400),
        ("plan.size_bytes", 10**400),
        ("plan.start_node", "0"),
        ("plan.seed", "1"),
        ("plan.scaled", "size"),
        ("plan.knobs", {"numa_balancing": 1}),
        ("identity.cpu.count", 10**400),
        ("identity.kernel", "6.1"),
        ("identity.kernel.release", 6),
        ("identity.virtualization", {}),
        ("identity.knobs", {"kernel.numa_balancing": 1}),
    ],
)
def test_what_reports_use_of_plan_and_identity_is_checked_by_its_key(run_path: Path, key: str, value: object) -> None:
    file = run_path / "run.json"
    record = json.loads(file.read_text())
    *path, last = key.split(".")
    holder = record
    for name in path:
        holder = holder[name]
    holder[last] = value
    file.write_text(json.dumps(record))
    with pytest.raises(ResultError, match=rf"run\.json: '{key}") as caught:
        store.load(run_path)
    assert "damaged" in caught.value.hint


def test_what_reports_use_of_plan_and_identity_is_read(run_path: Path) -> None:
    run = store.load(run_path)
    assert run.planned.order == (("default", "measure"),)
    assert (run.planned.duration_s, run.planned.interval_s, run.planned.seed) == (10.0, 1.0, 1)
    assert run.planned.knobs == {"numa_balancing": "1"}
    assert (run.machine.hostname, run.machine.cpu_count, run.machine.kernel_release) == ("box", 2, "6.1.0")
    edit(run_path / "run.json", identity={}, plan={"workload": "numa02", "nodes": [0, 1], "order": [["a", "b"]]})
    assert store.load(run_path).planned.knobs is None


def test_a_trial_keeps_its_knobs_and_when_samples_were_due(tmp_path: Path) -> None:
    samples = [{**sample, "due_ns": 7} for sample in synthetic_run.samples()]
    del samples[0]["due_ns"]
    trial = {**synthetic_run.trial_record(), "knobs": {"kernel.numa_balancing": "1"}}
    (read,) = store.load(synthetic_run.write(tmp_path, trials=[(trial, samples)])).trials
    assert [sample.due_ns for sample in read.samples[:3]] == [None, 7, 7]
    assert read.knobs == {"kernel.numa_balancing": "1"}


def test_samples_must_fit_the_plan_and_rise_in_time(run_path: Path) -> None:
    file = run_path / "trials/0001/samples.jsonl"
    trial = run_path / "trials/0001/trial.json"
    lines = file.read_text().splitlines(keepends=True)
    edit(trial, files={})
    file.write_text("".join(reversed(lines)))
    with pytest.raises(ResultError, match="order of time"):
        store.load(run_path)
    edit(run_path / "run.json", plan={**json.loads((run_path / "run.json").read_text())["plan"], "nodes": [0, 1, 2]})
    with pytest.raises(ResultError, match="4 columns"):
        store.load(run_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none_are_refused(run_path: Path, number: str) -> None:
    file = run_path / "trials/0001/trial.json"
    file.write_text(file.read_text().replace('"busy": 0.001', f'"busy": {number}'))
    with pytest.raises(ResultError, match=r"trial\.json"):
        store.load(run_path)


def test_json_nested_too_deep_is_refused(run_path: Path) -> None:
    (run_path / "run.json").write_text("[" * 200_000)
    with pytest.raises(ResultError, match=r"run\.json"):
        store.load(run_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_in_any_place_is_a_run_or_an_error_of_ours(any_run_path: Path, data: st.DataObject) -> None:
    file = any_run_path / data.draw(st.sampled_from(["run.json", "end.json", "trials/0001/trial.json"]))
    whole = file.read_text()
    record = json.loads(whole)
    holder, key = record, data.draw(st.sampled_from(sorted(record)))
    while isinstance(holder[key], dict) and holder[key] and data.draw(st.booleans()):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder)))
    holder[key] = data.draw(JSON)
    file.write_text(json.dumps(record))
    try:
        run = store.load(any_run_path)
    except NumabenchError as error:
        assert str(any_run_path) in error.message  # noqa: PT017  either outcome is right
    else:
        assert isinstance(run, store.Run)
    finally:
        file.write_text(whole)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rubbish=st.binary(max_size=200), name=st.sampled_from(["run.json", "trials/0001/trial.json", "end.json"]))
def test_any_bytes_are_an_error_of_ours(run_path: Path, rubbish: bytes, name: str) -> None:
    file = run_path / name
    whole = file.read_bytes()
    file.write_bytes(rubbish)
    try:
        with pytest.raises(ResultError):
            store.load(run_path)
    finally:
        file.write_bytes(whole)


# What a damaged or foreign file may hold where something else belongs.
ODD: tuple[object, ...] = (
    *(None, 0, -1, 10**400, 2**64 - 1, 1.5, -5.0, True, "", "x\x1b[2J\ud800"),
    *([], [1], [None], [[]], [["a"]], {}, {"a": 1}, {"0": "1"}),
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything inside a JSON value; of a list, to its first two."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value[:2]))
    return [way for key, child in inner for way in ((*path, key), *places(child, (*path, key)))]


@pytest.mark.parametrize("name", ["run.json", "end.json", "trials/0001/trial.json", "trials/0001/samples.jsonl"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_loads_can_be_reported_and_listed(any_run_path: Path, name: str, data: st.DataObject) -> None:
    file = any_run_path / name
    whole = file.read_text()
    # The second line of the samples, the whole of the others.
    lines = whole.splitlines() if name.endswith("jsonl") else [whole]
    row = min(1, len(lines) - 1)
    record = json.loads(lines[row])
    *way, last = data.draw(st.sampled_from(places(record)))
    holder = record
    for key in way:
        holder = holder[key]
    holder[last] = data.draw(st.sampled_from(ODD) | JSON)
    lines[row] = json.dumps(record)
    file.write_text("\n".join(lines) + "\n")
    trial_file = any_run_path / "trials/0001/trial.json"
    trial = trial_file.read_text()
    if name.endswith("jsonl"):
        edit(trial_file, files={})
    try:
        run = store.load(any_run_path)
        assert render(run).endswith("\n")
        json.dumps(run_json.report(run), allow_nan=False)
        make_frames(run)
    except NumabenchError as error:
        assert str(any_run_path) in error.message  # noqa: PT017  either outcome is right
    finally:
        assert len(list(store.iterate(any_run_path.parent))) == 1
        trial_file.write_text(trial)
        file.write_text(whole)


# --- where it cannot be written


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_told_before_anything_runs(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ResultError, match="Permission denied"):
        store.create(tmp_path / "results", "run")


def test_a_results_path_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(ResultError, match=f"cannot write results to {tmp_path}/results"):
        store.create(tmp_path / "results", "run")


def test_a_run_is_written_once(tmp_path: Path) -> None:
    store.create(tmp_path, "run")
    with pytest.raises(ResultError, match="is there already"):
        store.create(tmp_path, "run")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "new\nline", "x" * 300])
def test_a_run_has_a_name_that_is_safe_as_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResultError, match="is not a run's name"):
        store.create(tmp_path, name)


def test_checking_for_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    store.check_writable(tmp_path / "deep" / "results")
    assert list((tmp_path / "deep" / "results").iterdir()) == []


def test_a_new_name_sorts_by_time_and_holds_the_program() -> None:
    assert store.new_run_id("numa02", "20261123T043052Z", "1a2b3c") == synthetic_run.RUN_ID
    assert store.new_run_id("../a b", "20261123T043052Z", "0") == "20261123T043052Z-_a_b-0"
    assert store.new_run_id("x") != store.new_run_id("x")


def _limit_file_size(size_bytes: int) -> None:
    import resource

    # Beyond the limit write(2) fails with EFBIG once SIGXFSZ is ignored: as durable a refusal as a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def test_a_trial_that_does_not_fit_leaves_the_earlier_ones_whole(tmp_path: Path) -> None:
    import resource

    path = synthetic_run.write(tmp_path, record=synthetic_run.run_record(repeats=2), end=None)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    try:
        _limit_file_size(100_000)
        with pytest.raises(ResultError, match=r"cannot write results to .*0002: File too large"):
            store.RunWriter(path).write_trial(2, synthetic_run.trial_record(2), b"x" * 200_000, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(entry.name for entry in (path / "trials").iterdir()) == ["0001"]
    assert len(store.load(path).trials) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_file_system_is_told_with_its_reason(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = process.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)])
    if mounted.exit_status != 0:
        pytest.skip("a tmpfs cannot be mounted here: " + mounted.stderr.strip())
    try:
        path = synthetic_run.write(small, record=synthetic_run.run_record(repeats=2), end=None)
        writer = store.RunWriter(path)
        with pytest.raises(ResultError, match=os.strerror(errno.ENOSPC)) as caught:
            writer.write_trial(2, synthetic_run.trial_record(2), b"x" * (4 << 20), [])
        assert "--results" in caught.value.hint
        writer.write_end({"status": "failed", "message": "full"})
        assert [trial.index for trial in store.load(path).trials] == [1]
        (small / "filler").write_bytes(b"x" * (1 << 20))
        with pytest.raises(ResultError, match=os.strerror(errno.ENOSPC)):
            store.create(small, "next")
    finally:
        process.run(["umount", str(small)]).check("umount")


# --- kill -9

WRITER = """
import sys
from pathlib import Path
import synthetic_run
from numabench import store
writer = store.create(Path(sys.argv[1]), "run")
writer.write_run(synthetic_run.run_record(repeats=10_000))
print("begun", flush=True)
for index in range(1, 10_001):
    trial = synthetic_run.trial_record(index)
    writer.write_trial(index, trial, b"e" * 50_000, [synthetic_run.sample(n, 0.5) for n in range(200)])
    print(index, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_trials_or_none(tmp_path: Path) -> None:
    moments = random.Random(1)  # noqa: S311  moments, not secrets
    partial = 0
    for attempt in range(25):
        results = tmp_path / str(attempt)
        out_fd, child_fd = os.pipe()
        env = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
        writer = process.start([sys.executable, "-c", WRITER, str(results)], stdout=child_fd, stderr=2, env=env)
        os.close(child_fd)
        with os.fdopen(out_fd) as out:
            for _ in range(1 + moments.randrange(4)):
                assert out.readline()
            # From the middle of the next trial on: the pidfd turns readable only at its end, so this just lets it run.
            writer.wait(moments.random() * 0.02)
            os.kill(writer.pid, signal.SIGKILL)
            assert writer.wait(30) == -signal.SIGKILL
            told = [line for line in out if line.strip().isdecimal()]
        run = store.load(results / "run")
        assert not run.complete
        assert [trial.index for trial in run.trials] == list(range(1, len(run.trials) + 1))
        assert len(run.trials) >= len(told)
        assert all(len(trial.samples) == 200 for trial in run.trials)
        partial += any((results / "run/trials").glob(".tmp-*"))
    # Some kills must have come in the middle of a trial, or the test would show nothing.
    assert partial


def test_a_run_that_is_killed_is_running_until_then(tmp_path: Path) -> None:
    out_fd, child_fd = os.pipe()
    env = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    writer = process.start([sys.executable, "-c", WRITER, str(tmp_path)], stdout=child_fd, stderr=2, env=env)
    os.close(child_fd)
    with os.fdopen(out_fd) as out:
        assert out.readline() == "begun\n"
        assert store.load(tmp_path / "run").ending.status == "running"
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.wait(30) == -signal.SIGKILL
    assert store.load(tmp_path / "run").ending.status == "killed"
    (listed,) = store.iterate(tmp_path)
    assert listed.status == "killed"


# --- a run that lives


def test_a_run_is_running_from_its_creation_to_its_end(tmp_path: Path) -> None:
    writer = store.create(tmp_path, "run")
    with pytest.raises(ResultError, match="has just begun"):
        store.load(writer.path)
    writer.write_run(synthetic_run.run_record())
    (listed,) = store.iterate(tmp_path)
    assert listed.status == "running"
    assert store.load(writer.path).is_running
    writer.write_trial(1, synthetic_run.trial_record(), b"", synthetic_run.samples())
    writer.write_end(synthetic_run.END)
    assert store.load(writer.path).complete
    assert sorted(entry.name for entry in writer.path.iterdir()) == ["end.json", "run.json", "trials"]


def test_a_run_whose_lock_cannot_be_seen_is_running_while_it_is_held_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.held(tmp_path, "run"):
        path = synthetic_run.write(tmp_path, end=None, run_id="run")
        assert store.load(path).ending.status == "running"
        monkeypatch.chdir(path)
        assert store.load(".").ending.status == "running"
        (listed,) = store.iterate(tmp_path)
        assert listed.status == "running"
    assert store.load(path).ending.status == "killed"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_writer_that_was_given_up_holds_no_lock(tmp_path: Path) -> None:
    writer = store.create(tmp_path, "run")
    writer.write_run(synthetic_run.run_record())
    path = writer.path
    del writer
    assert store.load(path).ending.status == "killed"


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_has_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    writer = store.create(tmp_path, "run")
    writer.write_run(synthetic_run.run_record())
    assert store.load(writer.path).ending.status == "killed"
    assert sorted(entry.name for entry in writer.path.iterdir()) == ["run.json", "trials"]
    writer.write_end({"status": "failed"})


def test_a_run_that_ended_before_it_was_written_is_removed(tmp_path: Path) -> None:
    writer = store.create(tmp_path, "run")
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    ended = store.create(tmp_path, "run")
    ended.write_end({"status": "failed"})
    ended.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_anything_is_not_discarded(tmp_path: Path) -> None:
    path = synthetic_run.write(tmp_path, end=None)
    store.RunWriter(path).discard()
    assert store.load(path).trials
    writer = store.create(tmp_path, "notes")
    (writer.path / "notes.txt").write_text("mine")
    writer.discard()
    assert (writer.path / "notes.txt").read_text() == "mine"


# --- finding and listing


def test_a_run_is_found_by_path_name_beginning_and_last(tmp_path: Path) -> None:
    for name in ("20260101T000000Z-a-1", "20260101T000000Z-b-2", "20270101T000000Z-a-3"):
        synthetic_run.write(tmp_path, run_id=name)
    assert store.find(tmp_path, "last").name == "20270101T000000Z-a-3"
    assert store.find(tmp_path, "2027").name == "20270101T000000Z-a-3"
    assert store.find(tmp_path, "20260101T000000Z-b-2").name == "20260101T000000Z-b-2"
    assert store.find(Path("nowhere"), str(tmp_path / "20260101T000000Z-a-1")).name == "20260101T000000Z-a-1"
    with pytest.raises(ResultError, match="the beginning of 2 runs"):
        store.find(tmp_path, "2026")
    with pytest.raises(ResultError, match="there is no run 'nope'"):
        store.find(tmp_path, "nope")
    with pytest.raises(ResultError, match="there is no run in"):
        store.find(tmp_path / "empty", "last")


def test_a_list_holds_bad_entries_with_their_reason(tmp_path: Path) -> None:
    synthetic_run.write(tmp_path, run_id="1-good")
    (tmp_path / "2-foreign").mkdir()
    cut = synthetic_run.write(tmp_path, run_id="3-cut")
    (cut / "run.json").write_text("{")
    synthetic_run.write(tmp_path, run_id="4-killed", end=None)
    (tmp_path / "a-file").write_text("")
    good, foreign, damaged, killed = store.iterate(tmp_path)
    assert (good.unreadable, good.status, good.trials, good.planned_trials) == ("", "complete", 1, 1)
    assert "it has no run.json" in foreign.unreadable
    assert "is cut or not JSON" in damaged.unreadable
    assert killed.status == "killed"
    with pytest.raises(ResultError, match="cannot list"):
        list(store.iterate(tmp_path / "none"))


def test_a_file_that_two_replace_at_once_is_one_of_theirs(tmp_path: Path) -> None:
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            try:
                for _ in range(50):
                    writing.replace(tmp_path / "verdict.json", {"by": [number] * 1000})
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    (left,) = tmp_path.iterdir()
    by = json.loads(left.read_text())["by"]
    assert by == [by[0]] * 1000
