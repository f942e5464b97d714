"""A driven run whose answers are known by hand: two movers and a victim ping-pong 16 MiB between nodes 0 and 1.

Each mover has 2,048 pages and makes 2 passes. Mover 0 is left with 48 pages each time (EBUSY), after it had asked for
them a second time; it makes 8 calls, of 200 ms there and 150 ms back, and needs 2 s and a quarter for queries. Mover 1
moves everything in 1 s, with calls of 100 ms and 50 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import synthetic_run
from synthetic_run import GO_NS, PAGE, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MILLISECOND_NS = 1_000_000
SLICE_PAGES = 2048
LEFT = 48
# Of a movement there and back by both movers: what the kernel counts, too.
CONFIRMED = 2 * (SLICE_PAGES - LEFT) + 2 * SLICE_PAGES
VICTIM_NS = [1000] * 900 + [20_000] * 90 + [MILLISECOND_NS] * 9 + [30 * MILLISECOND_NS]


def histogram(values_ns: Iterable[int]) -> dict[str, Any]:
    """The histogram of some times, as a workload prints it."""
    counts: dict[int, int] = {}
    values = sorted(values_ns)
    for value in values:
        drop = max(value.bit_length() - 6, 0)
        low = value >> drop << drop
        counts[low] = counts.get(low, 0) + 1
    return {
        "min": min(values, default=0),
        "max": max(values, default=0),
        "sum": sum(values),
        "counts": [[low, count] for low, count in sorted(counts.items())],
    }


def direction(source: int, target: int, pages: int, call_ns: int, calls: int = 4) -> dict[str, Any]:
    return {
        "from": source,
        "to": target,
        "pages": pages,
        "calls": calls,
        "busy_ns": calls * call_ns,
        "latency": histogram([call_ns] * calls),
    }


def mover(thread: int, **changed: Any) -> dict[str, Any]:
    """Mover 1 of the description; with other numbers where they are given."""
    return {
        "event": "mover",
        "pid": 77,
        "thread": thread,
        "passes": 2,
        "calls": 8,
        "call_errors": {},
        "positive": 0,
        "requested": 2 * SLICE_PAGES,
        "confirmed": 2 * SLICE_PAGES,
        "already": 0,
        "retried": 0,
        "left": 0,
        "status": {"unset": 0},
        "asked_again": 0,
        "query_ns": 0,
        "elapsed_ns": SECOND_NS,
        "cpu_ns": SECOND_NS // 2,
        "directions": [
            direction(0, 1, SLICE_PAGES, 100 * MILLISECOND_NS),
            direction(1, 0, SLICE_PAGES, 50 * MILLISECOND_NS),
        ],
        "mixed": None,
        **changed,
    }


def interleaved() -> dict[str, Any]:
    """A mover whose 8 calls of 100 ms each went both ways."""
    ways = [
        direction(source, 1 - source, SLICE_PAGES, 0, 0) | {"busy_ns": 0, "latency": histogram([])} for source in (0, 1)
    ]
    calls = {"calls": 8, "busy_ns": 800 * MILLISECOND_NS, "latency": histogram([100 * MILLISECOND_NS] * 8)}
    return mover(0, directions=ways, mixed=calls)


def movers() -> list[dict[str, Any]]:
    first = mover(
        0,
        positive=2,
        confirmed=2 * (SLICE_PAGES - LEFT),
        retried=2 * LEFT,
        left=2 * LEFT,
        status={"EBUSY": 4 * LEFT, "unset": 0},
        asked_again=2,
        query_ns=SECOND_NS // 4,
        elapsed_ns=2 * SECOND_NS + SECOND_NS // 4,
        directions=[
            direction(0, 1, SLICE_PAGES - LEFT, 200 * MILLISECOND_NS),
            direction(1, 0, SLICE_PAGES - LEFT, 150 * MILLISECOND_NS),
        ],
    )
    return [first, mover(1)]


def victim(thread: int = 2, **changed: Any) -> dict[str, Any]:
    """A victim: of 1,000 accesses 900 took 1 us, 90 took 20 us, 9 took 1 ms and one 30 ms."""
    return {
        "event": "victim",
        "pid": 77,
        "thread": thread,
        "accesses": len(VICTIM_NS),
        "elapsed_ns": SECOND_NS,
        "cpu_ns": SECOND_NS,
        "preempted": 3,
        "clock_ns": 40,
        "latency": histogram(VICTIM_NS),
        "longest": [
            {"t_ns": GO_NS + 500 * MILLISECOND_NS, "ns": 30 * MILLISECOND_NS, "page": 12, "write": 1},
            {"t_ns": GO_NS + 700 * MILLISECOND_NS, "ns": MILLISECOND_NS, "page": 99, "write": 0},
        ],
        "checked": len(VICTIM_NS),
        "wrong": 0,
        **changed,
    }


def thread(number: int, role: str, cpus: str) -> dict[str, Any]:
    return {
        "pid": 77,
        "tid": 78 + number,
        "thread": number,
        "name": f"pingpong-{role[0]}{number if role == 'mover' else number - 2}",
        "policy": "default",
        "role": role,
        "cpus": cpus,
    }


def units(**changed: Any) -> dict[str, Any]:
    """What was seen of 256 folios at the end: all are whole."""
    seen = {"event": "pages", "edge": "end", "pid": 77, "pages": "64k", "units": 256, "split": 0, "verified": 1}
    return seen | changed


def wrong_word(**changed: Any) -> dict[str, Any]:
    return {
        "event": "wrong",
        "pid": 77,
        "thread": 2,
        "t_ns": GO_NS + 510 * MILLISECOND_NS,
        "addr": 17 * PAGE + 24,
        "page": 17,
        "offset": 24,
        "expected": 9,
        "found": 8,
        "kind": "stale",
        "forgotten": 0,
        "call": {
            "thread": 0,
            "begin_ns": GO_NS + 400 * MILLISECOND_NS,
            "end_ns": GO_NS + 505 * MILLISECOND_NS,
            "from": 0,
            "to": 1,
        },
        **changed,
    }


FAMILY = {
    "event": "family",
    "pid": 77,
    "processes": 15,
    "depth": 3,
    "fanout": 2,
    "vmas_per_page": 15,
    "chain": [1, 2, 3, 4],
    "mapmax": 15,
    "forks": 120,
    "mremaps": 30,
    "splits": 20,
    "writes": 1000,
}


def run_record(driver: str = "move_pages", **changed: Any) -> dict[str, Any]:
    """The run.json of a pingpong with that driver; `changed` are keys of the plan."""
    record = synthetic_run.run_record(knobs={"kernel.numa_balancing": "0"})
    record["plan"] |= {
        "argv": ["numabench", "run", "pingpong"],
        "workload": "pingpong",
        "driver": driver,
        "size_bytes": 2 * SLICE_PAGES * PAGE,
        "threads": 2,
        "loops": 2,
        "duration_s": None,
        "knobs": {"numa_balancing": "0"},
        "scaled": [],
        "mover": {
            "mover": "inside",
            "flags": ["move"],
            "batch": 512,
            "order": "sequential",
            "pages": "4k",
            "mover_on": "all",
            "route": "ping-pong",
            "retries": 1,
            "sharing": "private",
        },
        "victims": {"count": 1, "access": "write", "pattern": "sequential", "on": "target"},
        "verify": True,
        "obstacles": {},
        "family": None,
        **changed,
    }
    record["knobs"] = []
    return record


def trial_record(index: int = 1, **changed: Any) -> dict[str, Any]:
    """A trial at whose end all pages are back where they began; `changed` are its keys."""
    trial = synthetic_run.trial_record(index, moved=0)
    slice_bytes = SLICE_PAGES * PAGE
    trial["counters"]["after"]["vmstat"] |= {"pgmigrate_success": 5000 + CONFIRMED, "numa_pages_migrated": 1000}
    return (
        trial
        | {
            "workload": {
                "event": "start",
                "page_bytes": PAGE,
                "driver": {"name": "move_pages", "unit_bytes": PAGE, "verify": 1},
            },
            "threads": [
                thread(0, "mover", "0"),
                thread(1, "mover", "1"),
                thread(2, "victim", "2"),
            ],
            "slices": [{"pid": 77, "addr": n * slice_bytes, "bytes": slice_bytes, "threads": [2]} for n in range(2)],
            "done": [
                {"pid": 77, "thread": n, "loops": 2, "bytes": 2 * slice_bytes, "elapsed_ns": SECOND_NS, "cpu_ns": 1}
                for n in range(3)
            ],
            "check": {"bytes": 2 * slice_bytes, "wrong": 0, "first_wrong": None},
            "pages": {
                "before": {"nodes": {"0": 2 * SLICE_PAGES}, "status": {}},
                "after": {"nodes": {"0": 2 * SLICE_PAGES}, "status": {}},
                "moved": {},
                "unknown": 0,
            },
            "movers": movers(),
            "victims": [victim()],
            "wrong_words": [],
            "family": None,
        }
        | changed
    )


def write(
    results: Path,
    record: dict[str, Any] | None = None,
    trials: list[dict[str, Any]] | None = None,
    run_id: str = "20261123T043052Z-pingpong-1a2b3c",
) -> Path:
    """A driven run of one trial, unless told otherwise."""
    return synthetic_run.write(
        results,
        run_record() if record is None else record,
        [(trial, synthetic_run.samples()) for trial in ([trial_record()] if trials is None else trials)],
        synthetic_run.END | {"restored": []},
        run_id,
    )
