"""A recording that was read: its events, what was lost, and call stacks and samples of it with their names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from numabench.perf.attr import PerfDataError
from numabench.perf.kallsyms import Kallsyms, find_kallsyms
from numabench.perf.stacks import CallTree, Namer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf.attr import Event
    from numabench.perf.header import Recording
    from numabench.perf.records import Chains, Parser, Stats

_KERNEL = "[kernel.kallsyms]"


class Samples:
    """The samples of one event, in the order of their times, as columns of equal length, made when they are asked for.

    `group` is the row of `Profile.groups`, which holds the numbers of the call chain's parts. `raw` has the payloads
    one after the other: that of sample i begins at `raw_start[i]`.
    """

    def __init__(self, event: Event, rows: NDArray[np.void], raw: NDArray[np.uint8]) -> None:
        import numpy as np

        self.event = event
        self.raw = raw
        self._rows = rows
        # Perf writes what each CPU has in the order of time: to merge what is in order is quick.
        self._order = np.argsort(rows["time_ns"], kind="stable")

    def __len__(self) -> int:
        return len(self._rows)

    def _column(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = self._rows[name][self._order]
        return column

    @cached_property
    def time_ns(self) -> NDArray[np.uint64]:
        """The time of each sample, by the recording's clock."""
        return self._column("time_ns")

    @cached_property
    def pid(self) -> NDArray[np.uint32]:
        """The process."""
        return self._column("pid")

    @cached_property
    def tid(self) -> NDArray[np.uint32]:
        """The thread."""
        return self._column("tid")

    @cached_property
    def cpu(self) -> NDArray[np.uint32]:
        """The CPU, the highest number where it was not recorded."""
        return self._column("cpu")

    @cached_property
    def period(self) -> NDArray[np.uint64]:
        """The period that each sample stands for."""
        return self._column("period")

    @cached_property
    def group(self) -> NDArray[np.uint32]:
        """The row of `Profile.groups`."""
        return self._column("group")

    @cached_property
    def raw_bytes(self) -> NDArray[np.uint32]:
        """The size of each payload."""
        return self._column("raw_bytes")

    @cached_property
    def raw_start(self) -> NDArray[np.uint64]:
        """Where each payload begins in `raw`."""
        import numpy as np

        sizes = self._rows["raw_bytes"]
        starts: NDArray[np.uint64] = np.cumsum(sizes, dtype=np.uint64) - sizes
        return starts[self._order]

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
        sizes = self._rows["raw_bytes"]
        if len(self) and found.offset_bytes + found.size_bytes > int(sizes.min()):
            raise PerfDataError(f"a sample of {self.event.name} is too short to hold {name}")
        kind = f"<{'i' if found.signed else 'u'}{found.size_bytes}" if found.size_bytes in {1, 2, 4, 8} else ""
        if not len(self):
            return np.zeros(0, kind or "S1")
        if int(sizes.min()) == int(sizes.max()):
            payloads = self.raw.reshape(len(self), -1)
            field = np.ascontiguousarray(payloads[:, found.offset_bytes : found.offset_bytes + found.size_bytes])
            column: NDArray[np.generic] = field.view(kind or f"S{found.size_bytes}")[:, 0][self._order]
            return column
        at = self.raw_start.astype(np.int64)[:, None] + found.offset_bytes + np.arange(found.size_bytes)
        gathered: NDArray[np.generic] = self.raw[at].view(kind or f"S{found.size_bytes}")[:, 0]
        return gathered


class Profile:
    """What `numabench.perf.load` has read. Symbols are looked up when they are first needed."""

    def __init__(self, source: str, recording: Recording, parser: Parser) -> None:
        self.source = source
        self.recording = recording
        self._parser = parser
        self.stats: Stats = parser.stats()

    @cached_property
    def groups(self) -> NDArray[np.void]:
        """Samples counted by event, thread and call chain.

        The columns are `count`, `period` (their sum), `first_ns`, `last_ns`, `event`, `pid`, `tid`, `comm` (see
        `comms`) and the numbers of the `kernel` and `user` chains. Where threads are not told apart (see `load`), those
        of one name are counted together, and `pid` and `tid` are 0.
        """
        return self._parser.groups()

    @cached_property
    def kernel_chains(self) -> Chains:
        """The distinct kernel parts of call chains: addresses, the leaf first."""
        return self._parser.kernel_chains()

    @cached_property
    def user_chains(self) -> Chains:
        """The distinct user parts: addresses in the files that were mapped there, or as sampled where nothing was."""
        return self._parser.user_chains()

    @property
    def has_kernel_chains(self) -> bool:
        """Whether any sample was in the kernel."""
        return self._parser.has_kernel_chains()

    @cached_property
    def sampled_events(self) -> tuple[Event, ...]:
        """The events that have samples, in the order of the recording."""
        return tuple(event for event in self.events if self._parser.samples(event))

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

    def kallsyms(self, path: Path | str | None = None) -> Kallsyms:
        """The recorded kernel's symbols, from a file or from where perf keeps them, moved to where that kernel was.

        Raises `PerfDataError` where there are none.
        """
        found = Kallsyms.read(path) if path else find_kallsyms(self.kernel_build_id)
        return found.moved(self._parser.kernel_reference())

    def is_kernel_of(self, kallsyms: Kallsyms) -> bool:
        """Whether symbols can be those of the kernel that was recorded: another build's text has another size."""
        return kallsyms.may_be_of(self._parser.kernel_bytes())

    def samples(self, event: Event) -> Samples:
        """The samples of an event that `load` was asked to keep rows of, sorted by time."""
        return Samples(event, *self._parser.rows(event))

    def comms(self) -> list[str]:
        """The name of each group's thread at the time, empty where it is not known."""
        numbers = self.groups["comm"].tolist()
        names = {number: self._parser.text(number).decode(errors="replace") for number in set(numbers)}
        return [names[number] for number in numbers]

    def kernel_stacks(self, kallsyms: Kallsyms) -> KernelStacks:
        """The names of every kernel chain, the leaf first, by chain number."""
        return KernelStacks(self.kernel_chains, kallsyms)

    def tree(
        self,
        event: Event | None = None,
        *,
        kallsyms: Kallsyms | None,
        user: bool = True,
        comm: bool = False,
        select: NDArray[np.bool_] | None = None,
        modules: bool = False,
        shown: Callable[[str], str] | None = None,
    ) -> CallTree:
        """The call stacks of one event, or of all, as a prefix tree.

        `kallsyms` are the kernel's symbols (None: every frame of the kernel is `[kernel]`), `user` adds the user parts
        of chains above the kernel's, `comm` the thread's name above both. `select` says of each of `groups` whether it
        counts. With `modules` the names of the kernel's functions end with a NUL and the module they are in. `shown`
        replaces names that are empty or hold a blank, a semicolon or anything but printable ASCII.
        """
        namer = Namer(self._parser, self.recording.build_ids)
        namer.name_kernel(kallsyms, modules=modules)
        if comm:
            namer.name_comms()
        if user:
            namer.name_user()
        if shown is not None:
            namer.show(shown)
        chosen = None
        if select is not None:
            chosen = select.astype("u1").tobytes()
            if len(chosen) != len(self.groups):
                raise ValueError(f"select is of {len(chosen)} groups, and there are {len(self.groups)}")
        return namer.tree(None if event is None else event.number, user=user, comm=comm, select=chosen)


class KernelStacks(Sequence[tuple[str, ...]]):
    """Kernel chains by number, named when they are asked for: of many chains few may be."""

    def __init__(self, chains: Chains, kallsyms: Kallsyms) -> None:
        self._chains, self._kallsyms = chains, kallsyms
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._chains)

    @overload
    def __getitem__(self, number: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, number: slice) -> list[tuple[str, ...]]: ...

    def __getitem__(self, number: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"there is no chain {number}")
        return tuple(self._name(symbol) for symbol in self._kallsyms.resolve(self._chains[number]).tolist())

    def _name(self, symbol: int) -> str:
        found = self._names.get(symbol)
        if found is None:
            found = self._names[symbol] = self._kallsyms.name(symbol)
        return found
