"""Call chains as the analyses take them: who was where, and how much of it. `numabench.perf` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

KERNEL = "[kernel.kallsyms]"
UNKNOWN = "[unknown]"
_TABLE = SymbolTable()


@dataclass(frozen=True, slots=True)
class Stack:
    """One call chain of one command.

    `frames` are names, the sampled function first and its outermost caller last; the first `kernel_frames` of them are
    the kernel's. `samples` is how often the chain was seen, `weight` the sum of the samples' periods in the event's own
    unit (nanoseconds for cpu-clock, 1 a sample for most tracepoints). `dso` is where the sampled function is from.
    """

    frames: tuple[str, ...]
    samples: int
    weight: int
    comm: str = ""
    dso: str = KERNEL
    kernel_frames: int = 0

    @property
    def leaf(self) -> str:
        """The sampled function, `[unknown]` for a sample without a chain."""
        return self.frames[0] if self.frames else UNKNOWN

    @property
    def level(self) -> str:
        """Perf's letter for where the sample was: `k` in the kernel, `.` in user space."""
        return "k" if self.kernel_frames else "."

    @property
    def kernel(self) -> tuple[str, ...]:
        """The kernel's part of the chain."""
        return self.frames[: self.kernel_frames]


def total_weight(stacks: Iterable[Stack]) -> int:
    """The weights of all stacks together."""
    return sum(stack.weight for stack in stacks)


def total_samples(stacks: Iterable[Stack]) -> int:
    """The samples of all stacks together."""
    return sum(stack.samples for stack in stacks)


def of_comms(stacks: Iterable[Stack], comms: Collection[str]) -> tuple[Stack, ...]:
    """The stacks of threads of some names, as perf's `--comm` means it."""
    return tuple(stack for stack in stacks if stack.comm in comms)


def through(stacks: Iterable[Stack], symbol: str, table: SymbolTable = _TABLE) -> tuple[Stack, ...]:
    """The stacks that a function has a part in, anywhere in the chain; one of the kernel also by its canonical name."""
    return tuple(
        stack
        for stack in stacks
        if symbol in stack.frames or any(table.canonical(frame) == symbol for frame in stack.kernel)
    )
