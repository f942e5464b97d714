"""The user parts of call chains: what each address was in its process at its time."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from numabench.perf.elf import find_symbols
from numabench.perf.maps import NO_SPACE, lay_out
from numabench.perf.stacks import FrameChains, NameTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf.elf import ElfSymbols
    from numabench.perf.maps import Layout, Mapping, Tasks
    from numabench.perf.records import Chains

UNKNOWN = "[unknown]"


class UserFrames:
    """Names user chains. A frame is its function, `[file]` where that is not known, `[unknown]` where nothing is."""

    def __init__(self, groups: NDArray[np.void], chains: Chains, tasks: Tasks, build_ids: dict[str, str]) -> None:
        self._groups, self._user_chains, self._tasks, self._build_ids = groups, chains, tasks, build_ids
        self._layouts: dict[int, Layout] = {}
        self._files: dict[tuple[str, bytes], ElfSymbols | None] = {}
        self._names: dict[tuple[str, bytes], dict[int, str]] = {}

    def chains(self, rows: NDArray[np.intp], table: NameTable) -> tuple[NDArray[np.uint32], FrameChains]:
        """The chain of each of some groups, and the named chains, of which each (space, chain) is one."""
        import numpy as np

        spaces = self._spaces(rows)
        pairs = spaces.astype(np.uint64) << np.uint64(32) | self._groups["user"][rows].astype(np.uint64)
        distinct, chain = np.unique(pairs, return_inverse=True)
        starts, frames = [np.zeros(1, np.uint64)], []
        for space, numbers in _runs(distinct):
            addresses, lengths = self._addresses(numbers)
            frames.append(self._frames(space, addresses, table))
            starts.append(lengths)
        ends = np.cumsum(np.concatenate(starts), dtype=np.uint64)
        return chain.astype(np.uint32), FrameChains(ends, np.concatenate(frames) if frames else np.zeros(0, np.uint32))

    def changes_within_groups(self) -> set[tuple[int, int]]:
        """(tid, time) of what changed between the first and the last sample of a group, and matters to its names."""
        found: set[tuple[int, int]] = set()
        columns = ("pid", "tid", "first_ns", "last_ns", "user")
        for pid, tid, first_ns, last_ns, user in zip(*(self._groups[name].tolist() for name in columns), strict=True):
            if first_ns == last_ns:
                continue
            found.update((tid, time_ns) for time_ns in self._tasks.comm_changes(tid, first_ns, last_ns))
            if user and self._differs(pid, first_ns, last_ns, user):
                found.update((tid, time_ns) for time_ns in self._tasks.space_changes(pid, first_ns, last_ns))
        return found

    def _differs(self, pid: int, first_ns: int, last_ns: int, user: int) -> bool:
        times = self._tasks.space_changes(pid, first_ns, last_ns)
        spaces = {self._tasks.space_at(pid, time_ns) for time_ns in (first_ns, *times)}
        addresses = self._user_chains[user]
        return len({tuple(self._places(space, addresses)) for space in spaces}) > 1

    def _places(self, space: int, addresses: NDArray[np.uint64]) -> list[Mapping | None]:
        layout = self._layout(space)
        return [layout.mappings[owner] if owner >= 0 else None for owner in layout.owner(addresses).tolist()]

    def _spaces(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        import numpy as np

        groups = self._groups[rows]
        columns = (groups["pid"].tolist(), groups["first_ns"].tolist(), groups["user"].tolist())
        spaces = [
            self._tasks.space_at(pid, time_ns) if user else NO_SPACE
            for pid, time_ns, user in zip(*columns, strict=True)
        ]
        return np.array(spaces, np.int64)

    def _addresses(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The addresses of some chains one after the other, and the chains' lengths."""
        import numpy as np

        starts = self._user_chains.starts[numbers].astype(np.int64)
        lengths = self._user_chains.starts[numbers + 1].astype(np.int64) - starts
        first = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return self._user_chains.addresses[first + np.arange(int(lengths.sum()))], lengths.astype(np.uint64)

    def _layout(self, space: int) -> Layout:
        if space not in self._layouts:
            self._layouts[space] = lay_out(self._tasks.mappings(space))
        return self._layouts[space]

    def _frames(self, space: int, addresses: NDArray[np.uint64], table: NameTable) -> NDArray[np.uint32]:
        import numpy as np

        distinct, which = np.unique(addresses, return_inverse=True)
        layout = self._layout(space)
        owners = layout.owner(distinct)
        numbers = np.full(len(distinct), table.number(UNKNOWN), np.uint32)
        for owner in np.unique(owners[owners >= 0]).tolist():
            mapping = layout.mappings[owner]
            inside = np.flatnonzero(owners == owner)
            offsets = distinct[inside] - np.uint64(mapping.start) + np.uint64(mapping.offset_bytes)
            numbers[inside] = table.numbers(self._function_names(mapping, offsets))
        return numbers[which]

    def _function_names(self, mapping: Mapping, offsets: NDArray[np.uint64]) -> list[str]:
        """The function at each offset in a mapping's file."""
        import numpy as np

        key = (mapping.file, mapping.build_id)
        known = self._names.setdefault(key, {})
        missing = [offset for offset in offsets.tolist() if offset not in known]
        if missing:
            fallback = f"[{PurePath(mapping.file).name.strip('[]')}]" if mapping.file else UNKNOWN
            names = self._look_up(key, np.array(missing, np.uint64))
            known.update((offset, name or fallback) for offset, name in zip(missing, names, strict=True))
        return [known[offset] for offset in offsets.tolist()]

    def _look_up(self, key: tuple[str, bytes], offsets: NDArray[np.uint64]) -> list[str]:
        if key not in self._files:
            file, build_id = key
            self._files[key] = find_symbols(file, build_id.hex() or self._build_ids.get(file, ""))
        symbols = self._files[key]
        if symbols is None:
            return [""] * len(offsets)
        import numpy as np

        addresses = np.zeros(len(offsets), np.uint64)
        for offset, address, size_bytes in symbols.segments:
            inside = (offsets >= np.uint64(offset)) & (offsets - np.uint64(offset) < np.uint64(size_bytes))
            addresses[inside] = offsets[inside] - np.uint64(offset) + np.uint64(address)
        return symbols.names_at(addresses)


def _runs(pairs: NDArray[np.uint64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Sorted pairs (space << 32 | chain), by space."""
    import numpy as np

    spaces = (pairs >> np.uint64(32)).astype(np.int64)
    chains = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    borders = np.flatnonzero(np.diff(spaces)) + 1
    return [(int(spaces[part[0]]), chains[part]) for part in np.split(np.arange(len(pairs)), borders) if len(part)]
