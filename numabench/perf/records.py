"""The parser of c_ext/perfdata.c, and what it has found, as numpy arrays. cdata does not leave this module."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.perf.attr import PerfDataError
from numabench.perf.extension import checked, ffi, lib, made, require
from numabench.perf.zstd import Unpacker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf.attr import Event

HEADER_ATTR, TRACING_DATA, BUILD_ID, EVENT_UPDATE, HEADER_FEATURE = 64, 66, 67, 78, 80
_COMPRESSED, _COMPRESSED2 = 81, 83
_RECORD_HEADER_BYTES = 8
_MAX_TRACING_BYTES = 256 * 1024 * 1024
_LOST_RECORD, _THROTTLE_RECORD, _UNTHROTTLE_RECORD = 2, 5, 6

# struct perfdata_group, perfdata_row and perfdata_place of c_ext/perfdata.h
GROUP = [
    *(("count", "<u8"), ("period", "<u8"), ("first_ns", "<u8"), ("last_ns", "<u8"), ("event", "<u4")),
    *(("pid", "<u4"), ("tid", "<u4"), ("comm", "<u4"), ("kernel", "<u4"), ("user", "<u4")),
]
ROW = [
    *(("time_ns", "<u8"), ("period", "<u8"), ("pid", "<u4"), ("tid", "<u4"), ("group", "<u4"), ("cpu", "<u4")),
    *(("raw_bytes", "<u4"), ("", "<u4")),
]
_PLACE = [("file", "<u8"), ("address", "<u8")]
# Samples wait in memory until all that came before them is known, but not more of them than this.
_MAX_HELD_BYTES = 12 << 20
_PART_BYTES = 1 << 18
_SPARE_PARTS = 64


@dataclass(frozen=True)
class Stats:
    """What a recording held, and what it lost.

    `lost` counts samples that the kernel could not write, `throttled` the times it slowed an event down,
    `garbage_chains` the call chains with a word that is no address (their kernel part is kept, unless perf's rule was
    asked for), `deferred_chains` those whose user part comes in a record of its own (it is left out), `cut_lookups`
    user addresses of processes with more mappings than were looked at (they stay unknown), `skipped_words` addresses of
    guests and hypervisors. `malformed_records` are shorter than what they say they hold and
    `unknown_events` samples of an event that is not described; both are left out. `truncated` says that the file ends
    within a record. `records` counts all records by type.
    """

    samples: int
    lost: int
    throttled: int
    garbage_chains: int
    deferred_chains: int
    cut_lookups: int
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
    """One run over a recording's records; its streams may be fed in turns.

    Who a sample is of, and what was mapped where, is told by records that may come after it: `is_ordered` says that
    samples wait for those. With `can_repeat` a source whose samples would wait for too long is to be fed again once it
    has ended (see `RecordStream.again`); otherwise they are taken with what is known by then.
    """

    def __init__(self, *, parity: bool, user: bool, threads: bool, can_repeat: bool) -> None:
        require()
        seed = int.from_bytes(os.urandom(8), "little")
        self.data = made(lib.perfdata_new(parity, user, threads, seed), lib.perfdata_free)
        self.is_ordered = user or threads
        self.can_repeat = can_repeat
        self.must_repeat = False
        self.truncated = False
        self._streams: list[RecordStream] = []
        self._held_bytes = 0
        self._spare: list[bytearray] = []

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
        number = checked(lib.perfdata_add_event(self.data, layout))
        for id_ in event.ids:
            checked(lib.perfdata_add_id(self.data, id_, number))

    def keep_rows(self, event: Event) -> None:
        """Keep a row and the raw payload of every sample of an event from now on."""
        lib.perfdata_keep(self.data, event.number, lib.PERFDATA_ROWS | lib.PERFDATA_RAW)

    def stream(self, on_record: Callable[[int, bytes], None]) -> RecordStream:
        """A new stream of records; `on_record` is given those that describe the recording: type, and what follows."""
        stream = RecordStream(self, on_record)
        self._streams.append(stream)
        return stream

    def join(self, stream: RecordStream) -> None:
        """Have what is unpacked from one of the streams take part in its rounds."""
        self._streams.append(stream)

    def end(self) -> None:
        """All streams have ended: take what still waits."""
        checked(lib.perfdata_settle(self.data))
        for stream in self._streams:
            stream.release(stream.scanned_bytes)

    def room(self) -> bytearray:
        """Room for the next part of a source, of which a part is handed to a stream."""
        return self._spare.pop() if self._spare else bytearray(_PART_BYTES)

    def give_back(self, part: bytes | memoryview) -> None:
        """A part is no longer needed: what it lies in is room for another one."""
        if isinstance(part, memoryview) and isinstance(part.obj, bytearray) and len(self._spare) < _SPARE_PARTS:
            self._spare.append(part.obj)

    def round_ended(self) -> None:
        """Perf has emptied its buffers once more: what it had read by the round before need not wait any longer."""
        if not self.is_ordered or self.must_repeat:
            return
        checked(lib.perfdata_round(self.data))
        for stream in self._streams:
            stream.release(stream.round_bytes)
            stream.round_bytes = stream.scanned_bytes

    def hold(self, size_bytes: int) -> None:
        """Account for bytes that wait, or (negative) no longer do."""
        self._held_bytes += size_bytes
        if self._held_bytes <= _MAX_HELD_BYTES:
            return
        if self.can_repeat:
            self.must_repeat = True
            for stream in self._streams:
                stream.drop()
            return
        checked(lib.perfdata_settle(self.data))
        for stream in self._streams:
            stream.release(stream.scanned_bytes)

    def stats(self) -> Stats:
        """What was found so far."""
        found = lib.perfdata_stats(self.data)
        records = {number: found.records[number] for number in range(lib.PERFDATA_TYPES) if found.records[number]}
        return Stats(
            samples=found.samples,
            lost=max(found.lost_in_records, found.lost_samples),
            throttled=records.get(_THROTTLE_RECORD, 0),
            garbage_chains=found.garbage_chains,
            deferred_chains=found.deferred_chains,
            cut_lookups=found.cut_lookups,
            skipped_words=found.skipped_words,
            malformed_records=found.malformed_records,
            unknown_events=found.unknown_events,
            unknown_records=found.unknown_records,
            truncated=self.truncated,
            records=records,
        )

    def kernel_reference(self) -> int:
        """The address of the kernel's _text or _stext, 0 where it was not recorded."""
        return int(lib.perfdata_kernel_reference(self.data))

    def kernel_bytes(self) -> int:
        """How much perf says is mapped from the kernel's text on, 0 where it was not recorded."""
        return int(lib.perfdata_kernel_bytes(self.data))

    def has_kernel_chains(self) -> bool:
        """Whether any sample was in the kernel."""
        return bool(lib.perfdata_kernel_chains(self.data).count > 1)

    def samples(self, event: Event) -> int:
        """How many samples of an event were taken."""
        return int(lib.perfdata_samples(self.data, event.number))

    def kernel_chains(self) -> Chains:
        """Distinct kernel parts of call chains."""
        span = lib.perfdata_kernel_chains(self.data)
        starts = self._view(span.starts, span.count + 1, "<u8")
        return Chains(starts, self._view(span.items, int(starts[-1]), "<u8"))

    def user_chains(self) -> Chains:
        """Distinct user parts of call chains: addresses in the files that they lie in."""
        span = lib.perfdata_user_chains(self.data)
        starts = self._view(span.starts, span.count + 1, "<u8")
        numbers = self._view(span.items, int(starts[-1]), "<u4")
        return Chains(starts, self._array(lib.perfdata_places, _PLACE)["address"][numbers])

    def groups(self) -> NDArray[np.void]:
        """Samples counted by event, thread, and both parts of the chain: dtype `GROUP`."""
        return self._array(lib.perfdata_groups, GROUP)

    def rows(self, event: Event) -> tuple[NDArray[np.void], NDArray[np.uint8]]:
        """The samples of an event that rows were kept of, in the file's order (dtype `ROW`), and their payloads."""
        count, size = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        rows = lib.perfdata_rows(self.data, event.number, count)
        raw = lib.perfdata_raw(self.data, event.number, size)
        return self._view(rows, count[0], ROW), self._view(raw, size[0], "u1")

    def file(self, number: int) -> tuple[str, bytes]:
        """Name and build id of a file that was mapped."""
        found = lib.perfdata_files(self.data, ffi.new("uint64_t *"))[number]
        return self.text(found.name).decode(errors="replace"), self.text(found.build_id)

    def text(self, number: int) -> bytes:
        """One text as it stands in the file."""
        span = lib.perfdata_texts(self.data)
        begin, end = span.starts[number], span.starts[number + 1]
        return bytes(ffi.buffer(ffi.cast("char *", span.items) + begin, end - begin)) if end > begin else b""

    def _array(self, read: Any, dtype: Any) -> NDArray[np.void]:
        count = ffi.new("uint64_t *")
        items = read(self.data, count)
        return self._view(items, count[0], dtype)

    def _view(self, items: Any, count: int, dtype: Any) -> NDArray[Any]:
        """An array over the parser's memory, which lives as long as any of these arrays."""
        import numpy as np

        kind = np.dtype(dtype)
        if not count:
            return np.zeros(0, kind)
        held = ffi.gc(ffi.cast("char *", items), _Keep(self.data))
        array = np.frombuffer(ffi.buffer(held, count * kind.itemsize), kind)
        array.flags.writeable = False
        return array


class _Keep:
    """A destructor that does nothing but hold on to the memory's owner until it is called."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __call__(self, _: Any) -> None:
        self._owner = None


class _Lane:
    """A parser's way through the bytes of a stream, for some of its records."""

    def __init__(self, data: Any, takes: int) -> None:
        self._data, self._used = data, ffi.new("size_t *")
        self.lane = made(lib.perfdata_lane_new(takes), lib.perfdata_lane_free)

    def feed(self, part: bytes | memoryview) -> Iterator[tuple[int, int]]:
        """Take the next bytes. Where the caller has to do something: what, and how many bytes were taken by then.

        Raises `PerfDataError` where they cannot be records.
        """
        at, size_bytes, used = 0, len(part), self._used
        start = ffi.from_buffer("uint8_t[]", part)
        while at < size_bytes:
            status = lib.perfdata_feed(self._data, self.lane, start + at, size_bytes - at, used)
            at += used[0]
            if status == lib.PERFDATA_CORRUPT:
                raise PerfDataError(f"the data is corrupt at byte {self.lane.taken_bytes} of its records")
            if status < 0:
                raise MemoryError("no memory for more call chains")
            if status != lib.PERFDATA_MORE:
                yield status, at

    def pass_over(self, part: bytes | memoryview) -> None:
        """Take the next bytes, of which the caller has nothing to do with any."""
        for _ in self.feed(part):
            pass

    def record(self) -> bytes:
        """The record, or the bytes outside of records, that the caller has to do something with."""
        return bytes(ffi.buffer(self.lane.record, self.lane.record_bytes))

    def is_within_record(self) -> bool:
        """Whether a record, or what follows it, has not come to its end."""
        return bool(self.lane.held_bytes or self.lane.outside_bytes)


class RecordStream:
    """A stream of records, fed in parts of any size: a file's data, a pipe, or one file of a directory.

    One lane goes ahead, for the records about tasks, and one comes behind, for the samples.
    """

    def __init__(self, parser: Parser, on_record: Callable[[int, bytes], None], *, is_unpacked: bool = False) -> None:
        self._parser, self._on_record, self._is_unpacked = parser, on_record, is_unpacked
        takes = lib.PERFDATA_SIDEBAND | lib.PERFDATA_PACKED
        self._ahead = _Lane(parser.data, takes if parser.is_ordered else takes | lib.PERFDATA_SAMPLES)
        self._behind = _Lane(parser.data, lib.PERFDATA_SAMPLES)
        self._unpacked: RecordStream | None = None
        self._unpacker: Unpacker | None = None
        self._tracing: bytearray | None = None
        self._held: deque[bytes | memoryview] = deque()
        self._released_bytes = 0
        self.scanned_bytes = 0
        self.round_bytes = 0

    def feed(self, part: bytes | memoryview) -> None:
        """Take the next bytes, which must stay as they are until they are given back to the parser.

        Raises `PerfDataError` where they cannot be records.
        """
        begin_bytes = self.scanned_bytes
        is_held = self._parser.is_ordered and not self._parser.must_repeat
        if is_held:
            self._held.append(part)
            self._parser.hold(len(part))
        for status, taken_bytes in self._ahead.feed(part):
            self.scanned_bytes = begin_bytes + taken_bytes
            if status == lib.PERFDATA_ROUND:
                self._parser.round_ended()
            elif status == lib.PERFDATA_RECORD:
                self._take(self._ahead.record())
            else:
                self._take_outside()
        self.scanned_bytes = begin_bytes + len(part)
        if not is_held:
            self._parser.give_back(part)

    def end(self) -> None:
        """Note whether the stream ended within a record."""
        if self._ahead.is_within_record():
            self._parser.truncated = True
        if self._unpacked:
            self._unpacked.end()

    def release(self, until_bytes: int) -> None:
        """Take the samples up to a place in the stream."""
        while self._held and self._released_bytes < until_bytes:
            part = self._held.popleft()
            size_bytes = min(len(part), until_bytes - self._released_bytes)
            self._behind.pass_over(part[:size_bytes] if size_bytes < len(part) else part)
            self._released_bytes += size_bytes
            if size_bytes < len(part):
                self._held.appendleft(memoryview(part)[size_bytes:])
            else:
                self._parser.give_back(part)
            self._parser.hold(-size_bytes)

    def drop(self) -> None:
        """Forget what waits: it will be fed again."""
        for part in self._held:
            self._parser.hold(-len(part))
        self._held.clear()

    def again(self) -> Repeat:
        """The samples of a source that is fed a second time."""
        return Repeat(self)

    def take_samples(self, part: bytes | memoryview, at_bytes: int) -> None:
        """Take the samples of a part that begins at a place in the stream, but for those taken before."""
        if at_bytes + len(part) > self._released_bytes:
            self._behind.pass_over(memoryview(part)[max(self._released_bytes - at_bytes, 0) :])
            self._released_bytes = at_bytes + len(part)

    def unpacked(self) -> RecordStream | None:
        """The stream of what was unpacked from this one."""
        return self._unpacked

    def _take(self, record: bytes) -> None:
        kind = int.from_bytes(record[:4], "little")
        if kind == TRACING_DATA:
            self._tracing = bytearray() if self._ahead.lane.outside_bytes else None
        elif kind in {_COMPRESSED, _COMPRESSED2}:
            self._unpack(_packed(kind, record))
        else:
            self._on_record(kind, record[_RECORD_HEADER_BYTES:])

    def _take_outside(self) -> None:
        if self._tracing is None:
            return
        self._tracing += self._ahead.record()
        if len(self._tracing) > _MAX_TRACING_BYTES:
            raise PerfDataError("the formats of the tracepoints are larger than any kernel's")
        if not self._ahead.lane.outside_bytes:
            tracing, self._tracing = bytes(self._tracing), None
            self._on_record(TRACING_DATA, tracing)

    def _unpack(self, packed: bytes) -> None:
        if self._is_unpacked:
            raise PerfDataError("the data is corrupt: compressed records within compressed records")
        if self._unpacked is None or self._unpacker is None:
            self._unpacked = RecordStream(self._parser, self._on_record, is_unpacked=True)
            self._parser.join(self._unpacked)
            self._unpacker = Unpacker()
        for piece in self._unpacker.feed(packed):
            self._unpacked.feed(piece)


class Repeat:
    """A second run over a source that was fed before, for the samples that did not fit in memory the first time."""

    def __init__(self, stream: RecordStream) -> None:
        self._stream, self._unpacked = stream, stream.unpacked()
        self._lane = _Lane(stream._parser.data, lib.PERFDATA_PACKED)  # noqa: SLF001  one class in two parts
        self._unpacker = Unpacker() if self._unpacked else None
        self._at_bytes = self._unpacked_bytes = 0

    def feed(self, part: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._stream.take_samples(part, self._at_bytes)
        self._at_bytes += len(part)
        if self._unpacker is None or self._unpacked is None:
            return
        for status, _ in self._lane.feed(part):
            if status != lib.PERFDATA_RECORD:
                continue
            record = self._lane.record()
            kind = int.from_bytes(record[:4], "little")
            for piece in self._unpacker.feed(_packed(kind, record)) if kind in {_COMPRESSED, _COMPRESSED2} else ():
                self._unpacked.take_samples(piece, self._unpacked_bytes)
                self._unpacked_bytes += len(piece)


def _packed(kind: int, record: bytes) -> bytes:
    """The packed bytes in a compressed record."""
    body = record[_RECORD_HEADER_BYTES:]
    return body if kind == _COMPRESSED else body[8 : 8 + int.from_bytes(body[:8], "little")]
