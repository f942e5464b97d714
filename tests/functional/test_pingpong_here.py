"""The pingpong workload on one node: the null driver, its victims, and that a lost or stale write is found."""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process
from numabench.workload import build
from numabench.workload.own import OwnWorkload

if TYPE_CHECKING:
    from collections.abc import Callable

CPUS = tuple(sorted(os.sched_getaffinity(0)))
PAGE = 4096
PAGES = 64
NULL = ("--nodes", "0", "--driver", "null", "--size", str(PAGES * PAGE), "--threads", "1")
UNTIL_ASKED = (*NULL, "--loops", "0", "--victims", "2", "--victim-on", "all")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TIMEOUT_S = 60.0

Event = dict[str, Any]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that gives pingpong's program, built for these tests with the flags."""
    cache = tmp_path_factory.mktemp("cache")

    def built(*flags: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(cache))
            return str(build.build("pingpong", extra_flags=flags))

    return built


def run(*argv: str, env: dict[str, str] | None = None) -> tuple[int, list[Event], str]:
    ended = process.run(argv, timeout_s=TIMEOUT_S, env=None if env is None else {**os.environ, **env})
    return ended.exit_status, [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def stopped(argv: list[str]) -> OwnWorkload:
    """The workload once its victims have run until each page was accessed, and were asked to stop."""
    subject = OwnWorkload("pingpong", [*argv, "--interval-ms", "1"], CPUS)
    subject.start()
    deadline = time.monotonic() + TIMEOUT_S
    subject.wait_ready(deadline)
    subject.go()
    while not any(min(line["loops"][1:]) for line in of(events(subject), "interval")):
        assert time.monotonic() < deadline
        assert not subject.poll(0.5)
    subject.ask_stop()
    while not subject.poll(0.5):
        assert time.monotonic() < deadline
    return subject


def events(subject: OwnWorkload) -> list[Event]:
    return [json.loads(line) for line in subject.output().splitlines()]


@pytest.mark.parametrize("pattern", ["sequential", "random"])
@pytest.mark.parametrize("access", ["read", "write"])
def test_victims_find_what_they_stored_and_every_byte_is_right(
    program: Callable[..., str], access: str, pattern: str
) -> None:
    words = ("--verify", "1", "--victim-access", access, "--victim-pattern", pattern, "--duration-ms", "50")
    status, lines, told = run(program(*SANITIZERS), *UNTIL_ASKED, *words)
    assert (status, told) == (0, "")
    assert [(check["bytes"], check["wrong"]) for check in of(lines, "check")] == [(PAGES * PAGE, 0)]
    for victim in of(lines, "victim"):
        # Of a write the line before is compared, too, but for the first one to a page.
        compared = victim["accesses"] * (2 if access == "write" else 1)
        assert compared - PAGES <= victim["checked"] <= compared
        assert sum(counted for _, counted in victim["latency"]["counts"]) == victim["accesses"]
        longest = [access["ns"] for access in victim["longest"]]
        assert longest == sorted(longest, reverse=True)
        assert longest[:1] == [victim["latency"]["max"]]


@pytest.mark.parametrize("seed", [1, 2**64 - 0xD1342543DE82EF95])
def test_accesses_at_random_go_to_many_pages_whatever_the_seed(program: Callable[..., str], seed: int) -> None:
    words = (
        "--victims",
        "1",
        "--victim-on",
        "all",
        "--victim-pattern",
        "random",
        "--loops",
        "0",
        "--duration-ms",
        "100",
    )
    status, lines, _ = run(program(), *NULL, *words, "--seed", str(seed))
    (victim,) = of(lines, "victim")
    assert status == 0
    assert victim["accesses"] > PAGES
    assert len({access["page"] for access in victim["longest"]}) > 4


def test_the_null_driver_asks_for_every_page_in_each_pass_and_moves_none(program: Callable[..., str]) -> None:
    status, lines, told = run(program(*SANITIZERS), *NULL, "--loops", "3", "--batch", "24", "--mapping", "per-thread")
    (mover,) = of(lines, "mover")
    assert (status, told) == (0, "")
    assert (mover["passes"], mover["requested"], mover["confirmed"], mover["left"]) == (3, 3 * PAGES, 0, 0)
    assert mover["calls"] == 9  # 64 pages in calls of 24, 24 and 16
    assert sum(counted for _, counted in mover["directions"][0]["latency"]["counts"]) == mover["calls"]


@pytest.mark.parametrize(
    ("words", "batch"), [((), PAGES), (("--size", str(1024 * PAGE)), 512), (("--batch", "64"), 64)]
)
def test_the_batch_that_is_told_is_the_one_that_is_used(
    program: Callable[..., str], words: tuple[str, ...], batch: int
) -> None:
    _, lines, _ = run(program(), *NULL, "--loops", "1", *words)
    (start,), (mover,) = of(lines, "start"), of(lines, "mover")
    assert start["driver"]["batch"] == batch
    assert mover["calls"] == start["size_bytes"] // PAGE // batch


def test_threads_are_movers_first_and_say_so(program: Callable[..., str]) -> None:
    _, lines, _ = run(program(), *UNTIL_ASKED, "--duration-ms", "20")
    threads = sorted(of(lines, "thread"), key=lambda line: int(line["thread"]))
    assert [(thread["name"], thread["role"]) for thread in threads] == [
        ("pingpong-m0", "mover"),
        ("pingpong-v0", "victim"),
        ("pingpong-v1", "victim"),
    ]
    assert [piece["threads"] for piece in of(lines, "slice")] == [[1, 2]]
    assert [thread["cpus"] for thread in threads] == [str(CPUS[0]), str(CPUS[0]), str(CPUS[1 % len(CPUS)])]


@pytest.mark.parametrize("pattern", ["sequential", "random"])
def test_an_access_has_none_of_the_notes_that_are_made_of_it(program: Callable[..., str], pattern: str) -> None:
    _, lines, _ = run(program(), *UNTIL_ASKED, "--victim-pattern", pattern, "--duration-ms", "50")
    for victim in of(lines, "victim"):
        # One of the two readings of the clock is outside of the access at least.
        assert victim["latency"]["sum"] + victim["accesses"] * victim["clock_ns"] // 2 <= victim["elapsed_ns"]


@pytest.mark.parametrize("movers", [1, 2])
def test_movers_make_way_for_a_victim(program: Callable[..., str], movers: int) -> None:
    words = ("--threads", str(movers), "--victims", "1", "--victim-on", "all", "--duration-ms", "20", "--loops", "0")
    _, lines, _ = run(program(), *NULL, *words)
    cpus: dict[str, set[str]] = {"mover": set(), "victim": set()}
    for thread in of(lines, "thread"):
        cpus[thread["role"]].add(thread["cpus"])
    assert cpus["victim"] == {str(CPUS[0])}
    assert cpus["mover"] == {str(cpu) for cpu in CPUS[1 : 1 + movers] or CPUS}


def test_a_victim_that_shares_its_cpu_says_how_often_it_was_preempted(program: Callable[..., str]) -> None:
    only = ["taskset", "-c", str(CPUS[0]), program(), *NULL, "--loops", "0", "--duration-ms", "400"]
    _, lines, _ = run(*only, "--victims", "1", "--victim-on", "all")
    (victim,) = of(lines, "victim")
    assert victim["preempted"] > 0


@pytest.mark.parametrize(
    ("kind", "page", "offset"),
    [("zero", 5, 0), ("other-page", 6, 0), ("stale", 7, 64), ("garbage", 8, 128), ("zero", 9, 24)],
)
def test_a_lost_word_is_named_with_its_page_and_offset(
    program: Callable[..., str], kind: str, page: int, offset: int
) -> None:
    subject = stopped([program(), *UNTIL_ASKED])
    try:
        (piece,) = subject.slices()
        with Path(f"/proc/{piece.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(piece.address + page * PAGE + offset)
            right = struct.unpack("<Q", memory.read(8))[0]
            memory.seek(piece.address + (page + 1) * PAGE + offset)
            neighbour = memory.read(8)
            memory.seek(piece.address + page * PAGE + offset)
            memory.write(
                {
                    "zero": bytes(8),
                    "other-page": neighbour,
                    "stale": first_touch(page * 64 + offset // 64),
                    "garbage": struct.pack("<Q", right ^ 1),
                }[kind]
            )
        with pytest.raises(Exception, match=f"the first is at byte {offset} of page {page}"):
            subject.release(time.monotonic() + TIMEOUT_S)
    finally:
        subject.close()
    (wrong,) = of(events(subject), "wrong")
    assert (wrong["kind"], wrong["page"], wrong["offset"], wrong["expected"]) == (kind, page, offset, right)
    assert wrong["addr"] == piece.address + page * PAGE + offset
    # On few CPUs the mover may not have run at all.
    assert (wrong["call"] is None) == (of(events(subject), "mover")[0]["calls"] == 0)
    assert subject.record()["exit_status"] == 1


def first_touch(line: int) -> bytes:
    """The stamp of the first touch, as stamp.h describes it: the write in the top bits, the line, a guard."""
    guard = (line * 0x9E3779B97F4A7C15 % 2**64 >> 56) ^ 0xA5
    return struct.pack("<Q", line << 8 | guard)


def test_stale_data_that_a_mover_copies_back_is_caught_by_the_victim(program: Callable[..., str]) -> None:
    losing = {"NUMABENCH_TEST_STALE": "1"}
    words = (*UNTIL_ASKED, "--verify", "1", "--duration-ms", "300")
    tested = program("-DNUMABENCH_TEST")
    status, lines, _ = run(tested, *words, env=losing)
    assert status == 1
    assert of(lines, "error")[0]["code"] == "failed"
    assert {wrong["kind"] for wrong in of(lines, "wrong")} == {"stale"}
    assert all(wrong["call"]["thread"] == 0 for wrong in of(lines, "wrong"))
    assert run(tested, *words)[0] == 0


def test_a_flipped_bit_fails_the_run_also_when_victims_do_not_verify(program: Callable[..., str]) -> None:
    flipping = {"NUMABENCH_TEST_CORRUPT": "1"}
    tested = program("-DNUMABENCH_TEST")
    status, lines, _ = run(tested, *NULL, "--loops", "1", env=flipping)
    assert status == 1
    (check,) = of(lines, "check")
    (wrong,) = of(lines, "wrong")
    assert check["wrong"] == 1
    # Nobody writes there: the word is of no thread.
    assert (wrong["thread"], wrong["page"], wrong["offset"]) == (-1, PAGES // 2, 0)
    assert check["first_wrong"]["addr"] == wrong["addr"]
    assert check["first_wrong"]["found"] ^ check["first_wrong"]["expected"][0] == 1
    assert of(lines, "error")[0]["code"] == "failed"
    assert run(tested, *NULL, "--loops", "1")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--driver", "numad"], "--driver 'numad' is none of autonuma, move_pages, mbind, migrate_pages"),
        (["--flags", "strict"], "--flags strict is for --driver mbind: null has no such flag"),
        (["--driver", "migrate_pages", "--flags", "move"], "--flags is not for --driver migrate_pages"),
        (["--driver", "cpuset", "--flags", "move_all"], "--flags is not for --driver cpuset"),
        (["--flags", "move,often"], "--flags 'often' is none of move, move_all, strict"),
        (["--driver", "mbind", "--flags", "strict"], "--flags needs move or move_all"),
        (["--driver", "mbind", "--mover", "outside"], "--mover outside is for move_pages and migrate_pages"),
        (["--driver", "mbind", "--order", "interleaved"], "needs a driver that names each page"),
        (["--driver", "cpuset"], "--driver cpuset needs --cpuset-mems"),
        (["--driver", "autonuma", "--victims", "0"], "--driver autonuma needs victims"),
        (["--driver", "autonuma"], "--threads is of movers, and --driver autonuma has none"),
        (["--driver", "home-node", "--victims", "1"], "takes no --victims"),
        (["--batch", "65"], "--batch 65 is more than the 64 pages of 4096 bytes that each of 1 slices has"),
        (["--driver", "cpuset", "--batch", "8"], "--batch is not for --driver cpuset"),
        (["--batch", "0"], "--batch 0 is out of range: it goes from 1 to 1048576"),
        (["--victims", "65"], "--victims 65 is out of range: it goes from 0 to 64"),
        (["--victims", "1", "--victim-on", "7"], "--victim-on 7 is not one of the run's nodes"),
        (["--obstacles", "pinned"], "--obstacles 'pinned' is not KIND:COUNT"),
        (["--obstacles", "wall:1"], "--obstacles 'wall' is none of untouched, zero, pinned, unmapped, ksm"),
        (["--obstacles", "zero:1", "--pages", "thp"], "--obstacles are private pages of 4k"),
        (["--placement", "hard"], "--placement is only default here"),
        (["--thp", "always"], "'--thp' is not an option"),
        (["--size", "4096", "--threads", "2"], "less than a page of 4096 bytes for each of 2 slices"),
    ],
)
def test_words_that_cannot_be_meant_exit_2_with_one_line(
    program: Callable[..., str], words: list[str], message: str
) -> None:
    status, lines, told = run(program(), *NULL, *words)
    assert (status, len(lines), told) == (2, 1, "")
    assert (lines[0]["event"], lines[0]["code"]) == ("error", "usage")
    assert message in lines[0]["message"]


OUTSIDE = ("--mover", "outside", "--victims", "1", "--victim-on", "all")


def test_movers_outside_are_a_process_of_their_own(program: Callable[..., str]) -> None:
    words = (*NULL, *OUTSIDE, "--threads", "2", "--loops", "3", "--interval-ms", "1")
    status, lines, told = run(program(*SANITIZERS), *words)
    assert (status, told) == (0, "")
    threads = {(thread["role"], thread["pid"]) for thread in of(lines, "thread")}
    assert len(threads) == len({pid for _, pid in threads}) == 2
    assert [mover["passes"] for mover in of(lines, "mover")] == [3, 3]
    assert of(lines, "check")[0]["wrong"] == 0


def test_movers_outside_that_die_before_they_are_ready_fail_the_run_with_the_reason(
    program: Callable[..., str],
) -> None:
    status, lines, _ = run(
        program("-DNUMABENCH_TEST"), *NULL, *OUTSIDE, "--loops", "1", env={"NUMABENCH_TEST_KILL": "1"}
    )
    assert status == 1
    assert [line["code"] for line in of(lines, "error")] == ["failed"]
    assert "was killed by signal 9 (Killed)" in of(lines, "error")[0]["message"]
    assert not of(lines, "ready")


def test_movers_outside_that_are_killed_end_the_run_with_one_whole_line(program: Callable[..., str]) -> None:
    subject = OwnWorkload("pingpong", [program(), *NULL, *OUTSIDE, "--loops", "0", "--interval-ms", "1"], CPUS)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        subject.start()
        subject.wait_ready(deadline)
        (movers,) = {thread["pid"] for thread in of(events(subject), "thread") if thread["role"] == "mover"}
        subject.go()
        assert not subject.poll(0.1)
        os.kill(movers, signal.SIGKILL)
        with pytest.raises(Exception, match=f"process {movers} was killed by signal 9"):
            while not subject.poll(0.5):
                assert time.monotonic() < deadline
        assert [line["event"] for line in events(subject)][-1:] == ["error"]
    finally:
        subject.close()


@pytest.mark.parametrize("driver", ["move_pages", "mbind", "migrate_pages", "autonuma", "home-node"])
def test_one_node_is_no_source_and_target(program: Callable[..., str], driver: str) -> None:
    status, lines, _ = run(program(), "--nodes", "0", "--driver", driver)
    assert (status, lines[0]["code"]) == (77, "cannot-run")
    assert "source and target are one node, 0, where a move succeeds without a copy" in lines[0]["message"]


def test_options_of_drivers_are_not_those_of_workloads_that_store(program: Callable[..., str]) -> None:
    ended = process.run([str(build.build("numa02")), "--driver", "null"], timeout_s=TIMEOUT_S)
    assert ended.exit_status == 2
    assert "'--driver' is not an option" in json.loads(ended.stdout)["message"]


@pytest.mark.parametrize("mapping", ["one", "per-thread"])
def test_all_slices_are_in_huge_pages_however_they_are_mapped(program: Callable[..., str], mapping: str) -> None:
    words = ("--nodes", "0", "--driver", "null", "--size", str(8 << 20), "--loops", "1", "--pages", "thp")
    status, lines, told = run(program(), *words, "--threads", "2", "--mapping", mapping)
    if Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().split("[")[1].startswith("never"):
        assert status == 77
        return
    assert (status, told) == (0, ""), lines
    assert [mover["requested"] for mover in of(lines, "mover")] == [2, 2]
    assert [check["bytes"] for check in of(lines, "check")] == [8 << 20]
    assert pages_at_edges(lines) == [("begin", 4, 0, 1), ("end", 4, 0, 1)]


def pages_at_edges(lines: list[Event]) -> list[tuple[str, int, int, int]]:
    return [(line["edge"], line["units"], line["split"], line["verified"]) for line in of(lines, "pages")]


def test_a_huge_page_that_was_split_while_the_run_went_on_is_counted_at_its_end(program: Callable[..., str]) -> None:
    words = ("--nodes", "0", "--driver", "null", "--size", str(8 << 20), "--loops", "1", "--pages", "thp")
    splitting = {"NUMABENCH_TEST_SPLIT": "1"}
    status, lines, told = run(program("-DNUMABENCH_TEST"), *words, "--threads", "1", env=splitting)
    if Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().split("[")[1].startswith("never"):
        assert status == 77
        return
    assert (status, told) == (0, ""), lines
    assert pages_at_edges(lines) == [("begin", 4, 0, 1), ("end", 4, 1, 1)]
