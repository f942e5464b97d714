"""What the journals say must be put back: planned with nothing written, done, and told.

What is ours and what somebody else's is decided for all keys before the first is written: putting one back may change
another. Each write is announced here, too, so that a kill in the midst of it leaves the next start no riddle.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from numabench import signals
from numabench.errors import NumabenchError, Unfit
from numabench.host import knob_access as access
from numabench.host.knob_journal import Journal, default_state_dir, is_locked, locked
from numabench.host.knob_records import BOOT_ID, Captured, History, history, knob_of
from numabench.host.knob_table import PROCESS, keys
from numabench.host.root import LIVE, Root
from numabench.state_dir import APPLIED, FOREIGN, JOURNAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Restoring one knob may change another that was put back before it: so often is all looked at again.
_ROUNDS = 3
_SAME, _WRITE, _FOREIGN, _GONE, _FAILED = "same", "write", "foreign", "gone", "failed"


@dataclass(frozen=True)
class Restored:
    """How one knob was left: `restored`, `foreign` (somebody else's value, left alone), `failed`, or `discarded`.

    `gone` where it was a process that has ended; `damaged` where lines of the journal can no longer be read, so that
    what they said is not known.
    """

    name: str
    path: str
    value: str
    outcome: str
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry of `restored` in end.json as plain data."""
        return asdict(self)

    def told(self) -> str:
        """A line of it."""
        message = f": {self.message}" if self.message else ""
        return f"{self.outcome} {self.name}: {self.value} ({self.path}){message}"


@dataclass(frozen=True)
class Step:
    """What is to become of one key: `same`, `write`, `foreign`, `gone` or `failed`; `now` it has that value."""

    key: Captured
    now: str
    outcome: str
    message: str = ""

    def planned(self) -> str:
        """A line of it before it is done."""
        name, path, before = self.key.name, self.key.path, self.key.before
        texts = {
            _WRITE: f"would set {name}: {self.now} -> {before} ({path})",
            _FOREIGN: f"would leave {name} at {self.now} ({path}): {self.message}",
            _FAILED: f"cannot set {name} to {before}: {self.message}",
            _GONE: f"would leave {name}: {self.message}",
        }
        return texts.get(self.outcome, f"{name} is {before} already")


@dataclass(frozen=True)
class Altered:
    """A knob that is not as it was: `now` it is this, `before` it was that.

    `by` is `killed` (a run that did not put it back), `run` (one that lives), `applied` (`keep`), or `foreign`
    (somebody else, after one of these); `is_stale` where the machine has been booted since, so that nothing is left of
    it.
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
    seen: dict[str, str] = {}
    for name, by in ((JOURNAL, "run" if is_locked(state_dir) else "killed"), (APPLIED, "applied"), (FOREIGN, _FOREIGN)):
        journal = Journal(state_dir, name).load()
        told = _told(journal)
        stale = is_of_another_boot(told, root)
        if journal.damaged and by != "run":
            found.append(Altered("journal", str(state_dir / name), "whole", "damaged", by, stale))
        for step in steps(root, told, seen=seen):
            if step.outcome not in {_SAME, _GONE}:
                now = _read(root, step.key) or f"({step.message})"
                whose = _FOREIGN if step.outcome == _FOREIGN else by
                found.append(Altered(step.key.name, step.key.path, step.key.before, now, whose, stale))
    return tuple(found)


def release(
    root: Root = LIVE,
    state_dir: Path | None = None,
    on_write: Callable[[str], None] = lambda _text: None,
    *,
    force: bool = False,
) -> tuple[Restored, ...]:
    """Put back what a killed run has left, then what `keep` has set. With `force` all, whoever set it since.

    Raises `Unfit` while a run lives, and `NumabenchError` where the journals cannot be changed.
    """
    state_dir = state_dir or default_state_dir()
    names = _in_force(state_dir, force=force)
    if not names:
        return ()
    with signals.held(), locked(state_dir):
        restored: list[Restored] = []
        for name in names:
            restored += undo(root, state_dir, Journal(state_dir, name).load(), force=force)
            # What is older comes back last: not before all that is newer has.
            if any(entry.outcome == _FAILED for entry in restored):
                break
    for entry in restored:
        on_write(entry.told())
    return tuple(restored)


def planned_release(
    root: Root = LIVE, state_dir: Path | None = None, *, force: bool = False, only_killed: bool = False
) -> tuple[tuple[str, bool], ...]:
    """What `release` (`only_killed`: `recover`) would do, a line each, and whether that is as wanted.

    Nothing is written. Raises `Unfit` as they do.
    """
    state_dir = state_dir or default_state_dir()
    names = [name for name in _in_force(state_dir, force=force) if name == JOURNAL or not only_killed]
    if names and is_locked(state_dir):
        raise Unfit("another numabench has set the machine's knobs for its run", "wait for it to end")
    lines, seen = [], dict[str, str]()
    for name in names:
        journal = Journal(state_dir, name).load()
        told = _told(journal)
        if is_of_another_boot(told, root):
            lines.append((f"would forget {state_dir / name}: it was written before the last boot", True))
            continue
        if journal.damaged:
            lines.append((f"would move {state_dir / name} aside: {_damage(journal)}", False))
        lines += [
            (step.planned(), step.outcome not in {_FOREIGN, _FAILED})
            for step in steps(root, told, force=force, seen=seen)
            if step.outcome != _SAME
        ]
    return tuple(lines)


def left_by_killed(root: Root, state_dir: Path) -> dict[str, str]:
    """The values, by path, that putting back what a killed run has left would write. Raises `Unfit` while one lives."""
    journal = Journal(state_dir, JOURNAL).load()
    told = _told(journal)
    if journal.records and is_locked(state_dir):
        raise Unfit("another numabench has set the machine's knobs for its run", "wait for it to end")
    seen: dict[str, str] = {}
    if not is_of_another_boot(told, root):
        steps(root, told, seen=seen)
    return seen


def _in_force(state_dir: Path, *, force: bool) -> list[str]:
    """The journals to be undone in that order: the later ones hold the older values."""
    return [name for name in ((FOREIGN,) if force else ()) + (JOURNAL, APPLIED) if (state_dir / name).exists()]


def undo(root: Root, state_dir: Path, journal: Journal, *, force: bool = False) -> tuple[Restored, ...]:
    """Put back what a journal says was being written, last first, then what came along, then remove the journal."""
    told = _told(journal)
    if is_of_another_boot(told, root):
        restored = [
            Restored(key.name, key.path, key.before, "discarded", "set before the last boot")
            for key in told.to_put_back()
            if key.name in told.written
        ]
        return (*restored, *_removed(journal))
    planned = steps(root, told, force=force)
    restored = _carry_out(root, told, planned, journal)
    foreign = [step for step in planned if step.outcome == _FOREIGN]
    try:
        _remember(root, state_dir, foreign, is_older=journal.name == APPLIED)
    except NumabenchError as error:
        return (*restored, Restored("journal", journal.name, "", _FAILED, str(error)))
    if any(entry.outcome == _FAILED for entry in restored):
        return tuple(restored)
    lost = [
        Restored(name, "", "", "damaged", "the line of the journal with its old value is damaged") for name in told.lost
    ]
    return (*restored, *lost, *_removed(journal))


def _removed(journal: Journal) -> tuple[Restored, ...]:
    """Remove a journal of which all is done, or set it aside; what is to be told of that."""
    damage = _damage(journal)
    try:
        if journal.damaged:
            return (Restored("journal", str(journal.set_aside()), "", "damaged", damage),)
        journal.discard()
    except NumabenchError as error:
        return (Restored("journal", journal.name, "", _FAILED, str(error)),)
    return ()


def _damage(journal: Journal) -> str:
    return f"{journal.damaged} of its lines are damaged or not known"


def steps(root: Root, told: History, *, force: bool = False, seen: dict[str, str] | None = None) -> list[Step]:
    """What is to become of each key. `seen` has what earlier plans would make of some, and is added to."""
    seen = {} if seen is None else seen
    found = []
    for key in told.to_put_back():
        step = _step(root, told, key, force=force, seen=seen)
        if step.outcome == _WRITE:
            seen[key.path] = key.before
        found.append(step)
    return found


def _step(root: Root, told: History, key: Captured, *, force: bool, seen: dict[str, str]) -> Step:
    try:
        if key.kind == PROCESS and access.began(root, key.path) != key.began:
            return Step(key, "", _GONE, "that process has ended")
        now = seen.get(key.path) or access.read(root, key.path, key.kind)
        if now == key.before:
            return Step(key, now, _SAME)
        if not force and not told.may_be_ours(key.name, now):
            return Step(key, now, _FOREIGN, f"somebody else set it; it was {key.before} before the run")
        access.check_writable(root, key.path, key.kind)
    except OSError as error:
        # What only came along goes with the driver that had it.
        is_gone = isinstance(error, FileNotFoundError) and key.name not in told.written
        outcome = _GONE if is_gone else _FAILED
        return Step(key, "", outcome, f"cannot write {key.path}: {error.strerror}")
    return Step(key, now, _WRITE)


def _carry_out(root: Root, told: History, planned: list[Step], journal: Journal) -> list[Restored]:
    refused: dict[str, str] = {}
    for step in planned:
        if step.outcome == _WRITE:
            with contextlib.suppress(NumabenchError):
                journal.append({"writing": step.key.name, "wanted": step.key.before})
            try:
                access.write(root, step.key.path, step.key.before, step.key.kind)
            except OSError as error:
                refused[step.key.name] = f"cannot write {step.key.path}: {error.strerror}"
    rewritten = _settle(root, planned)
    entries = [_left(root, step, refused.get(step.key.name, "")) for step in planned]
    return [
        entry
        for step, entry in zip(planned, entries, strict=True)
        if step.key.name in told.written
        or step.outcome in {_WRITE, _FOREIGN}
        or step.key.name in rewritten
        or told.is_damaged
    ]


def _settle(root: Root, planned: list[Step]) -> set[str]:
    """Look at all that was put back once more: writing one may have changed another. The names of what was written.

    They are then written with no reading in between: to read kernel.soft_watchdog while kernel.watchdog is off turns it
    off, too (kernel/watchdog.c, proc_watchdog_common()).
    """
    concerned = [step.key for step in planned if step.outcome in {_SAME, _WRITE}]
    rewritten: set[str] = set()
    for _ in range(_ROUNDS):
        wrong = [key for key in concerned if _read(root, key) not in (key.before, None)]
        if not wrong:
            break
        for key in wrong:
            rewritten.add(key.name)
            with contextlib.suppress(OSError):
                access.write(root, key.path, key.before, key.kind)
    return rewritten


def _left(root: Root, step: Step, refused: str) -> Restored:
    key = step.key
    if step.outcome in {_FOREIGN, _GONE, _FAILED}:
        return Restored(key.name, key.path, step.now or key.before, step.outcome, step.message)
    now = _read(root, key)
    if now == key.before:
        return Restored(key.name, key.path, now, "restored")
    shows = f"{key.before} was written to {key.path}, which shows {now}"
    return Restored(key.name, key.path, now or "", _FAILED, refused or shows)


def _read(root: Root, key: Captured) -> str | None:
    try:
        return access.read(root, key.path, key.kind)
    except OSError:
        return None


def _remember(root: Root, state_dir: Path, foreign: list[Step], *, is_older: bool) -> None:
    """Keep the old values of what was left alone, for `release` with force.

    Of a key that is known already the older value counts: that of `keep`, above which runs come and go.
    """
    if not foreign:
        return
    journal = Journal(state_dir, FOREIGN).load()
    known = _told(journal)
    if is_of_another_boot(known, root):
        journal.discard()
        known = History()
    for key in (step.key for step in foreign if is_older or step.key.name not in known.captured):
        journal.append({**captured(key, wanted=key.before), "boot_id": boot_id(root)})
        journal.append({"writing": key.name, "wanted": key.before})
        journal.append({"wrote": key.name, "shown": key.before, "coupled": {}})


def _told(journal: Journal) -> History:
    return history(journal.records, damaged=journal.damaged, is_latest=journal.name == FOREIGN)


def captured(key: Captured, *, wanted: str) -> dict[str, Any]:
    """The record of a key as it is before it is written."""
    return {**asdict(key), "wanted": wanted}


def clear(root: Root, state_dir: Path, on_write: Callable[[str], None], otherwise: str) -> None:
    """Put back what a run that was killed has left; to be called with the lock held. Raises `Unfit` for what stays."""
    restored = undo(root, state_dir, Journal(state_dir, JOURNAL).load())
    for entry in restored:
        on_write(entry.told())
    left = next((entry for entry in restored if entry.outcome in {_FAILED, "damaged"}), None)
    if left is None:
        return
    if left.outcome == "damaged":
        raise Unfit(
            f"a run that was killed has left a damaged journal: not all is known that it had set; it is now {left.path}"
            if left.name == "journal"
            else f"a run that was killed has left {left.name} set, and {left.message}",
            "numabench state show tells what the knobs are",
        )
    raise Unfit(
        f"a run that was killed has left {left.name} set, and it cannot be put back: {left.message}",
        f"run as root{otherwise}",
    )


def coupled_keys(name: str, root: Root) -> list[Captured]:
    """What the kernel may change by itself when that key is written, as it is now."""
    found = []
    for other in knob_of(name).coupled:
        for key in keys(knob_of(other), root):
            with contextlib.suppress(OSError):
                value = access.read(root, key.path, key.knob.kind)
                found.append(Captured(key.name, key.path, key.knob.kind, value))
    return found


def boot_id(root: Root) -> str:
    """The kernel's name of this boot; empty where it has none."""
    return (root.read_or_none(BOOT_ID) or "").strip()


def is_of_another_boot(told: History, root: Root) -> bool:
    """Whether both boots are known and differ."""
    now = boot_id(root)
    return bool(now) and bool(told.boot_ids) and now not in told.boot_ids
