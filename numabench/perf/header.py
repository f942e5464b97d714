"""The head of a perf.data file, and the features behind its data.

The format: tools/perf/Documentation/perf.data-file-format.txt.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from numabench.perf.attr import (
    Bytes,
    Event,
    PerfDataError,
    Tracepoint,
    parse_attr,
    parse_event_desc,
    parse_tracing_data,
)

if TYPE_CHECKING:
    from typing import BinaryIO

MAGIC = b"PERFILE2"
_MAGIC_SWAPPED = b"2ELIFREP"
HEADER_BYTES = 104
PIPE_HEADER_BYTES = 16
_HEADER = struct.Struct("<8sQQ QQ QQ QQ 32s")
_SECTION = struct.Struct("<QQ")
# More than any real recording has; what a corrupt one says is not believed further.
_MAX_EVENTS = 65535
_MAX_FEATURE_BYTES = 256 * 1024 * 1024
_MISC_BUILD_ID_SIZE = 1 << 15

TRACING_DATA, BUILD_ID, HOSTNAME, OSRELEASE, VERSION, ARCH = 1, 2, 3, 4, 5, 6
NRCPUS, CPUDESC, CMDLINE, EVENT_DESC = 7, 8, 11, 12
_TEXTS = (HOSTNAME, OSRELEASE, VERSION, ARCH, CPUDESC)
_FEATURES = 256


@dataclass(frozen=True)
class Recording:
    """What a perf.data says of itself; texts are empty where it does not say. `build_ids` are hex digits by path."""

    events: tuple[Event, ...] = ()
    hostname: str = ""
    os_release: str = ""
    perf_version: str = ""
    arch: str = ""
    cpu: str = ""
    command: tuple[str, ...] = ()
    build_ids: dict[str, str] = field(default_factory=dict)
    tracepoints: dict[int, Tracepoint] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Head:
    """Where a file's data is. `data_bytes` is 0 where the recorder was killed: the data goes on to the end."""

    is_pipe: bool
    attr_bytes: int = 0
    attrs: tuple[int, int] = (0, 0)
    data_offset: int = PIPE_HEADER_BYTES
    data_bytes: int = 0
    features: tuple[int, ...] = ()


def parse_head(data: bytes, name: str) -> Head:
    """The head in a file's first bytes. Raises `PerfDataError` for what is no perf.data of a little-endian machine."""
    if data[:8] == _MAGIC_SWAPPED:
        raise PerfDataError(f"{name} was recorded on a machine of the other byte order, which cannot be read")
    if data[:8] != MAGIC:
        raise PerfDataError(
            f"{name} is no perf.data", "its first bytes are not PERFILE2; perf 2.6.38 or later writes it"
        )
    if len(data) >= PIPE_HEADER_BYTES and int.from_bytes(data[8:16], "little") == PIPE_HEADER_BYTES:
        return Head(is_pipe=True)
    if len(data) < HEADER_BYTES:
        raise PerfDataError(f"{name} ends within its header")
    _, size, attr_bytes, *sections, bits = _HEADER.unpack(data[:HEADER_BYTES])
    if size < HEADER_BYTES:
        raise PerfDataError(f"{name} has a header of {size} bytes, which no perf writes")
    present = int.from_bytes(bits, "little")
    return Head(
        is_pipe=False,
        attr_bytes=attr_bytes,
        attrs=(sections[0], sections[1]),
        data_offset=sections[2],
        data_bytes=sections[3],
        features=tuple(bit for bit in range(_FEATURES) if present >> bit & 1),
    )


def read_recording(file: BinaryIO, head: Head, name: str) -> Recording:
    """The events and features of a file that can be sought in. A cut-off file has no features; events it must have."""
    events = _read_attrs(file, head, name)
    recording = Recording(events=events)
    table_at = head.data_offset + head.data_bytes
    table = _read_at(file, table_at, _SECTION.size * len(head.features)) if head.data_bytes else b""
    if len(table) < _SECTION.size * len(head.features):
        return recording
    for bit, (offset, size_bytes) in zip(head.features, _SECTION.iter_unpack(table), strict=True):
        if size_bytes <= _MAX_FEATURE_BYTES:
            recording = with_feature(recording, bit, _read_at(file, offset, size_bytes))
    return recording


def _read_at(file: BinaryIO, offset: int, size_bytes: int) -> bytes:
    if offset >= 2**63:
        return b""
    file.seek(offset)
    return file.read(size_bytes)


def _read_attrs(file: BinaryIO, head: Head, name: str) -> tuple[Event, ...]:
    offset, size_bytes = head.attrs
    if not _SECTION.size < head.attr_bytes <= 65536 or size_bytes // head.attr_bytes > _MAX_EVENTS:
        raise PerfDataError(f"{name} has a corrupt header: {size_bytes} bytes of events of {head.attr_bytes} bytes")
    table = _read_at(file, offset, size_bytes)
    events = []
    for number in range(len(table) // head.attr_bytes):
        entry = table[number * head.attr_bytes : (number + 1) * head.attr_bytes]
        ids_at, ids_bytes = _SECTION.unpack(entry[-_SECTION.size :])
        ids = _read_at(file, ids_at, min(ids_bytes, _MAX_FEATURE_BYTES))
        count = len(ids) // 8
        events.append(parse_attr(entry[: -_SECTION.size], number, struct.unpack(f"<{count}Q", ids[: 8 * count])))
    if not events:
        raise PerfDataError(f"{name} describes no event")
    return tuple(events)


def with_feature(recording: Recording, bit: int, data: bytes) -> Recording:
    """The recording with one more feature taken in; one that is cut off or of no use here changes nothing."""
    try:
        return _with_feature(recording, bit, data)
    except PerfDataError:
        return recording


def _with_feature(recording: Recording, bit: int, data: bytes) -> Recording:
    if bit in _TEXTS:
        return _with_text(recording, bit, Bytes(data, "a feature").sized_text())
    if bit == CMDLINE:
        rest = Bytes(data, "the feature CMDLINE")
        return replace(recording, command=tuple(rest.sized_text() for _ in range(min(rest.number(4), rest.left()))))
    if bit == EVENT_DESC:
        return with_names(recording, {ids: name for name, ids, _ in parse_event_desc(data)}, data)
    if bit == TRACING_DATA:
        return with_tracepoints(recording, parse_tracing_data(data))
    if bit == BUILD_ID:
        return replace(recording, build_ids=recording.build_ids | parse_build_ids(data))
    return recording


def _with_text(recording: Recording, bit: int, text: str) -> Recording:
    if bit == HOSTNAME:
        return replace(recording, hostname=text)
    if bit == OSRELEASE:
        return replace(recording, os_release=text)
    if bit == VERSION:
        return replace(recording, perf_version=text)
    return replace(recording, arch=text) if bit == ARCH else replace(recording, cpu=text)


def with_names(recording: Recording, names: dict[tuple[int, ...], str], data: bytes) -> Recording:
    """The recording with its events named as EVENT_DESC has it: by their ids, and in order where they have none."""
    by_order = [name for name, _, _ in parse_event_desc(data)]
    by_id = {number: name for ids, name in names.items() for number in ids}
    events = []
    for event in recording.events:
        name = next((by_id[number] for number in event.ids if number in by_id), "")
        if not name and not event.ids and event.number < len(by_order):
            name = by_order[event.number]
        events.append(event.named(name) if name else event)
    return replace(recording, events=tuple(events))


def with_tracepoints(recording: Recording, tracepoints: dict[int, Tracepoint]) -> Recording:
    """The recording with the fields of its tracepoints, and their names where it does not say them."""
    events = []
    for event in recording.events:
        found = tracepoints.get(event.config) if event.is_tracepoint else None
        if found:
            event = replace(event, fields=found.fields, name=event.name if ":" in event.name else found.name)  # noqa: PLW2901
        events.append(event)
    return replace(recording, events=tuple(events), tracepoints=tracepoints)


def parse_build_ids(data: bytes) -> dict[str, str]:
    """Build ids as hex digits by path, of records as in the feature BUILD_ID."""
    found = {}
    at = 0
    while at + 36 <= len(data):
        _, misc, size_bytes = struct.unpack_from("<IHH", data, at)
        if size_bytes < 36 or at + size_bytes > len(data):
            break
        id_bytes = data[at + 32] if misc & _MISC_BUILD_ID_SIZE else 20
        path = data[at + 36 : at + size_bytes].split(b"\0")[0].decode(errors="replace")
        found[path] = data[at + 12 : at + 12 + min(id_bytes, 20)].hex()
        at += size_bytes
    return found
