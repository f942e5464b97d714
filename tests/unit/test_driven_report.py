"""Reports of driven runs: the driver in words, statuses by name, how long calls and accesses took, integrity."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import driven_run
import pytest
from words import line_of

from numabench import store
from numabench.report import run_json
from numabench.report.run_png import draw
from numabench.report.run_text import render

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run


def driven(tmp_path: Path, record: dict[str, Any] | None = None, **changed: Any) -> Run:
    return store.load(driven_run.write(tmp_path, record, [driven_run.trial_record(**changed)]))


def plain(text: str) -> str:
    """The report as one line, whatever its width."""
    return " ".join(text.split())


def test_the_head_says_in_words_what_was_to_move_the_pages(tmp_path: Path) -> None:
    text = render(driven(tmp_path, driven_run.run_record(obstacles={"pinned": 8, "ksm": 2})))
    assert text.splitlines()[0] == "pingpong by move_pages on nodes 0-1, placement default"
    assert (
        "move_pages with MOVE, 2 movers inside the workload, on the CPUs of all nodes, 512 pages a call, sequential, "
        "ping-pong, at most 1 retry a pass" in plain(text)
    )
    assert "private memory of base pages, behind obstacles: 8 pinned, 2 ksm" in plain(text)
    assert "1 thread on the CPUs of the target node, writes in order, checking each time what was stored" in plain(text)
    assert "placement default, driver move_pages: trial 1" in text.splitlines()


def test_counts_statuses_and_calls_are_told(tmp_path: Path) -> None:
    text = render(driven(tmp_path))
    assert line_of(text, "requested").split()[1] == "8,192"
    assert "0 were there before, 96 were asked for again, 96 were left in the end" in plain(text)
    assert "8,096 = 31.6 MiB, gross: counted each time that a page came to its target" in plain(text)
    assert "net 0: on another node at the end than at READY" in plain(text)
    assert line_of(text, "statuses").split() == ["statuses", "EBUSY", "192"]
    assert line_of(text, "calls ").split(None, 1)[1] == (
        "16 calls; 2 returned pages that did not move; statuses asked for again 2 times"
    )


def test_the_flags_are_those_that_the_driver_moved_with(tmp_path: Path) -> None:
    start = driven_run.trial_record()["workload"]
    start["driver"] |= {"name": "migrate_pages", "flags": ["move_all"]}
    text = plain(render(driven(tmp_path, driven_run.run_record("migrate_pages"), workload=start)))
    assert "migrate_pages with MOVE_ALL, " in text


def test_the_rate_is_told_in_bytes_and_pages(tmp_path: Path) -> None:
    text = render(driven(tmp_path))
    assert line_of(text, "MB/s").split() == ["MB/s", "24.97"]
    assert "6,096 pages/s; 67% of the movers' time in calls, their queries left out" in plain(text)


def test_how_long_calls_and_accesses_took_is_a_table(tmp_path: Path) -> None:
    text = render(driven(tmp_path))
    assert line_of(text, "time of one").split()[-4:] == ["p50", "p99", "p99.9", "max"]
    assert (
        line_of(text, "call, node 0 to 1").split(None, 5)[5]
        == "101 ms         -         -    200 ms  13.82 MB/s in calls"
    )
    assert (
        line_of(text, "access of victims").split(None, 3)[3] == "1.01 us   20.5 us   1.02 ms     30 ms  1,000 accesses"
    )


def test_calls_that_went_several_ways_have_a_row_and_no_rate(tmp_path: Path) -> None:
    text = render(driven(tmp_path, movers=[driven_run.interleaved()]))
    assert line_of(text, "call, several ways").split(None, 5)[5] == "100 ms         -         -    100 ms  8 calls"
    assert "MB/s in calls" not in text
    assert "call, node" not in text


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (None, "while movers were at work"),
        ((0, 490, 505, 0, 1), "while mover 0 moved it from node 0 to 1"),
        ((0, 100, 200, 0, 1), "and no call was moving it"),
        ((0, 490, None, 0, 1), "while mover 0 moved it from node 0 to 1"),
    ],
)
def test_the_longest_accesses_come_with_their_time_and_with_the_call_under_way(
    tmp_path: Path, call: tuple[int | None, ...] | None, told: str
) -> None:
    longest = driven_run.victim()["longest"][0]
    if call is not None:
        begin_ns, end_ns = (ms and driven_run.GO_NS + ms * driven_run.MILLISECOND_NS for ms in call[1:3])
        longest["call"] = {"thread": 0, "begin_ns": begin_ns, "end_ns": end_ns or 0, "from": 0, "to": 1}
    text = render(driven(tmp_path, victims=[driven_run.victim(longest=[longest])]))
    assert line_of(text, "longest").split(None, 1)[1] == f"30 ms, 500 ms after GO: page 12 written, {told}"


def test_how_often_victims_lost_their_cpu_is_told(tmp_path: Path) -> None:
    text = plain(render(driven(tmp_path, victims=[driven_run.victim(), driven_run.victim(3, preempted=1)])))
    assert "reading the clock takes 40 ns of each access; victims lost their CPU to another thread 4 times" in text
    before = driven_run.victim()
    del before["preempted"]
    assert "lost their CPU" not in render(driven(tmp_path / "before", victims=[before]))


def test_integrity_is_told_in_words(tmp_path: Path) -> None:
    text = render(driven(tmp_path))
    assert "1,000 words checked by victims while pages moved: each held what had been stored" in plain(text)
    text = render(
        driven(tmp_path / "lost", victims=[driven_run.victim(wrong=1)], wrong_words=[driven_run.wrong_word()])
    )
    assert "1 of 1,000 words checked while pages moved were not what had been stored" in plain(text)
    assert "verdict: not valid: lost-write" in text


def test_a_family_is_told_with_the_length_of_its_chains(tmp_path: Path) -> None:
    text = plain(render(driven(tmp_path, family=driven_run.FAMILY)))
    assert "15 processes, 3 generations of 2 children each; a page is mapped by 15 VMAs (numa_maps: mapmax 15)" in text
    assert "anon_vma chain entries by generation: 1, 2, 3, 4" in text
    assert "meanwhile 120 forks, 30 mremaps, 20 splits, 1,000 writes" in text


def test_a_driven_run_has_no_convergence_and_one_of_balancing_has(tmp_path: Path) -> None:
    assert "convergence" not in render(driven(tmp_path))
    assert "convergence" in render(driven(tmp_path / "auto", driven_run.run_record("autonuma"), movers=[]))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_asked(tmp_path: Path, width: int) -> None:
    run = driven(tmp_path, driven_run.run_record(obstacles={"pinned": 8}), family=driven_run.FAMILY)
    assert max(map(len, render(run, width).splitlines())) <= width


def test_the_json_has_statuses_by_name_and_percentiles(tmp_path: Path) -> None:
    (trial,) = json.loads(json.dumps(run_json.report(driven(tmp_path, family=driven_run.FAMILY)), allow_nan=False))[
        "trials"
    ]
    assert trial["moves"]["status"] == {"EBUSY": 192}
    assert trial["moves"]["confirmed"] == {"units": 8096, "pages": 8096}
    assert trial["counts"]["net"] == 0
    assert trial["mb_per_s"] == pytest.approx(24.969216)
    assert trial["stall"]["percentiles_ns"]["p50"] == 1007.0
    assert trial["stall"]["max_ns"] == 30_000_000
    assert trial["victims"][0]["longest"][0]["page"] == 12
    assert trial["family"]["vmas_per_page"] == 15


def test_pictures_of_a_driven_run_have_latency_and_no_convergence(tmp_path: Path) -> None:
    paths = draw(driven(tmp_path), tmp_path / "pictures")
    assert [path.name for path in paths] == ["default-memory.png", "default-migration.png", "default-latency.png"]
    paths = draw(driven(tmp_path / "none", movers=[], victims=[]), tmp_path / "none" / "pictures")
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in paths)
