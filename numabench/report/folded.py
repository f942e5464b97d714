"""Call chains as folded text: a line for each chain, outermost caller first, as flame graph tools read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numabench.analysis.callchain import Stack

# What the format itself means something by: frames are parted by semicolons, the count by the last blank.
_RESERVED = str.maketrans(";", ":")


def folded(stacks: Iterable[Stack]) -> str:
    """`comm;outermost;...;sampled count` lines, sorted; the count is of samples. Blanks in names become underscores."""
    sums: dict[str, int] = {}
    names = _Names()
    for stack in stacks:
        line = ";".join([names[stack.comm], *map(names.__getitem__, reversed(stack.frames))])
        sums[line] = sums.get(line, 0) + stack.samples
    return "".join(f"{line} {samples}\n" for line, samples in sorted(sums.items()))


def shown(name: str) -> str:
    """A name as the format has it; only one that is printable ASCII without blanks and semicolons stays as it is."""
    return escape(name).translate(_RESERVED).replace(" ", "_") or "[unknown]"


class _Names(dict[str, str]):
    """The form of each name in the format, made once: there are few names and many frames."""

    def __missing__(self, name: str) -> str:
        self[name] = form = shown(name)
        return form
