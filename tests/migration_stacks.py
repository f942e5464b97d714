"""The chains captured in guests (tests/fixtures/migration) as stacks."""

from __future__ import annotations

import gzip
from pathlib import Path

from numabench.analysis.callchain import Stack

FIXTURES = Path(__file__).parent / "fixtures/migration"
_KERNEL = "_[k]"


def captured(name: str) -> tuple[Stack, ...]:
    """The stacks of a capture such as `6.1.192-excl.movepages-fork8`."""
    with gzip.open(FIXTURES / f"{name}.folded.gz", "rt") as file:
        return tuple(_stack(line) for line in file)


def _stack(line: str) -> Stack:
    chain, _, samples = line.rstrip("\n").rpartition(" ")
    comm, *frames = chain.split(";")
    kernel = sum(frame.endswith(_KERNEL) for frame in frames)
    return Stack(
        tuple(frame.removesuffix(_KERNEL) for frame in frames),
        int(samples),
        int(samples),
        comm,
        "[kernel.kallsyms]" if kernel else comm,
        kernel,
    )
