"""Reading a perf.data: a file, a directory of `perf record --threads`, or what `perf record -o -` writes."""

from __future__ import annotations

import fnmatch
import io
import mmap
import os
import stat
import struct
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import named_file
from numabench.perf import header
from numabench.perf.attr import PerfDataError, parse_attr, parse_tracing_data
from numabench.perf.header import Head, Recording
from numabench.perf.profile import Profile
from numabench.perf.records import (
    BUILD_ID,
    EVENT_UPDATE,
    HEADER_ATTR,
    HEADER_FEATURE,
    TRACING_DATA,
    Parser,
    RecordStream,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import BinaryIO

_MAP_BYTES = 2 << 20
_UPDATE_NAME = 2


def load(
    source: Path | str | BinaryIO,
    *,
    rows: Collection[str] = (),
    user: bool = True,
    threads: bool = True,
    parity: bool = False,
) -> Profile:
    """A recording, reduced to its distinct call chains and how often each thread was found in them.

    `source` is a perf.data, the directory of `perf record --threads`, a fifo, or an open binary file of what
    `perf record -o -` writes. `rows` are patterns of events' names (`sched:sched_switch`, `lock:*`) whose samples are
    kept one by one, with their payloads. `user=False` leaves out the user parts of chains. `threads=False` counts the
    threads of one name together, and with `user=False` all threads: the fastest way to the kernel's stacks.
    `parity=True` drops a whole chain for one garbage word, as perf does, where otherwise its kernel part is kept and
    counted.

    Kernel symbols are found later, when a tree or names are asked for. Memory is that of the distinct chains and the
    rows, not of the file. A file that ends early is read as far as it goes (`Profile.stats.truncated`). Raises
    `PerfDataError` for what is no perf.data or is corrupt.
    """
    can_repeat = isinstance(source, Path | str) and (Path(source).is_file() or Path(source).is_dir())
    reading = _Reading(rows, Parser(parity=parity, user=user, threads=threads, can_repeat=can_repeat))
    name = str(source) if isinstance(source, Path | str) else str(getattr(source, "name", "the stream"))
    with _told_of(name):
        if isinstance(source, Path | str):
            _read_files(_files(Path(source)), reading, name)
        else:
            reading.read(source, name)
            reading.finish(name)
    return Profile(name, reading.recording, reading.parser)


def _read_files(files: Sequence[Path], reading: _Reading, name: str) -> None:
    # Each file has rounds of its own.
    reading.parser.must_repeat = reading.parser.is_ordered and len(files) > 1
    for path in files:
        with _opened(path) as file:
            reading.read(file, str(path))
    reading.finish(name)
    if reading.parser.must_repeat:
        for number, path in enumerate(files):
            with _opened(path) as file:
                reading.read_again(file, number)


@contextmanager
def _told_of(name: str) -> Iterator[None]:
    """Have every message name what is read."""
    try:
        yield
    except PerfDataError as error:
        if name in error.message:
            raise
        raise PerfDataError(f"{name}: {error.message}", error.hint) from None


def _files(path: Path) -> tuple[Path, ...]:
    """The file with the header, and then those with records alone."""
    if not path.is_dir():
        return (path,)
    parts = sorted(path.glob("data.*"), key=lambda part: (len(part.name), part.name))
    if not (path / "data").is_file():
        raise PerfDataError(f"{path} is a directory without a file named data", "give it a perf.data")
    return (path / "data", *parts)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with named_file.opened(path) as file:
            yield file
    except OSError as error:
        raise PerfDataError(f"cannot read {path}: {error.strerror}") from None


class _Reading:
    """One reading of the files of a recording; the first has the header, further ones are records alone."""

    def __init__(self, rows: Collection[str], parser: Parser) -> None:
        self.parser = parser
        self.recording = Recording()
        self._patterns = tuple(rows)
        self._streams: list[RecordStream] = []
        self._parts: list[tuple[int, int | None]] = []
        self._has_head = False

    def read(self, file: BinaryIO, name: str) -> None:
        """Take in a file."""
        if self._has_head:
            self._feed(file, None)
            return
        self._has_head = True
        first = _read_exactly(file, header.PIPE_HEADER_BYTES)
        if first[8:] != struct.pack("<Q", header.PIPE_HEADER_BYTES):
            first += _read_exactly(file, header.HEADER_BYTES - len(first))
        head = header.parse_head(first, name)
        if head.is_pipe:
            self._feed(file, None)
            return
        self._read_sections(file, head, name)

    def _read_sections(self, file: BinaryIO, head: Head, name: str) -> None:
        if not file.seekable():
            raise PerfDataError(f"{name} cannot be sought in", "save it to a file first, or record with -o -")
        self.recording = header.read_recording(file, head, name)
        for event in self.recording.events:
            self.parser.add_event(event)
        self._choose_rows()
        size_bytes = file.seek(0, io.SEEK_END)
        if head.data_offset > size_bytes:
            raise PerfDataError(f"{name} has its data beyond its end")
        file.seek(head.data_offset)
        left_bytes = size_bytes - head.data_offset
        self.parser.truncated |= head.data_bytes > left_bytes
        self._feed(file, min(head.data_bytes, left_bytes) or None)

    def read_again(self, file: BinaryIO, number: int) -> None:
        """Take the samples of a file that was read before."""
        offset_bytes, size_bytes = self._parts[number]
        file.seek(offset_bytes)
        repeat = self._streams[number].again()
        for part in self._source(file, size_bytes):
            repeat.feed(part)
            self.parser.give_back(part)

    def finish(self, name: str) -> None:
        """Take what still waits. Raises `PerfDataError` where no event was described."""
        if not self.recording.events:
            raise PerfDataError(f"{name} describes no event")
        self.parser.end()

    def _feed(self, file: BinaryIO, size_bytes: int | None) -> None:
        stream = self.parser.stream(self._on_record)
        self._streams.append(stream)
        self._parts.append((file.tell() if file.seekable() else 0, size_bytes))
        for part in self._source(file, size_bytes):
            stream.feed(part)
        stream.end()

    def _source(self, file: BinaryIO, size_bytes: int | None) -> Iterator[memoryview]:
        try:
            status = os.fstat(file.fileno())
        except (OSError, AttributeError):
            return _parts(self.parser, file, size_bytes)
        if not stat.S_ISREG(status.st_mode):
            return _parts(self.parser, file, size_bytes)
        at = file.tell()
        return _mapped_parts(file, at, status.st_size - at if size_bytes is None else size_bytes)

    def _choose_rows(self) -> None:
        for event in self.recording.events:
            if any(fnmatch.fnmatchcase(event.name, pattern) for pattern in self._patterns):
                self.parser.keep_rows(event)

    def _on_record(self, kind: int, body: bytes) -> None:
        """Take in what a pipe says of itself among its records."""
        recording = self.recording
        if kind == HEADER_ATTR:
            attr_bytes = int.from_bytes(body[4:8], "little")
            ids = body[attr_bytes:]
            count = len(ids) // 8
            event = parse_attr(body[:attr_bytes], len(recording.events), struct.unpack(f"<{count}Q", ids[: 8 * count]))
            self.parser.add_event(event)
            recording = replace(recording, events=(*recording.events, event))
        elif kind == EVENT_UPDATE and len(body) > 16:
            recording = _renamed(recording, body)
        elif kind == HEADER_FEATURE and len(body) >= 8:
            recording = header.with_feature(recording, int.from_bytes(body[:8], "little"), body[8:])
        elif kind == TRACING_DATA:
            recording = header.with_tracepoints(recording, parse_tracing_data(body))
        elif kind == BUILD_ID:
            size_bytes = len(body) + 8
            record = struct.pack("<IHH", BUILD_ID, 0, size_bytes) + body
            recording = replace(recording, build_ids=recording.build_ids | header.parse_build_ids(record))
        self.recording = recording
        self._choose_rows()


def _parts(parser: Parser, file: BinaryIO, size_bytes: int | None) -> Iterator[memoryview]:
    """The next bytes of a file, up to a size or its end, in room of the parser's.

    A pipe gives little at a time: a part waits until it is full, for it may be kept.
    """
    while size_bytes is None or size_bytes > 0:
        view = memoryview(parser.room())
        room_bytes = len(view) if size_bytes is None else min(size_bytes, len(view))
        count = 0
        while count < room_bytes:
            more = file.readinto(view[count:room_bytes])  # type: ignore[attr-defined]
            if not more:
                break
            count += more
        if count:
            yield view[:count]
        if count < room_bytes:
            return
        size_bytes = None if size_bytes is None else size_bytes - count


def _mapped_parts(file: BinaryIO, offset_bytes: int, size_bytes: int) -> Iterator[memoryview]:
    """A regular file's bytes as they are in the page cache: to copy them costs as much as to read their chains.

    Only what the file still has at the time is mapped: to touch what it has lost since would be fatal.
    """
    at, end = offset_bytes, offset_bytes + size_bytes
    while at < end:
        begin = at // _MAP_BYTES * _MAP_BYTES
        until = min(end, begin + _MAP_BYTES, os.fstat(file.fileno()).st_size)
        if until <= at:
            return
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        window = mmap.mmap(file.fileno(), until - begin, flags=flags, prot=mmap.PROT_READ, offset=begin)
        yield memoryview(window)[at - begin :]
        at = until


def _renamed(recording: Recording, body: bytes) -> Recording:
    kind, id_ = struct.unpack_from("<QQ", body)
    if kind != _UPDATE_NAME:
        return recording
    name = body[16:].split(b"\0")[0].decode(errors="replace")
    events = tuple(event.named(name) if id_ in event.ids else event for event in recording.events)
    return replace(recording, events=events)


def _read_exactly(file: BinaryIO, size_bytes: int) -> bytes:
    parts = b""
    while len(parts) < size_bytes:
        part = file.read(size_bytes - len(parts))
        if not part:
            break
        parts += part
    return parts
