"""Damaged recordings never make the parser read or write where it must not; a fixed number of runs, seeds and all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from unit import perfdata_writer as written
from unit.perfdata_writer import Sample, WrittenEvent

from numabench import process

RUNS = 10000
SOURCES = Path(__file__).parents[2] / "c_ext"
# What the parser and the trees are made of, no extension's glue.
NAMES = (
    *("intern", "layout", "context", "tasks", "chains", "perfdata"),
    *("calltree", "kallsyms", "elf_symbols", "stacks", "folded"),
)
FLAGS = (
    "-DTASKS_FIRST_PRUNE=9",
    "-std=c11",
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Werror",
    "-fsanitize=address,undefined",
)


@pytest.fixture(scope="module", params=["gcc", "clang"])
def fuzzer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not process.find_program(request.param):
        pytest.skip(f"{request.param} is not installed")
    program = tmp_path_factory.mktemp("fuzz") / "perfdata_fuzz"
    sources = (Path(__file__).with_name("perfdata_fuzz.c"), *(SOURCES / f"{name}.c" for name in NAMES))
    # Records may begin at any byte of a part: the parser copies those, so that no word is read unaligned.
    argv = (request.param, *FLAGS, "-fno-sanitize-recover=all", f"-I{SOURCES}", *map(str, sources), "-o", str(program))
    process.run(argv).check("compiling the fuzzer")
    return program


# All that a sample of `EVENT` holds, in all kinds of chains.
EVENT = WrittenEvent(0x4C7 | written.CALLCHAIN | written.PERIOD, ids=(1,))
CHAINS = (
    Sample().chain,
    (),
    (written.KERNEL, *range(2**63, 2**63 + 120), written.USER, 0x401000),
    (written.KERNEL, 2**63, written.DEFERRED, 99),
    (written.GUEST, 5, written.HYPERVISOR, 6, written.KERNEL, 2**63, written.USER, 2**64 - 1),
)


def samples() -> list[bytes]:
    return [
        EVENT.sample(Sample(tid=tid, time_ns=100 * tid, cpu=tid % 3, chain=chain, raw=bytes(8 * tid + 4)))
        for tid in range(6)
        for chain in CHAINS
    ]


def records() -> bytes:
    mapped = struct.pack("<II3Q", 7, 7, 0x400000, 0x1000, 0)
    mapped2 = mapped + bytes(32) + written.text("/usr/bin/cat")
    trailer = EVENT.trailer()
    packed = b"".join(samples()[:3])
    parts = [
        *samples(),
        written.record(written.MMAP, mapped + written.text("/usr/bin/cat") + trailer, misc=2),
        written.record(written.MMAP2, mapped2 + trailer, misc=2),
        written.record(written.MMAP2, mapped2 + trailer, misc=2 | 1 << 14),
        written.record(written.COMM, struct.pack("<II", 7, 7) + written.text("cat") + trailer),
        written.record(written.FORK, struct.pack("<IIIIQ", 7, 1, 7, 1, 600) + trailer),
        written.record(written.EXIT, struct.pack("<IIIIQ", 7, 1, 7, 1, 700) + trailer),
        written.record(written.LOST, struct.pack("<QQ", 1, 3) + trailer),
        written.record(written.LOST_SAMPLES, struct.pack("<Q", 1) + trailer),
        written.record(17, struct.pack("<QIHH", 1 << 63, 64, 1, 0) + written.text("bpf_prog") + trailer),
        written.record(22, struct.pack("<4Q", 99, 2, 0x401000, 0x402000) + trailer),
        written.record(64, EVENT.attr() + struct.pack("<Q", 1)),
        # What follows these two stands outside of them; as records, so that all of the file is.
        written.record(66, struct.pack("<II", 24, 0)) + written.record(68, bytes(16)),
        written.record(71, struct.pack("<QQ", 16, 0) + bytes(24)) + written.record(68, bytes(8)),
        written.record(68, b""),
        written.record(81, packed),
        written.record(83, struct.pack("<Q", len(packed)) + packed),
        written.record(81, written.record(83, struct.pack("<Q", len(packed)) + packed)),
    ]
    return b"".join(parts * 2) + EVENT.sample(Sample(raw=bytes(60000 // 8 * 8 + 4)))


def test_the_parser_survives_damaged_recordings_under_sanitizers(fuzzer: Path, tmp_path: Path) -> None:
    whole = tmp_path / "records"
    whole.write_bytes(records())
    env = os.environ | {"ASAN_OPTIONS": "allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = process.run((str(fuzzer), str(whole), str(RUNS), "1"), env=env, timeout_s=300).check("the fuzzer")
    assert done.stdout.strip() == f"{RUNS} runs"
