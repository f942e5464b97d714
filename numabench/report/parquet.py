"""Values as Parquet, for pandas and DuckDB: a file a night, a row a value."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from numabench.errors import CannotRun, ResultError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    Row = tuple[str | int | float, ...]


def require() -> None:
    """Raise `CannotRun` where pyarrow is not installed, which writes Parquet and is needed for nothing else."""
    if importlib.util.find_spec("pyarrow") is None:
        raise CannotRun("--parquet", ("pyarrow is not installed",), "pip install 'numabench[parquet]'")


def write(
    directory: Path, columns: Sequence[str], nights: Iterable[str], rows_of: Callable[[str], Iterable[Row]]
) -> int:
    """Write `NIGHT.parquet` for each night into a directory, each whole or not at all; how many there were.

    Raises `ResultError` where that cannot be done.
    """
    import pandas as pd

    written = 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for night in nights:
            frame = pd.DataFrame(rows_of(night), columns=pd.Index(columns))
            partial = directory / f".tmp-{night}.parquet"
            frame.to_parquet(partial, engine="pyarrow", compression="zstd", index=False)
            partial.replace(directory / f"{night}.parquet")
            written += 1
    except OSError as error:
        raise ResultError(f"cannot write {directory}: {error.strerror or error}", "name another directory") from error
    return written
