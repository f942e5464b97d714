"""Runs whose answers are known by hand, written as a real run is, through `numabench.store`.

Two threads, thread N on node N, with a slice of 32 MiB each; all 16,384 pages begin on node 0. The second slice's 8,192
pages go to node 1 between the 2nd and the 7th second of 10, evenly: 1,638.4 a second, 6.71 MB/s.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from numabench import store

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
SLICE_PAGES = 8192
GO_NS = 5_000_000_000
SECOND_NS = 1_000_000_000
RUN_ID = "20261123T043052Z-numa02-1a2b3c"


def run_record(placements: tuple[str, ...] = ("default",), repeats: int = 1, **identity: Any) -> dict[str, Any]:
    order = [[placement, "measure"] for _ in range(repeats) for placement in placements]
    return {
        "schema_version": 1,
        "kind": "numabench-run",
        "run_id": RUN_ID,
        "created_utc": "2026-11-23T04:30:52+00:00",
        "identity": {
            "numabench": "0.1.0",
            "where": "metal",
            "accelerator": "",
            "virtualization": "",
            "hostname": "box",
            "kernel": {"release": "6.1.0", "version": "#1 SMP", "cmdline": ""},
            "cpu": {"model": "Model", "vendor": "Vendor", "count": 2},
            "page_bytes": PAGE,
            "huge_page_bytes": 2 << 20,
            "thp_enabled": "madvise",
            "knobs": {"kernel.numa_balancing": "1"},
            **identity,
        },
        "plan": {
            "argv": ["numabench", "run", "numa02"],
            "workload": "numa02",
            "command": [],
            "nodes": [0, 1],
            "cpus": [0, 1],
            "placements": list(placements),
            "start_node": 0,
            "size_bytes": 2 * SLICE_PAGES * PAGE,
            "threads": 2,
            "loops": 0,
            "duration_s": 10.0,
            "repeats": repeats,
            "interval_s": 1.0,
            "seed": 1,
            "driver": "autonuma",
            "knobs": {"numa_balancing": "1"},
            "order": order,
            "published": False,
            "scaled": ["size 1 GiB -> 64 MiB (asked)"],
        },
        "knobs": [
            {
                "name": "kernel.numa_balancing",
                "path": "/proc/sys/kernel/numa_balancing",
                "before": "0",
                "wanted": "1",
                "outcome": "set",
                "message": "",
            }
        ],
        "notes": [],
    }


def moved_share(second: float, start: float = 2.0, end: float = 7.0) -> float:
    return min(max((second - start) / (end - start), 0.0), 1.0)


def vmstat(migrated: int, faults: int = 0, local: int = 0, updates: int = 0) -> dict[str, int]:
    return {
        "numa_pages_migrated": 1000 + migrated,
        "pgmigrate_success": 5000 + migrated,
        "pgmigrate_fail": 7,
        "numa_hint_faults": faults,
        "numa_hint_faults_local": local,
        "numa_pte_updates": updates,
    }


def sample(second: int, share: float, cpu_nodes: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
    away = round(256 * share)
    return {
        "t_ns": GO_NS + second * SECOND_NS,
        "pages": [[256, 0, 0], [256 - away, away, 0]],
        "cpu_node": list(cpu_nodes),
        "status": {},
        "vmstat": vmstat(
            round(SLICE_PAGES * share), faults=4000 * second, local=2000 * second + round(2000 * second * share)
        ),
    }


def snapshot(t_ns: int, **counters: int) -> dict[str, Any]:
    return {
        "t_ns": t_ns,
        "vmstat": {**vmstat(0), "pgpromote_success": 0, "pgdemote_kswapd": 0, **counters},
        "nodes": {},
        "interrupts": {"TLB": 100, "CAL": 10, "RES": 1},
        "sched": {},
        "pressure": {},
        "loadavg": [0.1, 0.1, 0.1],
    }


def trial_record(index: int = 1, placement: str = "default", moved: int = SLICE_PAGES) -> dict[str, Any]:
    slice_bytes = SLICE_PAGES * PAGE
    after = snapshot(
        GO_NS + 11 * SECOND_NS,
        **vmstat(moved, faults=40_000, local=36_000, updates=3 * 2 * SLICE_PAGES),
    )
    after["interrupts"] = {"TLB": 100 + 160, "CAL": 10, "RES": 1}
    return {
        "index": index,
        "placement": placement,
        "role": "measure",
        "status": "ok",
        "message": "",
        "exit_status": 0,
        "argv": ["numa02"],
        "pid": 77,
        "clock": {
            "started": GO_NS - 2 * SECOND_NS,
            "ready": GO_NS - SECOND_NS,
            "go": GO_NS,
            "stop": GO_NS + 10 * SECOND_NS,
            "ended": GO_NS + 12 * SECOND_NS,
        },
        "workload": {"event": "start", "page_bytes": PAGE},
        "threads": [
            {"pid": 77, "tid": 78 + n, "thread": n, "name": f"numa02-{n}", "policy": "default"} for n in range(2)
        ],
        "slices": [{"pid": 77, "addr": n * slice_bytes, "bytes": slice_bytes, "threads": [n]} for n in range(2)],
        "done": [
            {"pid": 77, "thread": n, "loops": 160, "bytes": 5 << 30, "elapsed_ns": 10 * SECOND_NS, "cpu_ns": 1}
            for n in range(2)
        ],
        "check": {"bytes": 2 * slice_bytes, "wrong": 0, "first_wrong": None},
        "first_touch": {"nodes": {"0": 2 * SLICE_PAGES}, "other": {}},
        "counters": {"before": snapshot(GO_NS - SECOND_NS), "after": after},
        "pages": {
            "before": {"nodes": {"0": 2 * SLICE_PAGES}, "status": {}},
            "after": {"nodes": {"0": 2 * SLICE_PAGES - moved, "1": moved}, "status": {}},
            "moved": {"0>1": moved} if moved else {},
            "unknown": 0,
        },
        "sampler": {"samples": 11, "interval_ns": SECOND_NS, "cpu_ns": SECOND_NS // 100, "busy": 0.001},
    }


def samples() -> list[dict[str, Any]]:
    return [sample(second, moved_share(second)) for second in range(11)]


def still_samples(remote: bool) -> list[dict[str, Any]]:
    """Threads that never move, pages that never move: all remote, or all local."""
    pages = [[0, 256, 0], [256, 0, 0]] if remote else [[256, 0, 0], [0, 256, 0]]
    return [{**sample(second, 0.0), "pages": copy.deepcopy(pages)} for second in range(11)]


END = {
    "status": "complete",
    "message": "",
    "finished_utc": "2026-11-23T04:31:52+00:00",
    "restored": [
        {
            "name": "kernel.numa_balancing",
            "path": "/proc/sys/kernel/numa_balancing",
            "value": "0",
            "outcome": "restored",
            "message": "",
        }
    ],
}


def write(
    results: Path,
    record: dict[str, Any] | None = None,
    trials: list[tuple[dict[str, Any], list[dict[str, Any]]]] | None = None,
    end: dict[str, Any] | None = END,
    run_id: str = RUN_ID,
) -> Path:
    """A run of one default trial, unless told otherwise; `end` None is a run that was killed."""
    writer = store.create(results, run_id)
    writer.write_run(run_record() if record is None else record)
    for trial, sampled in [(trial_record(), samples())] if trials is None else trials:
        writer.write_trial(trial["index"], trial, b'{"event":"start"}\n', sampled)
    if end is not None:
        writer.write_end(end)
    return writer.path


def write_three_placements(results: Path, repeats: int = 3) -> Path:
    """default, hard and inverse: 20 GiB stored in 10 s, 5 s and 15 s, so that default scores 0.5."""
    trials = []
    for index in range(1, 3 * repeats + 1):
        placement = ("default", "hard", "inverse")[(index - 1) % 3]
        trial = trial_record(index, placement, SLICE_PAGES if placement == "default" else 0)
        elapsed_s = {"default": 10, "hard": 5, "inverse": 15}[placement]
        for work in trial["done"]:
            work["elapsed_ns"] = elapsed_s * SECOND_NS
        sampled = samples() if placement == "default" else still_samples(placement == "inverse")
        trials.append((trial, sampled))
    return write(results, run_record(("default", "hard", "inverse"), repeats), trials)
