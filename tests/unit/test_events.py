"""What a workload prints is cut into events; what is no event is told with its first bytes."""

from __future__ import annotations

import json

import driven_run
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numabench.errors import WorkloadError
from numabench.workload import events
from numabench.workload.events import EventReader

LINES = st.lists(st.dictionaries(st.text(max_size=8), st.integers() | st.text(), max_size=4), max_size=6)


@given(LINES, st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_events_do_not_depend_on_how_the_output_is_cut(lines: list[dict[str, object]], cuts: list[int]) -> None:
    told = [{**line, "event": "interval"} for line in lines]
    data = b"".join(json.dumps(event).encode() + b"\n" for event in told)
    reader, read, at, turn = EventReader("w"), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        read += reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert read == told
    assert bytes(reader.raw) == data


@pytest.mark.parametrize(
    "rubbish", [b"hello\n", b"[1]\n", b'{"no": 1}\n', b'{"event": 3}\n', b"\xff\xfe\x00\n", b'{"event"\n']
)
def test_what_is_no_event_is_the_workloads_failure(rubbish: bytes) -> None:
    with pytest.raises(WorkloadError, match="printed what is not an event"):
        EventReader("numa02").feed(rubbish)


def test_rubbish_is_shown_without_its_control_characters() -> None:
    with pytest.raises(WorkloadError) as caught:
        EventReader("numa02").feed(b"\x1b[31mred\x07\n")
    assert "\x1b" not in str(caught.value)
    assert "\\x1b[31mred" in str(caught.value)


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    reader = EventReader("numa02")
    with pytest.raises(WorkloadError, match="not an event"):
        for _ in range(events.MAX_LINE_BYTES // 65536 + 2):
            reader.feed(b"x" * 65536)


def test_a_flood_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_OUTPUT_BYTES", 1 << 20)
    reader = EventReader("numa02")
    with pytest.raises(WorkloadError, match="more than 1 MiB"):
        for _ in range(3 << 20):
            reader.feed(b'{"event": "interval"}\n' * 1000)


def told(line: dict[str, object]) -> list[dict[str, object]]:
    return EventReader("pingpong").feed(json.dumps(line).encode() + b"\n")


def test_the_lines_of_movers_and_victims_are_events() -> None:
    lines = [driven_run.mover(0), driven_run.victim(), driven_run.wrong_word(), driven_run.wrong_word(call=None)]
    # Damaged memory holds anything, and a process of a family that finds it is no thread of ours.
    lines += [driven_run.wrong_word(thread=-1, call=None, found=(1 << 64) - 1)]
    lines += [
        driven_run.units(),
        driven_run.FAMILY,
        {"event": "churn", "forks": 1, "mremaps": 2, "splits": 3, "writes": 4},
    ]
    for line in lines:
        assert told(line) == [line]


@pytest.mark.parametrize(
    "line",
    [
        driven_run.mover(0, left=-1),
        driven_run.mover(0, status={"EBUSY": "some"}),
        driven_run.mover(0, directions=[{"from": 0, "to": 1}]),
        driven_run.victim(latency={"min": 1, "max": 2, "sum": 3, "counts": [1]}),
        driven_run.victim(longest=[{"t_ns": 1}]),
        driven_run.wrong_word(call={"thread": 1}),
        driven_run.FAMILY | {"chain": ["one"]},
        driven_run.units(verified="yes"),
    ],
)
def test_a_line_of_a_mover_or_victim_that_lacks_something_is_the_workloads_failure(line: dict[str, object]) -> None:
    with pytest.raises(WorkloadError, match="not an event"):
        told(line)
