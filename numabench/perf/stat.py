"""What `perf stat -x,` writes: one line an event, with fields between commas (perf-stat(1), CSV FORMAT)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from numabench.perf.attr import PerfDataError

_NOT_COUNTED = ("<not counted>", "<not supported>")


@dataclass(frozen=True)
class Counted:
    """An event's count over all CPUs; None where perf says that it did not count it.

    `running_share` is the part of the time in which it was counted; below 1 the count is perf's extrapolation.
    """

    event: str
    count: int | None
    running_share: float


def _number(text: str) -> int:
    if not re.fullmatch(r"\d+(?:\.\d+)?", text):
        raise ValueError(text)
    return round(float(text))


def parse(text: str) -> tuple[Counted, ...]:
    """The events of an output, in its order. Raises `PerfDataError`, with the line, for what is none."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split(",")
        # A comment, or a metric of its own that perf derives from the counts above.
        if line.startswith("#") or not fields[0].strip():
            continue
        # Count, unit, event, time running in ns, share of the time in percent; an event of a PMU may hold commas itself
        # and is then between slashes.
        counted, rest = fields[0].strip(), fields[2:]
        end = next((at for at, field in enumerate(rest) if field.count("/") % 2), None)
        if end is not None:
            end = next((at for at, field in enumerate(rest[end + 1 :], end + 1) if field.count("/") % 2), 0)
        event, after = ",".join(rest[: (end or 0) + 1]), rest[(end or 0) + 1 :]
        try:
            count = None if counted in _NOT_COUNTED else _number(counted)
            share = float(after[1]) / 100
        except (ValueError, IndexError, OverflowError):
            raise PerfDataError(f"line {number} of perf stat's output is no count: {line[:80]!a}") from None
        if not event or (count is not None and count < 0) or not 0 <= share <= 1.01:
            raise PerfDataError(f"line {number} of perf stat's output is no count: {line[:80]!a}")
        found.append(Counted(event, count, min(share, 1.0)))
    return tuple(found)
