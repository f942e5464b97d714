"""The lines a workload prints while it runs: docs/workload-protocol.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from numabench.errors import WorkloadError

MAX_LINE_BYTES = 1 << 20
MAX_OUTPUT_BYTES = 256 << 20

Event = dict[str, Any]

# A value's kind: a type, a range, an object's keys with their kinds, a list of these, or any of some.
Kind = Any
_CALL_KEYS = dict.fromkeys(("thread", "begin_ns", "end_ns", "from", "to"), int)
HISTOGRAM: Kind = {"min": int, "max": int, "sum": int, "counts": [list]}
DIRECTIONS: Kind = [{"from": int, "to": int, "pages": int, "calls": int, "busy_ns": int, "latency": HISTOGRAM}]
MIXED: Kind = ({"calls": int, "busy_ns": int, "latency": HISTOGRAM}, type(None))
ACCESSES: Kind = [{"t_ns": int, "ns": int, "page": int, "write": int}]
CALL: Kind = (_CALL_KEYS, type(None))

# What the harness reads of each event; numbers are never negative.
_REQUIRED: dict[str, dict[str, Kind]] = {
    "start": {"pid": int, "processes": int},
    "slice": {"pid": int, "addr": int, "bytes": int, "threads": list},
    "thread": {"pid": int, "tid": int, "thread": int, "name": str},
    "first_touch": {"pid": int, "nodes": dict, "other": dict},
    "ready": {"t_ns": int},
    "go": {"t_ns": int},
    "stop": {"pid": int, "t_ns": int},
    "done": {"pid": int, "thread": int, "bytes": int, "elapsed_ns": int, "cpu_ns": int},
    "check": {"pid": int, "bytes": int, "wrong": int},
    "pages": {"edge": str, "pages": str, **dict.fromkeys(("pid", "units", "split", "verified"), int)},
    "mover": {
        **dict.fromkeys(("pid", "thread", "passes", "calls", "positive", "requested", "confirmed", "already"), int),
        **dict.fromkeys(("retried", "left", "asked_again", "query_ns", "elapsed_ns", "cpu_ns"), int),
        "call_errors": dict,
        "status": dict,
        "directions": DIRECTIONS,
        "mixed": MIXED,
    },
    "victim": {
        **dict.fromkeys(("pid", "thread", "accesses", "elapsed_ns", "cpu_ns", "clock_ns", "checked", "wrong"), int),
        "preempted": int,
        "latency": HISTOGRAM,
        "longest": ACCESSES,
    },
    "wrong": {
        **dict.fromkeys(("pid", "t_ns", "addr", "page", "offset", "forgotten"), int),
        "thread": range(-1, 1 << 31),
        # Any word may be found, where memory is damaged.
        **dict.fromkeys(("expected", "found"), range(1 << 64)),
        "kind": str,
        "call": CALL,
    },
    "family": {**dict.fromkeys(("pid", "processes", "depth", "fanout", "vmas_per_page"), int), "chain": list},
    "churn": dict.fromkeys(("forks", "mremaps", "splits", "writes"), int),
    "error": {"message": str},
}


@dataclass
class EventReader:
    """Cuts a workload's output, fed piece by piece, into events; what is not an event is the workload's failure.

    `raw` keeps every byte fed, as the trial's record. Raises `WorkloadError` for a line that is not a JSON object with
    an "event", for a line above 1 MiB and for more than 256 MiB in all.
    """

    workload: str
    raw: bytearray = field(default_factory=bytearray)
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by `data`."""
        self.raw += data
        if len(self.raw) > MAX_OUTPUT_BYTES:
            raise WorkloadError(f"{self.workload} printed more than {MAX_OUTPUT_BYTES >> 20} MiB and was ended")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise self._rubbish(self._rest)
        return [self._parse(line) for line in lines if line.strip()]

    def _parse(self, line: bytes) -> Event:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise self._rubbish(line) from None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise self._rubbish(line)
        for key, kind in _REQUIRED.get(event["event"], {}).items():
            if not _is_of(event.get(key), kind):
                raise self._rubbish(line)
        if event["event"] == "slice" and event["bytes"] == 0:
            raise self._rubbish(line)
        return event

    def _rubbish(self, line: bytes) -> WorkloadError:
        return WorkloadError(
            f"{self.workload} printed what is not an event: {line[:80].decode(errors='replace')!a}",
            "a workload speaks the lines of docs/workload-protocol.md; run another program after '--'",
        )


def _is_of(value: object, kind: Kind) -> bool:
    """Whether a value is of a kind; numbers, also those in lists and objects, are whole and from 0 to 2^63 - 1."""
    if isinstance(kind, tuple):
        return any(_is_of(value, one) for one in kind)
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_is_of(value.get(key), inner) for key, inner in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is_of(item, kind[0]) for item in value)
    if isinstance(kind, range):
        return isinstance(value, int) and not isinstance(value, bool) and value in kind
    return _is_simple(value, kind)


def _is_simple(value: object, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    if kind is dict:
        return isinstance(value, dict) and all(_is_simple(count, int) for count in value.values())
    if kind is list:
        return isinstance(value, list) and all(_is_simple(number, int) for number in value)
    return isinstance(value, kind)
