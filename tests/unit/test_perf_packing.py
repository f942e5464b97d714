"""The same records as a file, a pipe, a directory, and compressed in both ways say the same, however they are cut."""

from __future__ import annotations

import io
import struct
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from unit import perfdata_writer as written
from unit.perfdata_writer import PerfData, Sample, WrittenEvent

from numabench.perf import PerfDataError, load

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from numabench.perf import Profile

# perf record -e A/call-graph=fp/ -e B/call-graph=no/: the events' samples differ in layout.
COMMON = written.IDENTIFIER | written.IP | written.TID | written.TIME | written.CPU | written.PERIOD
EVENTS = (
    WrittenEvent(COMMON | written.CALLCHAIN | written.RAW, ids=(11, 12)),
    WrittenEvent(COMMON | written.RAW, ids=(21,), config=1),
)
CHAINS = st.lists(st.integers(1, 40), max_size=20).map(
    lambda depths: (written.KERNEL, *(2**63 + 16 * depth for depth in depths), written.USER, 0x401000 + len(depths))
)
SAMPLES = st.builds(
    Sample,
    tid=st.integers(1, 5),
    time_ns=st.integers(0, 2**40),
    period=st.integers(1, 10**6),
    chain=CHAINS,
    raw=st.integers(0, 30).map(lambda words: bytes(8 * words + 4)),
)
RECORDED = st.lists(st.tuples(st.integers(0, 1), SAMPLES), min_size=1, max_size=40)


def packed(data: bytes, part_bytes: int, kind: int) -> list[bytes]:
    """The records of one zstd stream over data, as `perf record -z` cuts it: records may end in the next part."""
    stream = zstd.ZstdCompressor()
    parts = []
    for at in range(0, len(data), part_bytes):
        part = stream.compress(data[at : at + part_bytes], zstd.ZstdCompressor.FLUSH_BLOCK)
        if kind == 83:
            part = struct.pack("<Q", len(part)) + part.ljust(-(-len(part) // 8) * 8, b"\0")
        parts.append(written.record(kind, part))
    return parts


def told(profile: Profile) -> Counter[tuple[object, ...]]:
    """All that a recording says of its samples, in no order."""
    found: Counter[tuple[object, ...]] = Counter()
    for event in profile.events:
        rows = profile.samples(event)
        for row, (group, start, size) in enumerate(
            zip(rows.group.tolist(), rows.raw_start.tolist(), rows.raw_bytes.tolist(), strict=True)
        ):
            kernel = profile.kernel_chains[int(profile.groups["kernel"][group])]
            user = profile.user_chains[int(profile.groups["user"][group])]
            columns = (column[row] for column in (rows.time_ns, rows.tid, rows.cpu, rows.period))
            raw = rows.raw[start : start + size].tobytes()
            found[event.number, *map(int, columns), tuple(kernel.tolist()), tuple(user.tolist()), raw] += 1
    return found


def expected(recorded: list[tuple[int, Sample]]) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for number, sample in recorded:
        kernel, user = (sample.chain[1:-2], sample.chain[-1:]) if number == 0 else ((sample.ip,), ())
        columns = (sample.time_ns, sample.tid, sample.cpu, sample.period)
        found[number, *columns, kernel, user, sample.raw] += 1
    return found


@settings(max_examples=150, deadline=None)
@given(RECORDED, st.sampled_from([81, 83]), st.integers(1, 3000), st.booleans())
def test_compressed_records_hold_what_was_packed(
    recorded: list[tuple[int, Sample]], kind: int, part_bytes: int, is_pipe: bool
) -> None:
    records = b"".join(EVENTS[number].sample(sample) for number, sample in recorded)
    data = PerfData(EVENTS, packed(records, part_bytes, kind))
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data.pipe() if is_pipe else data.file())
        profile = load(file.name, rows=["*"])
    assert told(profile) == expected(recorded)
    assert profile.stats.records[kind] == len(data.records)
    assert (profile.stats.truncated, profile.stats.malformed_records, profile.stats.unknown_events) == (False, 0, 0)


@settings(max_examples=75, deadline=None)
@given(RECORDED, st.lists(st.integers(0, 2), min_size=40, max_size=40), st.sampled_from([0, 81, 83]))
def test_a_directory_holds_what_its_files_hold(recorded: list[tuple[int, Sample]], files: list[int], kind: int) -> None:
    parts = [b"", b"", b""]
    for (number, sample), file in zip(recorded, files, strict=False):
        parts[file] += EVENTS[number].sample(sample)
    # Each file of `perf record --threads -z` has a zstd stream of its own.
    written_parts = [packed(part, 500, kind) if kind else [part] for part in parts]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "data").write_bytes(PerfData(EVENTS, written_parts[0]).file())
        for number, part in enumerate(written_parts[1:]):
            (directory / f"data.{number}").write_bytes(b"".join(part))
        profile = load(directory, rows=["*"])
    assert told(profile) == expected(recorded)


def test_a_compressed_recording_cut_off_at_any_byte_is_read_as_far_as_it_goes() -> None:
    samples = [(n % 2, Sample(tid=n, time_ns=n, chain=(written.KERNEL, 2**63 + n, written.USER, n))) for n in range(9)]
    records = b"".join(EVENTS[number].sample(sample) for number, sample in samples)
    for kind in (81, 83):
        data = PerfData(EVENTS, packed(records, 200, kind))
        whole = data.pipe()
        ends = [len(whole) - sum(map(len, data.records[count:])) for count in range(len(data.records) + 1)]
        before = 0
        for length in range(ends[0], len(whole) + 1):
            profile = load(io.BytesIO(whole[:length]), rows=["*"])
            assert told(profile) <= expected(samples)
            assert profile.stats.samples >= before
            # Cut between two compressed records it may still end within a record that they hold.
            assert profile.stats.truncated or length in ends
            before = profile.stats.samples
        assert before == len(samples)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([81, 83]), st.integers(0, 10**6), st.binary(min_size=1, max_size=16))
def test_a_damaged_compressed_recording_is_an_error_or_counted(kind: int, at: int, damage: bytes) -> None:
    sample = EVENTS[0].sample(Sample())
    data = PerfData(EVENTS, packed(sample * 20, 300, kind))
    whole = bytearray(data.pipe())
    start = len(whole) - sum(map(len, data.records))
    at = start + at % (len(whole) - start)
    whole[at : at + len(damage)] = damage
    try:
        stats = load(io.BytesIO(bytes(whole)), rows=["*"]).stats
    except PerfDataError:
        return
    assert stats.samples <= 40
