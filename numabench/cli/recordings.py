"""What a user means by FILE or RUN: a perf.data of his own, or those that a recorded run holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from numabench.errors import ResultError, UsageError
from numabench.units import format_count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numabench.perf import Event, Kallsyms, Profile

_RUN_FILE = "run.json"
# Beyond this share, what was lost may change what the rest says.
_LOST_SHARE = 0.001
DEFAULT_RESULTS = Path("results")


def find(results: Path, word: str) -> tuple[Path, ...]:
    """The recordings that a word means: a perf.data, a directory of `perf record --threads`, or all of a run's.

    Raises `ResultError` where there is none.
    """
    path = Path(word)
    if path.exists() and not (path / _RUN_FILE).is_file():
        return (path,)
    from numabench import store

    run = store.find(results, word)
    found = tuple(sorted(run.rglob("*.data")))
    if not found:
        raise ResultError(f"{run} holds no recording", "record one with `numabench run --observe`, or name a perf.data")
    return found


def load(path: Path, *, rows: Collection[str] = (), user: bool = True, parity: bool = False) -> Profile:
    """Read a recording, and say on stderr what of it is missing. Threads of one name are counted together."""
    from numabench import perf

    profile = perf.load(path, rows=rows, user=user, threads=False, parity=parity)
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


def sampled(
    results: Path, word: str, *, event: str | None = None, parity: bool = False
) -> tuple[tuple[Path, Profile, Event], ...]:
    """The recordings that a word means, each with an event that has samples: with every one, or with those of a name.

    Raises `ResultError` where there is none.
    """
    profiles = [(path, load(path, parity=parity)) for path in find(results, word)]
    found = tuple(
        (path, profile, one)
        for path, profile in profiles
        for one in profile.sampled_events
        if event is None or event in {one.name, one.name.split(":")[0]}
    )
    if not found:
        raise ResultError(f"{word} has no samples" + (f" of {event}" if event else ""), "see `perf evlist -i FILE`")
    return found


def only(word: str, found: Sequence[tuple[Path, Profile, Event]]) -> tuple[Path, Profile, Event]:
    """The one of several that is to be exported. Raises `UsageError` where there are more."""
    if len(found) > 1:
        names = ", ".join(event.name for _, _, event in found)
        raise UsageError(f"{word} has several events to export: {names}", "choose one with --event")
    return found[0]


def symbols(profile: Profile, path: Path, kallsyms: Path | None) -> Kallsyms | None:
    """The kernel's symbols: those the user names, those saved beside the recording, or where perf keeps them.

    None where the recording has no kernel chains, and where there are no symbols for them: that is said on stderr.
    Raises `PerfDataError` where those that the user names cannot be read.
    """
    from numabench.perf import PerfDataError

    if not profile.has_kernel_chains:
        return None
    if kallsyms is not None:
        return profile.kallsyms(kallsyms)
    try:
        return profile.kallsyms(next(iter(sorted(path.parent.glob("kallsyms*"))), None))
    except PerfDataError as error:
        print(f"numabench: {path}: {error.message}; pass --kallsyms FILE, {error.hint}", file=sys.stderr)
        return None


def write(target: Path, parts: Iterable[bytes]) -> None:
    """Write an export to a file, or to stdout for `-`. Raises `ResultError` where it cannot be written."""
    if str(target) == "-":
        for part in parts:
            sys.stdout.buffer.write(part)
        return
    try:
        with target.open("wb") as file:
            file.writelines(parts)
    except OSError as error:
        raise ResultError(f"cannot write {target}: {error.strerror}", "name a file that can be written") from None
    print(f"numabench: written to {target}", file=sys.stderr)
