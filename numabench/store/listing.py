"""What is below a results directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.record import Listed
from numabench.store.reading import listed
from numabench.store.sweeps import is_sweep, listed_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def iterate(results_dir: Path) -> Iterator[Listed]:
    """Runs and sweeps below a results directory by name, which is by time; also what cannot be read, with the reason.

    Only headers are read, no trial. Raises `ResultError` where the directory itself cannot be listed.
    """
    try:
        paths = sorted(entry for entry in results_dir.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise ResultError(f"cannot list {results_dir}: {error.strerror}", "pass --results DIR") from error
    for path in paths:
        try:
            yield listed_sweep(path) if is_sweep(path) else listed(path)
        except ResultError as error:
            yield Listed(path, path.name, unreadable=error.message)
