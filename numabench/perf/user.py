"""The user parts of call chains: what each address was in its process at its time."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from numabench.perf.elf import find_symbols
from numabench.perf.maps import NO_SPACE
from numabench.perf.stacks import FrameChains, NameTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf.elf import ElfSymbols
    from numabench.perf.maps import MappedFile, Tasks, Timeline
    from numabench.perf.records import Chains

UNKNOWN = "[unknown]"


class UserFrames:
    """Names user chains. A frame is its function, `[file]` where that is not known, `[unknown]` where nothing is."""

    def __init__(self, groups: NDArray[np.void], chains: Chains, tasks: Tasks, build_ids: dict[str, str]) -> None:
        self._groups, self._user_chains, self._tasks, self._build_ids = groups, chains, tasks, build_ids
        self._files: dict[MappedFile, ElfSymbols | None] = {}

    def chains(self, rows: NDArray[np.intp], table: NameTable) -> tuple[NDArray[np.uint32], FrameChains]:
        """The chain of each of some groups, and the named chains, of which each (space, chain) is one."""
        import numpy as np

        spaces = self._spaces(rows)
        pairs = spaces.astype(np.uint64) << np.uint64(32) | self._groups["user"][rows].astype(np.uint64)
        distinct, chain = np.unique(pairs, return_inverse=True)
        addresses, lengths = self._addresses((distinct & np.uint64(0xFFFFFFFF)).astype(np.int64))
        frames = self._frames(np.repeat((distinct >> np.uint64(32)).astype(np.int64), lengths), addresses, table)
        starts = np.zeros(len(lengths) + 1, np.uint64)
        np.cumsum(lengths, out=starts[1:])
        return chain.astype(np.uint32), FrameChains(starts, frames)

    def changes_within_groups(self) -> set[tuple[int, int]]:
        """(tid, time) of what changed between the first and the last sample of a group, and matters to its names."""
        groups = self._groups
        found: set[tuple[int, int]] = set()
        for row, first, last in self._changed(self._tasks.comms, groups["tid"]):
            times, _ = self._tasks.comms.spans(first + 1, last)
            found.update((int(groups["tid"][row]), time_ns) for time_ns in times)
        for row, first, last in self._moved(list(self._changed(self._tasks.spaces, groups["pid"]))):
            times, _ = self._tasks.spaces.spans(first + 1, last)
            found.update((int(groups["tid"][row]), time_ns) for time_ns in times)
        return found

    def _moved(self, changed: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Of changes of space within groups those after which some address of the chain is another place."""
        import numpy as np

        table = np.array(changed, np.int64).reshape(-1, 3)
        table = table[self._groups["user"][table[:, 0]] != 0]
        if not len(table):
            return []
        addresses, lengths = self._addresses(self._groups["user"][table[:, 0]].astype(np.int64))
        spaces = self._tasks.spaces.values(table[:, 1:])
        before, after = (self._tasks.resolve(np.repeat(spaces[:, side], lengths), addresses) for side in (0, 1))
        differs = (before[0] != after[0]) | (before[1] != after[1])
        starts = np.cumsum(lengths) - lengths
        return [tuple(row) for row in table[np.logical_or.reduceat(differs, starts)].tolist()]

    def _changed(self, timeline: Timeline, ids: NDArray[np.uint32]) -> Iterator[tuple[int, int, int]]:
        """The groups within which an entry of a timeline gives way to another: row, first and last entry."""
        import numpy as np

        first = timeline.entries(ids, self._groups["first_ns"])
        last = timeline.entries(ids, self._groups["last_ns"])
        rows = np.flatnonzero(first != last)
        return zip(rows.tolist(), first[rows].tolist(), last[rows].tolist(), strict=True)

    def _spaces(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        import numpy as np

        groups = self._groups[rows]
        return np.where(groups["user"], self._tasks.spaces.at(groups["pid"], groups["first_ns"]), NO_SPACE)

    def _addresses(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The addresses of some chains one after the other, and the chains' lengths."""
        import numpy as np

        starts = self._user_chains.starts[numbers].astype(np.int64)
        lengths = self._user_chains.starts[numbers + 1].astype(np.int64) - starts
        first = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return self._user_chains.addresses[first + np.arange(int(lengths.sum()))], lengths

    def _frames(self, spaces: NDArray[np.int64], addresses: NDArray[np.uint64], table: NameTable) -> NDArray[np.uint32]:
        """The number of the name of each address in its space."""
        import numpy as np

        files, offsets = self._tasks.resolve(spaces, addresses)
        numbers = np.full(len(addresses), table.number(UNKNOWN), np.uint32)
        order = np.argsort(files, kind="stable")
        borders = np.flatnonzero(np.diff(files[order])) + 1
        for part in np.split(order, borders):
            if len(part) and files[part[0]]:
                distinct, which = np.unique(offsets[part], return_inverse=True)
                names = self._function_names(self._tasks.file(int(files[part[0]])), distinct)
                numbers[part] = np.array(table.numbers(names), np.uint32)[which]
        return numbers

    def _function_names(self, file: MappedFile, offsets: NDArray[np.uint64]) -> list[str]:
        """The function at each offset in a file."""
        import numpy as np

        fallback = f"[{PurePath(file.name).name.strip('[]')}]" if file.name else UNKNOWN
        if file not in self._files:
            self._files[file] = find_symbols(file.name, file.build_id.hex() or self._build_ids.get(file.name, ""))
        symbols = self._files[file]
        if symbols is None:
            return [fallback] * len(offsets)
        addresses = np.zeros(len(offsets), np.uint64)
        for offset, address, size_bytes in symbols.segments:
            inside = (offsets >= np.uint64(offset)) & (offsets - np.uint64(offset) < np.uint64(size_bytes))
            addresses[inside] = offsets[inside] - np.uint64(offset) + np.uint64(address)
        return [name or fallback for name in symbols.names_at(addresses)]
