"""What was mapped where, by process and time: from the MMAP, COMM, FORK and EXIT records of a recording."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MMAP, COMM, EXIT, FORK, MMAP2, KSYMBOL = 1, 3, 4, 7, 10, 17
_CPU_MODE_MASK, _MODE_KERNEL = 7, 1
_COMM_EXEC = 1 << 13
NO_SPACE = 0
_NO_PID = 0xFFFFFFFF


@dataclass(frozen=True)
class Mapping:
    """A file mapped at an address. The name may be none of a file: `[vdso]`, `//anon`."""

    start: int
    end: int
    offset_bytes: int
    file: str
    build_id: bytes


@dataclass
class _Timeline:
    """What something was from a time on."""

    times_ns: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def add(self, time_ns: int, value: int) -> None:
        self.times_ns.append(time_ns)
        self.values.append(value)

    def at(self, time_ns: int, default: int) -> int:
        # What was so when recording began may be told a little later than the first samples.
        after = bisect_right(self.times_ns, time_ns)
        return self.values[max(after - 1, 0)] if self.values else default


class Tasks:
    """Names and memory maps of every task over time. A space is a number for what was mapped at one time."""

    def __init__(self, tasks: NDArray[np.void], texts: list[str], build_id: dict[int, bytes]) -> None:
        import numpy as np

        self._texts = texts
        self._comms: dict[int, _Timeline] = {}
        self._spaces: dict[int, _Timeline] = {}
        # A space is the one it grew out of, and one more mapping.
        self._parents: list[int] = [NO_SPACE]
        self._mappings: list[Mapping | None] = [None]
        self.kernel_reference = 0
        order = np.argsort(tasks["time_ns"], kind="stable")
        columns = ("type", "misc", "time_ns", "pid", "tid", "address", "size_bytes", "offset_bytes", "name", "build_id")
        for row in zip(*(tasks[name][order].tolist() for name in columns), strict=True):
            kind, misc, time_ns, pid, tid, address, size_bytes, offset_bytes, name, identity = row
            if kind in {MMAP, MMAP2}:
                if misc & _CPU_MODE_MASK == _MODE_KERNEL:
                    self._note_kernel(texts[name], offset_bytes)
                else:
                    end = min(address + size_bytes, 2**64 - 1)
                    self._map(
                        time_ns, pid, Mapping(address, end, offset_bytes, texts[name], build_id.get(identity, b""))
                    )
            elif kind == COMM:
                self._comm(time_ns, pid, tid, name, is_exec=bool(misc & _COMM_EXEC))
            elif kind == FORK:
                self._fork(time_ns, pid, tid, address, size_bytes)

    def _note_kernel(self, name: str, reference: int) -> None:
        """Where the kernel's text was: perf gives the address of _text or _stext as an offset."""
        if name.startswith("[kernel.kallsyms]"):
            self.kernel_reference = reference

    def _map(self, time_ns: int, pid: int, mapping: Mapping) -> None:
        timeline = self._spaces.setdefault(pid, _Timeline())
        self._parents.append(timeline.values[-1] if timeline.values else NO_SPACE)
        self._mappings.append(mapping)
        timeline.add(time_ns, len(self._parents) - 1)

    def _comm(self, time_ns: int, pid: int, tid: int, name: int, *, is_exec: bool) -> None:
        self._comms.setdefault(tid, _Timeline()).add(time_ns, name)
        if is_exec:
            self._spaces.setdefault(pid, _Timeline()).add(time_ns, NO_SPACE)

    def _fork(self, time_ns: int, pid: int, tid: int, parent_pid: int, parent_tid: int) -> None:
        self._comms.setdefault(tid, _Timeline()).add(time_ns, self._last(self._comms, parent_tid))
        if pid != parent_pid:
            self._spaces.setdefault(pid, _Timeline()).add(time_ns, self._last(self._spaces, parent_pid))

    @staticmethod
    def _last(timelines: dict[int, _Timeline], key: int) -> int:
        return timelines[key].values[-1] if key in timelines else 0

    def comm_at(self, tid: int, time_ns: int) -> str:
        """A thread's name at a time, empty where it was not recorded."""
        timeline = self._comms.get(tid)
        if timeline is None:
            return "swapper" if tid == 0 else ""
        return self._texts[timeline.at(time_ns, 0)]

    def comm_changes(self, tid: int, after_ns: int, until_ns: int) -> list[int]:
        """The times at which a thread's name changed."""
        return _changes(self._comms.get(tid), after_ns, until_ns)

    def space_at(self, pid: int, time_ns: int) -> int:
        """The space of a process at a time; `NO_SPACE` where nothing is known of it."""
        timeline = self._spaces.get(pid)
        return timeline.at(time_ns, NO_SPACE) if timeline else NO_SPACE

    def space_changes(self, pid: int, after_ns: int, until_ns: int) -> list[int]:
        """The times at which a process mapped or became something else."""
        return _changes(self._spaces.get(pid), after_ns, until_ns)

    def mappings(self, space: int) -> list[Mapping]:
        """What is mapped in a space, in the order in which it was mapped: a later mapping hides an earlier one."""
        found = []
        while space != NO_SPACE:
            mapping = self._mappings[space]
            if mapping:
                found.append(mapping)
            space = self._parents[space]
        return found[::-1]


def _changes(timeline: _Timeline | None, after_ns: int, until_ns: int) -> list[int]:
    """Times of changes in (after, until] to something that was not so before."""
    if timeline is None:
        return []
    first, last = bisect_right(timeline.times_ns, after_ns), bisect_right(timeline.times_ns, until_ns)
    return [
        timeline.times_ns[at] for at in range(max(first, 1), last) if timeline.values[at] != timeline.values[at - 1]
    ]


@dataclass(frozen=True)
class Layout:
    """A space, cut at every border: between `borders[i]` and `borders[i + 1]` is `mappings[owners[i]]`, -1 for none."""

    borders: NDArray[np.uint64]
    owners: NDArray[np.int64]
    mappings: tuple[Mapping, ...]

    def owner(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of the mapping at each address, -1 where there is none."""
        import numpy as np

        return self.owners[np.searchsorted(self.borders, addresses, side="right")]


def lay_out(mappings: list[Mapping]) -> Layout:
    """What each address belongs to after some mappings, one after the other."""
    import numpy as np

    borders = np.unique(np.array([edge for one in mappings for edge in (one.start, one.end)], np.uint64))
    owners = np.full(len(borders) + 1, -1, np.int64)
    for number, one in enumerate(mappings):
        first, last = np.searchsorted(borders, np.array([one.start, one.end], np.uint64), side="right")
        owners[first:last] = number
    return Layout(borders, owners, tuple(mappings))
