"""The kernel's knobs that matter to page migration: read for the record, set for a run, and put back exactly.

All are captured, and the capture is on disk, before the first is written; each is put back in reverse order whatever
ends the run, and after SIGKILL at the next start (`recover`). A value that is neither ours nor the old one is somebody
else's: it is left alone and reported.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from numabench import signals
from numabench.errors import Unfit
from numabench.host import knob_access as access
from numabench.host.knob_journal import Journal, default_state_dir, is_locked, locked
from numabench.host.knob_table import (
    ACTION,
    DEBUGFS,
    FILE,
    FOLIOS_KIB,
    KNOBS,
    PROCESS,
    SHOWN,
    THP,
    Knob,
    find,
    keys,
    known,
)
from numabench.host.root import LIVE, Root
from numabench.state_dir import APPLIED, JOURNAL

__all__ = ["FOLIOS_KIB", "KNOBS", "THP", "Knob", "find", "keys"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_RUN_AS_ROOT = "run as root, or pass --no-tune"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Restoring one knob may change another that was put back before it: so often is all looked at again.
_ROUNDS = 3


@dataclass(frozen=True)
class Write:
    """What became of one wanted knob: an entry of `knobs` in run.json (docs/result-format.md)."""

    name: str
    path: str
    before: str
    wanted: str
    outcome: str
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Restored:
    """How one knob was left: `restored`, `foreign` (somebody else's value, left alone), `failed`, or `discarded`.

    `gone` where it was a process that has ended.
    """

    name: str
    path: str
    value: str
    outcome: str
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry of `restored` in end.json as plain data."""
        return asdict(self)


def read_all(root: Root = LIVE) -> dict[str, str]:
    """The values in force, by name; knobs that the kernel lacks or does not let us read are absent.

    One of many files is `performance`, or `performance (6), powersave (2)` where they differ. What has no value of its
    own to keep (drop_caches), and what the kernel changes by itself while perf records, is left out.
    """
    values: dict[str, str] = {}
    for knob in KNOBS:
        if knob.kind in {FILE, PROCESS} and knob.group != "perf" and (value := value_of(knob, root)) is not None:
            values[knob.name] = value
    return values


def value_of(knob: Knob, root: Root = LIVE) -> str | None:
    """A knob's value here, of several files how often each; None where there is none, or none that may be read."""
    counts: dict[str, int] = {}
    for key in keys(knob, root):
        with contextlib.suppress(OSError):
            text = access.read(root, key.path, knob.kind)
            counts[text] = counts.get(text, 0) + 1
    if len(counts) < 2:
        return next(iter(counts), None)
    return ", ".join(f"{text} ({count})" for text, count in sorted(counts.items()))


shown = access.shown


class Applied:
    """Knobs set for as long as the `with` block runs. Made by `apply`; not to be entered twice."""

    def __init__(self, wanted: Mapping[str, str], root: Root, state_dir: Path, on_write: Callable[[str], None]) -> None:
        self._wanted = _in_order(wanted)
        self._root, self._state_dir, self._on_write = root, state_dir, on_write
        self._journal = Journal(state_dir, JOURNAL)
        self._stack = contextlib.ExitStack()
        self.writes: tuple[Write, ...] = ()
        self.restored: tuple[Restored, ...] = ()

    def __enter__(self) -> Self:
        if not self._wanted:
            return self
        try:
            with signals.held():
                self._stack.enter_context(locked(self._state_dir))
                _clear_leftovers(self._root, self._state_dir, self._on_write)
                self._stack.callback(self._restore)
                for write in _set(self._wanted, self._root, self._journal, self._on_write):
                    self.writes += (write,)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        with signals.held():
            self._stack.close()

    def _restore(self) -> None:
        self.restored = _undo(self._root, self._journal, self._on_write)


def _in_order(wanted: Mapping[str, str]) -> list[tuple[Knob, str]]:
    """The knobs in the table's order; pools of pages, which it does not have, first."""
    order = {knob.name: index for index, knob in enumerate(KNOBS)}
    return sorted(((find(name), value) for name, value in wanted.items()), key=lambda each: order.get(each[0].name, -1))


def _clear_leftovers(root: Root, state_dir: Path, on_write: Callable[[str], None]) -> None:
    left = [entry for entry in _undo(root, Journal(state_dir, JOURNAL).load(), on_write) if entry.outcome == "failed"]
    if left:
        raise Unfit(
            f"a run that was killed has left {left[0].name} set, and it cannot be put back: {left[0].message}",
            _RUN_AS_ROOT,
        )


def _set(
    wanted: list[tuple[Knob, str]], root: Root, journal: Journal, on_write: Callable[[str], None]
) -> Iterable[Write]:
    """Set knobs, and tell of each; all that may change by it is in the journal before the first is written."""
    captured = [write for knob, value in wanted for write in _capture(knob, value, root)]
    changes = [write for write in captured if write.outcome == "set"]
    if changes and not journal.records:
        journal.append({"boot_id": _boot_id(root)})
    for write in changes:
        journal.append(_captured(write, root))
    for record in _coupled(changes, root):
        journal.append(record)
    for write in captured:
        done = _change(write, root, journal) if write.outcome in {"set", "done"} else write
        on_write(told(done))
        yield done


def _captured(write: Write, root: Root) -> dict[str, Any]:
    kind = _knob_of(write.name).kind
    return {**write.to_json(), "kind": kind, **({"began": access.began(root, write.path)} if kind == PROCESS else {})}


def _knob_of(name: str) -> Knob:
    """The knob of a key: `cpuidle.disable[cpu0,state2]` is one of cpuidle.disable's."""
    return known().get(name.partition("[")[0]) or find(name)


def _coupled(changes: list[Write], root: Root) -> list[dict[str, Any]]:
    """What the kernel may change by itself when these are written, as it is now."""
    own = {write.name for write in changes}
    names = dict.fromkeys(name for write in changes for name in _knob_of(write.name).coupled)
    found = []
    for key in (key for name in names for key in keys(known()[name], root) if key.name not in own):
        with contextlib.suppress(OSError):
            before = access.read(root, key.path, key.knob.kind)
            found.append({"coupled": key.name, "path": key.path, "before": before, "kind": key.knob.kind})
    return found


def _change(write: Write, root: Root, journal: Journal) -> Write:
    kind = _knob_of(write.name).kind
    if kind != ACTION:
        journal.append({"writing": write.name, "wanted": write.wanted})
    try:
        access.write(root, write.path, write.wanted, kind)
    except OSError as error:
        if kind != ACTION:
            journal.append({"refused": write.name})
        return _denied(write, error)
    if kind == ACTION:
        return write
    _note_coupled(write, root, journal)
    now = access.read(root, write.path, kind)
    if now == write.wanted:
        return write
    journal.append({"writing": write.name, "shown": now})
    if now == write.before:
        return replace(write, outcome="denied", message=f"{write.path} took it and kept {now}")
    return replace(write, message=f"the kernel made it {now}")


def _note_coupled(write: Write, root: Root, journal: Journal) -> None:
    """What the kernel made of coupled knobs is ours, too; any other value will be somebody else's."""
    changed = {}
    for name in _knob_of(write.name).coupled:
        for key in keys(known()[name], root):
            with contextlib.suppress(OSError):
                changed[key.name] = access.read(root, key.path, key.knob.kind)
    if changed:
        journal.append({"wrote": write.name, "coupled": changed})


def apply(
    wanted: Mapping[str, str],
    root: Root = LIVE,
    state_dir: Path | None = None,
    on_write: Callable[[str], None] = lambda _text: None,
) -> Applied:
    """A context manager that sets knobs (by name or short name) and puts them back when it is left.

    `on_write` is told a line for every knob set, not set, and put back. Inside it, `writes` says what became of each;
    afterwards `restored` says how each was left. What may not be written, or does not exist, is an outcome and not an
    error. Raises `UsageError` for an unknown knob; on entering, `Unfit` where another numabench has set knobs, and
    `NumabenchError` where no journal can be kept.
    """
    return Applied(wanted, root, state_dir or default_state_dir(), on_write)


def recover(
    root: Root = LIVE, state_dir: Path | None = None, on_write: Callable[[str], None] = lambda _text: None
) -> tuple[Restored, ...]:
    """Put back what a run that was killed has left set; nothing where there is nothing to do.

    After a reboot knobs are what the system sets them to: the journal is then `discarded`. Raises `Unfit` while the
    run still lives.
    """
    state_dir = state_dir or default_state_dir()
    if not Journal(state_dir, JOURNAL).load().records:
        return ()
    with signals.held(), locked(state_dir):
        return _undo(root, Journal(state_dir, JOURNAL).load(), on_write)


def keep(
    wanted: Mapping[str, str],
    root: Root = LIVE,
    state_dir: Path | None = None,
    on_write: Callable[[str], None] = lambda _text: None,
) -> tuple[Write, ...]:
    """Set knobs that stay set until `release`; what was there before the first of several calls is what comes back.

    Runs that come meanwhile set and restore theirs above it. What a killed run left is put back before. Raises what
    entering `apply` does; where it ends before its end, all that is kept is released.
    """
    state_dir = state_dir or default_state_dir()
    chosen = _in_order(wanted)
    with signals.held(), locked(state_dir):
        _clear_leftovers(root, state_dir, on_write)
        journal = Journal(state_dir, APPLIED).load()
        if journal.records and _is_of_another_boot(journal.records[0], root):
            journal.discard()
        journal.cut()
        try:
            return tuple(_set(chosen, root, journal, on_write))
        except BaseException:
            _undo(root, journal, on_write)
            raise


def planned(wanted: Mapping[str, str], root: Root = LIVE) -> tuple[Write, ...]:
    """What setting these would do, with nothing written."""
    return tuple(write for knob, value in _in_order(wanted) for write in _capture(knob, value, root))


def release(
    root: Root = LIVE,
    state_dir: Path | None = None,
    on_write: Callable[[str], None] = lambda _text: None,
    *,
    force: bool = False,
) -> tuple[Restored, ...]:
    """Put back what a killed run has left, then what `keep` has set. With `force` all, whoever set it.

    Raises `Unfit` while a run lives.
    """
    state_dir = state_dir or default_state_dir()
    if not any((state_dir / name).exists() for name in (JOURNAL, APPLIED)):
        return ()
    with signals.held(), locked(state_dir):
        journals = [Journal(state_dir, name).load() for name in (JOURNAL, APPLIED)]
        return tuple(entry for journal in journals for entry in _undo(root, journal, on_write, force=force))


@dataclass(frozen=True)
class Altered:
    """A knob that is not as it was: `now` it is this, `before` it was that.

    `by` is `killed` (a run that did not put it back), `run` (one that lives), or `applied` (`keep`); `is_stale` where
    the machine has been booted since, so that nothing is left of it.
    """

    name: str
    path: str
    before: str
    now: str
    by: str
    is_stale: bool = False


def altered(root: Root = LIVE, state_dir: Path | None = None) -> tuple[Altered, ...]:
    """What the journals say is not as it was, of killed runs first. Changes nothing."""
    state_dir = state_dir or default_state_dir()
    found: list[Altered] = []
    for name, by in ((JOURNAL, "run" if is_locked(state_dir) else "killed"), (APPLIED, "applied")):
        records = tuple(Journal(state_dir, name).load().records)
        captured = _first_captured(records)
        for key in _our_values(records, captured):
            record = captured[key]
            try:
                now = access.read(root, record["path"], record.get("kind", FILE))
            except OSError as error:
                now = f"({error.strerror})"
            if now != record["before"]:
                stale = _is_of_another_boot(records[0], root)
                found.append(Altered(key, record["path"], record["before"], now, by, stale))
    return tuple(found)


def _capture(knob: Knob, wanted: str, root: Root) -> list[Write]:
    """What is there now, and what is to become of it: `set`, `kept`, `denied`, `absent`, or `done` without a state."""
    if knob.kind == SHOWN:
        return [Write(knob.name, knob.paths[0], "", wanted, "denied", "it is shown and never set")]
    if knob.kind == PROCESS or any("*" in path for path in knob.paths):
        found = [_capture_file(key.name, (key.path,), knob, wanted, root) for key in keys(knob, root)]
        return found or [Write(knob.name, knob.paths[0], "", wanted, "absent", _why_absent(knob, root))]
    return [_capture_file(knob.name, knob.paths, knob, wanted, root)]


def _capture_file(name: str, paths: tuple[str, ...], knob: Knob, wanted: str, root: Root) -> Write:
    refused: Write | None = None
    for path in paths:
        write = Write(name, path, "", wanted, "absent")
        if knob.kind == ACTION and root.exists(path):
            return replace(write, outcome="done")
        try:
            before = access.read(root, path, knob.kind)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = refused or _denied(write, error)
            continue
        return replace(write, before=before, outcome="kept" if before == wanted else "set")
    return refused or replace(write, message=_why_absent(knob, root))


def _why_absent(knob: Knob, root: Root) -> str:
    if knob.kind == PROCESS:
        return f"no {knob.name} runs"
    if knob.paths[0].startswith(DEBUGFS) and not root.names(DEBUGFS):
        return f"{DEBUGFS} is not mounted (mount -t debugfs none {DEBUGFS})"
    return f"this kernel has no {' and no '.join(knob.paths)}"


def _denied(write: Write, error: OSError) -> Write:
    remedies = {errno.EROFS: " (in a container: run outside it, or pass --no-tune)"}
    remedy = f" ({_RUN_AS_ROOT})" if isinstance(error, PermissionError) else remedies.get(error.errno or 0, "")
    return replace(write, outcome="denied", message=f"cannot write {write.path}: {error.strerror}{remedy}")


def told(write: Write) -> str:
    """A line of what became of a wanted knob."""
    message = f": {write.message}" if write.message else ""
    texts = {
        "set": f"set {write.name}: {write.before} -> {write.wanted} ({write.path}){message}",
        "kept": f"{write.name} is {write.wanted} already",
        "done": f"write {write.wanted} to {write.path}, once",
        "denied": f"{write.name} is not set to {write.wanted}{message}",
        "absent": f"{write.name} is not set to {write.wanted}{message}",
    }
    return texts[write.outcome]


def _boot_id(root: Root) -> str:
    return (root.read_or_none(_BOOT_ID) or "").strip()


def _undo(
    root: Root, journal: Journal, on_write: Callable[[str], None], *, force: bool = False
) -> tuple[Restored, ...]:
    """Put back what the journal says was being written, last first, then what came along, then remove the journal."""
    records = tuple(journal.records)
    captured = _first_captured(records)
    ours = _our_values(records, captured)
    if records and _is_of_another_boot(records[0], root):
        undone = [
            Restored(name, captured[name]["path"], captured[name]["before"], "discarded", "set before the last boot")
            for name in ours
        ]
    else:
        undone = [_put_back(root, name, captured[name], ours[name], force=force) for name in reversed(ours)]
        undone += _put_back_coupled(root, records, captured, ours, force=force)
        undone = _settle(root, undone, {**_first_coupled(records), **captured})
    for entry in undone:
        message = f": {entry.message}" if entry.message else ""
        on_write(f"{entry.outcome} {entry.name}: {entry.value} ({entry.path}){message}")
    if all(entry.outcome != "failed" for entry in undone):
        journal.discard()
    return tuple(undone)


def _first_captured(records: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """What each knob was before the first write, by name."""
    captured: dict[str, Any] = {}
    for record in records:
        if "before" in record and "name" in record:
            captured.setdefault(record["name"], record)
    return captured


def _put_back_coupled(
    root: Root,
    records: tuple[dict[str, Any], ...],
    captured: dict[str, Any],
    ours: dict[str, set[str]],
    *,
    force: bool,
) -> list[Restored]:
    """Of what the kernel has changed with our writes: what is not as it was."""
    seen: dict[str, set[str]] = {}
    written = set()
    for record in records:
        if "wrote" in record:
            written.add(record["wrote"])
            for name, value in record["coupled"].items():
                seen.setdefault(name, set()).add(value)
    # A write of which nothing was noted may have changed what is coupled to it into anything.
    is_sure = written >= {name for name in ours if _knob_of(name).coupled}
    undone = []
    for name, record in _first_coupled(records).items():
        if name in captured or not ours:
            continue
        try:
            now = access.read(root, record["path"], record["kind"])
        except OSError:
            continue
        if now != record["before"]:
            mine = seen.get(name, set()) | (set() if is_sure else {now})
            undone.append(_put_back(root, name, record, mine, force=force))
    return undone


def _first_coupled(records: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """What each knob that we did not write, and that the kernel may have changed, was before the first write."""
    coupled: dict[str, Any] = {}
    for record in records:
        if "before" in record and "coupled" in record:
            coupled.setdefault(record["coupled"], record)
    return coupled


def _settle(root: Root, undone: list[Restored], captured: Mapping[str, Any]) -> list[Restored]:
    """Look at all that was put back once more: writing one may have changed another.

    They are then written with no reading in between: to read kernel.soft_watchdog while kernel.watchdog is off turns it
    off, too (kernel/watchdog.c, proc_watchdog_common()).
    """
    concerned = [entry for entry in undone if entry.outcome in {"restored", "failed"}]
    for _ in range(_ROUNDS):
        wrong = [entry for entry in concerned if _now(root, entry) not in (captured[entry.name]["before"], None)]
        if not wrong:
            break
        for entry in wrong:
            with contextlib.suppress(OSError):
                access.write(root, entry.path, captured[entry.name]["before"], _knob_of(entry.name).kind)
    return [_settled(root, entry, captured[entry.name]["before"]) if entry in concerned else entry for entry in undone]


def _settled(root: Root, entry: Restored, before: str) -> Restored:
    now = _now(root, entry)
    if now == before:
        return replace(entry, outcome="restored", value=before, message="")
    if entry.outcome == "restored" and now is not None:
        return replace(entry, outcome="failed", value=now, message=f"it was {before}, and writing another changes it")
    return entry


def _now(root: Root, entry: Restored) -> str | None:
    try:
        return access.read(root, entry.path, _knob_of(entry.name).kind)
    except OSError:
        return None


def _is_of_another_boot(header: dict[str, Any], root: Root) -> bool:
    """Whether both boots are known and differ."""
    now = _boot_id(root)
    return bool(now) and header.get("boot_id", "") not in ("", now)


def _our_values(records: tuple[dict[str, Any], ...], captured: dict[str, Any]) -> dict[str, set[str]]:
    """The values that a knob may have from us, by name, in the order in which we wrote."""
    ours: dict[str, set[str]] = {}
    for record in records:
        if "writing" in record:
            name = record["writing"]
            values = {captured[name]["wanted"], record.get("wanted", ""), record.get("shown", "")}
            ours.setdefault(name, set()).update(values - {""})
        elif "refused" in record:
            ours.pop(record["refused"], None)
    return ours


def _put_back(root: Root, name: str, record: dict[str, str], ours: set[str], *, force: bool) -> Restored:
    path, before, kind = record["path"], record["before"], record.get("kind", FILE)
    try:
        if kind == PROCESS and access.began(root, path) != record.get("began"):
            return Restored(name, path, before, "gone", "that process has ended")
        now = access.read(root, path, kind)
        if now == before:
            return Restored(name, path, before, "restored")
        if now not in ours and not force:
            return Restored(name, path, now, "foreign", f"somebody else set it; it was {before} before the run")
        access.write(root, path, before, kind)
        now = access.read(root, path, kind)
    except OSError as error:
        return Restored(name, path, before, "failed", f"cannot write {path}: {error.strerror}")
    if now != before:
        return Restored(name, path, now, "failed", f"{before} was written to {path}, which shows {now}")
    return Restored(name, path, before, "restored")
