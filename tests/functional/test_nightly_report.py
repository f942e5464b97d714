"""`numabench nightly report` from the command line: what it exits with, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import lab_nights
import morning_lab
import pytest
from lab_site import links
from morning_lab import BROKEN, LAST_SLOW, NIGHTS, SLOW, WELL

from numabench import process
from numabench.fleet import night_file
from numabench.report.site import tree

if TYPE_CHECKING:
    from pathlib import Path


def report(lab: Path, *words: str) -> process.Completed:
    return process.run(
        [sys.executable, "-m", "numabench", "nightly", "report", str(lab / "lab.toml"), *words], timeout_s=120
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lab")
    morning_lab.write(path)
    return path


def test_a_regression_is_3_and_everything_is_written(lab: Path, tmp_path: Path) -> None:
    xml, summary = tmp_path / "junit.xml", tmp_path / "summary.md"
    ended = report(lab, "--junit", str(xml), "--markdown", str(summary))
    assert ended.exit_status == 3, ended.stderr
    assert SLOW in ended.stdout
    assert "rmap_walk_anon" in ended.stdout
    assert ElementTree.parse(xml).getroot().attrib["failures"] == "1"  # noqa: S314  our own
    assert "rmap_walk_anon" in summary.read_text()
    site = lab / "site"
    assert f"pages written: {site / 'index.html'}" in ended.stderr
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    nights = night_file.names(lab)
    assert pages == {
        "index.html",
        *(f"nights/{name}.html" for name in nights),
        *(f"cells/{cell}.html" for cell in morning_lab.CELLS),
        f"graphs/{SLOW}.{nights[NIGHTS - LAST_SLOW]}.html",
    }
    # Every page is led to, and leads to nothing that is not there.
    led_to: set[Path] = set()
    for page in site.rglob("*.html"):
        for target in links(page):
            assert target.exists(), f"{page}: {target}"
            led_to.add(target)
    assert {site / page for page in pages} - {site / "index.html"} <= led_to
    assert any(path.parent.name == "runs" for path in led_to)
    assert "&lt;b&gt;boom&lt;/b&gt;" in (site / f"cells/{BROKEN}.html").read_text()


def test_what_is_as_it_was_is_not_written_again_and_what_is_no_page_is_taken_away(lab: Path, tmp_path: Path) -> None:
    site = tmp_path / "pages"
    assert report(lab, "--site", str(site)).exit_status == 3
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*.html")}
    (site / "cells" / "gone.v1.box.html").write_text("old")
    (site / "nights" / ".tmp-2026-01-01.html").write_text("cut off")
    (site / "own.txt").write_text("mine")
    ended = report(lab, "--site", str(site))
    assert "0 of " in ended.stderr
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*.html")} == before
    assert (site / "own.txt").read_text() == "mine"


def test_a_directory_of_somebody_elses_is_not_written_to(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    ended = report(lab, "--site", str(tmp_path))
    assert ended.exit_status == 1
    assert "has files that are not the site's" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_a_night_before_is_told_and_the_site_stays(lab: Path, tmp_path: Path) -> None:
    night = night_file.names(lab)[NIGHTS - LAST_SLOW - 1]
    ended = report(lab, "--night", night, "--site", str(tmp_path / "site"), "--json")
    assert ended.exit_status == 0, ended.stderr
    assert json.loads(ended.stdout)["worse"] == []
    assert not (tmp_path / "site").exists()
    assert "the site shows the last night" in ended.stderr


def test_cells_that_did_not_end_well_are_1(tmp_path: Path) -> None:
    night = lab_nights.write_night(tmp_path, "2026-11-25", (WELL, BROKEN))
    lab_nights.publish(night, 10.0, 1, WELL)
    morning_lab.end(night, (WELL, BROKEN), morning_lab.OUTCOMES)
    (tmp_path / "lab.toml").write_text(morning_lab.PLAN)
    ended = report(tmp_path, "--no-site")
    assert ended.exit_status == 1, ended.stderr
    assert "<b>out of memory</b>" in ended.stdout
    assert "too few nights to judge" in ended.stdout
    assert not (tmp_path / "site").exists()


def test_a_known_change_is_not_3(lab: Path, tmp_path: Path) -> None:
    own = tmp_path / "lab"
    shutil.copytree(lab, own, ignore=shutil.ignore_patterns("site"))
    since = night_file.names(own)[NIGHTS - LAST_SLOW]
    entry = {"cell": SLOW, "metric": "*", "night": since, "reason": "halved"}
    (own / "acknowledged.toml").write_text(
        "[[change]]\n" + "".join(f'{key} = "{own_}"\n' for key, own_ in entry.items())
    )
    ended = report(own, "--no-site")
    # Two of its cells did not end well.
    assert ended.exit_status == 1, ended.stderr
    assert "known: halved" in ended.stdout


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("--night", "2020-01-01"), 2, "the lab has no night '2020-01-01'"),
        (("--night", "../x"), 2, "is not a night's name"),
        (("--night", "2026-99-99"), 2, "is not a night's name"),
        (("--night", "2026-11-25.1"), 2, "is not a night's name"),
        (("--night", "2026-11-25.02"), 2, "is not a night's name"),
        (("--json", "--markdown", "-"), 2, "stdout takes one answer at a time"),
        (("--site", "x", "--no-site"), 2, "exclude each other"),
        (("--no-site", "--junit", "/nowhere/x.xml"), 1, "cannot write /nowhere/x.xml"),
        (("--site", "/proc/nowhere"), 1, "cannot write the site /proc/nowhere"),
    ],
)
def test_bad_words_end_with_what_is_wrong_and_no_traceback(
    lab: Path, words: tuple[str, ...], status: int, told: str
) -> None:
    ended = report(lab, *words)
    assert ended.exit_status == status, ended.stderr
    assert told in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_a_lab_without_nights_says_how_to_have_one(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(morning_lab.PLAN)
    ended = report(tmp_path)
    assert ended.exit_status == 2
    assert "numabench nightly run" in ended.stderr
    assert tree.MARK not in {path.name for path in tmp_path.iterdir()}
