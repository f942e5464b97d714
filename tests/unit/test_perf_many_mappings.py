"""A recording with more mappings than any honest one: read in a bounded number of steps; what was cut is counted."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from unit import perfdata_writer as written
from unit.perfdata_writer import Sample, WrittenEvent

from numabench import perf

if TYPE_CHECKING:
    from pathlib import Path

EVENT = WrittenEvent(0x4C7 | written.CALLCHAIN | written.PERIOD, ids=(1,))
MORE_THAN_ANY_PROCESS_HAS = 65_600


def mapping(number: int) -> bytes:
    body = struct.pack("<II3Q", 7, 7, 0x400000 + number * 0x1000, 0x1000, 0) + written.text("/usr/bin/cat")
    return written.record(written.MMAP, body + EVENT.trailer(time_ns=number), misc=2)


def test_what_lies_below_more_mappings_than_are_looked_at_is_unknown_and_counted(tmp_path: Path) -> None:
    last = MORE_THAN_ANY_PROCESS_HAS - 1
    chains = [(written.USER, 0x400000 + number * 0x1000) for number in (0, last)]
    samples = [EVENT.sample(Sample(chain=chain, time_ns=10**6, tid=7)) for chain in chains]
    path = tmp_path / "perf.data"
    records = [*map(mapping, range(MORE_THAN_ANY_PROCESS_HAS)), *samples]
    path.write_bytes(written.PerfData((EVENT,), records).file())
    profile = perf.load(path)
    assert profile.stats.samples == 2
    assert profile.stats.cut_lookups == 1


def test_an_honest_recording_has_none_cut(tmp_path: Path) -> None:
    path = tmp_path / "perf.data"
    chain = (written.USER, 0x400000, 0x999000000)
    path.write_bytes(
        written.PerfData((EVENT,), [mapping(0), mapping(1), EVENT.sample(Sample(chain=chain, tid=7))]).file()
    )
    assert perf.load(path).stats.cut_lookups == 0
