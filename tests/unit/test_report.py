"""Reports of runs whose answers are known by hand: text, JSON and pictures say the same, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import synthetic_run
from hypothesis import given
from hypothesis import strategies as st
from words import line_of

from numabench import store
from numabench.errors import ResultError
from numabench.report import run_json, run_text
from numabench.report.escape import escape
from numabench.report.run_text import render
from numabench.report.sparkline import resample, sparkline

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run

HOSTILE = "\x1b[31mred\x07\n\u202eback\ud800 $x^2$"


@pytest.fixture
def three(tmp_path: Path) -> Run:
    return store.load(synthetic_run.write_three_placements(tmp_path))


def guest_run(tmp_path: Path) -> Run:
    record = synthetic_run.run_record(where="guest", accelerator="tcg")
    return store.load(synthetic_run.write(tmp_path, record, run_id="guest"))


def hostile_run(tmp_path: Path) -> Run:
    """A run in which every text that may be anything is hostile."""
    record = synthetic_run.run_record((HOSTILE,), hostname=HOSTILE, virtualization=HOSTILE, thp_enabled=HOSTILE)
    record["identity"]["kernel"] = {"release": HOSTILE, "version": HOSTILE}
    record["identity"]["cpu"] = {"model": HOSTILE, "count": 2**64 - 1}
    record["plan"] |= {"argv": [HOSTILE], "workload": HOSTILE, "scaled": [HOSTILE], "order": [[HOSTILE, HOSTILE]]}
    record |= {"run_id": HOSTILE, "created_utc": HOSTILE}
    record["notes"] = [{"code": HOSTILE, "message": HOSTILE, "remedy": HOSTILE}]
    record["knobs"] = [
        {"name": HOSTILE, "path": HOSTILE, "before": HOSTILE, "wanted": HOSTILE, "outcome": outcome, "message": HOSTILE}
        for outcome in ("set", "kept", "denied", HOSTILE)
    ]
    end = {
        "status": HOSTILE,
        "message": HOSTILE,
        "restored": [{"name": HOSTILE, "path": HOSTILE, "value": HOSTILE, "outcome": "foreign", "message": HOSTILE}],
    }
    trials = [
        (synthetic_run.trial_record(1, HOSTILE), synthetic_run.samples()),
        ({**synthetic_run.trial_record(2, HOSTILE), "status": HOSTILE, "message": HOSTILE}, []),
    ]
    return store.load(synthetic_run.write(tmp_path, record, trials, end, run_id="hostile"))


def test_the_text_gives_each_figure_of_a_known_run(tmp_path: Path) -> None:
    text = render(store.load(synthetic_run.write(tmp_path)))
    assert "8,192 = 32 MiB" in line_of(text, "confirmed")
    assert "0>1 8,192" in text
    assert "8,192 in all; 8,192 after hinting faults" in line_of(text, "kernel counted")
    assert "none: automatic balancing asks for no page" in line_of(text, "requested")
    assert "6.711" in line_of(text, "MB/s")
    assert line_of(text, "page residency").split()[2:10] == ["at", "once", "5..6", "s", "6..7", "s", "100.0", "%"]
    assert "TLB interrupts 10;" in line_of(text, "per 2 MB migrated")
    assert line_of(text, "set").endswith("kernel.numa_balancing 0 -> 1, put back")
    assert text.splitlines()[-1] == "verdict: valid"


def test_counts_have_no_interval_and_rates_have_one(tmp_path: Path) -> None:
    trials = []
    for index, moved in enumerate((8190, 8192, 8194), 1):
        trial = synthetic_run.trial_record(index)
        trial["pages"]["moved"] = {"0>1": moved}
        trial["counters"]["after"]["vmstat"]["numa_pte_updates"] += 1000 * index
        trials.append((trial, synthetic_run.samples()))
    text = render(store.load(synthetic_run.write(tmp_path, synthetic_run.run_record(repeats=3), trials)))
    assert line_of(text, "confirmed").split("=")[0].split(None, 1)[1].strip() == "8,192 (8,190..8,194)"
    assert line_of(text, "kernel counted").split()[2] == "8,192"
    assert "95 % CI" not in line_of(text, "scan passes")
    assert "6.711 (6.709..6.713; 95 % CI 6.707..6.715)" in line_of(text, "MB/s")


@pytest.mark.parametrize(
    ("after_s", "t_s", "shown"),
    [
        (0.0, 0.0, "at once"),
        (0.0, 3.4, "0..3.4 s"),
        (0.4, 3.4, "400 ms..3.4 s"),
        (1.5, 3.4, "1.5..3.4 s"),
        (39.0, 40.0, "40 s"),
    ],
)
def test_a_moment_shows_both_samples_where_they_are_far_apart(after_s: float, t_s: float, shown: str) -> None:
    assert run_text._moment(after_s, t_s) == shown


def test_a_time_between_two_samples_is_explained_and_in_the_json(tmp_path: Path) -> None:
    run = store.load(synthetic_run.write(tmp_path))
    assert line_of(render(run), "A..B s") == "    A..B s: it came there between the samples at A and at B"
    reaches = run_json.report(run)["trials"][0]["page_residency"]["convergence"]["reaches"]
    assert [(reach["after_s"], reach["reached_s"]) for reach in reaches] == [(0.0, 0.0), (5.0, 6.0), (6.0, 7.0)]


def test_samples_that_held_no_page_are_told(tmp_path: Path) -> None:
    samples = synthetic_run.samples()
    samples[0]["pages"] = samples[10]["pages"] = []
    text = render(store.load(synthetic_run.write(tmp_path, trials=[(synthetic_run.trial_record(), samples)])))
    assert "11 in trial 1 (9 of them held pages)," in line_of(text, "samples")


def test_a_run_still_going_says_so(tmp_path: Path) -> None:
    writer = store.create(tmp_path, "run")
    writer.write_run(synthetic_run.run_record())
    text = render(store.load(writer.path))
    assert "The run is still going: 0 of 1 trials so far." in text.splitlines()
    assert line_of(text, "set").endswith("to be put back at its end")
    writer.write_end(synthetic_run.END | {"status": "failed"})


def test_what_was_not_reached_is_told_as_not_in_that_time(three: Run) -> None:
    inverse = render(three).split("placement inverse:")[1]
    assert line_of(inverse, "page residency").count("not in 10 s") == 3


def test_the_score_is_shown_with_its_scale(three: Run) -> None:
    assert line_of(render(three), "score") == "score             default: 0.50 (1: as hard, 0: as inverse)"


def test_a_guest_says_in_its_first_lines_that_its_times_are_not_performance(tmp_path: Path) -> None:
    text = render(guest_run(tmp_path))
    assert "emulated guest's and not performance" in "\n".join(text.splitlines()[:4])
    assert "(guest time, not comparable)" in line_of(text, "MB/s")


def test_a_killed_run_is_said_to_be_killed_before_its_figures(tmp_path: Path) -> None:
    text = render(store.load(synthetic_run.write(tmp_path, end=None)))
    assert "did not come to its end: it is killed" in "\n".join(text.splitlines()[:4])
    assert "not known to be put back" in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_asked(tmp_path: Path, three: Run, width: int) -> None:
    nodes = list(range(64))
    record = synthetic_run.run_record()
    record["plan"]["nodes"] = nodes
    samples = [{**sample, "pages": [[4] * 65, [4] * 65]} for sample in synthetic_run.samples()]
    trial = synthetic_run.trial_record()
    trial["pages"]["moved"] = {f"{a}>{b}": 10**9 for a in range(64) for b in range(64)}
    many = store.load(synthetic_run.write(tmp_path, record, [(trial, samples)], run_id="many"))
    for run in (three, many, guest_run(tmp_path), hostile_run(tmp_path)):
        assert max(map(len, render(run, width).splitlines())) <= width


def test_colour_adds_nothing_but_colour(three: Run) -> None:
    import re

    coloured = render(three, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == render(three)


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    text = render(hostile_run(tmp_path))
    assert all(line.isprintable() for line in text.splitlines())
    text.encode("utf-8")
    assert r"\x1b[31mred" in text


@given(st.text())
def test_what_is_escaped_is_printable_and_plain_text_stays(text: str) -> None:
    assert escape(text).isprintable()
    if text.isprintable():
        assert escape(text) == text


def test_json_has_the_figures_and_reasons_where_there_are_none(three: Run) -> None:
    found = json.loads(json.dumps(run_json.report(three), allow_nan=False))
    assert (found["schema_version"], found["kind"]) == (1, "numabench-report")
    assert found["verdict"] == {"valid": True, "findings": []}
    assert found["scores"] == [{"placement": "default", "score": 0.5}]
    first = found["trials"][0]
    assert first["counts"]["confirmed"] == 8192
    assert first["counts"]["by_pair"] == {"0>1": 8192}
    assert first["counts"]["requested"] == {"missing": first["counts"]["requested"]["missing"]}
    assert first["page_residency"]["convergence"]["reaches"][1]["reached_s"] == 6.0
    assert found["placements"][1]["mb_per_s"] is None
    assert found["trials"][2]["page_residency"]["convergence"]["reaches"][0]["reached_s"] is None


def test_json_of_hostile_and_failed_runs_is_json_without_nan(tmp_path: Path) -> None:
    def refuse(word: str) -> Any:
        raise AssertionError(word)

    failed = {"index": 1, "placement": "default", "role": "measure", "status": "workload-failed", "message": "it died"}
    for run in (hostile_run(tmp_path), store.load(synthetic_run.write(tmp_path, trials=[(failed, [])]))):
        text = json.dumps(run_json.report(run), allow_nan=False)
        assert text.isascii()
        json.loads(text, parse_constant=refuse)


def test_pictures_are_drawn_for_each_placement(tmp_path: Path, three: Run) -> None:
    from numabench.report.run_png import draw

    paths = draw(three, tmp_path / "pictures")
    assert len(paths) == 9
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_pictures_of_hostile_and_failed_runs_are_drawn(tmp_path: Path) -> None:
    from numabench.report.run_png import draw

    assert len(draw(hostile_run(tmp_path), tmp_path / "pictures")) == 3
    failed = {"index": 1, "placement": "default", "role": "measure", "status": "workload-failed", "message": "it died"}
    run = store.load(synthetic_run.write(tmp_path, trials=[(failed, [])]))
    assert len(draw(run, tmp_path / "pictures")) == 3


def test_pictures_that_cannot_be_written_are_told(tmp_path: Path, three: Run) -> None:
    from numabench.report.run_png import draw

    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="cannot write pictures"):
        draw(three, tmp_path / "file")


def test_a_curve_is_drawn_from_nothing_to_full() -> None:
    assert sparkline([0, 1, 4, 8], 8) == (" ▁▄█",)
    assert sparkline([0, 4, 8, 6], 8, rows=2) == ("  █▄", " ███")
    assert sparkline([0.001], 8) == ("▁",)
    assert sparkline([0, 0], 0) == ("  ",)


def test_resampling_holds_the_last_known_value() -> None:
    assert resample([0, 1, 3], [10, 20, 30], 4, 4) == (10, 20, 20, 30)
    assert resample([2], [5], 3, 3) == (5, 5, 5)
