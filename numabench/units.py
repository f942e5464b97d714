"""Sizes, rates and durations: read from options, shown in reports. Convert only here and only when rendering."""

from __future__ import annotations

import re

from numabench.errors import UsageError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB
NS_PER_S = 1_000_000_000
BYTES_PER_MB = 1_000_000
HUGE_2M = 2 * MIB

_SIZE_FACTORS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_DURATION_FACTORS = {"us": 1e-6, "ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h|)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size as people write it: `512M`, `1.5GiB`, `4096`. Suffixes are powers of 1024.

    Raises `UsageError` for anything else, for zero, and for more than 2^63 - 1 bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"'{text}' is not a size", "write a number with K, M, G or T, for example 512M")
    size_bytes = float(match[1]) * _SIZE_FACTORS[match[2].upper()]
    if not 1 <= size_bytes < 2**63:
        raise UsageError(f"size '{text}' is out of range", "it must be at least 1 byte and below 8 EiB")
    return int(size_bytes)


def parse_duration(text: str) -> float:
    """Seconds of a duration as people write it: `90`, `90s`, `1.5m`, `250ms`, `100us`, `1h`.

    Raises `UsageError` for anything else, for zero, and for more than 30 days.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise UsageError(f"'{text}' is not a duration", "write a number with us, ms, s, m or h, for example 90s")
    duration_s = float(match[1]) * _DURATION_FACTORS[match[2].lower()]
    if not 0 < duration_s <= 30 * 86400:
        raise UsageError(f"duration '{text}' is out of range", "it must be above zero and at most 30 days")
    return duration_s


def format_bytes(size_bytes: float) -> str:
    """A size in the largest binary unit that leaves at least one whole: `1.5 GiB`, `512 MiB`, `12 KiB`."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(size_bytes) >= factor:
            value = size_bytes / factor
            return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def format_seconds(duration_s: float) -> str:
    """A duration in the unit that reads best: `850 us`, `12.5 ms`, `3.21 s`, `4 min 05 s`."""
    if duration_s >= 120:
        minutes, seconds = divmod(round(duration_s), 60)
        return f"{minutes} min {seconds:02d} s"
    # What would be rounded to 1000 of a unit is 1 of the next.
    if duration_s >= 0.9995:
        return f"{duration_s:.3g} s"
    if duration_s >= 0.9995e-3:
        return f"{duration_s * 1e3:.3g} ms"
    return f"{duration_s * 1e6:.3g} us"


def format_count(count: float) -> str:
    """A count with thousands separators: `262,144`."""
    return f"{count:,.0f}"
