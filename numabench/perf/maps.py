"""What was mapped where, by process and time: from the MMAP, COMM, FORK and EXIT records of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from numabench.perf.extension import ffi, lib

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MMAP, COMM, EXIT, FORK, MMAP2, KSYMBOL = 1, 3, 4, 7, 10, 17
_CPU_MODE_MASK, _MODE_KERNEL = 7, 1
_COMM_EXEC = 1 << 13
NO_SPACE = 0
# The idle tasks, all of tid 0, have no COMM record; perf names them like this, too.
_IDLE = "swapper"
# struct spaces_space of c_ext/spaces.h
_SPACE = [("start", "<u8"), ("end", "<u8"), ("parent", "<u4"), ("file", "<u4")]


@dataclass(frozen=True)
class MappedFile:
    """A file that was mapped. The name may be none of a file: `[vdso]`, `//anon`."""

    name: str
    build_id: bytes


class Timeline:
    """What each of many things was from a time on: numbers by id and time, told in the order of time."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._times_ns: list[int] = []
        self._values: list[int] = []
        self._last: dict[int, int] = {}

    def add(self, id_: int, time_ns: int, value: int) -> None:
        """From this time on the thing is this. What it is already changes nothing."""
        if self._last.get(id_) == value:
            return
        self._last[id_] = value
        self._ids.append(id_)
        self._times_ns.append(time_ns)
        self._values.append(value)

    def last(self, id_: int) -> int:
        """What a thing is after all that was told, 0 where nothing was."""
        return self._last.get(id_, 0)

    @cached_property
    def _table(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Times, and sorted by thing and time: keys, things, values."""
        import numpy as np

        times, ids = np.array(self._times_ns, np.uint64), np.array(self._ids, np.int64)
        order = np.argsort(ids, kind="stable")
        keys = ids * (len(ids) + 1) + np.arange(len(ids))
        return times, keys[order], ids[order], np.array(self._values, np.int64)[order]

    def entries(self, ids: NDArray[np.uint32], times_ns: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of the entry that holds for each thing at each time, -1 for a thing that was never told of.

        What was so when recording began may be told a little later than the first samples: before its first entry, a
        thing is what that says.
        """
        import numpy as np

        times, keys, known, _ = self._table
        if not len(keys):
            return np.full(len(ids), -1)
        wanted = ids.astype(np.int64)
        found = np.searchsorted(keys, wanted * (len(keys) + 1) + np.searchsorted(times, times_ns, side="right")) - 1
        first = np.minimum(np.searchsorted(known, wanted), len(keys) - 1)
        return np.where(known[first] == wanted, np.maximum(found, first), -1)

    def at(self, ids: NDArray[np.uint32], times_ns: NDArray[np.uint64]) -> NDArray[np.int64]:
        """What each thing was at each time, 0 for one that was never told of."""
        return self.values(self.entries(ids, times_ns))

    def values(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the thing of each entry was, 0 where the entry is -1."""
        import numpy as np

        return np.where(entries >= 0, np.append(self._table[3], 0)[entries], 0)

    def spans(self, first: int, last: int) -> tuple[list[int], list[int]]:
        """Times and values of the entries from the first to the last, which are of one thing."""
        times, keys, _, values = self._table
        part = slice(first, last + 1)
        return times[keys[part] % (len(keys) + 1)].tolist(), values[part].tolist()


class Tasks:
    """Names and memory maps of every task over time.

    `comms` has the number of each thread's name (see `comm`), `spaces` the space of each process: a number for what was
    mapped at one time. `kernel_reference` is the address of the kernel's _text or _stext, 0 where it was not recorded,
    `kernel_size_bytes` what perf says is mapped from there.
    """

    def __init__(self, tasks: NDArray[np.void], texts: list[str], build_id: dict[int, bytes]) -> None:
        import numpy as np

        self._texts = [*texts, _IDLE]
        self.comms = Timeline()
        self.comms.add(0, 0, len(texts))
        self.spaces = Timeline()
        # A space is the one it grew out of, and one more mapping: (start, end, parent, file).
        self._spaces = [(0, 0, NO_SPACE, 0)]
        self._offsets = [0]
        self._files = [MappedFile("", b"")]
        self._file_numbers = {self._files[0]: 0}
        self.kernel_reference, self.kernel_size_bytes = 0, 0
        order = np.argsort(tasks["time_ns"], kind="stable")
        columns = ("type", "misc", "time_ns", "pid", "tid", "address", "size_bytes", "offset_bytes", "name", "build_id")
        for row in zip(*(tasks[name][order].tolist() for name in columns), strict=True):
            kind, misc, time_ns, pid, tid, address, size_bytes, offset_bytes, name, identity = row
            if kind in {MMAP, MMAP2}:
                if misc & _CPU_MODE_MASK == _MODE_KERNEL:
                    self._note_kernel(texts[name], offset_bytes, size_bytes)
                else:
                    file = self._file_number(MappedFile(texts[name], build_id.get(identity, b"")))
                    self._map(time_ns, pid, (address, min(address + size_bytes, 2**64 - 1)), offset_bytes, file)
            elif kind == COMM:
                self._comm(time_ns, pid, tid, name, is_exec=bool(misc & _COMM_EXEC))
            elif kind == FORK:
                self._fork(time_ns, pid, tid, address, size_bytes)

    def _note_kernel(self, name: str, reference: int, size_bytes: int) -> None:
        """Where the kernel's text was: perf gives the address of _text or _stext as an offset."""
        if name.startswith("[kernel.kallsyms]"):
            self.kernel_reference, self.kernel_size_bytes = reference, size_bytes

    def _file_number(self, file: MappedFile) -> int:
        number = self._file_numbers.setdefault(file, len(self._files))
        if number == len(self._files):
            self._files.append(file)
        return number

    def _map(self, time_ns: int, pid: int, span: tuple[int, int], offset_bytes: int, file: int) -> None:
        self._spaces.append((*span, self.spaces.last(pid), file))
        self._offsets.append(offset_bytes)
        self.spaces.add(pid, time_ns, len(self._spaces) - 1)

    def _comm(self, time_ns: int, pid: int, tid: int, name: int, *, is_exec: bool) -> None:
        self.comms.add(tid, time_ns, name)
        if is_exec:
            self.spaces.add(pid, time_ns, NO_SPACE)

    def _fork(self, time_ns: int, pid: int, tid: int, parent_pid: int, parent_tid: int) -> None:
        self.comms.add(tid, time_ns, self.comms.last(parent_tid))
        if pid != parent_pid:
            self.spaces.add(pid, time_ns, self.spaces.last(parent_pid))

    def comm(self, number: int) -> str:
        """The name that `comms` has by number."""
        return self._texts[number]

    def file(self, number: int) -> MappedFile:
        """The file that the mapping a space was made by is of."""
        return self._files[number]

    def resolve(
        self, spaces: NDArray[np.int64], addresses: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """For each address in its space the number of the file it lies in (0: none), and where in the file."""
        import numpy as np

        table = self._table
        spaces, addresses = np.ascontiguousarray(spaces, np.uint32), np.ascontiguousarray(addresses)
        found = np.empty(len(addresses), np.uint32)
        lib.spaces_resolve(
            ffi.from_buffer("struct spaces_space[]", table),
            ffi.from_buffer("uint32_t[]", spaces),
            ffi.from_buffer("uint64_t[]", addresses),
            len(addresses),
            ffi.from_buffer("uint32_t[]", found),
        )
        offsets = addresses - table["start"][found] + self._offset_table[found]
        return table["file"][found].astype(np.int64), offsets

    @cached_property
    def _table(self) -> NDArray[np.void]:
        import numpy as np

        return np.array(self._spaces, _SPACE)

    @cached_property
    def _offset_table(self) -> NDArray[np.uint64]:
        import numpy as np

        return np.array(self._offsets, np.uint64)
