"""Removing old runs and recordings of a lab, by its rule, but no figure and nothing that a verdict refers to.

What is removed is renamed first, or is one file: whoever is killed leaves each run whole or gone, and the next time
goes on. The figures of a boot are on the disk apart from its runs before the first of these goes
(store/boot_values.py), so that the index, made anew, is the same. Only what is below LAB/nights is touched, and no
symbolic link is followed.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.fleet import night_file, publish
from numabench.fleet.retention import kept
from numabench.fleet.verdict import VERDICT_FILE
from numabench.store import boot_values
from numabench.store.files import PRUNED_FILE, RUN_FILE, TRIALS
from numabench.store.writing import fsync_directory, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numabench.fleet.plan import Retention
    from numabench.fleet.retention import Kept
    from numabench.store.index import Measured

RUNS, RECORDINGS, REST = "runs", "recordings", "rest"
_TRASH = ".trash-"
# 1: the first.
SCHEMA_VERSION = 1
_BLOCK_BYTES = 512
# Of an attempt these stay: they are small, and say how it ended.
_ATTEMPT_FILES = frozenset({publish.ATTEMPT_FILE, publish.EVENTS_FILE})
_SYMBOLS = ("kallsyms-", "modules-")


@dataclass(frozen=True)
class Removal:
    """Files or directories that go together, `kind` being `runs`, `recordings` or `rest` (of attempts, and leftovers).

    `boot` is the published boot whose figures have to be kept first, `run` the run whose recordings they are.
    """

    kind: str
    night: str
    paths: tuple[Path, ...]
    size_bytes: int
    boot: Path | None = None
    run: Path | None = None


@dataclass(frozen=True)
class Pruned:
    """What was, or would be, removed; nights that stay whole though they are old, with the reason; what is told."""

    removals: tuple[Removal, ...]
    kept_nights: dict[str, str]
    kept_cells: int
    problems: tuple[str, ...] = ()


def plan(lab: Path, retention: Retention) -> Pruned:
    """What a lab's rule removes. Changes nothing. Raises `ResultError` where it cannot be told what must stay."""
    keep = kept(lab, retention)
    old = max(keep.old_runs, keep.old_recordings, key=len)
    found = [removal for name in old if name not in keep.nights for removal in _of_night(lab, name, keep)]
    cells = sum(night in old and night not in keep.nights for night, _ in keep.cells)
    return Pruned(tuple(found), keep.nights, cells)


def prune(lab: Path, retention: Retention, metrics_of: Callable[[Path], Measured]) -> Pruned:
    """Remove it; the caller has the lab to itself (`night.alone`).

    A boot whose figures cannot be read keeps its runs, which is told. Raises `ResultError` where something cannot be
    removed.
    """
    planned = plan(lab, retention)
    # On a full disk what needs no figures makes room for the figures of the rest.
    left = sorted(planned.removals, key=lambda removal: removal.kind != REST)
    done: list[Removal] = []
    while True:
        removed, unreadable = _remove_all(left, metrics_of)
        done += removed
        left = [removal for removal in left if removal.boot is not None and removal.boot in unreadable]
        if not left or not removed:
            break
    problems = tuple(f"{boot} stays: {error.message}" for boot, error in unreadable.items())
    return Pruned(tuple(done), planned.kept_nights, planned.kept_cells, problems)


def _remove_all(
    removals: list[Removal], metrics_of: Callable[[Path], Measured]
) -> tuple[list[Removal], dict[Path, ResultError]]:
    """Remove what can be; that, and the boots whose figures could not be kept."""
    done: list[Removal] = []
    unreadable: dict[Path, ResultError] = {}
    for removal in removals:
        boot = removal.boot
        if boot is not None and boot not in unreadable:
            try:
                boot_values.keep(boot, metrics_of)
            except ResultError as error:
                unreadable[boot] = error
        if boot is None or boot not in unreadable:
            _remove(removal)
            done.append(removal)
    return done, unreadable


def _of_night(lab: Path, name: str, keep: Kept) -> Iterator[Removal]:
    night = night_file.path_of(lab, name)
    whole = name in keep.old_runs
    for cell in _directories(night / night_file.CELLS):
        for boot in _directories(cell):
            yield from _leftovers(name, boot)
            if (name, cell.name) in keep.cells:
                continue
            runs = boot / boot_values.RUNS
            if whole and _is_directory(runs):
                yield Removal(RUNS, name, (runs,), _size(runs), boot)
            elif not whole:
                for run in _directories(runs):
                    yield from _recordings(name, run, boot)
    for attempt in _directories(night / night_file.ATTEMPTS):
        yield from _leftovers(name, attempt)
        if whole:
            yield from (
                Removal(REST, name, (path,), _size(path))
                for path in _entries(attempt)
                if path.name not in _ATTEMPT_FILES and not path.name.startswith(_TRASH)
            )
        else:
            for run in _runs_of(attempt):
                yield from _recordings(name, run, None)
    verdict = night / VERDICT_FILE
    if whole and name not in keep.judged and verdict.is_file() and not verdict.is_symlink():
        # It is derived, and holds the whole history up to its night: `nightly report --night` makes it anew.
        yield Removal(REST, name, (verdict,), _size(verdict))


def _leftovers(night: str, directory: Path) -> Iterator[Removal]:
    """What a prune that was killed had begun to remove."""
    for path in _entries(directory):
        if path.name.startswith(_TRASH):
            yield Removal(REST, night, (path,), _size(path))


def _runs_of(attempt: Path) -> Iterator[Path]:
    """The runs of an attempt that were not published."""
    for place in _directories(attempt):
        for path in _directories(place):
            if (path / RUN_FILE).is_file():
                yield path
            yield from _directories(path / boot_values.RUNS)


def _recordings(night: str, run: Path, boot: Path | None) -> Iterator[Removal]:
    """A run's recordings, and the kernel's symbols, which nothing else needs."""
    recorded = [path for trial in _directories(run / TRIALS) if (path := _recording(trial)) is not None]
    shared = run.parent / ".symbols"
    symbols = [path for path in _entries(run) if path.name.startswith(_SYMBOLS) and not path.is_symlink()]
    # The results directory has one more link to them (observe/kernel_symbols.py).
    symbols += [path for path in _entries(shared) if path.name in {each.name for each in symbols}]
    if recorded or symbols:
        paths = (*recorded, *symbols)
        yield Removal(RECORDINGS, night, paths, _size(*paths), boot, run)


def _recording(trial: Path) -> Path | None:
    """What perf recorded in a trial; what it only counted is small, and stays."""
    try:
        observed = json.loads((trial / "trial.json").read_bytes()).get("observe") or {}
        name = observed.get("file", "")
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(name, str) or not name.endswith(".data") or "/" in name:
        return None
    path = trial / name
    return path if os.path.lexists(path) and not path.is_symlink() else None


def _remove(removal: Removal) -> None:
    try:
        if removal.run is not None:
            _note(removal.run, removal.paths)
        for path in removal.paths:
            _remove_one(path)
    except OSError as error:
        raise ResultError(
            f"cannot remove {error.filename or removal.paths[0]}: {error.strerror}", "see who may write there"
        ) from error


def _note(run: Path, paths: tuple[Path, ...]) -> None:
    """Have the run say which of its recordings are not missed, before they go."""
    note = run / PRUNED_FILE
    before = json.loads(note.read_bytes())["recordings"] if note.is_file() else []
    names = [str(path.relative_to(run)) for path in paths if path.is_relative_to(run)]
    replace(note, {"schema_version": SCHEMA_VERSION, "recordings": sorted({*before, *names})})


def _remove_one(path: Path) -> None:
    if not _is_directory(path):
        path.unlink(missing_ok=True)
        fsync_directory(path.parent)
        return
    trash = path
    if not path.name.startswith(_TRASH):
        trash = path.with_name(f"{_TRASH}{path.name}")
        if _is_directory(trash):
            shutil.rmtree(trash)
        path.rename(trash)
        fsync_directory(path.parent)
    shutil.rmtree(trash)


def _entries(directory: Path) -> list[Path]:
    """What is in a directory, by name; nothing where it is none, or a link to one."""
    if not _is_directory(directory):
        return []
    return sorted(Path(entry.path) for entry in os.scandir(directory))


def _directories(directory: Path) -> list[Path]:
    return [path for path in _entries(directory) if not path.name.startswith(".") and _is_directory(path)]


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _size(*paths: Path) -> int:
    """What the files of some paths take on the disk, of several links to one file once."""
    sizes = {(stat.st_dev, stat.st_ino): stat.st_blocks * _BLOCK_BYTES for path in paths for stat in _files(path)}
    return sum(sizes.values())


def _files(path: Path) -> Iterator[os.stat_result]:
    if _is_directory(path):
        for entry in _entries(path):
            yield from _files(entry)
    else:
        yield path.lstat()
