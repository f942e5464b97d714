"""A recording of any length, made up as it is read: what `perf record -o -` writes, of a machine that never rests.

Every block has samples of many threads and stacks, and processes that are forked, execute, map their files at random
addresses, are sampled and end: what a reader must keep grows with the stacks, and must not grow with the processes.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
from unit import perfdata_writer as written
from unit.perfdata_writer import PerfData, WrittenEvent

from numabench import process

EVENT = WrittenEvent(written.IP | written.TID | written.TIME | written.CPU | written.PERIOD | written.CALLCHAIN)
BLOCK_SAMPLES = 40_000
PROCESSES = 200
FIRST_PID = 1000
KERNEL_CHAINS, USER_CHAINS = 20_000, 5_000
KERNEL_FRAMES, USER_FRAMES, COMMS = 8, 6, 4
FILES = ("/usr/bin/program", "/usr/lib/libc.so.6", "/usr/lib/libm.so.6")
BLOCK_NS = 1_000_000_000
EXIT, FINISHED_ROUND = 4, 68
WORDS = 1 + 5 + 1 + 1 + KERNEL_FRAMES + 1 + USER_FRAMES


def tasks(pids: list[int], bases: np.ndarray, time_ns: int) -> bytes:
    """Processes that begin, each with a name and files of its own, mapped where `bases` says."""
    parts = []
    for pid, base in zip(pids, bases.tolist(), strict=True):
        fork = struct.pack("<IIIIQ", pid, 1, pid, 1, time_ns)
        name = struct.pack("<II", pid, pid) + written.text(f"program-{pid % COMMS}")
        parts += [
            written.record(written.FORK, fork + EVENT.trailer(pid, time_ns)),
            written.record(written.COMM, name + EVENT.trailer(pid, time_ns + 1), misc=1 << 13),
        ]
        for number, file in enumerate(FILES):
            mapped = struct.pack("<II3Q", pid, pid, base + (number << 24), 1 << 24, 0) + bytes(32) + written.text(file)
            parts.append(written.record(written.MMAP2, mapped + EVENT.trailer(pid, time_ns + 2 + number), misc=2))
    return b"".join(parts)


def ends(pids: list[int], time_ns: int) -> bytes:
    """The same processes' ends."""
    parts = [struct.pack("<IIIIQ", pid, 1, pid, 1, time_ns) + EVENT.trailer(pid, time_ns) for pid in pids]
    return b"".join(written.record(EXIT, part) for part in parts)


class Blocks:
    """Blocks of records, each of one second and of processes of its own."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        text = np.uint64(0xFFFFFFFF81000000)
        self._kernel = text + self._random.integers(0, 1 << 24, (KERNEL_CHAINS, KERNEL_FRAMES), dtype=np.uint64)
        self._user = self._random.integers(0, len(FILES) << 24, (USER_CHAINS, USER_FRAMES), dtype=np.uint64)
        self._count = 0

    def next(self) -> bytes:
        random, begin_ns = self._random, (self._count + 1) * BLOCK_NS
        first = FIRST_PID + self._count * PROCESSES % 4_000_000
        pids = list(range(first, first + PROCESSES))
        bases = random.integers(0x55, 0x56, PROCESSES, dtype=np.uint64) << np.uint64(40)
        bases += random.integers(0, 1 << 26, PROCESSES, dtype=np.uint64) << np.uint64(12)
        who = random.integers(0, PROCESSES, BLOCK_SAMPLES)
        # Few stacks are seen often, and many seldom; a function calls what it calls.
        kernel = (random.random(BLOCK_SAMPLES) ** 4 * KERNEL_CHAINS).astype(np.int64)
        user = kernel % USER_CHAINS
        words = np.empty((BLOCK_SAMPLES, WORDS), np.uint64)
        words[:, 0] = written.SAMPLE | 1 << 32 | WORDS * 8 << 48
        words[:, 1] = self._kernel[kernel, 0]
        words[:, 2] = (np.array(pids, np.uint64) * np.uint64(1 << 32 | 1))[who]
        words[:, 3] = begin_ns + 100 + np.arange(BLOCK_SAMPLES) * ((BLOCK_NS - 200) // BLOCK_SAMPLES)
        words[:, 4] = self._count % 8
        words[:, 5] = 1000
        words[:, 6] = 2 + KERNEL_FRAMES + USER_FRAMES
        words[:, 7] = written.KERNEL
        words[:, 8 : 8 + KERNEL_FRAMES] = self._kernel[kernel]
        words[:, 8 + KERNEL_FRAMES] = written.USER
        words[:, 9 + KERNEL_FRAMES :] = self._user[user] + bases[who][:, None]
        self._count += 1
        return b"".join(
            (
                tasks(pids, bases, begin_ns),
                words.tobytes(),
                ends(pids, begin_ns + BLOCK_NS - 50),
                written.record(FINISHED_ROUND, b""),
            )
        )


def write(stream: BinaryIO, size_bytes: int) -> None:
    """Write a recording of about this size."""
    stream.write(PerfData((EVENT,), []).pipe())
    blocks, left_bytes = Blocks(), size_bytes
    while left_bytes > 0:
        block = blocks.next()
        stream.write(block)
        left_bytes -= len(block)


READER = r"""
import re, resource, sys
from pathlib import Path
from numabench.perf import load
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
imports = peak()
profile = load(sys.argv[1], threads=False)
tree = profile.tree(kallsyms=None, comm=True)
lines = sum(text.count(b"\n") for text in tree.folded_text())
used = resource.getrusage(resource.RUSAGE_SELF)
unknown = sum(1 for name in tree.names if name == "[unknown]")
print(profile.stats.samples, lines, used.ru_utime + used.ru_stime, imports, peak(), unknown)
"""


def measure(size_gb: float) -> None:
    """Have a process read a stream of this size out of a fifo, and print what it took."""
    with tempfile.TemporaryDirectory() as directory:
        fifo = Path(directory) / "perf.fifo"
        os.mkfifo(fifo)

        def feed() -> None:
            with fifo.open("wb", buffering=0) as stream:
                write(stream, int(size_gb * 1e9))

        feeder = threading.Thread(target=feed)
        feeder.start()
        done = process.run((sys.executable, "-c", READER, str(fifo)), timeout_s=3600).check("reading the stream")
        feeder.join()
    samples, lines, cpu_s, imports, peak, unknown = map(float, re.findall(r"[\d.]+", done.stdout))
    print(
        f"{size_gb:g} GB through a pipe: {samples:,.0f} samples, {lines:,.0f} stacks, {cpu_s:.1f} CPU s, "
        f"peak {peak:.0f} MiB, {peak - imports:.0f} above the imports"
    )
    assert not unknown, "some addresses were looked for in the wrong process"
