"""Recordings made here are read as `perf script` reads them."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from numabench import process
from numabench.perf import Kallsyms, PerfDataError, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.perf import Profile

WORK = ("sh", "-c", "for i in 1 2 3 4 5 6; do find /usr/lib -type f | head -400 | xargs cat > /dev/null; done")
SWITCH = ("perf", "bench", "sched", "pipe", "-l", "3000")
RECORDINGS = {
    "cpu-clock": ("-e", "cpu-clock", "-F", "4000", "-g", "-a"),
    "sched_switch": ("-e", "sched:sched_switch", "-g", "-a"),
    "two events": ("-e", "cpu-clock", "-e", "sched:sched_switch", "-g", "-a"),
    "chains on one of two events": (
        "-e",
        "sched:sched_switch/call-graph=fp/",
        "-e",
        "sched:sched_wakeup/call-graph=no/",
        "-a",
    ),
    "compressed": ("-z", "-e", "cpu-clock", "-F", "4000", "-g", "-a"),
    "dwarf": ("-e", "cpu-clock", "-F", "500", "--call-graph", "dwarf,1024", "-a"),
    "no chains": ("-e", "cpu-clock", "-F", "2000", "-a"),
    "kernel chains alone": ("-e", "cpu-clock", "-F", "2000", "-g", "--kernel-callchains"),
}
SAMPLE = re.compile(
    r"^\s*(?P<comm>.+?)\s+(?P<tid>-?\d+)\s+(?P<time>[\d.]+):\s+(?:\d+\s+)?(?P<event>\S+):(?:\s+(?P<rest>.*))?$"
)
FRAME = re.compile(r"^\s+(?P<address>[0-9a-f]+) (?P<name>.+)$")


@dataclass(frozen=True)
class Recorded:
    path: Path
    home: Path

    def perf(self, *argv: str) -> str:
        env = os.environ | {"HOME": str(self.home), "PERF_BUILDID_DIR": str(self.home / ".debug")}
        return process.run(("perf", *argv), env=env, timeout_s=120).check("perf").stdout


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recorded]:
    """Record once for all tests of a session."""
    directory = tmp_path_factory.mktemp("perf")
    made: dict[tuple[str, ...], Recorded] = {}

    def _record(*argv: str, work: tuple[str, ...] = WORK) -> Recorded:
        if argv not in made:
            path = directory / f"{len(made)}.data"
            env = os.environ | {"HOME": str(directory), "PERF_BUILDID_DIR": str(directory / ".debug")}
            command = ("perf", "record", "-q", "-m", "512", *argv, "-o", str(path), "--", *work)
            try:
                done = process.run(command, env=env, timeout_s=120)
            except process.CannotRun:
                pytest.skip("perf is not installed")
            if done.exit_status != 0:
                pytest.skip(f"perf cannot record here: {done.stderr.strip()[-200:]}")
            made[argv] = Recorded(path, directory)
        return made[argv]

    return _record


@pytest.fixture(scope="session")
def kallsyms() -> Kallsyms:
    try:
        return Kallsyms.read("/proc/kallsyms")
    except PerfDataError as error:
        pytest.skip(str(error))


def perf_script(recorded: Recorded, fields: str) -> list[tuple[str, int, str, list[tuple[int, str]]]]:
    """Event, tid and time of every sample as `perf script` prints it, and its frames: address, name."""
    samples: list[tuple[str, int, str, list[tuple[int, str]]]] = []
    for line in recorded.perf("script", "-i", str(recorded.path), "--no-inline", "--ns", "-F", fields).splitlines():
        head, frame = SAMPLE.match(line), FRAME.match(line)
        if frame and samples and not head:
            samples[-1][3].append((int(frame["address"], 16), frame["name"]))
        elif head:
            samples.append((head["event"], int(head["tid"]), head["time"], []))
            rest = FRAME.match(" " + (head["rest"] or ""))
            if rest:
                samples[-1][3].append((int(rest["address"], 16), rest["name"]))
    return samples


def kernel_stacks_of_perf(recorded: Recorded) -> Counter[tuple[str, tuple[str, ...]]]:
    stacks: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for event, _, _, frames in perf_script(recorded, "comm,tid,time,event,ip,sym"):
        kernel = itertools.takewhile(lambda frame: frame[0] >= 1 << 63, frames)
        stacks[event, without_unknown_end(tuple(name for _, name in kernel))] += 1
    return stacks


def without_unknown_end(frames: tuple[str, ...]) -> tuple[str, ...]:
    """Drop what `perf script` does not tell apart: a garbage user frame may look like an address of the kernel."""
    while frames and frames[-1] == "[unknown]":
        frames = frames[:-1]
    return frames


def kernel_stacks_of(profile: Profile, kallsyms: Kallsyms) -> Counter[tuple[str, tuple[str, ...]]]:
    stacks: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for event in profile.events:
        for frames, count in profile.tree(event, kallsyms=kallsyms, user=False).stacks():
            stacks[event.name, without_unknown_end(frames)] += count
    return stacks


@pytest.mark.parametrize("name", RECORDINGS)
def test_kernel_stacks_are_those_of_perf_script_by_perfs_rule(
    name: str, record: Callable[..., Recorded], kallsyms: Kallsyms
) -> None:
    recorded = record(*RECORDINGS[name], work=SWITCH if "sched" in " ".join(RECORDINGS[name]) else WORK)
    ours = kernel_stacks_of(load(recorded.path, parity=True), kallsyms)
    theirs = kernel_stacks_of_perf(recorded)
    assert sum(theirs.values()) > 50
    assert ours == theirs


def test_a_compressed_recording_holds_what_perf_unpacks_from_it(record: Callable[..., Recorded]) -> None:
    recorded = record(*RECORDINGS["compressed"])
    stats = load(recorded.path).stats
    assert stats.records[81] > 0
    assert stats.samples == len(perf_script(recorded, "comm,tid,time,event,ip,sym"))


def test_a_pipe_and_its_saved_copy_are_read(
    record: Callable[..., Recorded], kallsyms: Kallsyms, tmp_path: Path
) -> None:
    first = record(*RECORDINGS["cpu-clock"])
    script = f'perf record -q -e cpu-clock -e sched:sched_switch -g -a -o - -- true > "{tmp_path}/pipe.data"'
    process.run(("sh", "-c", script), timeout_s=60).check("perf record -o -")
    piped = Recorded(tmp_path / "pipe.data", first.home)
    profile = load(piped.path, rows=["sched:*"], parity=True)
    assert [event.name for event in profile.events][:2] == ["cpu-clock", "sched:sched_switch"]
    assert kernel_stacks_of(profile, kallsyms) == kernel_stacks_of_perf(piped)
    with piped.path.open("rb") as stream:
        assert load(stream, parity=True).groups["count"].sum() == profile.stats.samples
    assert "prev_state" in [field.name for field in profile.event("sched:sched_switch").fields]


def test_a_directory_of_several_threads_is_read_like_a_file(
    record: Callable[..., Recorded], kallsyms: Kallsyms, tmp_path: Path
) -> None:
    home = record(*RECORDINGS["cpu-clock"]).home
    directory = tmp_path / "threads.data"
    argv = ("perf", "record", "-q", "--threads", "-e", "cpu-clock", "-F", "2000", "-g", "-a", "-o", str(directory))
    process.run((*argv, "--", *WORK), timeout_s=60).check("perf record --threads")
    assert directory.is_dir()
    recorded = Recorded(directory, home)
    assert kernel_stacks_of(load(directory, parity=True), kallsyms) == kernel_stacks_of_perf(recorded)


def test_fields_of_a_tracepoint_are_those_that_perf_prints(record: Callable[..., Recorded]) -> None:
    recorded = record(*RECORDINGS["sched_switch"], work=SWITCH)
    profile = load(recorded.path, rows=["sched:sched_switch"])
    samples = profile.samples(profile.event("sched:sched_switch"))
    fields = zip(
        samples.time_ns.tolist(),
        samples.cpu.tolist(),
        samples.field("prev_pid").tolist(),
        samples.field("next_pid").tolist(),
        strict=True,
    )
    ours = Counter(fields)
    printed = recorded.perf("script", "-i", str(recorded.path), "--ns", "-G", "-F", "cpu,time,trace")
    pattern = re.compile(r"\[(\d+)\]\s+(\d+)\.(\d{9}): .*prev_pid=(\d+) .*next_pid=(\d+) ")
    theirs = Counter(
        (int(second) * 10**9 + int(ns), int(cpu), int(before), int(after))
        for cpu, second, ns, before, after in pattern.findall(printed)
    )
    assert len(samples) > 1000
    assert ours == theirs


def test_threads_have_the_names_that_perf_gives_them(record: Callable[..., Recorded]) -> None:
    recorded = record(*RECORDINGS["cpu-clock"])
    profile = load(recorded.path)
    ours: Counter[str] = Counter()
    for comm, count in zip(profile.comms(), profile.groups["count"].tolist(), strict=True):
        ours[comm] += count
    printed = recorded.perf("script", "-i", str(recorded.path), "-G", "-F", "comm").splitlines()
    theirs = Counter(line.strip() for line in printed if line.strip())
    assert {comm: ours[comm] for comm in ("find", "cat", "xargs", "swapper")} == {
        comm: theirs[comm] for comm in ("find", "cat", "xargs", "swapper")
    }


def test_user_functions_are_those_of_perf_script(record: Callable[..., Recorded], kallsyms: Kallsyms) -> None:
    # Of its own work alone: the files of what else runs may be gone by the time that perf looks.
    recorded = record("-e", "cpu-clock", "-F", "4000", "-g")
    ours: Counter[str] = Counter()
    for frames, count in load(recorded.path, parity=True).tree(kallsyms=kallsyms).stacks():
        ours[frames[0] if frames else ""] += count
    theirs: Counter[str] = Counter()
    for _, _, _, frames in perf_script(recorded, "comm,tid,time,event,ip,sym"):
        theirs[frames[0][1] if frames else ""] += 1
    named = {name: count for name, count in theirs.items() if name and name != "[unknown]" and "@plt" not in name}
    assert sum(named.values()) > 500
    # perf takes the vdso's symbols out of its own memory, and has an assembler's local labels for functions.
    differing = sum(abs(ours[name] - count) for name, count in named.items())
    assert differing <= 0.02 * sum(named.values())


PROGRAMS = (
    "sh",
    "-c",
    "for i in $(seq 60); do head -c 200000 /dev/urandom | md5sum; (cat /etc/fstab; exec ls -lR /etc); done > /dev/null",
)


@pytest.mark.parametrize("options", [("-m", "1024"), ("-m", "8"), ("-m", "64", "-z")], ids=["large", "small", "packed"])
def test_programs_that_come_and_go_have_the_names_and_user_functions_of_perf_script(
    options: tuple[str, ...], record: Callable[..., Recorded], kallsyms: Kallsyms
) -> None:
    recorded = record("-e", "cpu-clock", "-F", "5000", "-g", *options, work=PROGRAMS)
    profile = load(recorded.path, threads=False, parity=True)
    ours: Counter[tuple[str, str]] = Counter()
    our_comms: Counter[str] = Counter()
    for frames, count in profile.tree(kallsyms=kallsyms, comm=True).stacks():
        ours[frames[-1], frames[0]] += count
        our_comms[frames[-1]] += count
    theirs: Counter[tuple[str, str]] = Counter()
    comms = recorded.perf("script", "-i", str(recorded.path), "-G", "-F", "comm").splitlines()
    their_comms = Counter(line.strip() for line in comms if line.strip())
    samples = perf_script(recorded, "comm,tid,time,event,ip,sym")
    for comm, (_, _, _, frames) in zip([line.strip() for line in comms if line.strip()], samples, strict=True):
        theirs[comm, frames[0][1] if frames else "[unknown]"] += 1
    assert {"head", "md5sum", "ls", "cat", "sh"} <= set(their_comms)
    # perf forgets the name of a thread that has ended, and prints its number.
    named = {comm: count for comm, count in their_comms.items() if not comm.startswith(":")}
    nameless = sum(their_comms.values()) - sum(named.values())
    assert sum(abs(our_comms[comm] - count) for comm, count in named.items()) <= nameless
    known = {key: count for key, count in theirs.items() if "@plt" not in key[1] and key[1] != "[unknown]"}
    differing = sum(abs(ours[key] - count) for key, count in known.items())
    # The vdso, and labels that an assembler left, are known to perf alone.
    assert differing <= nameless + 0.02 * sum(known.values())


def test_what_was_killed_in_the_midst_of_recording_is_read(record: Callable[..., Recorded], tmp_path: Path) -> None:
    whole = record(*RECORDINGS["cpu-clock"]).path.read_bytes()
    cut = tmp_path / "cut.data"
    cut.write_bytes(whole[: len(whole) // 2])
    stats = load(cut).stats
    assert stats.truncated
    assert stats.samples > 0
