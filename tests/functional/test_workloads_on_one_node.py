"""The C workloads on one node, held against what the kernel says of them while they wait."""

from __future__ import annotations

import json
import os
import re
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process
from numabench.workload import build, catalog
from numabench.workload.own import OwnWorkload

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
CPUS = tuple(sorted(os.sched_getaffinity(0)))
# Those that store; what moves pages is in test_pingpong_here.py and test_forktree_here.py.
NAMES = tuple(spec.name for spec in catalog.WORKLOADS if spec.name not in {"pingpong", "forktree"})
SMALL = ("--nodes", "0", "--size", str(4 * MIB), "--threads", "2", "--loops", "3")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TIMEOUT_S = 60.0

Event = dict[str, Any]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that gives the program of a workload, built for these tests."""
    cache = tmp_path_factory.mktemp("cache")

    def built(name: str, *flags: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(cache))
            return str(build.build(name, extra_flags=flags))

    return built


def run(*argv: str, env: dict[str, str] | None = None) -> tuple[int, list[Event], str]:
    ended = process.run(argv, timeout_s=TIMEOUT_S, env=None if env is None else {**os.environ, **env})
    return ended.exit_status, [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def waiting(argv: list[str]) -> OwnWorkload:
    subject = OwnWorkload("workload", argv, CPUS)
    subject.start()
    subject.wait_ready(time.monotonic() + TIMEOUT_S)
    return subject


def events(subject: OwnWorkload) -> list[Event]:
    return [json.loads(line) for line in subject.output().splitlines()]


def await_stop(subject: OwnWorkload) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not subject.poll(0.5):
        assert time.monotonic() < deadline


def numa_maps(pid: int, address: int) -> dict[str, int]:
    """Pages by node (`N0`) of the mapping at an address, as the kernel counts them."""
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        if int(line.split()[0], 16) == address:
            return {key: int(value) for key, value in re.findall(r" (N\d+)=(\d+)", line)}
    raise AssertionError(f"no mapping begins at {address:x}")


@pytest.mark.parametrize("name", NAMES)
def test_the_catalog_tells_the_programs_own_constants(program: Callable[..., str], name: str) -> None:
    spec = catalog.find(name)
    status, lines, _ = run(program(name), *SMALL)
    start = of(lines, "start")[0]
    assert status == 0
    assert start["processes"] == spec.processes
    assert start["published"] == {
        "size_bytes": spec.size_bytes,
        "threads": spec.threads(len(CPUS)),
        "loops": spec.loops,
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_thread_stores_its_loops_and_every_byte_is_right(program: Callable[..., str], name: str) -> None:
    status, lines, _ = run(program(name), *SMALL)
    spec = catalog.find(name)
    slices = {number: piece["bytes"] for piece in of(lines, "slice") for number in piece["threads"]}
    assert status == 0
    assert {done["thread"]: (done["loops"], done["bytes"]) for done in of(lines, "done")} == {
        number: (3, 3 * size_bytes) for number, size_bytes in slices.items()
    }
    assert sorted(slices) == list(range(2 * spec.processes))
    assert [(check["bytes"], check["wrong"]) for check in of(lines, "check")] == [(4 * MIB, 0)] * spec.processes


@pytest.mark.parametrize("name", NAMES)
def test_threads_and_pages_are_where_the_kernel_says(program: Callable[..., str], name: str) -> None:
    subject = waiting([program(name), *SMALL, "--thp", "never"])
    try:
        for thread in of(events(subject), "thread"):
            task = Path(f"/proc/{thread['pid']}/task/{thread['tid']}")
            status = (task / "status").read_text()
            assert (task / "comm").read_text().strip() == thread["name"]
            assert f"Cpus_allowed_list:\t{thread['cpus']}\n" in status
        for touched in of(events(subject), "first_touch"):
            first = min(piece.address for piece in subject.slices() if piece.pid == touched["pid"])
            assert numa_maps(touched["pid"], first) == {f"N{k}": n for k, n in touched["nodes"].items()}
            assert touched["other"] == {}
        main = of(events(subject), "start")[0]["pid"]
        assert Path(f"/proc/{main}/comm").read_text().strip() == name[:15]
    finally:
        subject.close()


@pytest.mark.parametrize(("placement", "policy"), [("default", ("default", "")), ("hard", ("bind", "0"))])
def test_the_policy_that_is_told_is_the_one_that_stays(
    program: Callable[..., str], placement: str, policy: tuple[str, str]
) -> None:
    _, lines, _ = run(program("numa02"), *SMALL, "--placement", placement)
    assert {(thread["policy"], thread["policy_nodes"]) for thread in of(lines, "thread")} == {policy}


def test_a_policy_that_was_inherited_is_kept_without_a_start_node(program: Callable[..., str]) -> None:
    if process.find_program("numactl") is None:
        pytest.skip("numactl is not installed")
    _, kept, _ = run("numactl", "--interleave=0", program("numa02"), *SMALL)
    _, freed, _ = run("numactl", "--interleave=0", program("numa02"), *SMALL, "--start-node", "0")
    assert {thread["policy"] for thread in of(kept, "thread")} == {"interleave"}
    assert {thread["policy"] for thread in of(freed, "thread")} == {"default"}


def test_mappings_per_thread_do_not_merge(program: Callable[..., str]) -> None:
    subject = waiting([program("memset"), *SMALL, "--mapping", "per-thread"])
    try:
        maps = Path(f"/proc/{subject.pids()[0]}/maps").read_text()
        bounds = {tuple(int(bound, 16) for bound in line.split()[0].split("-")) for line in maps.splitlines()}
        assert len(subject.slices()) == 2
        for piece in subject.slices():
            assert (piece.address, piece.address + piece.size_bytes) in bounds
            assert piece.address % (2 * MIB) == 0
    finally:
        subject.close()


def test_thp_shows_in_the_mappings_flags(program: Callable[..., str]) -> None:
    flags = {}
    for thp in ("always", "never"):
        subject = waiting([program("numa02"), *SMALL, "--thp", thp])
        try:
            smaps = Path(f"/proc/{subject.pids()[0]}/smaps").read_text()
            mapping = smaps[smaps.index(f"{subject.slices()[0].address:x}-") :]
            flags[thp] = re.search(r"VmFlags: (.*)", mapping)[1].split()  # type: ignore[index]
        finally:
            subject.close()
    assert "hg" in flags["always"]
    assert "nh" in flags["never"]


def test_it_runs_until_it_is_asked_to_stop_and_checks_a_loop_cut_in_the_middle(program: Callable[..., str]) -> None:
    argv = [program("numa01"), "--nodes", "0", "--size", str(12 * MIB), "--threads", "2", "--loops", "0"]
    subject = waiting([*argv, "--interval-ms", "1"])
    try:
        subject.go()
        deadline = time.monotonic() + TIMEOUT_S
        while not any(sum(line["loops"]) for line in of(events(subject), "interval")):
            assert time.monotonic() < deadline
            assert not subject.poll(0.5)
        subject.ask_stop()
        await_stop(subject)
        subject.release(time.monotonic() + TIMEOUT_S)
    finally:
        subject.close()
    assert {stop["reason"] for stop in of(events(subject), "stop")} == {"asked"}
    assert subject.record()["check"] == {"bytes": 24 * MIB, "wrong": 0, "first_wrong": None}


def test_the_duration_ends_a_run_without_loops(program: Callable[..., str]) -> None:
    status, lines, _ = run(program("numa02"), *SMALL[:-1], "0", "--duration-ms", "20")
    assert status == 0
    assert [stop["reason"] for stop in of(lines, "stop")] == ["duration"]
    assert of(lines, "stop")[0]["t_ns"] - of(lines, "go")[0]["t_ns"] >= 20_000_000


@pytest.mark.parametrize("name", ["numa01", "numa02"])
def test_a_page_that_went_stale_is_found_at_its_address(program: Callable[..., str], name: str) -> None:
    subject = waiting([program(name), *SMALL])
    try:
        subject.go()
        await_stop(subject)
        lost = subject.slices()[-1]
        with Path(f"/proc/{lost.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(lost.address)
            right = memory.read(1)[0]
            memory.seek(lost.address + MIB)
            memory.write(bytes([right - 1]) * 4096)
        with pytest.raises(Exception, match="4096 bytes hold what no thread stored there"):
            subject.release(time.monotonic() + TIMEOUT_S)
    finally:
        subject.close()
    (found,) = [check for check in of(events(subject), "check") if check["pid"] == lost.pid]
    assert (found["wrong"], found["first_wrong"]) == (
        4096,
        {"addr": lost.address + MIB, "found": right - 1, "expected": [right]},
    )
    assert subject.record()["exit_status"] == 1


def test_a_byte_flipped_by_the_test_build_fails_the_run(program: Callable[..., str]) -> None:
    flipping = {"NUMABENCH_TEST_CORRUPT": "1"}
    tested = program("numa02", "-DNUMABENCH_TEST")
    status, lines, _ = run(tested, *SMALL, env=flipping)
    assert status == 1
    assert of(lines, "check")[0]["wrong"] == 1
    assert of(lines, "error")[0]["code"] == "failed"
    assert run(tested, *SMALL)[0] == 0
    assert run(program("numa02"), *SMALL, env=flipping)[0] == 0


def start_with_pipes(argv: list[str], *, closed: bool) -> tuple[process.Process, int, int]:
    """The workload, its go pipe (closed already where asked), and its output."""
    go_end, go = os.pipe()
    out, out_end = os.pipe()
    if closed:
        os.close(go)
    started = process.start([*argv, "--go-fd", str(go_end)], stdout=out_end, pass_fds=(go_end,))
    os.close(go_end)
    os.close(out_end)
    return started, go, out


def read_until(out: int, wanted: str, started: process.Process) -> list[Event]:
    text = b""
    deadline = time.monotonic() + TIMEOUT_S
    while f'"event":"{wanted}"'.encode() not in text:
        readable, _, _ = select.select([out], [], [], max(deadline - time.monotonic(), 0))
        data = os.read(out, 1 << 16) if readable else b""
        if not data:
            started.kill()
            pytest.fail(f"no line {wanted} in {text.decode()}")
        text += data
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["numa01", "numa02"])
def test_the_end_of_file_instead_of_go_is_a_quiet_end(program: Callable[..., str], name: str) -> None:
    started, _, out = start_with_pipes([program(name), *SMALL], closed=True)
    with os.fdopen(out) as lines:
        told = [json.loads(line)["event"] for line in lines]
    assert started.wait(TIMEOUT_S) == 1
    assert told[-1] == "ready"


def test_a_process_that_is_killed_ends_the_other_with_a_reason(program: Callable[..., str]) -> None:
    started, go, out = start_with_pipes([program("numa01"), *SMALL[:-1], "0"], closed=False)
    lines = read_until(out, "ready", started)
    child = next(piece["pid"] for piece in of(lines, "slice") if piece["pid"] != started.pid)
    os.write(go, b"G")
    read_until(out, "go", started)
    os.kill(child, 9)
    lines = read_until(out, "error", started)
    assert f"process {child} was killed by signal 9" in of(lines, "error")[0]["message"]
    assert started.wait(TIMEOUT_S) == 1
    os.close(go)
    os.close(out)


def test_a_parent_that_is_killed_leaves_no_child(program: Callable[..., str]) -> None:
    started, go, out = start_with_pipes([program("numa01"), *SMALL[:-1], "0"], closed=False)
    lines = read_until(out, "ready", started)
    child = next(piece["pid"] for piece in of(lines, "slice") if piece["pid"] != started.pid)
    child_fd = os.pidfd_open(child)
    os.kill(started.pid, 9)
    ended, _, _ = select.select([child_fd], [], [], TIMEOUT_S)
    assert ended == [child_fd]
    started.wait(TIMEOUT_S)
    for fd in (child_fd, go, out):
        os.close(fd)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "1M"], "--size '1M' is not a number"),
        (["--size", "-1"], "--size '-1' is not a number"),
        (["--size", "99999999999999999999"], "out of range: it goes from 1 to"),
        (["--size", "4096", "--threads", "2"], "less than a page of 4096 bytes for each of 2 threads"),
        (["--threads", "0"], "--threads 0 is out of range: it goes from 1 to 65536"),
        (["--loops", ""], "--loops '' is not a number"),
        (["--placement", "soft"], "--placement 'soft' is none of default, hard, inverse, inverse-compat"),
        (["--nodes", "0,0"], "node 0 is in --nodes twice"),
        (["--nodes", "0-0,"], "--nodes '0-0,' is not a list of node ids"),
        (["--nodes", "3-1"], "--nodes '3-1' has a range from high to low"),
        (["--nodes", ""], "--nodes '' is not a list of node ids"),
        (["--nodes", " 0"], "--nodes ' 0' is not a list of node ids"),
        (["--start-node", "7"], "--start-node 7 is not one of the run's nodes"),
        (["--start-node", "0", "--placement", "hard"], "--start-node is for --placement default"),
        (["--mapping", "per-thread"], "--mapping per-thread is for memset: numa02 has one mapping"),
        (["--loops", "0"], "it would never end: give --loops, --duration-ms or --go-fd"),
        (["--go-fd", "987"], "--go-fd 987 is not an open descriptor"),
        (["--frequency", "3"], "'--frequency' is not an option, which are --nodes,"),
        (["--size"], "--size needs a value"),
        (['\x01"é'], "is not an option"),
    ],
)
def test_words_that_cannot_be_meant_exit_2_with_one_line(
    program: Callable[..., str], words: list[str], message: str
) -> None:
    status, lines, told = run(program("numa02"), "--nodes", "0", *words)[:3]
    assert (status, len(lines), told) == (2, 1, "")
    assert (lines[0]["event"], lines[0]["code"]) == ("error", "usage")
    assert message in lines[0]["message"]


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("numa02", ["--nodes", "60000"], "node 60000 does not exist, this machine has node "),
        ("numa02", ["--nodes", "0", "--placement", "inverse"], "placement inverse needs 2 nodes, the run has 1"),
        ("numa01", ["--nodes", "0", "--placement", "hard"], "halves the nodes and needs an even number, not 1"),
        ("numa02", ["--nodes", "0", "--start-node", "0", "--size", str(1 << 45)], "bytes on node 0, which has "),
    ],
)
def test_what_the_machine_lacks_exits_77_with_one_line(
    program: Callable[..., str], name: str, words: list[str], message: str
) -> None:
    status, lines, told = run(program(name), *words)
    assert (status, len(lines), told) == (77, 1, "")
    assert (lines[0]["event"], lines[0]["code"]) == ("error", "cannot-run")
    assert message in lines[0]["message"]


def test_the_cpus_of_a_run_are_those_that_the_caller_may_use(program: Callable[..., str]) -> None:
    _, lines, _ = run("taskset", "-c", str(CPUS[-1]), program("numa02"), "--nodes", "0", *SMALL[2:4], "--loops", "1")
    assert [thread["cpus"] for thread in of(lines, "thread")] == [str(CPUS[-1])]


@pytest.mark.parametrize("name", NAMES)
def test_address_and_undefined_behaviour_sanitizers_find_nothing(program: Callable[..., str], name: str) -> None:
    sanitized = program(name, *SANITIZERS)
    for placement in ("default", "hard"):
        words = [*SMALL, "--placement", placement, "--interval-ms", "1"]
        status, lines, told = run(sanitized, *words)
        lacking = name.startswith("numa01") and placement == "hard"
        assert (status, told) == (77 if lacking else 0, "")
        assert lacking == bool(of(lines, "error"))


@pytest.mark.parametrize("name", ["numa02", "numa02-smt", "memset"])
def test_the_thread_sanitizer_finds_nothing(program: Callable[..., str], name: str) -> None:
    # Not numa01: its threads race for the same bytes, which is what it is for.
    status, _, told = run(program(name, "-fsanitize=thread"), *SMALL, "--interval-ms", "1")
    assert (status, told) == (0, "")
