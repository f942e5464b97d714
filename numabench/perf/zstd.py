"""The zstd streams inside of a compressed perf.data, and compressed files of symbols."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from numabench.perf.attr import PerfDataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 1 << 20


class Unpacker:
    """One zstd stream, given in parts and taken in pieces of at most 1 MiB, however much a part expands to."""

    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        self._error = zstd.ZstdError
        self._new = zstd.ZstdDecompressor
        self._stream = self._new()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next part of the stream expands to. Raises `PerfDataError` for what is no zstd."""
        try:
            while True:
                if self._stream.eof:
                    data = self._stream.unused_data + data
                    if not data:
                        return
                    self._stream = self._new()
                piece = self._stream.decompress(data, _PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                if not piece or (self._stream.needs_input and not self._stream.eof):
                    return
        except self._error as error:
            raise PerfDataError(f"compressed data is corrupt: {error}") from None
