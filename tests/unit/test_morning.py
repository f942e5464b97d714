"""The morning after nights whose course is known, in every form that it is told in."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import morning_lab
import pytest
from lab_nights import AGAIN
from morning_lab import BARRED, BROKEN, LAST_SLOW, NIGHTS, SLOW, WELL

from numabench.analysis.history.night import Known
from numabench.cli import nightly_report
from numabench.cli.index import measured
from numabench.errors import ResultError
from numabench.fleet import acknowledged, graphs, morning, night_file, verdict
from numabench.fleet.log_tail import log_tail
from numabench.fleet.plan import GUEST
from numabench.report.nightly import data, junit, markdown, text, words
from numabench.report.nightly.morning import Changed, Graph, Morning, Mover, Shift, TonightsCell
from numabench.store.index import open_index

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.comparison.diff import Diff
    from numabench.record import Run

FIGURE = "default/seconds_per_gib"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lab")
    morning_lab.write(path)
    return path


def gather(lab: Path, name: str = "", compare: graphs.Compare = nightly_report.compare) -> Morning:
    name = name or night_file.last(lab)
    said: list[str] = []
    found = verdict.bring_up(lab, name, measured, said.append)
    assert said == []
    with open_index(lab) as index:
        return morning.gather(night_file.load(lab / "nights" / name), found, index, compare, lambda _: None)


@pytest.fixture(scope="module")
def told(lab: Path) -> Morning:
    return gather(lab)


def test_it_names_the_cell_the_figure_the_night_and_where_in_the_call_graph(lab: Path, told: Morning) -> None:
    (one,) = told.worse
    (shift,) = one.shifts
    nights = night_file.names(lab)
    assert (one.cell, shift.figure.key.metric) == (SLOW, FIGURE)
    assert (shift.change.night, shift.change.direction) == (nights[NIGHTS - LAST_SLOW], "worse")
    assert shift.change.ratio == pytest.approx(1.1, abs=0.02)
    assert one.graph.path == ("remove_migration_ptes", "rmap_walk", "rmap_walk_anon")
    walk = next(mover for mover in one.graph.movers if mover.name == "rmap_walk_anon")
    assert (walk.before, walk.after, walk.is_found) == (pytest.approx(0.3), pytest.approx(0.6), True)
    assert one.again == tuple(AGAIN)
    assert (len(one.before), len(one.after)) == (6, 6)
    assert told.other == told.known == ()
    assert (told.night, told.nights, told.ending, told.notes) == (nights[-1], NIGHTS, "done", ())
    assert {cell.name: cell.state for cell in told.not_ok} == {BROKEN: "failed", BARRED: "blocked"}
    assert words.verdict(told) == "1 figure of 1 cell got worse; 2 of 5 cells did not end well"


def test_recordings_are_compared_once(lab: Path, told: Morning) -> None:
    def never(_a: Sequence[Run], _b: Sequence[Run]) -> Diff:
        raise AssertionError("it was compared before")

    assert gather(lab, compare=never) == told
    night = told.worse[0].graph.night
    kept = graphs.kept(lab, SLOW, night)
    assert kept == told.worse[0].graph
    assert kept is not None
    assert kept.page is not None
    assert "rmap_walk_anon" in kept.page.read_text()
    # Damaged, it is as if it was not there.
    file = kept.page.with_suffix(".json")
    whole = file.read_bytes()
    file.write_bytes(b"{")
    assert graphs.kept(lab, SLOW, night) is None
    with pytest.raises(AssertionError, match="compared before"):
        gather(lab, compare=never)
    file.write_bytes(whole)


def test_times_of_guests_are_said_to_be_no_performance(lab: Path, told: Morning) -> None:
    assert told.caveats == ()
    night = night_file.load(lab / "nights" / told.night)
    guests = {name: dataclasses.replace(machine, kind=GUEST) for name, machine in night.machines.items()}
    found = verdict.bring_up(lab, night.name, measured, lambda _: None)
    with open_index(lab) as index:
        of_guests = morning.gather(
            dataclasses.replace(night, machines=guests), found, index, nightly_report.compare, lambda _: None
        )
    (caveat,) = of_guests.caveats
    assert caveat.startswith("box: what was measured in a guest is no performance")
    for shown in (text.render(of_guests), markdown.render(of_guests)):
        assert "is no performance" in shown


def test_a_morning_before_the_change_is_short(lab: Path) -> None:
    quiet = gather(lab, night_file.names(lab)[NIGHTS - LAST_SLOW - 1])
    assert quiet.worse == quiet.other == quiet.known == ()
    assert words.verdict(quiet) == "nothing changed"
    lines = text.render(quiet).splitlines()
    assert lines[0].endswith("nothing changed")
    assert len(lines) <= 10
    assert "again:" not in "\n".join(lines)


def test_a_known_change_does_not_alarm_and_is_told_with_its_reason(lab: Path, tmp_path: Path) -> None:
    own = tmp_path / "lab"
    shutil.copytree(lab, own)
    since = night_file.names(own)[NIGHTS - LAST_SLOW]
    acknowledged.add(own, Known(SLOW, FIGURE, since, "the pool was halved"))
    known = gather(own)
    assert known.worse == ()
    assert [one.cell for one in known.known] == [SLOW]
    assert "known: the pool was halved" in text.render(known)
    assert "the pool was halved" in markdown.render(known)
    assert cases(known)[SLOW] == []


def test_a_night_that_has_not_ended_says_so(lab: Path, tmp_path: Path) -> None:
    own = tmp_path / "lab"
    shutil.copytree(lab, own)
    name = "2026-12-24"
    import lab_nights

    night = lab_nights.write_night(own, name, (WELL,), boots=1)
    broken_off = gather(own, name)
    assert broken_off.ending == ""
    assert "--resume" in broken_off.notes[0]
    assert [(cell.name, cell.state) for cell in broken_off.not_ok] == [(WELL, "lost")]
    morning_lab.end(night, (WELL,), how="disk-full")
    assert "disk-full" in gather(own, name).notes[0]


def test_runs_without_a_recording_say_how_to_have_one(tmp_path: Path) -> None:
    morning_lab.write(tmp_path, recorded=False)
    (one,) = gather(tmp_path).worse
    assert 'observe = "cpu"' in one.graph.missing
    assert one.graph.page is None
    assert 'observe = "cpu"' in text.render(gather(tmp_path))


def test_what_cannot_be_compared_is_told_and_does_not_stop_the_morning(lab: Path, tmp_path: Path) -> None:
    own = tmp_path / "lab"
    shutil.copytree(lab, own)
    shutil.rmtree(own / "nights" / night_file.names(own)[NIGHTS - LAST_SLOW] / graphs.GRAPHS, ignore_errors=True)

    def refuses(_a: Sequence[Run], _b: Sequence[Run]) -> Diff:
        raise ResultError("perf.data is torn", "record it anew")

    (one,) = gather(own, compare=refuses).worse
    assert one.graph.missing == "the runs cannot be compared: perf.data is torn (record it anew)"


def test_the_text_has_all_that_the_morning_has(told: Morning) -> None:
    shown = text.render(told, width=100)
    for wanted in (SLOW, "time per GiB stored", "rmap_walk_anon", "30.0 % -> 60.0 %, +30.0", "needs 4 nodes"):
        assert wanted in shown
    assert "along: remove_migration_ptes > rmap_walk > rmap_walk_anon" in shown
    assert f"again: {' '.join(AGAIN)}" in shown
    assert "\x1b" not in shown
    assert "\x1b[31m" in text.render(told, colour=True)
    assert max(map(len, shown.splitlines())) <= 100 or "graphs/" in shown


def test_json_has_the_morning_as_plain_data(told: Morning) -> None:
    plain = json.loads(json.dumps(data.report(told), allow_nan=False))
    assert plain["worse"][0]["figures"][0]["change"] == dataclasses.asdict(told.worse[0].shifts[0].change)
    assert plain["worse"][0]["graph"]["path"][-1] == "rmap_walk_anon"
    assert {cell["name"] for cell in plain["cells"]} == set(morning_lab.CELLS)


# Of Jenkins' schema for JUnit's XML (junit-10.xsd of its xUnit plugin): what an element may hold, and its attributes,
# those that it must have with an exclamation mark.
SHAPE = {
    "testsuites": ("testsuite", "name time tests failures errors"),
    "testsuite": (
        "testsuite properties testcase system-out system-err",
        "name! tests! failures! errors! group time skipped timestamp hostname id package file log url",
    ),
    "properties": ("property", ""),
    "property": ("", "name! value!"),
    "testcase": ("skipped error failure system-out system-err", "name! time classname group"),
    "failure": ("", "type message"),
    "error": ("", "type message"),
    "skipped": ("", "type message"),
}


def check(element: ElementTree.Element) -> None:
    children, attributes = (words_.split() for words_ in SHAPE[element.tag])
    assert {child.tag for child in element} <= set(children), element.tag
    assert set(element.attrib) <= {name.rstrip("!") for name in attributes}, element.tag
    assert {name[:-1] for name in attributes if name.endswith("!")} <= set(element.attrib), element.tag
    for child in element:
        check(child)


def cases(told: Morning) -> dict[str, list[str]]:
    """What JUnit's file says of each cell."""
    root = ElementTree.fromstring(junit.render(told).encode())  # noqa: S314  our own
    check(root)
    assert root.tag == "testsuites"
    (suite,) = root
    found = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(found)
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{kind}"))
    return {case.attrib["name"]: [child.tag for child in case] for case in found}


def test_junit_has_a_case_for_each_cell(told: Morning) -> None:
    assert cases(told) == {
        SLOW: ["failure"],
        WELL: [],
        morning_lab.TWIN: [],
        BROKEN: ["error"],
        BARRED: ["skipped"],
    }
    root = ElementTree.fromstring(junit.render(told).encode())  # noqa: S314  our own
    (failure,) = root.iter("failure")
    assert "time per GiB stored" in failure.attrib["message"]
    assert "rmap_walk_anon" in (failure.text or "")
    (error,) = root.iter("error")
    assert error.attrib["message"].startswith("<b>out of memory</b>")


def test_markdown_has_a_table_of_what_changed_and_no_markup_of_others(told: Morning) -> None:
    shown = markdown.render(told)
    rows = [line for line in shown.splitlines() if line.startswith("|") and SLOW in line]
    assert len(rows) == 1
    assert rows[0].count("|") == 7
    assert "`rmap_walk_anon`" in shown
    assert "<b>" not in shown.replace("\\<b\\>", "")
    row = next(line for line in shown.splitlines() if BROKEN in line)
    assert row.replace("\\|", "").count("|") == 4


HOSTILE = "</code><script>x</script>|`\u202e\x1b[31m\ud800\x00]]>&\n## head @everyone https://e.example www.e.example"


def hostile(told: Morning) -> Morning:
    """The same, with each text that somebody else may have written as harmful as they go."""
    figure = dataclasses.replace(told.worse[0].shifts[0].figure, label=HOSTILE, unit=HOSTILE, notes=(HOSTILE,))
    change = dataclasses.replace(told.worse[0].shifts[0].change, acknowledged="", kernel=HOSTILE)
    graph = Graph("2026-01-01", (Mover(HOSTILE, 0.1, 0.2),), (HOSTILE,))
    changed = Changed(HOSTILE, (Shift(figure, change),), graph, (HOSTILE, HOSTILE))
    cell = TonightsCell(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), "failed", HOSTILE)
    return dataclasses.replace(
        told, lab=HOSTILE, notes=(HOSTILE,), worse=(changed,), cells=(cell,), left_out=((HOSTILE, HOSTILE),)
    )


def test_hostile_names_stay_text_everywhere(told: Morning) -> None:
    of_harm = hostile(told)
    shown = text.render(of_harm)
    assert not {"\x1b", "\u202e", "\x00"} & set(shown)
    assert "\n## head" not in shown
    assert list(cases(of_harm).values()) == [["failure"]]
    as_markdown = markdown.render(of_harm)
    as_markdown.encode()
    assert "\n## head" not in as_markdown
    # What stands in a code span or block is no markup; of all else the signs are escaped.
    fenced = False
    for line in as_markdown.splitlines():
        if line.startswith("````"):
            fenced = not fenced
        elif not fenced:
            outside = "".join(line.split("`")[::2]) if "`" in line.replace("\\`", "") else line
            assert "<script" not in outside.replace("\\<script", ""), line
            assert "https://" not in outside
            assert "@everyone" not in outside.replace("\\@everyone", "")
    json.dumps(data.report(of_harm), allow_nan=False)


def test_the_log_of_a_cell_is_that_of_its_own_last_run(lab: Path) -> None:
    (attempt,) = (lab / "nights" / night_file.last(lab) / "attempts").iterdir()
    assert log_tail(attempt, BROKEN).splitlines()[1:] == ["<b>boom</b>"]
    assert log_tail(attempt, "absent.v6.box.1") == ""
    assert log_tail(attempt.parent / "nothing", BROKEN) == ""


@pytest.mark.parametrize(
    ("ratio", "told"), [(1.05, "+5.0 %"), (0.8, "\N{MINUS SIGN}20.0 %"), (4.2, "4.2 times"), (0.1, "0.1 times")]
)
def test_ratios_read_well(ratio: float, told: str) -> None:
    assert words.relative(ratio) == told


def test_main_figures_come_first() -> None:
    names = ["default/kernel_pages.total", "hard/mb_per_s", "default/call_ns.p99", "default/zzz", "default/mb_per_s"]
    assert sorted(names, key=words.rank) == [
        *("default/mb_per_s", "hard/mb_per_s", "default/call_ns.p99", "default/kernel_pages.total", "default/zzz")
    ]
    assert words.label("throughput", "hard/mb_per_s") == "throughput, hard"
    assert words.label("throughput", "default/mb_per_s") == "throughput"
