"""Sets of CPU and node ids in the kernel's list format: `0-3,8` (Documentation/admin-guide/kernel-parameters.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ID = 65535
_MAX_DIGITS = 9


def parse_ids(text: str) -> tuple[int, ...]:
    """Sorted unique ids of a kernel list: `0-2,8` is `(0, 1, 2, 8)`, an empty or blank text is `()`.

    Raises `UsageError` for what the kernel would not print: words, backward ranges, ids above 65535.
    """
    ids: set[int] = set()
    for part in text.strip().split(","):
        part = part.strip()  # noqa: PLW2901
        if not part and not text.strip():
            continue
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"'{text.strip()}' is not a list of ids", "write it as 0-3,8")
        # Python reads no number of thousands of digits.
        low, high = (MAX_ID + 1 if len(word) > _MAX_DIGITS else int(word) for word in (first, last or first))
        if low > high or high > MAX_ID:
            raise UsageError(f"'{part}' is not a range of ids", f"write it from low to high, at most {MAX_ID}")
        ids.update(range(low, high + 1))
    return tuple(sorted(ids))


def format_ids(ids: Iterable[int]) -> str:
    """The kernel's list format of some ids: `(0, 1, 2, 8)` is `0-2,8`, no ids is the empty string."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(ids)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ",".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges)
