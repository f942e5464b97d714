"""A recording that was read: its events, what was lost, and call stacks and samples of it with their names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from numabench.perf.attr import PerfDataError
from numabench.perf.kallsyms import Kallsyms, find_kallsyms
from numabench.perf.maps import Tasks
from numabench.perf.records import EPOCH
from numabench.perf.stacks import ROOT, CallTree, FrameChains, NameTable, TreeBuilder
from numabench.perf.user import UserFrames

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf.attr import Event
    from numabench.perf.header import Recording
    from numabench.perf.records import Chains, Parser, Stats

_KERNEL = "[kernel.kallsyms]"


@dataclass(frozen=True)
class Samples:
    """The samples of one event, in the order of their times, as columns of equal length.

    `group` is the row of `Profile.groups`, which holds the numbers of the call chain's parts. `raw` has the payloads
    one after the other: that of sample i begins at `raw_start[i]`.
    """

    event: Event
    time_ns: NDArray[np.uint64]
    pid: NDArray[np.uint32]
    tid: NDArray[np.uint32]
    cpu: NDArray[np.uint32]
    period: NDArray[np.uint64]
    group: NDArray[np.uint32]
    raw: NDArray[np.uint8]
    raw_start: NDArray[np.uint64]
    raw_bytes: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.time_ns)

    def field(self, name: str) -> NDArray[np.generic]:
        """A field of the tracepoint, laid out as the recording says: integers of its size, or bytes (`S16`).

        Raises `PerfDataError` for a field that the tracepoint has not, and for payloads too short to hold it.
        """
        import numpy as np

        found = next((one for one in self.event.fields if one.name == name), None)
        if found is None:
            raise PerfDataError(
                f"{self.event.name} has no field {name}",
                "it has " + (", ".join(one.name for one in self.event.fields) or "none"),
            )
        if len(self) and found.offset_bytes + found.size_bytes > int(self.raw_bytes.min()):
            raise PerfDataError(f"a sample of {self.event.name} is too short to hold {name}")
        at = self.raw_start.astype(np.int64)[:, None] + found.offset_bytes + np.arange(found.size_bytes)
        kind = f"<{'i' if found.signed else 'u'}{found.size_bytes}" if found.size_bytes in {1, 2, 4, 8} else ""
        return self.raw[at].view(kind or f"S{found.size_bytes}")[:, 0] if len(self) else np.zeros(0, kind or "S1")


class Profile:
    """What `numabench.perf.load` has read. Symbols are looked up when they are first needed."""

    def __init__(self, source: str, recording: Recording, parser: Parser) -> None:
        self.source = source
        self.recording = recording
        self._parser = parser
        self.stats: Stats = parser.stats()
        self.kernel_chains: Chains = parser.kernel_chains()
        self.user_chains: Chains = parser.user_chains()
        self.groups: NDArray[np.void] = parser.groups()

    @property
    def events(self) -> tuple[Event, ...]:
        """The events, by the number that `groups` gives."""
        return self.recording.events

    def event(self, name: str) -> Event:
        """The event of a name, or of a name without modifiers (`cycles` for `cycles:P`). Raises `PerfDataError`."""
        for event in self.events:
            if event.name == name:
                return event
        for event in self.events:
            if event.name.startswith(f"{name}:") and not event.is_tracepoint:
                return event
        known = ", ".join(event.name for event in self.events)
        raise PerfDataError(f"{self.source} has no event {name}", f"it has {known}")

    @property
    def kernel_build_id(self) -> str:
        """The build id of the kernel that was recorded, as hex digits, empty where it was not recorded."""
        return next((id_ for path, id_ in self.recording.build_ids.items() if path.startswith(_KERNEL)), "")

    @cached_property
    def tasks(self) -> Tasks:
        """Names and memory maps of all tasks over time."""
        tasks = self._parser.tasks()
        ids = {int(number): self._parser.text_bytes(int(number)) for number in set(tasks["build_id"].tolist()) - {0}}
        return Tasks(tasks, self._parser.texts(), ids)

    def kallsyms(self, path: Path | str | None = None) -> Kallsyms:
        """The recorded kernel's symbols, from a file or from where perf keeps them, moved to where that kernel was.

        Raises `PerfDataError` where there are none.
        """
        found = Kallsyms.read(path) if path else find_kallsyms(self.kernel_build_id)
        return found.moved(self.tasks.kernel_reference)

    def is_kernel_of(self, kallsyms: Kallsyms) -> bool:
        """Whether symbols can be those of the kernel that was recorded: another build's text has another size."""
        return kallsyms.may_be_of(self.tasks.kernel_size_bytes)

    def samples(self, event: Event) -> Samples:
        """The samples of an event that `load` was asked to keep rows of, sorted by time."""
        import numpy as np

        rows, raw = self._parser.rows(event)
        order = np.argsort(rows["time_ns"], kind="stable")
        sizes = rows["raw_bytes"]
        starts = np.cumsum(sizes, dtype=np.uint64) - sizes
        group = rows["group"][order]
        return Samples(
            event=event,
            time_ns=rows["time_ns"][order],
            pid=self.groups["pid"][group],
            tid=self.groups["tid"][group],
            cpu=rows["cpu"][order],
            period=rows["period"][order],
            group=group,
            raw=raw,
            raw_start=starts[order],
            raw_bytes=sizes[order],
        )

    def comms(self) -> list[str]:
        """The name of each group's thread at the time of its first sample, empty where it is not known."""
        numbers = self._comm_numbers(slice(None))
        return [self.tasks.comm(number) for number in numbers.tolist()]

    def kernel_frames(self, kallsyms: Kallsyms | None, names: NameTable) -> FrameChains:
        """The kernel chains with numbers of names for addresses; without symbols every name is `[kernel]`."""
        import numpy as np

        chains = self.kernel_chains
        if kallsyms is None:
            return FrameChains(chains.starts, np.full(len(chains.addresses), names.number("[kernel]"), np.uint32))
        symbols = kallsyms.resolve(chains.addresses)
        is_used = np.zeros(len(kallsyms) + 1, bool)
        is_used[symbols] = True
        used = np.flatnonzero(is_used)
        number = np.zeros(len(kallsyms) + 1, np.uint32)
        number[used] = names.numbers(map(kallsyms.name, used.tolist()))
        return FrameChains(chains.starts, number[symbols])

    def kernel_stacks(self, kallsyms: Kallsyms) -> list[tuple[str, ...]]:
        """The names of every kernel chain, the leaf first, by chain number."""
        table = NameTable()
        frames = self.kernel_frames(kallsyms, table)
        names = table.names()
        named = [names[number] for number in frames.frames.tolist()]
        starts = frames.starts.tolist()
        return [tuple(named[begin:end]) for begin, end in pairwise(starts)]

    def tree(
        self,
        event: Event | None = None,
        *,
        kallsyms: Kallsyms | None,
        user: bool = True,
        comm: bool = False,
        select: NDArray[np.bool_] | None = None,
    ) -> CallTree:
        """The call stacks of one event, or of all, as a prefix tree.

        `kallsyms` are the kernel's symbols (None: every frame of the kernel is `[kernel]`), `user` adds the user parts
        of chains above the kernel's, `comm` the thread's name above both. `select` says of each of `groups` whether it
        counts.
        """
        import numpy as np

        groups = self.groups
        chosen = np.ones(len(groups), bool) if select is None else select
        if event is not None:
            chosen = chosen & (groups["event"] == event.number)
        rows = np.flatnonzero(chosen)
        table, builder = NameTable(), TreeBuilder()
        below = np.full(len(rows), ROOT, np.uint32)
        if comm:
            below = builder.insert(below, *self._comm_frames(rows, table))
        if user:
            below = builder.insert(below, *self._user_frames.chains(rows, table))
        nodes = self._insert_kernel(builder, below, rows, self.kernel_frames(kallsyms, table))
        return builder.tree(table.names(), nodes, groups["count"][rows], groups["period"][rows])

    def _insert_kernel(
        self, builder: TreeBuilder, below: NDArray[np.uint32], rows: NDArray[np.intp], frames: FrameChains
    ) -> NDArray[np.uint32]:
        """The nodes of groups' kernel chains; below the root alone each chain is inserted once for all its groups."""
        import numpy as np

        kernel = self.groups["kernel"][rows]
        if below.any():
            return builder.insert(below, kernel, frames)
        is_used = np.zeros(len(frames), bool)
        is_used[kernel] = True
        used = np.flatnonzero(is_used).astype(np.uint32)
        node: NDArray[np.uint32] = np.zeros(len(frames), np.uint32)
        node[used] = builder.insert(np.zeros(len(used), np.uint32), used, frames)
        return np.take(node, kernel)

    def ambiguous_epochs(self) -> NDArray[np.void]:
        """Times at which threads turned into something else in the midst of a group, sorted by (tid, time)."""
        import numpy as np

        found = self._user_frames.changes_within_groups()
        epochs = np.zeros(len(found), EPOCH)
        for row, (tid, time_ns) in enumerate(sorted(found)):
            epochs[row]["tid"], epochs[row]["time_ns"] = tid, time_ns
        return epochs

    @cached_property
    def _user_frames(self) -> UserFrames:
        return UserFrames(self.groups, self.user_chains, self.tasks, self.recording.build_ids)

    def _comm_frames(self, rows: NDArray[np.intp], table: NameTable) -> tuple[NDArray[np.uint32], FrameChains]:
        import numpy as np

        distinct, chain = np.unique(self._comm_numbers(rows), return_inverse=True)
        names = np.array(
            table.numbers(self.tasks.comm(number) or "[unknown]" for number in distinct.tolist()), np.uint32
        )
        return chain.astype(np.uint32), FrameChains(np.arange(len(names) + 1, dtype=np.uint64), names)

    def _comm_numbers(self, rows: NDArray[np.intp] | slice) -> NDArray[np.int64]:
        groups = self.groups[rows]
        return self.tasks.comms.at(groups["tid"], groups["first_ns"])
