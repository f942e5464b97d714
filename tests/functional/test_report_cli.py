"""`numabench report` and `numabench list` as a user runs them."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import driven_sweep
import pytest
import synthetic_run

from numabench import process, store
from numabench.record import SweepAxis

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.process import Completed


def numabench(*words: str | Path, cwd: Path | None = None, **env: str) -> Completed:
    argv = [sys.executable, "-m", "numabench", *map(str, words)]
    return process.run(argv, cwd=cwd, env={**os.environ, **env})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    synthetic_run.write_three_placements(tmp_path / "results")
    return tmp_path / "results"


@pytest.mark.parametrize("word", ["last", "20261123", synthetic_run.RUN_ID])
def test_a_run_is_reported_by_name_beginning_and_last(results: Path, word: str) -> None:
    done = numabench("report", word, "--results", results).check("report")
    assert done.stdout.startswith("numa02 on nodes 0-1")
    assert done.stdout.endswith("\nverdict: valid\n")
    assert done.stderr == ""


def test_a_run_is_reported_by_path_and_from_the_directory_above_results(results: Path) -> None:
    by_path = numabench("report", results / synthetic_run.RUN_ID).check("report")
    by_default = numabench("report", "last", cwd=results.parent).check("report")
    assert by_path.stdout == by_default.stdout


def test_a_report_that_is_not_for_a_terminal_has_no_colour(results: Path) -> None:
    assert "\x1b" not in numabench("report", "last", "--results", results).check("report").stdout


def test_a_terminal_that_knows_no_blocks_gets_a_report_too(results: Path) -> None:
    done = numabench("report", "last", "--results", results, PYTHONIOENCODING="ascii").check("report")
    assert done.stdout.isascii()
    assert "verdict: valid" in done.stdout


def test_json_is_all_there_is_on_stdout(results: Path) -> None:
    done = numabench("report", "last", "--results", results, "--json").check("report")
    assert json.loads(done.stdout)["scores"] == [{"placement": "default", "score": 0.5}]


def test_pictures_land_where_they_are_asked_for(results: Path, tmp_path: Path) -> None:
    done = numabench("report", "last", "--results", results, "--png", tmp_path / "pictures").check("report")
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert len(drawn) == 9
    assert "default-memory.png" in drawn
    assert "default-memory.png" in done.stderr


def test_a_page_is_written_over_what_was_there_and_the_report_is_printed_too(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    done = numabench("report", "last", "--results", results, "--html", page).check("report")
    assert done.stdout.endswith("\nverdict: valid\n")
    assert done.stderr == f"numabench: written to {page}\n"
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert "0 B to 32 MiB" in text


def test_a_page_for_stdout_is_all_there_is_on_it(results: Path) -> None:
    done = numabench("report", "last", "--results", results, "--html", "-").check("report")
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.endswith("</html>\n")
    both = numabench("report", "last", "--results", results, "--html", "-", "--json")
    assert (both.exit_status, both.stdout) == (2, "")
    assert "one report at a time" in both.stderr


def test_a_sweep_has_no_page(tmp_path: Path) -> None:
    axes = (SweepAxis("batch", ("1",)),)
    path = driven_sweep.write(tmp_path, axes, lambda *_: driven_sweep.trial(), repeats=1)
    done = numabench("report", path, "--html", tmp_path / "page.html")
    assert done.exit_status == 2
    assert "--html is of a run, and this is a sweep" in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_is_told(results: Path, tmp_path: Path) -> None:
    done = numabench("report", "last", "--results", results, "--html", tmp_path / "none" / "page.html")
    assert done.exit_status == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "cannot write" in done.stderr


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "run.json").write_text("{"), "run.json is cut or not JSON"),
        (lambda run: (run / "trials/0001/samples.jsonl").unlink(), "samples.jsonl is missing"),
        (lambda run: (run / "run.json").write_text('{"kind": "x"}'), "was not written by numabench"),
    ],
)
def test_a_spoilt_result_is_one_line_on_stderr_and_exit_1(results: Path, spoil: object, message: str) -> None:
    assert callable(spoil)
    spoil(results / synthetic_run.RUN_ID)
    done = numabench("report", "last", "--results", results)
    assert done.exit_status == 1
    assert done.stdout == ""
    assert done.stderr.startswith("numabench: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_run_that_is_not_there_is_told_with_a_hint(tmp_path: Path) -> None:
    done = numabench("report", "nope", "--results", tmp_path)
    assert done.exit_status == 1
    assert "there is no run 'nope'" in done.stderr
    assert "numabench list" in done.stderr


def test_the_list_has_a_line_a_run_with_the_unreadable_among_them(results: Path) -> None:
    (results / "20270101T000000Z-bad").mkdir()
    good, bad = numabench("list", "--results", results).check("list").stdout.splitlines()
    assert good.split()[:3] == [synthetic_run.RUN_ID, "complete", "9/9"]
    assert "unreadable" in bad
    listed = json.loads(numabench("list", "--results", results, "--json").check("list").stdout)
    assert [entry["unreadable"] == "" for entry in listed] == [True, False]


def test_a_run_still_going_is_listed_as_running(tmp_path: Path) -> None:
    writer = store.create(tmp_path, "run")
    writer.write_run(synthetic_run.run_record())
    done = numabench("list", "--results", tmp_path).check("list")
    assert done.stdout.split()[:4] == ["run", "running", "0/1", "trials"]
    assert "still going" in numabench("report", "last", "--results", tmp_path).check("report").stdout
    writer.write_end({"status": "failed"})
    assert numabench("list", "--results", tmp_path).check("list").stdout.split()[1] == "failed"


def test_an_empty_list_says_so(tmp_path: Path) -> None:
    assert numabench("list", "--results", tmp_path).check("list").stdout == f"no run in {tmp_path}\n"
    done = numabench("list", "--results", tmp_path / "none")
    assert (done.exit_status, done.stdout) == (1, "")
