"""Recordings of several perfs and kernels, kept with what perf itself says of them: every stack, count and wait."""

from __future__ import annotations

import itertools
import lzma
import random
import re
import struct
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from numabench.analysis import contention, offcpu, recorded
from numabench.perf import Kallsyms, PerfDataError, Profile, load

FIXTURES = Path(__file__).parents[1] / "fixtures/perf"
RECORDINGS = sorted(
    str(path.relative_to(FIXTURES)).removesuffix(".script.xz") for path in FIXTURES.glob("*/*.script.xz")
)
# Where user space begins; `perf script` prints a chain's two parts without a mark between them.
KERNEL_HALF = 1 << 63
HEAD = re.compile(r"^\s*(?P<comm>\S.*?)\s+(?P<tid>-?\d+)\s+(?P<time>\d+\.\d{9}):\s+(?P<event>\S+):(?P<leaf>.*)$")
FRAME = re.compile(r"^\s*(?P<address>[0-9a-f]+) (?P<name>.+)$")
# What `perf report --stats` calls the records, enum perf_event_type and perf's own.
RECORDS = {
    "MMAP": 1, "LOST": 2, "COMM": 3, "EXIT": 4, "THROTTLE": 5, "UNTHROTTLE": 6, "FORK": 7, "SAMPLE": 9, "MMAP2": 10,
    "ITRACE_START": 12, "KSYMBOL": 17, "BPF_EVENT": 18, "CALLCHAIN_DEFERRED": 22, "FINISHED_ROUND": 68, "ID_INDEX": 69,
    "TIME_CONV": 79, "COMPRESSED": 81, "FINISHED_INIT": 82, "COMPRESSED2": 83,
}  # fmt: skip

Frames = tuple[tuple[int, str], ...]
Printed = tuple[str, int, int, str, Frames]


def text_of(name: str, suffix: str) -> str:
    return lzma.decompress((FIXTURES / f"{name}.{suffix}.xz").read_bytes()).decode()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("perf")


def unpack(name: str, directory: Path) -> Path:
    target = directory / name
    if target.exists():
        return target
    target.parent.mkdir(exist_ok=True)
    packed = FIXTURES / f"{name}.tar.xz"
    if packed.exists():
        with tarfile.open(packed) as archive:
            archive.extractall(target, filter="data")
    else:
        target.write_bytes(lzma.decompress((FIXTURES / f"{name}.data.xz").read_bytes()))
    return target


def profile_of(name: str, directory: Path, *, parity: bool = True) -> Profile:
    return load(unpack(name, directory), rows=["*"], parity=parity)


def kallsyms_of(name: str) -> Kallsyms:
    return Kallsyms(lzma.decompress((FIXTURES / name).with_name("kallsyms.xz").read_bytes()))


def printed(name: str) -> list[Printed]:
    """Command, thread, time, event and frames of every sample that `perf script` prints."""
    samples: list[Printed] = []
    for line in text_of(name, "script").splitlines():
        head = HEAD.match(line)
        if head:
            seconds, _, ns = head["time"].partition(".")
            leaf = FRAME.match(head["leaf"])
            frames = ((int(leaf["address"], 16), leaf["name"]),) if leaf else ()
            samples.append(
                (head["comm"], int(head["tid"]) % 2**32, int(seconds) * 10**9 + int(ns), head["event"], frames)
            )
        elif line.strip():
            frame = FRAME.match(line)
            assert frame, line
            samples[-1] = (*samples[-1][:4], (*samples[-1][4], (int(frame["address"], 16), frame["name"])))
    return samples


def kernel_part(frames: Frames) -> Frames:
    return tuple(itertools.takewhile(lambda frame: frame[0] >= KERNEL_HALF, frames))


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_kernel_chain_of_every_thread_is_that_of_perf_script(name: str, unpacked: Path) -> None:
    profile = profile_of(name, unpacked)
    ours: Counter[tuple[str, int, tuple[int, ...]]] = Counter()
    for group in profile.groups:
        kernel = profile.kernel_chains[int(group["kernel"])].tolist()
        ours[profile.events[group["event"]].name, int(group["tid"]), tuple(kernel)] += int(group["count"])
    theirs = Counter(
        (event, tid, tuple(address for address, _ in kernel_part(frames))) for _, tid, _, event, frames in printed(name)
    )
    assert theirs.total() > 30
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name in RECORDINGS if "deferred" not in name])
def test_every_chain_has_as_many_user_frames_as_in_perf_script(name: str, unpacked: Path) -> None:
    profile = profile_of(name, unpacked)
    ours: Counter[tuple[str, int, int]] = Counter()
    for event in profile.events:
        for frames, count in profile.tree(event, kallsyms=None).stacks():
            kernel = frames.count("[kernel]")
            ours[event.name, kernel, len(frames) - kernel] += count
    theirs: Counter[tuple[str, int, int]] = Counter()
    for *_, event, frames in printed(name):
        kernel = len(kernel_part(frames))
        theirs[event, kernel, len(frames) - kernel] += 1
    assert ours == theirs


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_kernel_function_has_the_name_that_perf_gives_it(name: str, unpacked: Path) -> None:
    profile = profile_of(name, unpacked)
    ours: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for event in profile.events:
        for frames, count in profile.tree(event, kallsyms=kallsyms_of(name), user=False).stacks():
            ours[event.name, frames] += count
    theirs = Counter((event, tuple(name for _, name in kernel_part(frames))) for *_, event, frames in printed(name))
    assert sum(bool(frames) for _, frames in theirs) > 5
    assert ours == theirs


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_sample_has_its_time_and_every_thread_its_name(name: str, unpacked: Path) -> None:
    profile = profile_of(name, unpacked)
    theirs = printed(name)
    samples = [profile.samples(event) for event in profile.events]
    times = Counter(
        (each.event.name, tid, time)
        for each in samples
        for tid, time in zip(each.tid.tolist(), each.time_ns.tolist(), strict=True)
    )
    assert times == Counter((event, tid, time) for _, tid, time, event, _ in theirs)
    if "deferred" in name:
        return  # perf 7 names a thread as it is called when the user part of the chain comes
    comms = profile.comms()
    named = Counter(
        (tid, time, comms[group])
        for each in samples
        for tid, time, group in zip(each.tid.tolist(), each.time_ns.tolist(), each.group.tolist(), strict=True)
    )
    # perf calls a thread by its number that it has no name of, or none any more.
    assert not Counter((tid, time, comm) for comm, tid, time, *_ in theirs if comm[0] != ":") - named


@pytest.mark.parametrize("name", [name for name in RECORDINGS if (FIXTURES / f"{name}.stats.xz").exists()])
def test_records_are_counted_as_perf_counts_them(name: str, unpacked: Path) -> None:
    total, *of_events = re.split(r"^\S+ stats:$", text_of(name, "stats"), flags=re.MULTILINE)[1:]
    stats = profile_of(name, unpacked).stats
    theirs = {kind: int(count) for kind, count in re.findall(r"^ *([A-Z_0-9]+) events: +(\d+)", total, re.MULTILINE)}
    known = {kind: count for kind, count in theirs.items() if kind in RECORDS}
    assert known
    assert known == {kind: stats.records.get(RECORDS[kind], 0) for kind in known}
    lost = sum(int(count) for count in re.findall(r"LOST_SAMPLES events: +(\d+)", "".join(of_events)))
    assert stats.lost == lost
    assert (stats.truncated, stats.malformed_records, stats.unknown_events, stats.unknown_records) == (False, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("perf-6.1/compressed", "COMPRESSED"),
        ("perf-6.12/compressed", "COMPRESSED"),
        ("perf-7.2/compressed", "COMPRESSED2"),
        ("perf-7.2/deferred", "CALLCHAIN_DEFERRED"),
        ("perf-7.2/lost", "LOST"),
        ("perf-6.12/lost", "LOST"),
    ],
)
def test_the_recordings_hold_what_they_were_made_for(name: str, record: str, unpacked: Path) -> None:
    assert profile_of(name, unpacked).stats.records[RECORDS[record]] > 0


def csv_rows(name: str, by: str) -> list[list[str]]:
    lines = text_of(name, f"contention-{by}").splitlines()
    return [line.split(", ") for line in lines if line and not line.startswith("#")]


def pairs_of(name: str, directory: Path) -> contention.ContentionPairs:
    events = recorded.contention_events(profile_of(name, directory))
    assert events is not None
    return contention.pair(events)


@pytest.mark.parametrize("name", [name for name in RECORDINGS if (FIXTURES / f"{name}.contention-l.xz").exists()])
def test_waits_are_those_of_perf_lock_contention_to_the_nanosecond(name: str, unpacked: Path) -> None:
    pairs = pairs_of(name, unpacked)
    for by, column, base in (("t", pairs.tid, 10), ("l", pairs.lock_addr, 16)):
        theirs = {int(row[4], base): tuple(map(int, row[:4])) for row in csv_rows(name, by)}
        ours = {}
        for key in set(column.tolist()):
            wait_ns = pairs.wait_ns[column == key]
            total = int(wait_ns.sum())
            ours[key] = (len(wait_ns), total, int(wait_ns.max()), total // len(wait_ns))
        # perf 6.12 leaves out a lock whose waits were all of 0 ns.
        assert {key: row for key, row in ours.items() if row[1]} == {key: row for key, row in theirs.items() if row[1]}
    report = contention.report(pairs, recorded.kernel_chains(profile_of(name, unpacked), kallsyms_of(name)))
    assert (report.by_lock[0].key[:2], report.threads) == (("rwsem:R rwsem:W", "mmap_lock"), len(csv_rows(name, "t")))
    assert report.total.total_ns == sum(int(row[1]) for row in csv_rows(name, "l"))


def test_waits_are_those_of_perf_lock_contention_as_far_as_perf_6_1_prints_them(unpacked: Path) -> None:
    pairs = pairs_of("perf-6.1/lock", unpacked)
    rows = re.findall(
        r"^ +(\d+) +([\d.]+) (\w+) +([\d.]+) (\w+) .* (\d+) +\S+$",
        text_of("perf-6.1/lock", "contention-t"),
        re.MULTILINE,
    )
    assert {int(row[-1]) for row in rows} == set(pairs.tid.tolist())
    for count, total, unit, longest, unit_of_longest, tid in rows:
        wait_ns = pairs.wait_ns[pairs.tid == int(tid)]
        assert int(count) == len(wait_ns)
        for number, in_unit, ns in ((total, unit, wait_ns.sum()), (longest, unit_of_longest, wait_ns.max())):
            assert float(number) == pytest.approx(ns / {"ns": 1, "us": 1e3, "ms": 1e6}[in_unit], abs=0.006)


def test_times_off_the_cpu_are_those_of_perf_sched_timehist(unpacked: Path) -> None:
    switches = recorded.switches(profile_of("perf-6.1/sched", unpacked))
    assert switches is not None
    off = offcpu.intervals(switches)
    theirs: dict[int, list[int]] = {}
    for line in text_of("perf-6.1/sched", "timehist").splitlines():
        found = re.search(r"\[(\d+)(?:/\d+)?\] +(\d+)\.(\d{3}) +[\d.]+ +[\d.]+ *$", line)
        if found and " perf[" not in line:
            theirs.setdefault(int(found[1]), []).append(int(found[2]) * 1000 + int(found[3]))
    # perf itself came to a CPU where the recording had not begun yet.
    assert off.unseen_returns == 1
    # perf tells a wait when the thread next leaves its CPU, and 0 for one whose beginning it has not seen.
    for tid, waits_us in theirs.items():
        ours = (off.off_ns[off.tid == tid] // 1000).tolist()
        seen = list(itertools.dropwhile(lambda wait_us: wait_us == 0, waits_us))
        assert ours[: len(seen)] == seen, tid
        assert len(ours) - len(seen) in {0, 1}, tid
    assert sum(map(len, theirs.values())) > 500


@pytest.mark.parametrize("name", ["perf-6.1/cpu-clock", "perf-6.1/pipe", "perf-7.2/lost", "perf-7.2/two-settings"])
def test_a_recording_damaged_outside_of_its_records_is_an_error_or_read(name: str) -> None:
    whole = lzma.decompress((FIXTURES / f"{name}.data.xz").read_bytes())
    state = random.Random(name)  # noqa: S311  the same damage in each run
    (data_at,) = struct.unpack_from("<Q", whole, 40) if "pipe" not in name else (16,)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(state.randint(1, 6)):
            at = state.choice([state.randrange(data_at + 400), state.randrange(len(whole) * 9 // 10, len(whole) - 8)])
            damaged[at : at + 8] = struct.pack("<Q", state.choice([0, 1, 8, 2**16 - 1, 2**32 - 1, 2**40, 2**64 - 1]))
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(damaged)
            try:
                profile = load(file.name, rows=["*"])
            except PerfDataError:
                continue
        assert profile.groups["count"].sum() == profile.stats.samples
        assert len(profile.comms()) == len(profile.groups)
