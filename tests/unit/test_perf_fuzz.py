"""Damaged recordings never make the parser read or write where it must not; a fixed number of runs, seeds and all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from unit import perfdata_writer as written
from unit.perfdata_writer import Sample, WrittenEvent

from numabench import process

RUNS = 3000
SOURCES = Path(__file__).parents[2] / "c_ext"
NAMES = (
    "intern",
    "layout",
    "context",
    "tasks",
    "chains",
    "perfdata",
    "calltree",
    "kallsyms",
    "elf_symbols",
    "stacks",
    "folded",
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
    argv = (
        request.param,
        *FLAGS,
        "-fno-sanitize-recover=all",
        "-DTASKS_FIRST_PRUNE=9",
        f"-I{SOURCES}",
        *map(str, sources),
        "-o",
        str(program),
    )
    process.run(argv).check("compiling the fuzzer")
    return program


def records() -> bytes:
    event = WrittenEvent(0x4C7 | written.CALLCHAIN | written.PERIOD, ids=(1,))
    parts = [event.sample(Sample(tid=tid, time_ns=100 * tid, cpu=tid % 3)) for tid in range(20)]
    mapped = struct.pack("<II3Q", 7, 7, 0x400000, 0x1000, 0) + bytes(32) + written.text("/usr/bin/cat")
    parts += [
        written.record(written.MMAP2, mapped + event.trailer(), misc=2),
        written.record(written.MMAP2, mapped + event.trailer(), misc=2 | 1 << 14),
        written.record(written.COMM, struct.pack("<II", 7, 7) + written.text("cat") + event.trailer()),
        written.record(written.FORK, struct.pack("<IIIIQ", 7, 1, 7, 1, 600) + event.trailer()),
        written.record(written.LOST, struct.pack("<QQ", 1, 3) + event.trailer()),
        written.record(17, struct.pack("<QIHH", 1 << 63, 64, 1, 0) + written.text("bpf_prog") + event.trailer()),
        written.record(66, struct.pack("<II", 24, 0)) + bytes(24),
        written.record(71, struct.pack("<QQ", 16, 0) + bytes(24)) + bytes(16),
        written.record(81, bytes(37)),
        written.record(68, b""),
        event.sample(Sample(raw=bytes(60000 // 8 * 8 + 4))),
    ]
    return b"".join(parts * 2)


def test_the_parser_survives_damaged_recordings_under_sanitizers(fuzzer: Path, tmp_path: Path) -> None:
    whole = tmp_path / "records"
    whole.write_bytes(records())
    env = os.environ | {"ASAN_OPTIONS": "allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = process.run((str(fuzzer), str(whole), str(RUNS), "1"), env=env, timeout_s=300).check("the fuzzer")
    assert done.stdout.strip() == f"{RUNS} runs"
