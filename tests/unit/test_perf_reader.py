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
    r"^\s*(?P<comm>.+?)\s+(?P<tid>\d+)\s+(?P<time>[\d.]+):\s+(?:\d+\s+)?(?P<event>\S+):(?:\s+(?P<rest>.*))?$"
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
