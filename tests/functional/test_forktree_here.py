"""forktree on one node, without a system call that moves: its processes, what they do to their memory, its check."""

from __future__ import annotations

import json
import os
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process
from numabench.workload import build, catalog
from numabench.workload.own import OwnWorkload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
SIZE = 4 * MIB
PROCESSES = 15
FAMILY = ("--nodes", "0", "--driver", "null", "--size", str(SIZE), "--threads", "1")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TIMEOUT_S = 60.0

Event = dict[str, Any]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that gives the program, built for these tests."""
    cache = tmp_path_factory.mktemp("cache")

    def built(*flags: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(cache))
            return str(build.build("forktree", extra_flags=flags))

    return built


def run(*argv: str, env: dict[str, str] | None = None) -> tuple[int, list[Event], str]:
    ended = process.run(argv, timeout_s=TIMEOUT_S, env=None if env is None else {**os.environ, **env})
    return ended.exit_status, [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def parents() -> dict[int, int]:
    """The parent of every process, as the kernel tells it."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(text.split()[0])] = int(text.rpartition(")")[2].split()[1])
    return found


def generations(root: int) -> list[list[int]]:
    """The root, its children, and theirs: as long as there are any."""
    parent = parents()
    found = [[root]]
    while found[-1]:
        found.append([pid for pid in parent if parent[pid] in found[-1]])
    return found[:-1]


@pytest.fixture
def waiting(program: Callable[..., str]) -> Iterator[Callable[..., tuple[OwnWorkload, list[list[int]]]]]:
    """A function that starts the program and waits for READY: the workload, and its processes by generation."""
    started: list[OwnWorkload] = []

    def start(*options: str) -> tuple[OwnWorkload, list[list[int]]]:
        subject = OwnWorkload(
            "forktree", [program(), *FAMILY, "--loops", "0", *options], sorted(os.sched_getaffinity(0))
        )
        started.append(subject)
        subject.start()
        subject.wait_ready(time.monotonic() + TIMEOUT_S)
        return subject, generations(subject.record()["pid"])

    yield start
    for subject in started:
        subject.close()


def events(subject: OwnWorkload) -> list[Event]:
    return [json.loads(line) for line in subject.output().splitlines()]


def finish(subject: OwnWorkload) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not subject.poll(0.5):
        assert time.monotonic() < deadline
    subject.release(deadline)


def test_the_catalog_tells_the_programs_own_constants(program: Callable[..., str]) -> None:
    spec = catalog.find("forktree")
    (start,) = of(run(program(), *FAMILY, "--loops", "1")[1], "start")
    assert start["processes"] == spec.processes
    assert (start["published"]["size_bytes"], start["published"]["loops"]) == (spec.size_bytes, spec.loops)


def test_every_process_does_all_that_was_asked_and_every_byte_of_each_is_right(program: Callable[..., str]) -> None:
    status, lines, told = run(program(), *FAMILY, "--loops", "3")
    (churn,) = of(lines, "churn")
    assert (status, told) == (0, "")
    # All but the root and the mover, which is the root here.
    assert all(churn[kind] >= PROCESSES - 1 for kind in ("forks", "mremaps", "splits", "writes"))
    (check,) = of(lines, "check")
    assert (check["bytes"], check["wrong"], check["first_wrong"]) == (PROCESSES * SIZE, 0, None)
    (mover,) = of(lines, "mover")
    assert mover["passes"] == 3


@pytest.mark.parametrize(
    ("kinds", "counted"),
    [("none", ()), ("fork", ("forks",)), ("mremap,write", ("mremaps", "writes")), ("split", ("splits",))],
)
def test_nothing_is_done_but_what_was_asked(program: Callable[..., str], kinds: str, counted: tuple[str, ...]) -> None:
    status, lines, _ = run(program(), *FAMILY, "--loops", "1", "--churn", kinds)
    (churn,) = of(lines, "churn")
    assert status == 0
    assert {kind for kind in ("forks", "mremaps", "splits", "writes") if churn[kind]} == set(counted)
    assert of(lines, "start")[0]["driver"]["churn"] == ([] if kinds == "none" else kinds.split(","))


@pytest.mark.parametrize(("fanout", "writing"), [("2", False), ("3", True)])
def test_the_sibling_whose_pages_are_moved_copies_none_of_them(
    program: Callable[..., str], fanout: str, writing: bool
) -> None:
    words = ("--mover-at", "sibling", "--depth", "1", "--fanout", fanout, "--churn", "fork,write")
    status, lines, told = run(program(), *FAMILY, "--loops", "1", *words)
    (churn,) = of(lines, "churn")
    assert (status, told) == (0, "")
    assert churn["forks"] > 0
    assert (churn["writes"] > 0) == writing


def test_the_family_is_what_the_kernel_shows_of_it(waiting: Callable[..., tuple[OwnWorkload, list[list[int]]]]) -> None:
    subject, by_generation = waiting("--duration-ms", "1")
    assert [len(generation) for generation in by_generation] == [1, 2, 4, 8]
    (family,) = of(events(subject), "family")
    root = by_generation[0][0]
    (memory,) = subject.slices()
    shown = next(
        line
        for line in Path(f"/proc/{root}/numa_maps").read_text().splitlines()
        if int(line.split()[0], 16) == memory.address
    )
    assert f" mapmax={PROCESSES} " in shown
    assert family == {
        "event": "family",
        "pid": root,
        "processes": PROCESSES,
        "depth": 3,
        "fanout": 2,
        "vmas_per_page": PROCESSES,
        "chain": [1, 2, 3, 4],
        "mapmax": PROCESSES,
    }
    subject.go()
    finish(subject)


@pytest.mark.parametrize(("mover_at", "generation"), [("parent", 0), ("child", 3), ("sibling", 1)])
def test_movers_run_in_the_process_that_was_asked_for(
    waiting: Callable[..., tuple[OwnWorkload, list[list[int]]]], mover_at: str, generation: int
) -> None:
    subject, by_generation = waiting("--mover-at", mover_at, "--threads", "2", "--duration-ms", "1")
    threads = of(events(subject), "thread")
    assert [thread["role"] for thread in threads] == ["mover", "mover"]
    (pid,) = {thread["pid"] for thread in threads}
    assert pid in by_generation[generation]
    for thread in threads:
        assert Path(f"/proc/{pid}/task/{thread['tid']}/comm").read_text().strip() == thread["name"]
    subject.go()
    finish(subject)
    assert {mover["pid"] for mover in of(events(subject), "mover")} == {pid}
    assert of(events(subject), "check")[0]["bytes"] == PROCESSES * SIZE


def test_a_root_that_is_killed_leaves_no_process(waiting: Callable[..., tuple[OwnWorkload, list[list[int]]]]) -> None:
    subject, by_generation = waiting("--mover-at", "child")
    descriptors = {os.pidfd_open(pid): pid for generation in by_generation for pid in generation}
    subject.go()
    os.kill(by_generation[0][0], 9)
    deadline = time.monotonic() + TIMEOUT_S
    left = dict(descriptors)
    while left and time.monotonic() < deadline:
        for ended in select.select(list(left), [], [], max(deadline - time.monotonic(), 0))[0]:
            del left[ended]
    for descriptor in descriptors:
        os.close(descriptor)
    assert list(left.values()) == []


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_a_process_that_dies_fails_the_run_with_its_reason(
    waiting: Callable[..., tuple[OwnWorkload, list[list[int]]]], generation: int
) -> None:
    subject, by_generation = waiting()
    killed = by_generation[generation][-1]
    subject.go()
    os.kill(killed, 9)
    with pytest.raises(Exception, match=f"process {killed} was killed by signal 9"):
        finish(subject)


@pytest.mark.parametrize("mover_at", ["child", "sibling"])
def test_movers_that_die_before_they_are_ready_fail_the_run_with_the_reason(
    program: Callable[..., str], mover_at: str
) -> None:
    killing = {"NUMABENCH_TEST_KILL": "1"}
    status, lines, _ = run(
        program("-DNUMABENCH_TEST"), *FAMILY, "--loops", "1", "--mover-at", mover_at, "--threads", "2", env=killing
    )
    assert status == 1
    assert [line["code"] for line in of(lines, "error")] == ["failed"]
    assert "was killed by signal 9 (Killed)" in of(lines, "error")[0]["message"]
    assert not of(lines, "ready")


def test_a_byte_that_the_test_build_damages_in_a_child_is_found(program: Callable[..., str]) -> None:
    damaging = {"NUMABENCH_TEST_CORRUPT": "1"}
    tested = program("-DNUMABENCH_TEST")
    status, lines, _ = run(tested, *FAMILY, "--loops", "1", env=damaging)
    (wrong,) = of(lines, "wrong")
    (check,) = of(lines, "check")
    (error,) = of(lines, "error")
    page = SIZE // 4096 - 1
    assert status == 1
    assert wrong["pid"] != of(lines, "start")[0]["pid"]
    assert (wrong["page"], wrong["offset"]) == (page, 2048)
    assert (wrong["expected"] ^ wrong["found"]).bit_count() == 1
    assert check["wrong"] == 1
    assert f"process {wrong['pid']} (number 14, generation 3) in page {page} at offset 2048" in error["message"]
    assert run(tested, *FAMILY, "--loops", "1")[0] == 0
    assert run(program(), *FAMILY, "--loops", "1", env=damaging)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depth", "3", "--fanout", "8"], "--depth 3 with --fanout 8 makes 585 processes: at most 512 are allowed"),
        (["--depth", "0"], "--depth 0 is out of range: it goes from 1 to 6"),
        (["--fanout", "9"], "--fanout 9 is out of range: it goes from 1 to 8"),
        (["--mover-at", "uncle"], "--mover-at 'uncle' is none of parent, child, sibling"),
        (["--mover-at", "sibling", "--fanout", "1"], "--mover-at sibling needs --fanout 2 or more"),
        (["--mover-at", "sibling", "--driver", "mbind"], "mbind moves the caller's own memory"),
        (["--mover-at", "sibling", "--pages", "thp"], "--pages thp at a sibling cannot be with --churn write"),
        (["--driver", "home-node"], "forktree takes the drivers move_pages, mbind, migrate_pages, null"),
        (["--victims", "1"], "--victims 1 is for pingpong: in forktree the other processes are the victims"),
        (["--sharing", "shared"], "--sharing shared is for pingpong: what children inherit is private"),
        (["--mapping", "per-thread"], "--mapping per-thread is for"),
        (["--mover", "outside"], "--mover outside is for pingpong: --mover-at says which process moves"),
        (["--churn", "fork,sleep"], "--churn 'sleep' is none of fork, mremap, split, write"),
        (["--size", "12288"], "--size leaves less than a page of 4096 bytes for each quarter"),
    ],
)
def test_words_that_cannot_be_meant_exit_2_with_one_line(
    program: Callable[..., str], words: list[str], message: str
) -> None:
    status, lines, told = run(program(), *FAMILY, "--loops", "1", *words)
    assert (status, len(lines), told) == (2, 1, "")
    assert (lines[0]["event"], lines[0]["code"]) == ("error", "usage")
    assert message in lines[0]["message"]


@pytest.mark.parametrize("mover_at", ["parent", "child", "sibling"])
def test_address_and_undefined_behaviour_sanitizers_find_nothing(program: Callable[..., str], mover_at: str) -> None:
    status, lines, told = run(
        program(*SANITIZERS), *FAMILY, "--loops", "2", "--threads", "2", "--mover-at", mover_at, "--interval-ms", "1"
    )
    assert (status, told) == (0, "")
    assert of(lines, "check")[0]["bytes"] == PROCESSES * SIZE
