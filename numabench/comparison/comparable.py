"""Whether two sides may be compared: the identity keys that differ, and which of them forbid it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.comparison import identity_keys as keys
from numabench.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numabench.comparison.side import Side
    from numabench.record import Run

# Kernels reserve more or less of a node's memory; so much less, as a share, is another node.
MEMORY_SHARE = 0.05
_NOT_KNOWN = "not known"
_BETWEEN = " / "
# What may differ among the runs of one side: it says how they were looked at.
_MAY_BE_MIXED = {"sampling interval", "sampled pages", "python", "libnuma", "compiler", "numabench", keys.PLACEMENTS}


@dataclass(frozen=True)
class Difference:
    """An identity key whose values differ; `forbids` says why a comparison would mean nothing then, if it would.

    A side whose own runs differ has all of its values, separated by ` / `.
    """

    key: str
    a: str
    b: str
    forbids: str = ""


def differences(a: Side, b: Side) -> tuple[Difference, ...]:
    """The keys that differ between two sides or within one of them, those first that forbid a comparison.

    Two kernels, two command lines or two values of a knob are what is compared, and forbid nothing. What one side does
    not know is told and forbids nothing either.
    """
    told_a, told_b = _told(a.runs, b.runs)
    found = []
    for name in dict.fromkeys(name for each in (*told_a, *told_b) for name in each):
        of_a, of_b = _distinct(name, told_a), _distinct(name, told_b)
        if len({*of_a, *of_b}) > 1:
            why = _why_forbidden(name, (a.name, of_a), (b.name, of_b))
            found.append(Difference(name, _shown(name, of_a), _shown(name, of_b), why))
    return tuple(sorted(found, key=lambda difference: (not difference.forbids, keys.rank(difference.key))))


def _told(a: Sequence[Run], b: Sequence[Run]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The keys of each side's runs, with node memory that is nearly the same told alike."""
    sizes: list[tuple[int, ...]] = []

    def told(run: Run) -> dict[str, str]:
        found = keys.identity_keys(run)
        memory = tuple(int(size) for size in found[keys.NODE_MEMORY].split() if size.isdecimal())
        known = next((seen for seen in sizes if _is_near(seen, memory)), None)
        if known is None:
            sizes.append(memory)
        return found | {keys.NODE_MEMORY: " ".join(map(str, known or memory))}

    return [told(run) for run in a], [told(run) for run in b]


def _is_near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(
        abs(x - y) <= MEMORY_SHARE * max(x, y) for x, y in zip(one, other, strict=True)
    )


def _distinct(name: str, runs: Iterable[dict[str, str]]) -> tuple[str, ...]:
    return tuple(sorted({told.get(name, "") for told in runs}))


def _shown(name: str, values: tuple[str, ...]) -> str:
    return _BETWEEN.join(_said(name, value) for value in values)


def _said(name: str, value: str) -> str:
    if name == keys.NODE_MEMORY:
        return ", ".join(format_bytes(int(size)) for size in value.split()) or _NOT_KNOWN
    if name.startswith(keys.KNOB):
        return value or "absent"
    return value or (keys.NONE if keys.may_be_empty(name) else _NOT_KNOWN)


def _why_forbidden(name: str, a: tuple[str, tuple[str, ...]], b: tuple[str, tuple[str, ...]]) -> str:
    mixed = [side for side, values in (a, b) if len(values) > 1]
    if mixed and name not in _MAY_BE_MIXED:
        verb = "is" if len(mixed) == 1 else "are each"
        return f"{' and '.join(mixed)} {verb} of runs that differ in it: a side is runs of one kernel and one setting"
    if name == keys.PLACEMENTS:
        return "" if _have_common(a[1], b[1]) else "no placement was run on both sides"
    one, other = a[1][0], b[1][0]
    if name == keys.VIRTUALIZATION:
        return "what a virtual machine shows is not what hardware shows" if not (one and other) else ""
    if name != keys.ACCELERATOR and not (one and other):
        return ""
    return _REASONS.get(name) or ("the work was not the same" if keys.is_constant(name) else "")


_REASONS = {
    keys.WHERE: "what a guest shows is not what hardware shows",
    keys.ACCELERATOR: "guests of different accelerators differ in everything that takes time",
    keys.PAGE_SIZE: "pages are of different sizes, so that their numbers and costs are of different things",
    keys.PAGES: "huge pages are moved whole: costs and counts differ with their size, whatever else differs",
    keys.WORKLOAD: "they ran different workloads",
}


def _have_common(a: Iterable[str], b: Iterable[str]) -> bool:
    one, other = ({name for told in side for name in told.split(", ")} for side in (a, b))
    return bool(one & other)
