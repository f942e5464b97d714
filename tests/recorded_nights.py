"""Runs of a lab's nights with a recording of the CPU, as perf writes one, in which a function has a known share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import synthetic_pages
from unit import perfdata_writer as written
from unit.perfdata_writer import PerfData, Sample, WrittenEvent

if TYPE_CHECKING:
    from pathlib import Path

# From the outermost caller in; below it, what both kernels do, and what one of them does for longer.
PATH = ("__x64_sys_move_pages", "kernel_move_pages", "migrate_pages")
COPY, WALK = ("folio_copy",), ("remove_migration_ptes", "rmap_walk", "rmap_walk_anon")
BASE, STEP = 0xFFFFFFFF81000000, 0x100
NAMES = ("_stext", *PATH, *COPY, *WALK, "_etext")
ADDRESS = {name: BASE + STEP * place for place, name in enumerate(NAMES)}
SAMPLES = 1000
_EVENT = WrittenEvent(written.IP | written.TID | written.TIME | written.PERIOD | written.CALLCHAIN)


def perf_data(walk_share: float, pid: int = 77) -> bytes:
    """A recording in which so much of the time is in `rmap_walk_anon`, all else in copying."""
    walking = round(SAMPLES * walk_share)
    records = []
    for number in range(SAMPLES):
        chain = PATH + (WALK if number < walking else COPY)
        addresses = [ADDRESS[name] + 0x10 for name in reversed(chain)]
        sample = Sample(addresses[0], pid, pid, 1000 + number, 0, 1_000_000, (written.KERNEL, *addresses))
        records.append(_EVENT.sample(sample))
    return PerfData((_EVENT,), records).file()


def add(run: Path, walk_share: float, index: int = 2) -> None:
    """Give a run another trial, of observing, with such a recording and the kernel's symbols."""
    data = perf_data(walk_share)
    trial = synthetic_pages.observed_trial(index)
    trial["observe"] |= {"file": "perf.data", "kallsyms": "kallsyms"}
    first = json.loads((run / "trials" / "0001" / "trial.json").read_text())
    directory = run / "trials" / f"{index:04}"
    directory.mkdir()
    for name in first["files"]:
        (directory / name).write_bytes((run / "trials" / "0001" / name).read_bytes())
    (directory / "perf.data").write_bytes(data)
    trial["files"] = {**first["files"], "perf.data": {"bytes": len(data)}}
    (directory / "trial.json").write_text(json.dumps(trial))
    (run / "kallsyms").write_text("".join(f"{ADDRESS[name]:016x} T {name}\n" for name in NAMES))
    record = json.loads((run / "run.json").read_text())
    record["plan"]["order"].append(["default", "observe:cpu"])
    (run / "run.json").write_text(json.dumps(record))
