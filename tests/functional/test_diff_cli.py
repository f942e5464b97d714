"""`numabench diff` from the command line: sides, what is refused, and every form of the result."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
import synthetic_run

from numabench import process
from numabench.lab import boots

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "6.1.0-56-amd64", "6.12.95-amd64"
SERIES = "20261125T070000Z-numa02-1a2b3c"


def numabench(results: Path, *words: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", "diff", *words, "--results", str(results)], timeout_s=120)


def write_boots(results: Path, **of_new: Any) -> None:
    """Three boots of each kernel in turns; the runs of the new one have `of_new` in their identity."""
    for turn in boots.turns(SERIES, [OLD, NEW], 3):
        record: dict[str, Any] = synthetic_run.run_record()
        record |= {"run_id": boots.run_id(turn), "boot": asdict(turn)}
        record["created_utc"] = f"2026-11-25T07:{turn.turn:02}:00+00:00"
        record["identity"] |= {"boot_id": f"boot-{turn.turn}", **(of_new if turn.kernel == NEW else {})}
        record["identity"]["kernel"] = {**record["identity"]["kernel"], "release": turn.kernel}
        synthetic_run.write(results, record, run_id=boots.run_id(turn))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three boots of each of two kernels."""
    directory = tmp_path_factory.mktemp("results")
    write_boots(directory)
    return directory


def test_one_series_of_two_kernels_is_compared_by_its_boots(results: Path) -> None:
    ended = numabench(results, SERIES)
    assert ended.exit_status == 0, ended.stderr
    assert f"A                 {OLD}: 3 runs in 3 boots, 3 measured trials, 0 call graphs" in ended.stdout
    assert f"kernel: {OLD}  ->  {NEW}" in ended.stdout
    assert "no change found" in ended.stdout
    assert "grown" not in ended.stdout
    assert "A and B have no call graph to compare" in ended.stdout


def test_json_csv_and_html_hold_the_same_comparison(results: Path, tmp_path: Path) -> None:
    page, lines = tmp_path / "diff.html", tmp_path / "diff.csv"
    ended = numabench(results, f"{SERIES}@6.1", f"{SERIES}@6.12", "--json", "--csv", str(lines), "--html", str(page))
    assert ended.exit_status == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert [len(document[side]["boots"]) for side in ("a", "b")] == [3, 3]
    rows = list(csv.DictReader(io.StringIO(lines.read_text(encoding="utf-8"))))
    assert [row["name"] for row in rows] == [one["metric"]["name"] for one in document["metrics"]]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_is_not_comparable_is_refused_with_4_and_compared_anyway(tmp_path: Path) -> None:
    write_boots(tmp_path, where="guest", accelerator="tcg")
    refused = numabench(tmp_path, SERIES)
    assert refused.exit_status == 4
    assert refused.stdout == ""
    assert "not comparable" in refused.stderr
    assert "--anyway" in refused.stderr
    forced = numabench(tmp_path, SERIES, "--anyway")
    assert forced.exit_status == 0
    assert "not comparable and were compared anyway" in forced.stdout
    assert json.loads(numabench(tmp_path, SERIES, "--anyway", "--json").stdout)["is_forced"] is True


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("nothing",), 1, "there is no run 'nothing'"),
        ((f"{SERIES}@7.2", SERIES), 1, "ran on kernel '7.2' (they ran on"),
        ((f"{SERIES}@6.1",), 2, "has runs on 1 kernel"),
        ((SERIES, ""), 2, "an argument is empty, behind "),
        ((SERIES, SERIES, SERIES), 2, "unexpected extra argument"),
        ((SERIES, "--min", "101"), 2, "--min"),
        ((SERIES, "--fdr", "0"), 2, "--fdr"),
        ((SERIES, "--names", "/nowhere.toml"), 2, "cannot read /nowhere.toml"),
        ((SERIES, "--csv", "/nowhere/x.csv"), 1, "cannot write /nowhere/x.csv"),
        ((SERIES, "--html", "/nowhere/x.html"), 1, "cannot write /nowhere/x.html"),
        ((SERIES, "--json", "--csv", "-"), 2, "stdout"),
    ],
)
def test_bad_words_end_with_what_is_wrong_and_no_traceback(
    results: Path, words: tuple[str, ...], status: int, told: str
) -> None:
    ended = numabench(results, *words)
    assert ended.exit_status == status, ended.stderr
    assert told in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
