"""Whether what a command will leave can be written: told before it runs, and with nothing written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench import named_file
from numabench.errors import ResultError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def check(results: Path | None, *, run_id: str | None = None, png: Path | None = None, csv: Path | None = None) -> None:
    """Raise `ResultError` where the results, or what is asked for beside them, cannot be written.

    What is found only when it is written, such as a full disk, is not found here. Raises `UsageError` for a `run_id`
    that is no name of a run.
    """
    from numabench import store

    if run_id is not None and not store.is_run_id(run_id):
        raise UsageError(f"--run-id {run_id!a} is not a run's name", "use letters, digits, dot, dash and underscore")
    if results is not None:
        try:
            named_file.check_directory(results)
        except OSError as error:
            store.refuse(results, error)
    for option, path, look in (("--png", png, named_file.check_directory), ("--csv", csv, named_file.check_file)):
        if path is None or str(path) == "-":
            continue
        try:
            look(path)
        except OSError as error:
            raise ResultError(f"cannot write {option} {path}: {error.strerror}", "name another") from None
