"""A mover's counts against those of a model of move_pages(2), on nodes that this machine need not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from numabench import process
from numabench.workload import build, catalog

HERE = Path(__file__).parent
FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

Event = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of a mover and the model."""
    program = tmp_path_factory.mktemp("mover") / "model"
    sources = build.sources_dir()
    programs = {spec.source for spec in catalog.WORKLOADS}
    shared = [str(path) for path in sorted(sources.glob("*.c")) if path.name not in programs]
    argv = [*build.find_compiler(), *build.FLAGS, *FLAGS, "-I", str(sources), "-o", str(program)]
    process.run([*argv, str(HERE / "mover_against_model.c"), *shared, *build.LIBRARIES], timeout_s=120).check(
        "compiling"
    )
    return str(program)


def lines(
    program: str,
    *what: str,
    units: int = 16,
    batch: int = 16,
    order: str = "sequential",
    nodes: int = 2,
    passes: int = 1,
    retries: int = 0,
) -> dict[str, Event]:
    """The line of each event: the mover's, and the model's `truth` and `last_calls`."""
    words = [str(word) for word in (units, batch, order, nodes, passes, retries, *what)]
    ended = process.run([program, *words], timeout_s=60).check("moving")
    return {line["event"]: line for line in map(json.loads, ended.stdout.splitlines())}


def run(program: str, *what: str, **how: Any) -> tuple[Event, Event]:
    """The mover's line and the model's."""
    told = lines(program, *what, **how)
    return told["mover"], told["truth"]


def directions(mover: Event) -> list[list[int]]:
    """The pages by direction, as the model has them."""
    return sorted([way["from"], way["to"], way["pages"]] for way in mover["directions"] if way["pages"])


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("what", [(), ("pinned:10",), ("pinned:0", "pinned:1", "pinned:15"), ("absent:3", "pinned:4")])
@pytest.mark.parametrize("retries", [0, 20])
def test_what_a_mover_confirms_is_what_moved(model: str, what: tuple[str, ...], batch: int, retries: int) -> None:
    mover, truth = run(model, *what, batch=batch, passes=3, retries=retries)
    assert directions(mover) == truth["moved"]
    assert mover["confirmed"] == sum(count for _, _, count in truth["moved"])
    assert mover["confirmed"] + mover["already"] + mover["left"] == mover["requested"] == 48


def test_answers_that_the_kernel_gave_are_kept_where_others_are_asked_for_again(model: str) -> None:
    mover, truth = run(model, "shared:3", "absent:5", "pinned:10")
    # The call says of units 3 and 5 why they stay; of what comes behind, where unit 10 stays, it says nothing.
    assert mover["status"] == {"EACCES": 1, "ENOENT": 1, "node": 1, "unset": 0}
    assert (mover["positive"], mover["asked_again"], mover["confirmed"]) == (1, 1, 13)
    assert truth["moved"] == [[0, 1, 13]]


def calls(mover: Event) -> list[list[int]]:
    """The calls by direction."""
    return sorted([way["from"], way["to"], way["calls"]] for way in mover["directions"] if way["calls"])


@pytest.mark.parametrize("what", [(), ("pinned:2", "pinned:5")])
@pytest.mark.parametrize("nodes", [2, 3])
def test_of_the_interleaved_order_single_calls_count_where_they_go(
    model: str, nodes: int, what: tuple[str, ...]
) -> None:
    mover, truth = run(model, *what, batch=1, order="interleaved", nodes=nodes, passes=nodes)
    assert mover["mixed"] is None
    assert directions(mover) == truth["moved"]
    if not what:
        # One page a call: each direction has as many calls as pages.
        assert calls(mover) == truth["moved"]
    assert sum(count for _, _, count in calls(mover)) == mover["calls"]
    for way in mover["directions"]:
        assert sum(count for _, count in way["latency"]["counts"]) == way["calls"]


def test_calls_that_go_both_ways_are_of_no_direction(model: str) -> None:
    mover, truth = run(model, batch=4, order="interleaved", passes=2)
    assert directions(mover) == truth["moved"] == [[0, 1, 16], [1, 0, 16]]
    assert calls(mover) == []
    assert [way["busy_ns"] for way in mover["directions"]] == [0, 0]
    assert mover["mixed"]["calls"] == mover["calls"] == 8
    assert sum(count for _, count in mover["mixed"]["latency"]["counts"]) == 8


def test_of_another_order_no_call_goes_two_ways(model: str) -> None:
    mover, _ = run(model, "pinned:3", batch=4, passes=4)
    assert mover["mixed"] is None
    assert calls(mover) == [[0, 1, 8], [1, 0, 8]]


def test_a_mover_that_never_called_took_no_time(model: str) -> None:
    mover, _ = run(model, "obstacles:2", "stopped", batch=8)
    assert (mover["calls"], mover["elapsed_ns"], mover["query_ns"]) == (0, 0, 0)


def test_where_nothing_is_left_open_nothing_is_asked_for_again(model: str) -> None:
    mover, _ = run(model, "shared:3", "absent:15")
    assert mover["status"] == {"EACCES": 1, "ENOENT": 1, "unset": 0}
    assert (mover["positive"], mover["asked_again"], mover["query_ns"]) == (0, 0, 0)


NONE, KEPT, FORGOTTEN = range(3)


def test_the_last_call_of_each_page_is_known_also_after_many_calls(model: str) -> None:
    last = lines(model, "kept", units=5000, batch=1, passes=2)["last_calls"]
    assert (set(last["known"]), set(last["own"])) == ({KEPT}, {1})
    assert (set(last["from"]), set(last["to"])) == ({1}, {0})


@pytest.mark.parametrize("batch", [1, 4])
def test_of_the_interleaved_order_each_page_knows_its_own_way(model: str, batch: int) -> None:
    last = lines(model, "kept", batch=batch, order="interleaved", nodes=3, passes=1)["last_calls"]
    assert set(last["known"]) == {KEPT}
    assert (last["from"], last["to"]) == ([0, 1] * 8, [1, 2] * 8)


def test_a_call_that_came_too_long_ago_is_forgotten_and_not_none(model: str) -> None:
    pinned = [f"pinned:{unit}" for unit in range(10, 16)]
    last = lines(model, "kept", *pinned, batch=1, retries=1000)["last_calls"]
    assert last["known"] == [FORGOTTEN] * 10 + [KEPT] * 6


def test_without_victims_no_call_is_kept_and_before_a_call_there_is_none(model: str) -> None:
    assert set(lines(model)["last_calls"]["known"]) == {NONE}
    assert set(lines(model, "kept", "stopped")["last_calls"]["known"]) == {NONE}


def place(program: str, *what: str, units: int = 1500) -> tuple[int, Event]:
    """How placing the units of the interleaved order ended, and its last line."""
    ended = process.run([program, str(units), "1", "interleaved", "2", "1", "0", "place", *what], timeout_s=60)
    return ended.exit_status, json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("what", [(), ("busy:5", "busy:1025", "busy:1499")])
def test_odd_pages_are_put_on_their_node_many_a_call_and_again_where_they_were_busy(
    model: str, what: tuple[str, ...]
) -> None:
    status, truth = place(model, *what)
    assert (status, truth["nodes"]) == (0, [0, 1] * 750)
    # A call that moves and one that asks, for each 512 of 750 pages; three more of each where some were busy.
    assert truth["calls"] == (4 if not what else 16)


@pytest.mark.parametrize(("what", "told"), [("pinned:7", "Device or resource busy"), ("shared:7", "Permission denied")])
def test_odd_pages_that_stay_end_the_run_with_the_kernels_reason(model: str, what: str, told: str) -> None:
    status, error = place(model, what)
    assert (status, error["code"]) == (1, "failed")
    assert error["message"] == f"of the odd units 1 cannot be put on node 1 to begin with: {told}"
