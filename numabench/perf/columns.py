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
