"""Where a process's pages and threads are, asked while it runs.

Pages are asked for by move_pages(2) with no target, which moves nothing and reads only page tables. It needs the right
to ptrace(2) the process: the same user, or CAP_SYS_PTRACE.
"""

from __future__ import annotations

import errno
import mmap
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.host import libnuma

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.host.root import Root

# A process that has ended, or ends and has given back its memory.
_ENDED = (errno.ESRCH, errno.EINVAL)
_STAT_CPU_FIELD = 39


@dataclass(frozen=True)
class Sample:
    """A random sample of pages.

    `pages` has a row for each slice: how many were on each of the sampler's nodes, and last how many elsewhere.
    `status` counts the pages on no node, by the name of their status: `ENOENT` never touched, `EFAULT` the zero page or
    not mapped (never touched, too, before v6.12), `ESRCH` the process has ended, `protnone` waiting for its hint fault
    on a kernel (6.1 to 6.4) that hides the node of such a page from everybody without CAP_SYS_ADMIN.
    """

    pages: tuple[tuple[int, ...], ...]
    status: dict[str, int]


class PageSampler:
    """Draws a fresh random sample of a process's pages each time, by page address, stratified within each slice.

    `slices` are (address, bytes); `pages` are drawn over all of them in proportion to their sizes, at least one from
    each. The same seed draws the same addresses.
    """

    def __init__(
        self,
        pid: int,
        slices: Sequence[tuple[int, int]],
        pages: int,
        nodes: Sequence[int],
        *,
        page_bytes: int = mmap.PAGESIZE,
        seed: int = 1,
    ) -> None:
        spans = [_page_span(address, size_bytes, page_bytes) for address, size_bytes in slices]
        total = max(sum(count for _, count in spans), 1)
        self._pid, self._nodes = pid, tuple(nodes)
        self._ranges = libnuma.PageRanges(
            [(first, count, min(max(round(pages * count / total), 1), count)) for first, count in spans], page_bytes
        )
        self._pagemap = libnuma.Pagemap()
        self._random_state = array("Q", [_spread(seed)])

    def sample(self) -> Sample:
        """Draw pages and ask where they are. A process that has ended is told by `status`; raises `CallFailed`."""
        try:
            _, status = self._ranges.sample(self._pid, self._pagemap, self._random_state)
        except libnuma.CallFailed as error:
            if error.errno not in _ENDED:
                raise
            status = array("i", [-errno.ESRCH]) * self._ranges.draws
        pages, errors = self._ranges.tally(status, self._nodes)
        return Sample(pages, _named(errors))


def _spread(seed: int) -> int:
    """A generator's first state, never zero and far apart for seeds close by (splitmix64)."""
    mixed = (seed + 0x9E3779B97F4A7C15) & (2**64 - 1)
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & (2**64 - 1)
    return (mixed ^ mixed >> 31) or 1


def _page_span(address: int, size_bytes: int, page_bytes: int) -> tuple[int, int]:
    """The first page that a slice lies on, and how many it lies on."""
    first = address // page_bytes
    return first * page_bytes, -(-(address + size_bytes) // page_bytes) - first


def _named(errors: dict[int, int]) -> dict[str, int]:
    return {libnuma.status_name(status): count for status, count in errors.items()}


class NodeMap:
    """The node of every page of some memory at one time. Made by `query_nodes`."""

    def __init__(self, spans: tuple[tuple[int, int], ...], status: array[int]) -> None:
        self._spans, self._status = spans, status
        self._nodes, self._errors = libnuma.census(status)

    def nodes(self) -> dict[int, int]:
        """How many pages are on each node."""
        return dict(self._nodes)

    def status(self) -> dict[str, int]:
        """How many pages are on no node, by the name of their status: see `Sample`."""
        return _named(self._errors)

    def moved_to(self, after: NodeMap) -> tuple[dict[tuple[int, int], int], int]:
        """What became of these pages: how many went from which node to which other, and how many are unknown.

        Unknown are those that were on no node before or after. Raises `ValueError` for a map of other memory.
        """
        if after._spans != self._spans:
            raise ValueError("the two maps are of different memory")
        limit = max((*self._nodes, *after._nodes), default=-1) + 1
        counts, unknown = libnuma.pairs(self._status, after._status, limit)
        return {(source, target): count for (source, target), count in counts.items() if source != target}, unknown


def query_nodes(pid: int, slices: Sequence[tuple[int, int]], page_bytes: int = mmap.PAGESIZE) -> NodeMap:
    """Ask for every page of some (address, bytes) slices; a page that several share is asked for once.

    Of a process that has ended, every page has the status `ESRCH`. Raises `CallFailed`.
    """
    spans = _merged([_page_span(address, size_bytes, page_bytes) for address, size_bytes in slices], page_bytes)
    ranges = libnuma.PageRanges([(first, count, 0) for first, count in spans], page_bytes)
    try:
        status = ranges.query(pid, libnuma.Pagemap())
    except libnuma.CallFailed as error:
        if error.errno not in _ENDED:
            raise
        status = array("i", [-errno.ESRCH]) * ranges.pages
    return NodeMap(spans, status)


def _merged(spans: list[tuple[int, int]], page_bytes: int) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, count in sorted(spans):
        end = first + count * page_bytes
        if merged and first <= merged[-1][0] + merged[-1][1] * page_bytes:
            start, pages = merged.pop()
            merged.append((start, max(pages, (end - start) // page_bytes)))
        else:
            merged.append((first, count))
    return tuple(merged)


def thread_cpus(root: Root, pid: int, tids: Sequence[int]) -> tuple[int, ...]:
    """The CPU that each thread ran on last (`processor`, field 39 of proc_pid_stat(5)); -1 for one that has ended."""
    return tuple(_last_cpu(root.read_or_none(f"/proc/{pid}/task/{tid}/stat")) for tid in tids)


def _last_cpu(stat: str | None) -> int:
    if not stat:
        return -1
    # The second field is the thread's name in parentheses, and may hold anything, spaces and parentheses too.
    after_name = stat.rpartition(")")[2].split(maxsplit=_STAT_CPU_FIELD - 2)
    return int(after_name[_STAT_CPU_FIELD - 3])
