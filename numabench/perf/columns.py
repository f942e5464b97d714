"""What can be said of a column of numbers without sorting it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from numabench.perf.extension import checked, ffi, lib, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def distinct(column: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """The distinct values of a column of integers, in the order in which they first come, and for each row which.

    `values[codes]` is the column, as unsigned numbers of 64 bits.
    """
    import numpy as np

    require()
    wide = np.ascontiguousarray(column, np.uint64)
    values, codes = np.empty(len(wide), np.uint64), np.empty(len(wide), np.uint32)
    count = checked(
        lib.columns_distinct(
            ffi.from_buffer("uint64_t[]", wide),
            len(wide),
            int.from_bytes(os.urandom(8), "little"),
            ffi.from_buffer("uint64_t[]", values),
            ffi.from_buffer("uint32_t[]", codes),
        )
    )
    return values[:count], codes


def grouped(
    codes: NDArray[Any], values: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
    """Sum and maximum of the values of each group, and a histogram each: how many are 2^n up to 2^(n+1).

    `codes` has the number of each value's group; values are not negative, and those of 0 are in the first bin.
    """
    import numpy as np

    require()
    if len(codes) != len(values) or (len(codes) and int(codes.max()) >= groups):
        raise IndexError("no such group")
    number, column = np.ascontiguousarray(codes, np.uint32), np.ascontiguousarray(values, np.int64)
    totals, most = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    histogram = np.zeros((groups, lib.COLUMNS_BINS), np.uint32)
    lib.columns_group(
        ffi.from_buffer("uint32_t[]", number),
        ffi.from_buffer("int64_t[]", column),
        len(number),
        ffi.from_buffer("int64_t[]", totals),
        ffi.from_buffer("int64_t[]", most),
        ffi.from_buffer("uint32_t[]", histogram),
    )
    return totals, most, histogram
