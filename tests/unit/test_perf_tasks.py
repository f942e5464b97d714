"""A sample is of who it was, and where it was, at its time: whatever order the records come in and however many."""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit import perfdata_writer as written
from unit.perfdata_writer import PerfData, Sample, WrittenEvent

from numabench.perf import load, records
from numabench.perf.columns import distinct, grouped
from numabench.report.folded import folded, shown

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.perf import Profile

EVENT = WrittenEvent(written.TID | written.TIME | written.CALLCHAIN)
ROUND = written.record(68, b"")
ADDRESS = 0x400010


def sample(pid: int, time_ns: int, *, tid: int = 0, address: int = ADDRESS) -> bytes:
    return EVENT.sample(Sample(pid=pid, tid=tid or pid, time_ns=time_ns, chain=(written.USER, address)))


def mapped(pid: int, time_ns: int, file: str, address: int = 0x400000, size_bytes: int = 0x1000) -> bytes:
    body = struct.pack("<II3Q", pid, pid, address, size_bytes, 0) + bytes(32) + written.text(file)
    return written.record(written.MMAP2, body + EVENT.trailer(pid, time_ns), misc=2)


def named(pid: int, time_ns: int, name: str, *, tid: int = 0, is_exec: bool = False) -> bytes:
    body = struct.pack("<II", pid, tid or pid) + written.text(name)
    return written.record(written.COMM, body + EVENT.trailer(pid, time_ns), misc=(1 << 13) * is_exec)


def forked(pid: int, time_ns: int, parent: int, *, tid: int = 0) -> bytes:
    body = struct.pack("<IIIIQ", pid, parent, tid or pid, parent, time_ns)
    return written.record(written.FORK, body + EVENT.trailer(pid, time_ns))


def ended(pid: int, time_ns: int) -> bytes:
    body = struct.pack("<IIIIQ", pid, 1, pid, 1, time_ns)
    return written.record(written.EXIT, body + EVENT.trailer(pid, time_ns))


def who_was_where(profile: Profile) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for frames, count in profile.tree(kallsyms=None, comm=True).stacks():
        found[frames[::-1]] += count
    return found


LIFE = {
    # What was so when recording began is told later than the first sample.
    10: ("[sh]", "sh"),
    20: ("[sh]", "sh"),
    # A child has its parent's name and memory until it executes something else.
    30: ("[sh]", "sh"),
    40: ("[unknown]", "cat"),
    50: ("[cat]", "cat"),
    60: ("[libc.so.6]", "cat"),
    # The same pid, once more: a child of another process.
    80: ("[bash]", "bash"),
    90: ("[bash]", "renamed"),
}


def tasks(pid: int) -> list[bytes]:
    return [
        mapped(1, 15, "/bin/sh"),
        named(1, 15, "sh"),
        mapped(2, 16, "/bin/bash"),
        named(2, 16, "bash"),
        forked(pid, 25, 1),
        named(pid, 35, "cat", is_exec=True),
        mapped(pid, 45, "/bin/cat"),
        mapped(pid, 55, "/lib/libc.so.6"),
        ended(pid, 65),
        forked(pid, 75, 2),
        named(pid, 85, "renamed"),
    ]


def life(pid: int) -> list[bytes]:
    """The samples of a life before all that happens in it, as they stand in a file whose CPUs were emptied in turn."""
    return [sample(1 if time_ns <= 20 else pid, time_ns) for time_ns in LIFE] + tasks(pid)


EXPECTED = Counter((comm, file) for file, comm in LIFE.values())


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("held_bytes", [0, 600, 1 << 20])
def test_a_file_is_read_by_its_times_however_little_may_be_held(
    threads: bool, held_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_MAX_HELD_BYTES", held_bytes)
    monkeypatch.setattr("numabench.perf.reader._MAP_BYTES", 4096)
    path = tmp_path / "perf.data"
    path.write_bytes(PerfData((EVENT,), life(7)).file())
    profile = load(path, threads=threads)
    assert who_was_where(profile) == EXPECTED
    assert profile.stats.samples == len(LIFE)


def test_a_pipe_is_read_by_its_times_as_far_as_perf_keeps_its_rounds() -> None:
    # Each round has the samples of one CPU before what another one tells of the same time.
    told = tasks(7)
    first = [sample(1 if at <= 20 else 7, at) for at in LIFE if at <= 40]
    second = [sample(7, at) for at in LIFE if at > 40]
    data = [*first, *told[:6], ROUND, *second, *told[6:], ROUND, ROUND]
    assert who_was_where(load(io.BytesIO(PerfData((EVENT,), data).pipe()))) == EXPECTED


@pytest.mark.parametrize("threads", [False, True])
def test_of_many_processes_what_ended_is_forgotten_and_nothing_is_mistaken(threads: bool) -> None:
    count, block = 30_000, 500
    data: list[bytes] = [mapped(1, 1, "/bin/sh"), named(1, 1, "sh")]
    expected: Counter[tuple[str, ...]] = Counter()
    for begin in range(0, count, block):
        told, samples = [], [sample(1, 1000 * (begin + 1))]
        expected["sh", "[sh]"] += 1
        for number in range(begin, begin + block):
            pid, now = 100 + number % 20_000, 1000 * (number + 1)
            told += [forked(pid, now, 1), named(pid, now + 10, f"p{number % 7}", is_exec=True)]
            told += [mapped(pid, now + 20, f"/bin/p{number % 7}", 0x400000 + number * 4096), ended(pid, now + 500)]
            samples += [sample(pid, now + 5), sample(pid, now + 30, address=0x400010 + number * 4096)]
            expected["sh", "[sh]"] += 1
            expected[f"p{number % 7}", f"[p{number % 7}]"] += 1
        data += [*samples, *told, ROUND]
    profile = load(io.BytesIO(PerfData((EVENT,), data).pipe()), threads=threads)
    assert who_was_where(profile) == expected


def test_threads_of_one_name_are_counted_together_or_apart() -> None:
    told = [named(7, 1, "one"), named(7, 1, "two", tid=8), named(9, 1, "one")]
    samples = [sample(7, 5), sample(7, 5, tid=8), sample(9, 5), sample(9, 6)]
    data = PerfData((EVENT,), told + samples).pipe()
    apart, together = load(io.BytesIO(data)), load(io.BytesIO(data), threads=False)
    assert sorted(zip(apart.comms(), apart.groups["tid"].tolist(), apart.groups["count"].tolist(), strict=True)) == [
        ("one", 7, 1),
        ("one", 9, 2),
        ("two", 8, 1),
    ]
    assert sorted(zip(together.comms(), together.groups["count"].tolist(), strict=True)) == [("one", 3), ("two", 1)]
    assert who_was_where(apart) == who_was_where(together)


@settings(max_examples=200, deadline=None)
@given(
    times=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    asked=st.lists(st.integers(1, 45), min_size=1, max_size=20),
)
def test_of_many_changes_the_last_one_before_a_sample_holds(times: list[int], asked: list[int]) -> None:
    names = [named(7, time_ns, f"n{number}") for number, time_ns in enumerate(times)]
    profile = load(io.BytesIO(PerfData((EVENT,), [sample(7, at) for at in asked] + names).pipe()))
    told = sorted(enumerate(times), key=lambda change: change[1])
    expected: Counter[str] = Counter()
    for at in asked:
        before = [number for number, time_ns in told if time_ns <= at]
        expected[f"n{before[-1] if before else told[0][0]}"] += 1
    assert Counter({frames[0]: count for frames, count in who_was_where(profile).items()}) == expected


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(stacks=st.lists(st.tuples(NAMES, st.lists(st.sampled_from(["a;b", "a.b", "ab;c", "é\x1b", "z"]), max_size=4))))
def test_folded_text_is_that_of_stacks_of_names(stacks: list[tuple[str, list[str]]]) -> None:
    from numabench.analysis.callchain import Stack

    data, pid = [], 10
    for comm, files in stacks:
        pid += 1
        data.append(named(pid, 1, comm))
        data += [mapped(pid, 2, f"/{file}", 0x1000 * (at + 1)) for at, file in enumerate(files)]
        chain = (written.USER, *(0x1000 * (at + 1) + 8 for at in range(len(files))))
        data.append(EVENT.sample(Sample(pid=pid, tid=pid, time_ns=9, chain=chain)))
    profile = load(io.BytesIO(PerfData((EVENT,), data).pipe()), threads=False)
    text = b"".join(profile.tree(kallsyms=None, comm=True, shown=shown).folded_text()).decode()
    expected = [Stack(frames[:-1], count, count, frames[-1]) for frames, count in profile_stacks(profile)]
    assert text == folded(expected)


def profile_stacks(profile: Profile) -> list[tuple[tuple[str, ...], int]]:
    return list(profile.tree(kallsyms=None, comm=True).stacks())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9)))
def test_distinct_values_are_numbered_as_they_come(values: list[int]) -> None:
    found, codes = distinct(np.array(values, np.uint64))
    assert found.tolist() == list(dict.fromkeys(values))
    assert found[codes].tolist() == values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**50))))
def test_values_are_summed_by_their_groups(rows: list[tuple[int, int]]) -> None:
    codes, values = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    totals, most, histogram = grouped(codes, values, 6)
    for group in range(6):
        own = [value for code, value in rows if code == group]
        assert (int(totals[group]), int(most[group])) == (sum(own), max(own, default=0))
        assert histogram[group].tolist() == [sum(max(v, 1).bit_length() == n + 1 for v in own) for n in range(64)]


def test_chains_of_any_length_are_told_apart() -> None:
    event = WrittenEvent(written.CALLCHAIN)
    lengths = [*range(1, 10), 127, 128, 129, 130, 255, 256, 257, 1000, 4000]
    chains = []
    for length in lengths:
        kernel = [2**63 + number for number in range(length)]
        swapped = [*kernel[1:2], *kernel[:1], *kernel[2:]]
        chains += [kernel, swapped] if length > 1 else [kernel]
    data = [event.sample(Sample(chain=(written.KERNEL, *chain))) for chain in chains for _ in range(3)]
    # The same words, but of the kernel or of the user, are not the same chain.
    data += [event.sample(Sample(chain=(written.KERNEL, 5, 6))), event.sample(Sample(chain=(written.KERNEL, 5)))]
    data += [event.sample(Sample(chain=(written.KERNEL, 5, written.USER, 6)))]
    profile = load(io.BytesIO(PerfData((event,), data).pipe()))
    assert sorted(profile.groups["count"].tolist()) == [1] * 3 + [3] * len(chains)
    assert sorted(len(profile.kernel_chains[int(group["kernel"])]) for group in profile.groups) == sorted(
        [*map(len, chains), 2, 1, 1]
    )


def test_more_different_samples_than_are_remembered_are_all_counted() -> None:
    event = WrittenEvent(written.CALLCHAIN)
    count = 170_000  # more than the table of those seen has room for
    words = np.empty((2 * count, 4), np.uint64)
    words[:, 0] = written.SAMPLE | 1 << 32 | 32 << 48
    words[:, 1], words[:, 2] = 2, written.KERNEL
    words[:, 3] = 2**63 + np.tile(np.arange(count, dtype=np.uint64), 2)
    profile = load(io.BytesIO(PerfData((event,), [words.tobytes()]).pipe()), user=False, threads=False)
    assert len(profile.groups) == count
    assert set(profile.groups["count"].tolist()) == {2}


def test_a_truncated_stream_keeps_what_it_had(tmp_path: Path) -> None:
    whole = PerfData((EVENT,), life(7)).pipe()
    for length in range(len(whole) - 400, len(whole), 7):
        profile = load(io.BytesIO(whole[:length]))
        assert profile.stats.samples == len(LIFE)


def test_a_fifo_is_read_like_a_file(tmp_path: Path) -> None:
    import threading

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(PerfData((EVENT,), life(7)).pipe()))
    writer.start()
    assert who_was_where(load(fifo)) == EXPECTED
    writer.join()
