"""The parser of c_ext/perfdata.c, and what it has found, as numpy arrays. cdata does not leave this module."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from numabench.perf.attr import PerfDataError
from numabench.perf.extension import checked, ffi, lib, made, require
from numabench.perf.zstd import Unpacker

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf.attr import Event

HEADER_ATTR, TRACING_DATA, BUILD_ID, EVENT_UPDATE, HEADER_FEATURE = 64, 66, 67, 78, 80
_COMPRESSED, _COMPRESSED2 = 81, 83
_RECORD_HEADER_BYTES = 8
_MAX_TRACING_BYTES = 256 * 1024 * 1024
_LOST_RECORD, _THROTTLE_RECORD, _UNTHROTTLE_RECORD = 2, 5, 6

# struct perfdata_group, perfdata_row, perfdata_task and perfdata_epoch of c_ext/perfdata.h
GROUP = [
    *(("count", "<u8"), ("period", "<u8"), ("first_ns", "<u8"), ("last_ns", "<u8"), ("event", "<u4")),
    *(("pid", "<u4"), ("tid", "<u4"), ("epoch", "<u4"), ("kernel", "<u4"), ("user", "<u4")),
]
ROW = [("time_ns", "<u8"), ("period", "<u8"), ("group", "<u4"), ("cpu", "<u4"), ("raw_bytes", "<u4"), ("", "<u4")]
TASK = [
    *(("time_ns", "<u8"), ("address", "<u8"), ("size_bytes", "<u8"), ("offset_bytes", "<u8"), ("pid", "<u4")),
    *(("tid", "<u4"), ("name", "<u4"), ("build_id", "<u4"), ("type", "<u2"), ("misc", "<u2"), ("", "<u4")),
]
EPOCH = [("time_ns", "<u8"), ("tid", "<u4"), ("", "<u4")]


@dataclass(frozen=True)
class Stats:
    """What a recording held, and what it lost.

    `lost` counts samples that the kernel could not write, `throttled` the times it slowed an event down,
    `garbage_chains` the call chains with a word that is no address (their kernel part is kept, unless perf's rule was
    asked for), `deferred_chains` those whose user part comes in a record of its own (it is left out), `skipped_words`
    addresses of guests and hypervisors. `malformed_records` are shorter than what they say they hold and
    `unknown_events` samples of an event that is not described; both are left out. `truncated` says that the file ends
    within a record. `records` counts all records by type.
    """

    samples: int
    lost: int
    throttled: int
    garbage_chains: int
    deferred_chains: int
    skipped_words: int
    malformed_records: int
    unknown_events: int
    unknown_records: int
    truncated: bool
    records: dict[int, int]


@dataclass(frozen=True)
class Chains:
    """Distinct call chains, the leaf first: chain i is `addresses[starts[i]:starts[i + 1]]`; chain 0 is empty."""

    starts: NDArray[np.uint64]
    addresses: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> NDArray[np.uint64]:
        return self.addresses[int(self.starts[number]) : int(self.starts[number + 1])]


class Parser:
    """One run over a recording's records; its streams may be fed in turns."""

    def __init__(self, *, parity: bool, user: bool, threads: bool) -> None:
        require()
        seed = int.from_bytes(os.urandom(8), "little")
        self._data = made(lib.perfdata_new(parity, user, threads, seed), lib.perfdata_free)
        self._epochs: Any = None
        self.truncated = False

    def add_event(self, event: Event) -> None:
        """Describe the next event, before the first record that needs it."""
        layout = ffi.new(
            "struct perfdata_layout *",
            {
                "sample_type": event.sample_type,
                "read_format": event.read_format,
                "period": event.period or 1,
                "sample_id_all": event.sample_id_all,
            },
        )
        number = checked(lib.perfdata_add_event(self._data, layout))
        for id_ in event.ids:
            checked(lib.perfdata_add_id(self._data, id_, number))

    def keep_rows(self, event: Event) -> None:
        """Keep a row and the raw payload of every sample of an event from now on."""
        lib.perfdata_keep(self._data, event.number, lib.PERFDATA_ROWS | lib.PERFDATA_RAW)

    def set_epochs(self, epochs: NDArray[np.void]) -> None:
        """Times, sorted by (tid, time), that part the samples before and after into groups of their own."""
        self._epochs = epochs
        lib.perfdata_set_epochs(self._data, ffi.from_buffer("struct perfdata_epoch[]", epochs), len(epochs))

    def stream(self, on_record: Callable[[int, bytes], None]) -> RecordStream:
        """A new stream of records; `on_record` is given those that describe the recording: type, and what follows."""
        return RecordStream(self, self._data, on_record)

    def stats(self) -> Stats:
        """What was found so far."""
        found = lib.perfdata_stats(self._data)
        records = {number: found.records[number] for number in range(lib.PERFDATA_TYPES) if found.records[number]}
        return Stats(
            samples=found.samples,
            lost=max(found.lost_in_records, found.lost_samples),
            throttled=records.get(_THROTTLE_RECORD, 0),
            garbage_chains=found.garbage_chains,
            deferred_chains=found.deferred_chains,
            skipped_words=found.skipped_words,
            malformed_records=found.malformed_records,
            unknown_events=found.unknown_events,
            unknown_records=found.unknown_records,
            truncated=self.truncated,
            records=records,
        )

    def kernel_chains(self) -> Chains:
        """Distinct kernel parts of call chains."""
        return self._chains(lib.perfdata_kernel_chains(self._data))

    def user_chains(self) -> Chains:
        """Distinct user parts of call chains."""
        return self._chains(lib.perfdata_user_chains(self._data))

    def groups(self) -> NDArray[np.void]:
        """Samples counted by event, thread, and both parts of the chain: dtype `GROUP`."""
        return self._array(lib.perfdata_groups, GROUP)

    def tasks(self) -> NDArray[np.void]:
        """Records about tasks and their memory, in the file's order: dtype `TASK`."""
        return self._array(lib.perfdata_tasks, TASK)

    def rows(self, event: Event) -> tuple[NDArray[np.void], NDArray[np.uint8]]:
        """The samples of an event that rows were kept of, in the file's order (dtype `ROW`), and their payloads."""
        count, size = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        rows = lib.perfdata_rows(self._data, event.number, count)
        raw = lib.perfdata_raw(self._data, event.number, size)
        return self._view(rows, count[0], ROW), self._view(raw, size[0], "u1")

    def texts(self) -> list[str]:
        """The texts that records name by number."""
        span = lib.perfdata_texts(self._data)
        starts = self._view(span.starts, span.count + 1, "<u8").tolist()
        data = bytes(ffi.buffer(span.items, starts[-1])) if starts[-1] else b""
        return [data[begin:end].decode(errors="replace") for begin, end in pairwise(starts)]

    def text_bytes(self, number: int) -> bytes:
        """One text as it stands in the file."""
        span = lib.perfdata_texts(self._data)
        begin, end = span.starts[number], span.starts[number + 1]
        return bytes(ffi.buffer(ffi.cast("char *", span.items) + begin, end - begin)) if end > begin else b""

    def _chains(self, span: Any) -> Chains:
        starts = self._view(span.starts, span.count + 1, "<u8")
        return Chains(starts, self._view(span.items, int(starts[-1]), "<u8"))

    def _array(self, read: Any, dtype: Any) -> NDArray[np.void]:
        count = ffi.new("uint64_t *")
        items = read(self._data, count)
        return self._view(items, count[0], dtype)

    def _view(self, items: Any, count: int, dtype: Any) -> NDArray[Any]:
        """An array over the parser's memory, which lives as long as any of these arrays."""
        import numpy as np

        kind = np.dtype(dtype)
        if not count:
            return np.zeros(0, kind)
        held = ffi.gc(ffi.cast("char *", items), _Keep(self._data))
        array = np.frombuffer(ffi.buffer(held, count * kind.itemsize), kind)
        array.flags.writeable = False
        return array


class _Keep:
    """A destructor that does nothing but hold on to the memory's owner until it is called."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __call__(self, _: Any) -> None:
        self._owner = None


class RecordStream:
    """A stream of records, fed in parts of any size: a file's data, a pipe, or one file of a directory."""

    def __init__(
        self, parser: Parser, data: Any, on_record: Callable[[int, bytes], None], *, is_unpacked: bool = False
    ) -> None:
        self._parser, self._data, self._on_record, self._is_unpacked = parser, data, on_record, is_unpacked
        self._lane = made(lib.perfdata_lane_new(), lib.perfdata_lane_free)
        self._unpacked: RecordStream | None = None
        self._unpacker: Unpacker | None = None
        self._tracing: bytearray | None = None

    def feed(self, part: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises `PerfDataError` where they cannot be records."""
        view = memoryview(part)
        used = ffi.new("size_t *")
        while view.nbytes:
            status = lib.perfdata_feed(self._data, self._lane, ffi.from_buffer("uint8_t[]", view), view.nbytes, used)
            view = view[used[0] :]
            if status == lib.PERFDATA_RECORD:
                self._take(bytes(ffi.buffer(self._lane.record, self._lane.record_bytes)))
            elif status == lib.PERFDATA_OUTSIDE:
                self._take_outside()
            elif status == lib.PERFDATA_CORRUPT:
                raise PerfDataError(f"the data is corrupt at byte {self._lane.taken_bytes} of its records")
            elif status != lib.PERFDATA_MORE:
                raise MemoryError("no memory for more call chains")

    def end(self) -> None:
        """Note whether the stream ended within a record."""
        if self._lane.held_bytes or self._lane.outside_bytes:
            self._parser.truncated = True
        if self._unpacked:
            self._unpacked.end()

    def _take(self, record: bytes) -> None:
        kind = int.from_bytes(record[:4], "little")
        body = record[_RECORD_HEADER_BYTES:]
        if kind == TRACING_DATA:
            self._tracing = bytearray() if self._lane.outside_bytes else None
        elif kind == _COMPRESSED:
            self._unpack(body)
        elif kind == _COMPRESSED2:
            size_bytes = int.from_bytes(body[:8], "little")
            self._unpack(body[8 : 8 + size_bytes])
        else:
            self._on_record(kind, body)

    def _take_outside(self) -> None:
        if self._tracing is None:
            return
        if len(self._tracing) + self._lane.record_bytes > _MAX_TRACING_BYTES:
            raise PerfDataError("the formats of the tracepoints are larger than any kernel's")
        self._tracing += ffi.buffer(self._lane.record, self._lane.record_bytes)
        if not self._lane.outside_bytes:
            tracing, self._tracing = bytes(self._tracing), None
            self._on_record(TRACING_DATA, tracing)

    def _unpack(self, packed: bytes) -> None:
        if self._is_unpacked:
            raise PerfDataError("the data is corrupt: compressed records within compressed records")
        if self._unpacked is None or self._unpacker is None:
            self._unpacked = RecordStream(self._parser, self._data, self._on_record, is_unpacked=True)
            self._unpacker = Unpacker()
        for piece in self._unpacker.feed(packed):
            self._unpacked.feed(piece)
