"""A writer of perf.data, for layouts and faults that no recorder makes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

# enum perf_event_sample_format
IP, TID, TIME, ADDR, READ, CALLCHAIN, ID, CPU, PERIOD, STREAM_ID, RAW = (1 << bit for bit in range(11))
BRANCH_STACK, REGS_USER, STACK_USER, WEIGHT, DATA_SRC, IDENTIFIER = (1 << bit for bit in range(11, 17))
KERNEL, USER, HYPERVISOR, GUEST, DEFERRED = (2**64 - distance for distance in (128, 512, 32, 2048, 640))
MMAP, LOST, COMM, EXIT, THROTTLE, FORK, SAMPLE, MMAP2, LOST_SAMPLES = 1, 2, 3, 4, 5, 7, 9, 10, 13
_SAMPLE_ID_ALL = 1 << 18


@dataclass(frozen=True)
class Sample:
    ip: int = 0xFFFFFFFF81000010
    pid: int = 7
    tid: int = 8
    time_ns: int = 1000
    cpu: int = 1
    period: int = 250
    chain: tuple[int, ...] = (KERNEL, 0xFFFFFFFF81000010, 0xFFFFFFFF81000020, USER, 0x401000)
    raw: bytes = b"\x01\x02\x03\x04payload!"


@dataclass(frozen=True)
class WrittenEvent:
    sample_type: int
    ids: tuple[int, ...] = ()
    read_format: int = 0
    period: int = 1000
    kind: int = 1
    config: int = 0

    def attr(self) -> bytes:
        head = struct.pack(
            "<II6Q", self.kind, 128, self.config, self.period, self.sample_type, self.read_format, _SAMPLE_ID_ALL, 0
        )
        return head.ljust(128, b"\0")

    def sample(self, sample: Sample) -> bytes:
        """The record of a sample, in the order of perf_event.h."""
        own_id = self.ids[0] if self.ids else 0
        words = {
            IDENTIFIER: own_id,
            IP: sample.ip,
            TID: sample.pid | sample.tid << 32,
            TIME: sample.time_ns,
            ADDR: 0xADD4,
            ID: own_id,
            STREAM_ID: 0x57,
            CPU: sample.cpu,
            PERIOD: sample.period,
        }
        body = b"".join(struct.pack("<Q", word) for bit, word in words.items() if self.sample_type & bit)
        if self.sample_type & READ:
            body += self._read()
        if self.sample_type & CALLCHAIN:
            body += struct.pack(f"<Q{len(sample.chain)}Q", len(sample.chain), *sample.chain)
        if self.sample_type & RAW:
            body += struct.pack("<I", len(sample.raw)) + sample.raw
        for bit, content in (
            (BRANCH_STACK, bytes(8)),
            (REGS_USER, bytes(8)),
            (STACK_USER, bytes(8)),
            (WEIGHT, bytes(8)),
        ):
            body += content if self.sample_type & bit else b""
        return record(SAMPLE, body, misc=1)

    def _read(self) -> bytes:
        times = 8 * ((self.read_format & 1) + (self.read_format >> 1 & 1))
        value = 8 * (1 + (self.read_format >> 2 & 1) + (self.read_format >> 4 & 1))
        if self.read_format & 8:
            return struct.pack("<Q", 3) + bytes(times + 3 * value)
        return bytes(times + value)

    def trailer(self, tid: int = 8, time_ns: int = 500) -> bytes:
        """The sample_id behind other records."""
        own_id = self.ids[0] if self.ids else 0
        words = {TID: tid | tid << 32, TIME: time_ns, ID: own_id, STREAM_ID: 0x57, CPU: 1, IDENTIFIER: own_id}
        return b"".join(struct.pack("<Q", word) for bit, word in words.items() if self.sample_type & bit)


def record(kind: int, body: bytes, misc: int = 0) -> bytes:
    return struct.pack("<IHH", kind, misc, len(body) + 8) + body


def text(value: str) -> bytes:
    data = value.encode() + b"\0"
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


@dataclass
class PerfData:
    """A file being written: its events, and the bytes of its records."""

    events: tuple[WrittenEvent, ...]
    records: list[bytes] = field(default_factory=list)

    def file(self, data_bytes: int | None = None) -> bytes:
        """The file; `data_bytes` is what its header says of the records."""
        ids_at = 104
        ids = b"".join(struct.pack(f"<{len(event.ids)}Q", *event.ids) for event in self.events)
        attrs_at, attrs = ids_at + len(ids), b""
        for event in self.events:
            attrs += event.attr() + struct.pack("<QQ", ids_at, 8 * len(event.ids))
            ids_at += 8 * len(event.ids)
        data = b"".join(self.records)
        sections = (attrs_at, len(attrs), attrs_at + len(attrs), len(data) if data_bytes is None else data_bytes, 0, 0)
        return struct.pack("<8sQQ6Q32x", b"PERFILE2", 104, 144, *sections) + ids + attrs + data

    def pipe(self) -> bytes:
        """The same as `perf record -o -` would write it."""
        attrs = (record(64, event.attr() + struct.pack(f"<{len(event.ids)}Q", *event.ids)) for event in self.events)
        return struct.pack("<8sQ", b"PERFILE2", 16) + b"".join(attrs) + b"".join(self.records)
