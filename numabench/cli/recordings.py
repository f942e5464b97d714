"""What a user means by FILE or RUN: a perf.data of his own, or those that a recorded run holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from numabench.errors import ResultError
from numabench.units import format_count

if TYPE_CHECKING:
    from collections.abc import Collection

    from numabench.perf import Kallsyms, Profile
    from numabench.perf.symbols import SymbolTable

NAMES = typer.Option(metavar="FILE", help='A TOML file of functions\' other names: [rename], old = "new".')
_RUN_FILE = "run.json"
# Beyond this share, what was lost may change what the rest says.
_LOST_SHARE = 0.001


def find(results: Path, word: str) -> tuple[Path, ...]:
    """The recordings that a word means: a perf.data, a directory of `perf record --threads`, or all of a run's.

    Raises `ResultError` where there is none.
    """
    from numabench import store

    path = Path(word)
    if path.exists() and not (path / _RUN_FILE).is_file():
        return (path,)
    run = store.find(results, word)
    found = tuple(sorted(run.rglob("*.data")))
    if not found:
        raise ResultError(f"{run} holds no recording", "record one with `numabench run --observe`, or name a perf.data")
    return found


def load(path: Path, *, rows: Collection[str] = (), parity: bool = False) -> Profile:
    """Read a recording, and say on stderr what of it is missing."""
    from numabench import perf

    profile = perf.load(path, rows=rows, parity=parity)
    stats = profile.stats
    told = (
        (stats.truncated, "the file ends early: it was read as far as it goes"),
        (stats.lost > _LOST_SHARE * stats.samples, f"{format_count(stats.lost)} samples were lost while recording"),
        (stats.throttled, f"sampling was throttled {format_count(stats.throttled)} times"),
        (
            stats.garbage_chains and not parity,
            (
                f"{format_count(stats.garbage_chains)} chains hold a word that is no address: their kernel part "
                "was kept, "
                "which perf drops (--parity drops it, too)"
            ),
        ),
        (stats.malformed_records, f"{format_count(stats.malformed_records)} records are shorter than they say"),
    )
    for is_so, words in told:
        if is_so:
            print(f"numabench: {path}: {words}", file=sys.stderr)
    return profile


def symbols(profile: Profile, path: Path, kallsyms: Path | None) -> Kallsyms | None:
    """The kernel's symbols: those the user names, those saved beside the recording, or where perf keeps them.

    None where the recording has no kernel chains, and where there are no symbols for them: that is said on stderr.
    Raises `PerfDataError` where those that the user names cannot be read.
    """
    from numabench.perf import PerfDataError

    if not len(profile.kernel_chains.addresses):
        return None
    if kallsyms is not None:
        return profile.kallsyms(kallsyms)
    try:
        return profile.kallsyms(next(iter(sorted(path.parent.glob("kallsyms*"))), None))
    except PerfDataError as error:
        print(f"numabench: {path}: {error.message}; pass --kallsyms FILE, {error.hint}", file=sys.stderr)
        return None


def table(names: Path | None) -> SymbolTable:
    """The table of functions' names, with the user's own renames where he has some. Raises `UsageError`."""
    from numabench.perf import symbols as of_kernels

    return of_kernels.SymbolTable() if names is None else of_kernels.load(names)
