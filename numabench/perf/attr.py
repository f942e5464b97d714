"""perf.data's description of its events: `struct perf_event_attr`, ids and names, and the fields of tracepoints.

Formats: include/uapi/linux/perf_event.h, tools/perf/Documentation/perf.data-file-format.txt, and for tracepoints
trace-cmd.dat.v6(5), whose beginning perf embeds.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from numabench.errors import NumabenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTR_BYTES_MIN = 64
_ATTR = struct.Struct("<II6Q")
_FREQ_BIT, _SAMPLE_ID_ALL_BIT = 10, 18
_TRACEPOINT_TYPE = 2
_SAMPLE_CALLCHAIN = 1 << 5
_FIELD = re.compile(
    r"field:(?P<declaration>[^;]+);\s*offset:(?P<at>\d+);\s*size:(?P<bytes>\d+);(?:\s*signed:(?P<sign>\d);)?"
)
_FORMAT_ID = re.compile(r"^ID:\s*(\d+)\s*$", re.MULTILINE)
_FORMAT_NAME = re.compile(r"^name:\s*(\S+)\s*$", re.MULTILINE)
# enum perf_sw_ids, in perf's words.
_SOFTWARE_NAMES = (
    *("cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations", "minor-faults"),
    *("major-faults", "alignment-faults", "emulation-faults", "dummy", "bpf-output", "cgroup-switches"),
)
_HARDWARE_NAMES = (
    *("cycles", "instructions", "cache-references", "cache-misses", "branches", "branch-misses"),
    *("bus-cycles", "stalled-cycles-frontend", "stalled-cycles-backend", "ref-cycles"),
)


class PerfDataError(NumabenchError):
    """A perf.data that cannot be read, or symbols that cannot be had for it."""


@dataclass(frozen=True)
class Field:
    """A field of a tracepoint's raw payload, as the recording kernel laid it out."""

    name: str
    offset_bytes: int
    size_bytes: int
    signed: bool


@dataclass(frozen=True)
class Event:
    """One event of a recording: its name as perf has it (`sched:sched_switch`, `cpu-clock`) and its attributes.

    `period` is the fixed sampling period, 0 where samples carry their own. `fields` is empty for all but tracepoints.
    """

    number: int
    name: str
    type: int
    config: int
    sample_type: int
    read_format: int
    period: int
    sample_id_all: bool
    ids: tuple[int, ...] = ()
    fields: tuple[Field, ...] = field(default=(), repr=False)

    @property
    def has_chains(self) -> bool:
        """Whether its samples were recorded with call chains."""
        return bool(self.sample_type & _SAMPLE_CALLCHAIN)

    @property
    def is_tracepoint(self) -> bool:
        """Whether it is a tracepoint, with a raw payload."""
        return self.type == _TRACEPOINT_TYPE

    def named(self, name: str) -> Event:
        """The same event under another name."""
        return replace(self, name=name)


@dataclass(frozen=True)
class Tracepoint:
    """A tracepoint's format: its id (the `config` of its events), `system:name`, and its fields."""

    id: int
    name: str
    fields: tuple[Field, ...]


def parse_attr(data: bytes, number: int, ids: tuple[int, ...] = ()) -> Event:
    """The event that a `struct perf_event_attr` of whatever size describes. Raises `PerfDataError` for a short one."""
    if len(data) < ATTR_BYTES_MIN:
        raise PerfDataError(f"event {number} is described by {len(data)} bytes, too few for a perf_event_attr")
    kind, _, config, period, sample_type, read_format, flags, _ = _ATTR.unpack_from(data)
    return Event(
        number=number,
        name=_plain_name(kind, config),
        type=kind,
        config=config,
        sample_type=sample_type,
        read_format=read_format,
        period=0 if flags >> _FREQ_BIT & 1 else period,
        sample_id_all=bool(flags >> _SAMPLE_ID_ALL_BIT & 1),
        ids=ids,
    )


def _plain_name(kind: int, config: int) -> str:
    names = {0: _HARDWARE_NAMES, 1: _SOFTWARE_NAMES}.get(kind, ())
    return names[config] if config < len(names) else f"type {kind} config {config:#x}"


class Bytes:
    """A cursor over bytes from a file; whatever reaches beyond their end raises `PerfDataError`."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._what, self.at = data, what, 0

    def take(self, size_bytes: int) -> bytes:
        """The next bytes."""
        if size_bytes < 0 or size_bytes > len(self._data) - self.at:
            raise PerfDataError(f"{self._what} is cut off or corrupt at byte {self.at}")
        self.at += size_bytes
        return self._data[self.at - size_bytes : self.at]

    def number(self, size_bytes: int) -> int:
        """The next little-endian number."""
        return int.from_bytes(self.take(size_bytes), "little")

    def text(self) -> str:
        """The next NUL-terminated text."""
        end = self._data.find(b"\0", self.at)
        text = self.take((end if end >= 0 else len(self._data) + 1) - self.at)
        self.at += 1
        return text.decode(errors="replace")

    def sized_text(self) -> str:
        """The next `struct perf_header_string`: a padded length and a NUL-terminated text."""
        return self.take(self.number(4)).split(b"\0")[0].decode(errors="replace")

    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self.at


def parse_event_desc(data: bytes) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """Name, ids and attr of every event in the feature EVENT_DESC."""
    rest = Bytes(data, "the feature EVENT_DESC")
    count, attr_bytes = rest.number(4), rest.number(4)
    for _ in range(count):
        attr = rest.take(attr_bytes)
        id_count = rest.number(4)
        name = rest.sized_text()
        ids = rest.take(8 * id_count)
        yield name, struct.unpack(f"<{id_count}Q", ids), attr


def parse_tracing_data(data: bytes) -> dict[int, Tracepoint]:
    """The tracepoints of the feature TRACING_DATA, by id."""
    rest = Bytes(data, "the feature TRACING_DATA")
    if rest.take(10) != b"\x17\x08\x44tracing":
        raise PerfDataError("the feature TRACING_DATA does not begin as it should")
    rest.text()
    if rest.number(1):
        raise PerfDataError("the recording is of a big-endian machine, which cannot be read")
    rest.take(5)
    for _ in ("header_page", "header_event"):
        rest.text()
        rest.take(rest.number(8))
    for _ in range(rest.number(4)):
        rest.take(rest.number(8))
    found = {}
    for _ in range(rest.number(4)):
        system = rest.text()
        for _ in range(rest.number(4)):
            tracepoint = _parse_format(system, rest.take(rest.number(8)).decode(errors="replace"))
            if tracepoint:
                found[tracepoint.id] = tracepoint
    return found


def _parse_format(system: str, text: str) -> Tracepoint | None:
    """A tracepoint of /sys/kernel/tracing/events/SYSTEM/NAME/format."""
    name, number = _FORMAT_NAME.search(text), _FORMAT_ID.search(text)
    if not name or not number:
        return None
    fields = tuple(
        Field(_declared(match["declaration"]), int(match["at"]), int(match["bytes"]), match["sign"] == "1")
        for match in _FIELD.finditer(text)
    )
    return Tracepoint(int(number[1]), f"{system}:{name[1]}", fields)


def _declared(declaration: str) -> str:
    """The name in a C declaration: `char prev_comm[16]` declares prev_comm."""
    words = declaration.partition("[")[0].split()
    return words[-1].lstrip("*") if words else ""
