"""Every layout that perf_event_open(2) allows, and files that are cut off or lie."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit import perfdata_writer as written
from unit.perfdata_writer import PerfData, Sample, WrittenEvent

from numabench.perf import PerfDataError, load

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.perf import Profile

EVERYTHING = written.IP | written.TID | written.TIME | written.CPU | written.PERIOD | written.CALLCHAIN | written.RAW
BITS = [1 << bit for bit in range(15)] + [written.IDENTIFIER]


def read(data: bytes, *, parity: bool = False) -> Profile:
    return load(io.BytesIO(data), rows=["*"], parity=parity)


def read_file(directory: Path, data: bytes) -> Profile:
    path = directory / "perf.data"
    path.write_bytes(data)
    return load(path, rows=["*"])


@settings(max_examples=300, deadline=None)
@given(bits=st.sets(st.sampled_from(BITS)), read_format=st.integers(0, 31), count=st.integers(1, 3))
def test_a_sample_is_read_in_every_layout(bits: set[int], read_format: int, count: int) -> None:
    event = WrittenEvent(sum(bits), read_format=read_format, ids=(77,))
    sample = Sample()
    profile = read(PerfData((event,), [event.sample(sample)] * count).pipe())
    assert profile.stats.malformed_records == 0
    (group,) = profile.groups.tolist()
    has = event.sample_type
    period = sample.period if has & written.PERIOD else event.period
    time_ns = sample.time_ns if has & written.TIME else 0
    pid, tid = (sample.pid, sample.tid) if has & written.TID else (0, 0)
    kernel = list(sample.chain[1:3]) if has & written.CALLCHAIN else [sample.ip] if has & written.IP else []
    user = [sample.chain[4]] if has & written.CALLCHAIN else []
    assert group[:7] == (count, count * period, time_ns, time_ns, 0, pid, tid)
    assert profile.kernel_chains[group[8]].tolist() == kernel
    assert profile.user_chains[group[9]].tolist() == user
    samples = profile.samples(profile.events[0])
    assert samples.cpu.tolist() == [sample.cpu if has & written.CPU else 2**32 - 1] * count
    assert samples.raw.tobytes() == (sample.raw * count if has & written.RAW else b"")


@settings(max_examples=100, deadline=None)
@given(
    common=st.sets(st.sampled_from([written.TID, written.TIME, written.CPU, written.CALLCHAIN, written.RAW])),
    identifier=st.booleans(),
    turns=st.lists(st.integers(0, 2), min_size=1, max_size=20),
)
def test_samples_of_several_events_go_to_their_own(common: set[int], identifier: bool, turns: list[int]) -> None:
    by = written.IDENTIFIER if identifier else written.ID
    events = tuple(WrittenEvent(sum(common) | by, ids=(10 * n + 1, 10 * n + 2), config=n) for n in range(3))
    profile = read(PerfData(events, [events[turn].sample(Sample()) for turn in turns]).pipe())
    counts = dict.fromkeys(range(3), 0)
    for group in profile.groups:
        counts[int(group["event"])] += int(group["count"])
    assert counts == {number: turns.count(number) for number in range(3)}


def test_events_of_different_layouts_are_told_apart_by_their_identifier() -> None:
    one = WrittenEvent(written.IDENTIFIER | written.IP | written.CALLCHAIN, ids=(1,))
    two = WrittenEvent(written.IDENTIFIER | written.TIME | written.RAW, ids=(2,), config=1)
    profile = read(PerfData((one, two), [one.sample(Sample()), two.sample(Sample(time_ns=9))]).pipe())
    assert [(row["event"], row["count"], row["last_ns"]) for row in profile.groups] == [(0, 1, 0), (1, 1, 9)]


def test_a_file_and_a_pipe_of_the_same_records_say_the_same(tmp_path: Path) -> None:
    event = WrittenEvent(EVERYTHING, ids=(5,))
    data = PerfData((event,), [event.sample(Sample(tid=tid)) for tid in range(50)])
    one, other = read(data.pipe()), read_file(tmp_path, data.file())
    assert one.groups.tolist() == other.groups.tolist()
    assert (one.stats.samples, other.stats.truncated) == (50, False)


def test_a_file_cut_off_at_any_byte_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    event = WrittenEvent(EVERYTHING | written.ID, ids=(5,))
    records = [
        event.sample(Sample()),
        written.record(written.LOST, struct.pack("<QQ", 5, 3)),
        event.sample(Sample(tid=9)),
    ]
    whole = PerfData((event,), records).file()
    start = len(whole) - sum(map(len, records))
    ends = [start + sum(map(len, records[:count])) for count in range(4)]
    for length in range(len(whole) + 1):
        if length < start:
            try:
                assert read_file(tmp_path, whole[:length]).stats.samples == 0
            except PerfDataError:
                continue
        else:
            stats = read_file(tmp_path, whole[:length]).stats
            assert stats.samples == sum(end <= length for end in (ends[1], ends[3]))
            assert stats.truncated == (length < len(whole))


def test_a_pipe_cut_off_at_any_byte_is_read_as_far_as_it_goes() -> None:
    event = WrittenEvent(EVERYTHING, ids=(5,))
    data = PerfData((event,), [event.sample(Sample(tid=tid)) for tid in range(3)])
    whole = data.pipe()
    ends = [len(whole) - sum(map(len, data.records[count:])) for count in range(4)]
    for length in range(ends[0], len(whole) + 1):
        stats = read(whole[:length]).stats
        assert stats.samples == sum(end <= length for end in ends[1:])
        assert stats.truncated == (length not in ends)


def test_a_recording_whose_recorder_was_killed_is_read_to_its_end(tmp_path: Path) -> None:
    event = WrittenEvent(EVERYTHING)
    data = PerfData((event,), [event.sample(Sample())] * 4)
    profile = read_file(tmp_path, data.file(data_bytes=0))
    assert (profile.stats.samples, profile.stats.truncated) == (4, False)


@pytest.mark.parametrize("size", range(8))
def test_a_record_too_small_to_be_one_is_an_error(size: int) -> None:
    event = WrittenEvent(EVERYTHING)
    data = PerfData((event,), [event.sample(Sample()), struct.pack("<IHH", written.SAMPLE, 0, size) + bytes(64)])
    with pytest.raises(PerfDataError, match="corrupt"):
        read(data.pipe())


def test_counts_that_reach_beyond_their_record_are_counted_as_malformed() -> None:
    event = WrittenEvent(written.CALLCHAIN | written.RAW | written.READ, read_format=8)
    bodies = ((2**63,), (2**61, 0), (0, 2**61), (0, 2**64 - 1), (0, 0, 2**32 - 1), ())
    lies = [written.record(written.SAMPLE, struct.pack(f"<{len(body)}Q", *body)) for body in bodies]
    profile = read(PerfData((event,), lies).pipe())
    assert (profile.stats.samples, profile.stats.malformed_records) == (0, len(lies))


def test_unknown_records_are_skipped_and_counted() -> None:
    event = WrittenEvent(EVERYTHING)
    strange = [written.record(kind, bytes(16)) for kind in (0, 23, 63, 99, 2**31)]
    profile = read(PerfData((event,), [*strange, event.sample(Sample())]).pipe())
    assert (profile.stats.samples, profile.stats.unknown_records) == (1, len(strange))


def test_one_loss_told_by_two_kinds_of_records_is_not_added_up() -> None:
    event = WrittenEvent(EVERYTHING)
    lost = [written.record(written.LOST, struct.pack("<QQ", 0, 20))] * 3
    lost += [written.record(written.LOST_SAMPLES, struct.pack("<Q", 60)), written.record(written.THROTTLE, bytes(24))]
    stats = read(PerfData((event,), lost).pipe()).stats
    assert (stats.lost, stats.throttled) == (60, 1)


CHAINS = {
    "garbage in the user part": ((written.KERNEL, 2**63, written.USER, 1, 2**64 - 1, 2), [2**63], [1], 1),
    "garbage in the kernel part": ((written.KERNEL, 2**63, 2**64 - 4095, written.USER, 1), [2**63], [], 1),
    "an address just below the markers": ((written.KERNEL, 2**64 - 4096), [2**64 - 4096], [], 0),
    "no context at all": ((5, 6), [], [5, 6], 0),
    "nothing": ((), [], [], 0),
    "contexts alone": ((written.KERNEL, written.USER), [], [], 0),
    "a hypervisor between": ((written.HYPERVISOR, 9, written.KERNEL, 2**63, written.USER, 1), [2**63], [1], 0),
    "a user part to come": ((written.KERNEL, 2**63, written.DEFERRED, 99), [2**63], [], 0),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_parted_by_its_contexts(name: str) -> None:
    chain, kernel, user, garbage = CHAINS[name]
    event = WrittenEvent(written.CALLCHAIN)
    profile = read(PerfData((event,), [event.sample(Sample(chain=chain))]).pipe())
    (group,) = profile.groups
    assert profile.kernel_chains[int(group["kernel"])].tolist() == kernel
    assert profile.user_chains[int(group["user"])].tolist() == user
    assert profile.stats.garbage_chains == garbage


def test_perfs_own_rule_drops_a_whole_chain_for_one_garbage_word() -> None:
    event = WrittenEvent(written.CALLCHAIN)
    data = PerfData((event,), [event.sample(Sample(chain=CHAINS["garbage in the user part"][0]))]).pipe()
    (group,) = read(data, parity=True).groups
    assert (group["count"], group["kernel"], group["user"]) == (1, 0, 0)


def test_a_user_part_to_come_is_no_garbage_by_perfs_rule_either() -> None:
    event = WrittenEvent(written.CALLCHAIN)
    data = PerfData((event,), [event.sample(Sample(chain=CHAINS["a user part to come"][0]))])
    # { u64 cookie, nr, ips[nr]; }: the record that brings the user part, since Linux 6.19.
    data.records.append(written.record(22, struct.pack("<4Q", 99, 2, 0x401000, 0x402000) + event.trailer()))
    for parity in (False, True):
        profile = read(data.pipe(), parity=parity)
        (group,) = profile.groups
        assert profile.kernel_chains[int(group["kernel"])].tolist() == [2**63]
        assert (profile.stats.deferred_chains, profile.stats.garbage_chains) == (1, 0)
        assert (profile.stats.records[22], profile.stats.unknown_records, profile.stats.samples) == (1, 0, 1)


def map_record(event: WrittenEvent, pid: int, time_ns: int, address: int, file: str) -> bytes:
    body = struct.pack("<II3Q", pid, pid, address, 0x1000, 0) + bytes(32) + written.text(file)
    return written.record(written.MMAP2, body + event.trailer(pid, time_ns), misc=2)


def test_a_user_frame_is_what_was_mapped_there_at_its_time(tmp_path: Path) -> None:
    event = WrittenEvent(written.TID | written.TIME | written.CALLCHAIN)
    chain = (written.USER, 0x400010)
    times = (100, 300, 500, 700)
    records = [event.sample(Sample(pid=7, tid=7, time_ns=time_ns, chain=chain)) for time_ns in times]
    fork = struct.pack("<IIIIQ", 7, 1, 7, 1, 600)
    records += [
        map_record(event, 7, 50, 0x400000, "/no/first"),
        map_record(event, 7, 200, 0x400000, "/no/second"),
        written.record(
            written.COMM, struct.pack("<II", 7, 7) + written.text("new") + event.trailer(7, 400), misc=1 << 13
        ),
        written.record(written.FORK, fork + event.trailer(7, 600)),
        map_record(event, 7, 650, 0x400000, "/no/third"),
    ]
    profile = read_file(tmp_path, PerfData((event,), records).file())
    stacks = dict(profile.tree(kallsyms=None).stacks())
    assert stacks == {("[first]",): 1, ("[second]",): 1, ("[unknown]",): 1, ("[third]",): 1}


def test_chains_are_numbered_without_gaps_however_many_there_are() -> None:
    event = WrittenEvent(written.CALLCHAIN)
    chains = [(written.KERNEL, *range(2**63, 2**63 + n % 50), n + 1) for n in range(5000)]
    profile = read(PerfData((event,), [event.sample(Sample(chain=chain)) for chain in chains]).pipe())
    assert len(profile.kernel_chains) == 5001
    assert [profile.kernel_chains[n + 1].tolist() for n in range(5000)] == [list(chain[1:]) for chain in chains]
    assert all(one <= other for one, other in pairwise(profile.kernel_chains.starts.tolist()))


@pytest.mark.parametrize(
    "data", [b"", b"PERF", b"#!/bin/sh\n" * 20, b"PERFILE2", b"PERFILE2" + bytes(200), b"2ELIFREP" + bytes(200)]
)
def test_what_is_no_recording_is_told_so(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(PerfDataError):
        read_file(tmp_path, data)
