"""What disciplines the system clock: the kernel's NTP state (adjtimex(2)), read and never written."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

# STA_UNSYNC and STA_NANO, TIME_INS and TIME_DEL of <sys/timex.h>.
_UNSYNCHRONISED, _NANOSECONDS = 0x0040, 0x2000
_LEAP_SECOND_AHEAD = (1, 2)
_PPM = 65536


class _Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long))


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True)
class ClockState:
    """The clock as NTP sees it: `offset_s` is still to be slewed, `frequency_ppm` by how much the rate is corrected."""

    is_synchronised: bool
    is_leap_second_ahead: bool
    offset_s: float
    frequency_ppm: float


def read() -> ClockState | None:
    """The state of this machine's clock; None where the call is refused. Asks with `modes` 0, which changes nothing."""
    told = _Timex()
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = -1 if adjtimex is None else int(adjtimex(ctypes.byref(told)))
    if state < 0:
        return None
    return ClockState(
        is_synchronised=not told.status & _UNSYNCHRONISED,
        is_leap_second_ahead=state in _LEAP_SECOND_AHEAD,
        offset_s=told.offset / (1e9 if told.status & _NANOSECONDS else 1e6),
        frequency_ppm=told.freq / _PPM,
    )
