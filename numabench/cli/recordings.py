"""What a user means by FILE or RUN: a perf.data of his own, or those that a recorded run holds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from numabench import named_file
from numabench.errors import ResultError, UsageError
from numabench.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.analysis.observed import Observation
    from numabench.analysis.share_tree import ShareTree
    from numabench.perf import Event, Kallsyms, Profile
    from numabench.perf.symbols import SymbolTable
    from numabench.record import Run, Trial

_RUN_FILE = "run.json"
# What is shown of a run where nothing is chosen, the first that there is.
_PREFERRED = ("cpu", "sched", "lock")
# Beyond this share, what was lost may change what the rest says.
_LOST_SHARE = 0.001
DEFAULT_RESULTS = Path("results")
_Reduced = TypeVar("_Reduced")


@dataclass(frozen=True)
class Source:
    """A recording: where it is, the kernel's symbols beside it, and whose samples it is about.

    `pids` are the workload's processes, none where all are meant. `others` names the run's other recordings. `is_guest`
    is whether a guest was recorded, as far as that is known.
    """

    path: Path
    kallsyms: Path | None = None
    pids: tuple[int, ...] = ()
    others: tuple[str, ...] = ()
    is_guest: bool = False


def run_of(results: Path, word: str) -> Run | None:
    """The run that a word means, None where it is the path of a recording. Raises `ResultError` where it is neither."""
    from numabench import store

    path = Path(word)
    if path.exists() and not (path / _RUN_FILE).is_file():
        return None
    return store.load(store.find(results, word))


def find(results: Path, word: str, *, observed: str | None = None, trial: int | None = None) -> Source:
    """The recording that a word means: a perf.data, a directory of `perf record --threads`, or one of a run's.

    Of a run's it is that of the CPU where there is one, unless `observed` names what was observed, or `trial` the
    number of the trial. Raises `ResultError` where there is none, `UsageError` where they are asked of a file.
    """
    run = run_of(results, word)
    if run is None:
        if observed is not None or trial is not None:
            raise UsageError(f"{word} is a recording, not a run", "--observed and --trial choose among a run's")
        return Source(Path(word))
    have = [
        (found, kept, kept.file)
        for found in run.trials
        if (kept := found.observed) and kept.file and kept.recipe in _PREFERRED
    ]
    if not have:
        raise ResultError(f"{run.path} holds no recording", "record one with `numabench run --observe cpu`")
    names = {found.index: f"{kept.recipe} (trial {found.index})" for found, kept, _ in have}
    fitting = [row for row in have if observed in {None, row[1].recipe} and trial in {None, row[0].index}]
    if not fitting:
        asked = [f"--observed {observed}"] * (observed is not None) + [f"--trial {trial}"] * (trial is not None)
        raise ResultError(
            f"{run.path} holds no such recording: {' '.join(asked)}", f"it has {', '.join(names.values())}"
        )
    chosen, kept, file = min(fitting, key=lambda row: (_PREFERRED.index(row[1].recipe), row[0].index))
    from numabench.analysis.observed import workload_pids

    others = tuple(name for index, name in names.items() if index != chosen.index)
    return Source(file, kept.kallsyms, workload_pids(chosen), others, run.is_guest)


def load(
    path: Path, *, rows: Collection[str] = (), user: bool = True, threads: bool = False, parity: bool = False
) -> Profile:
    """Read a recording, and say on stderr what of it is missing.

    Threads of one name are counted together unless `threads` tells them apart.
    """
    from numabench import perf

    profile = perf.load(path, rows=rows, user=user, threads=threads, parity=parity)
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
        (
            stats.deferred_chains,
            (
                f"{format_count(stats.deferred_chains)} chains have their user part in a record of its own "
                "(perf record --call-graph fp,defer): it is left out"
            ),
        ),
        (
            stats.cut_lookups,
            f"{format_count(stats.cut_lookups)} user addresses are of processes with too many mappings to look at",
        ),
        (stats.malformed_records, f"{format_count(stats.malformed_records)} records are shorter than they say"),
    )
    for is_so, words in told:
        if is_so:
            print(f"numabench: {path}: {words}", file=sys.stderr)
    return profile


def sampled(word: str, profile: Profile, event: str | None) -> tuple[Event, ...]:
    """The events that have samples, all or those of a name. Raises `ResultError` where there is none."""
    found = tuple(one for one in profile.sampled_events if event is None or event in {one.name, one.name.split(":")[0]})
    if not found:
        raise ResultError(f"{word} has no samples" + (f" of {event}" if event else ""), "see `perf evlist -i FILE`")
    return found


def only(word: str, events: Sequence[Event]) -> Event:
    """The one of several that is to be exported. Raises `UsageError` where there are more."""
    if len(events) > 1:
        names = ", ".join(event.name for event in events)
        raise UsageError(f"{word} has several events to export: {names}", "choose one with --event")
    return events[0]


def own_groups(profile: Profile, source: Source) -> NDArray[np.bool_] | None:
    """Which of a recording's groups are the workload's, None where all are meant."""
    import numpy as np

    return np.isin(profile.groups["pid"], source.pids) if source.pids else None


def of_threads(profile: Profile, tids: Collection[int], own: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which of a recording's groups are of some threads, among those that `own` says count."""
    import numpy as np

    found = np.isin(profile.groups["tid"], list(tids))
    return found if own is None else found & own


def observations(
    run: Run, *, placement: str | None = None, everything: bool = False, table: SymbolTable | None = None
) -> tuple[Observation, ...]:
    """The passes of a run, read and reduced one after the other; one that cannot be read is told on stderr.

    `placement` leaves out those of others; `everything` has them of the whole machine and not of the workload alone;
    `table` has the functions' names.
    """
    from numabench.analysis import observed
    from numabench.perf import symbols as of_kernels

    names = table or of_kernels.SymbolTable()
    return reduced(
        run,
        lambda trial, profile, found: observed.reduce(run, trial, profile, found, everything=everything, table=names),
        lambda trial, text: observed.reduce_counts(run, trial, text),
        placement=placement,
    )


def with_trees(run: Run) -> tuple[tuple[Observation, ...], tuple[ShareTree, ...]]:
    """The passes of a run, and the call trees of those that have some; each pass is read once.

    One that cannot be read is told on stderr.
    """
    from numabench.analysis import observed, share_tree

    def recording(
        trial: Trial, profile: Profile, found: Kallsyms | None
    ) -> tuple[Observation, tuple[ShareTree | None, ...]]:
        seen = observed.reduce(run, trial, profile, found)
        return seen, (share_tree.of_cpu(run, trial, profile, found), *share_tree.of_waits(seen))

    def counts(trial: Trial, text: str) -> tuple[Observation, tuple[ShareTree | None, ...]]:
        return observed.reduce_counts(run, trial, text), ()

    passes = reduced(run, recording, counts)
    trees = tuple(tree for _, found in passes for tree in found if tree is not None and tree.nodes)
    return tuple(seen for seen, _ in passes), trees


def reduced(
    run: Run,
    recording: Callable[[Trial, Profile, Kallsyms | None], _Reduced],
    counts: Callable[[Trial, str], _Reduced],
    *,
    placement: str | None = None,
) -> tuple[_Reduced, ...]:
    """The passes of a run, each read once and reduced: by `recording` what was sampled, by `counts` what was counted.

    One that cannot be read is told on stderr. `placement` leaves out those of others.
    """
    from numabench import perf
    from numabench.analysis.recorded import PAIRED

    found = []
    for trial in run.trials:
        kept = trial.observed
        if kept is None or kept.file is None or trial.status != "ok" or placement not in {None, trial.placement}:
            continue
        try:
            if kept.file.suffix == ".data":
                profile = perf.load(kept.file, rows=PAIRED)
                found.append(recording(trial, profile, symbols(profile, kept.file, kept.kallsyms)))
            else:
                found.append(counts(trial, _text(kept.file)))
        except perf.PerfDataError as error:
            print(f"numabench: {error}", file=sys.stderr)
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror}", "see who may read it") from None


def symbols(profile: Profile, path: Path, kallsyms: Path | None) -> Kallsyms | None:
    """The kernel's symbols: those the user names, those saved beside the recording, or where perf keeps them.

    None where the recording has no kernel chains, and where there are no symbols for them: that is said on stderr.
    Raises `PerfDataError` where those that the user names cannot be read.
    """
    from numabench.perf import PerfDataError

    if not profile.has_kernel_chains:
        return None
    try:
        found = profile.kallsyms(kallsyms or next(iter(sorted(path.parent.glob("kallsyms*"))), None))
    except PerfDataError as error:
        if kallsyms is not None:
            raise
        print(f"numabench: {path}: {error.message}; pass --kallsyms FILE, {error.hint}", file=sys.stderr)
        return None
    if not profile.is_kernel_of(found):
        print(
            f"numabench: {path}: the symbols in {found.source} are of another kernel than the one recorded "
            f"({profile.recording.os_release or 'its release is not recorded'}): the names of its functions are wrong",
            file=sys.stderr,
        )
    return found


def table(names: Path | None) -> SymbolTable:
    """The table of functions' names, with the user's own renames where he has some. Raises `UsageError`."""
    from numabench.perf import symbols as of_kernels

    return of_kernels.SymbolTable() if names is None else of_kernels.load(names)


def write(target: Path, parts: Iterable[bytes]) -> None:
    """Write an export to a file, or to stdout for `-`. Raises `ResultError` where it cannot be written."""
    if str(target) == "-":
        for part in parts:
            sys.stdout.buffer.write(part)
        return
    try:
        named_file.write(target, parts)
    except OSError as error:
        raise ResultError(f"cannot write {target}: {error.strerror}", "name a file that can be written") from None
    print(f"numabench: written to {target}", file=sys.stderr)
