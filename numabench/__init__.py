"""numabench: a benchmark harness for NUMA page migration on Linux."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.frames import RunFrames

__version__ = "0.1.0"


def load(path: str | Path) -> RunFrames:
    """Load one run directory as tidy pandas frames.

    Returns a `RunFrames` (see `numabench.frames`). Raises `numabench.errors.ResultError` when the directory is not a
    numabench result, is cut, or has a newer schema than this version reads.
    """
    from numabench.frames import load_frames

    return load_frames(path)
