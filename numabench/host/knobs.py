"""The kernel's knobs that matter to page migration: read for the record, set for a run, and put back exactly.

All are captured, and the capture is on disk, before the first is written; each is put back in reverse order whatever
ends the run, and after SIGKILL at the next start (`recover`). A value that is neither ours nor the old one is somebody
else's: it is left alone and reported. Putting back is in `knob_undo`.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from numabench import signals
from numabench.errors import Unfit
from numabench.host import knob_access as access
from numabench.host.knob_journal import Journal, default_state_dir, locked, may_lock
from numabench.host.knob_records import Captured, history, knob_of
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
)
from numabench.host.knob_undo import (
    Altered,
    Restored,
    altered,
    boot_id,
    captured,
    clear,
    coupled_keys,
    is_of_another_boot,
    left_by_killed,
    planned_release,
    release,
    undo,
)
from numabench.host.root import LIVE, Root
from numabench.state_dir import APPLIED, JOURNAL

__all__ = [
    "FOLIOS_KIB",
    "KNOBS",
    "THP",
    "Altered",
    "Knob",
    "Restored",
    "altered",
    "find",
    "keys",
    "planned_release",
    "release",
]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# What a run may do instead, at the end of a hint; `numabench state` has no such option.
_OR_NO_TUNE = ", or pass --no-tune"


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
        self._journal = Journal(state_dir, JOURNAL, _OR_NO_TUNE)
        self._stack = contextlib.ExitStack()
        self.writes: tuple[Write, ...] = ()
        self.restored: tuple[Restored, ...] = ()

    def __enter__(self) -> Self:
        try:
            with signals.held():
                if may_lock(self._state_dir) or _changes_any(self._wanted, self._root):
                    self._begin()
                for write in _set(self._wanted, self._root, self._journal, self._on_write, _OR_NO_TUNE):
                    self.writes += (write,)
        except BaseException:
            self._close()
            raise
        return self

    def _begin(self) -> None:
        if self._wanted:
            self._stack.enter_context(locked(self._state_dir, _OR_NO_TUNE))
            clear(self._root, self._state_dir, self._on_write, _OR_NO_TUNE)
            self._stack.callback(self._restore)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        with signals.held():
            self._stack.close()

    def _restore(self) -> None:
        self.restored = undo(self._root, self._state_dir, self._journal)
        for entry in self.restored:
            self._on_write(entry.told())


def _in_order(wanted: Mapping[str, str]) -> list[tuple[Knob, str]]:
    """The knobs in the table's order; pools of pages, which it does not have, first."""
    order = {knob.name: index for index, knob in enumerate(KNOBS)}
    return sorted(((find(name), value) for name, value in wanted.items()), key=lambda each: order.get(each[0].name, -1))


def _changes_any(wanted: list[tuple[Knob, str]], root: Root) -> bool:
    """Whether this user may write any of them, which would then be: without that no lock and no journal is needed."""
    return any(write.outcome in {"set", "done"} for knob, value in wanted for write in _capture(knob, value, root, ""))


def _set(
    wanted: list[tuple[Knob, str]], root: Root, journal: Journal, on_write: Callable[[str], None], otherwise: str
) -> Iterable[Write]:
    """Set knobs, and tell of each; all that may change by it is in the journal before the first is written."""
    found = [write for knob, value in wanted for write in _capture(knob, value, root, otherwise)]
    changes = [write for write in found if write.outcome == "set"]
    if changes and not journal.records:
        journal.append({"boot_id": boot_id(root)})
    for write in changes:
        journal.append(_captured(write, root))
    own = {write.name for write in changes}
    coupled = {key.name: key for write in changes for key in coupled_keys(write.name, root) if key.name not in own}
    for key in coupled.values():
        journal.append({"coupled": key.name, "path": key.path, "kind": key.kind, "before": key.before})
    for write in found:
        done = write
        if write.outcome in {"set", "done"}:
            done = _change(write, root, journal, otherwise)
        elif write.outcome == "kept" and write.name in coupled:
            done = _kept(write, root, journal, otherwise)
        if done.outcome != "kept":
            on_write(told(done))
        yield done


def _captured(write: Write, root: Root) -> dict[str, Any]:
    kind = knob_of(write.name).kind
    began = access.began(root, write.path) if kind == PROCESS else ""
    record = captured(Captured(write.name, write.path, kind, write.before, began), wanted=write.wanted)
    # On each: a journal that has lost its first line is still one of this boot.
    return {**record, "boot_id": boot_id(root)}


def _kept(write: Write, root: Root, journal: Journal, otherwise: str) -> Write:
    """What had its value already, and may have lost it to another write."""
    if access.read(root, write.path, knob_of(write.name).kind) == write.wanted:
        return write
    journal.append(_captured(write, root))
    return _change(replace(write, outcome="set"), root, journal, otherwise)


def _change(write: Write, root: Root, journal: Journal, otherwise: str) -> Write:
    kind = knob_of(write.name).kind
    if kind == ACTION:
        try:
            access.write(root, write.path, write.wanted, kind)
        except OSError as error:
            return _denied(write, error, otherwise)
        return write
    journal.append({"writing": write.name, "wanted": write.wanted})
    refused: OSError | None = None
    try:
        access.write(root, write.path, write.wanted, kind)
    except OSError as error:
        refused = error
    # What the kernel made of it, and of coupled knobs, is ours; any other value will be somebody else's.
    now = access.read(root, write.path, kind)
    along = {key.name: key.before for key in coupled_keys(write.name, root)}
    if refused is not None and now == write.before and not along:
        journal.append({"refused": write.name})
    else:
        journal.append({"wrote": write.name, "shown": now, "coupled": along})
    if refused is not None:
        return _denied(write, refused, otherwise)
    if now == write.wanted:
        return write
    if now == write.before:
        return replace(write, outcome="denied", message=f"{write.path} took it and kept {now}")
    return replace(write, message=f"the kernel made it {now}")


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
    if not (state_dir / JOURNAL).exists():
        return ()
    with signals.held(), locked(state_dir):
        restored = undo(root, state_dir, Journal(state_dir, JOURNAL).load())
    for entry in restored:
        on_write(entry.told())
    return restored


def recover_before_run(
    root: Root = LIVE, state_dir: Path | None = None, on_write: Callable[[str], None] = lambda _text: None
) -> bool:
    """The same before a run is planned, which depends on what the knobs are; whether there was anything.

    Nothing where the user may not write the journals, nor then knobs. Raises `Unfit` while another run lives, or where
    something stays altered.
    """
    state_dir = state_dir or default_state_dir()
    if not (state_dir / JOURNAL).exists() or not may_lock(state_dir):
        return False
    with signals.held(), locked(state_dir, _OR_NO_TUNE):
        clear(root, state_dir, on_write, _OR_NO_TUNE)
    return True


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
    if not may_lock(state_dir) and not _changes_any(chosen, root):
        return tuple(_set(chosen, root, Journal(state_dir, APPLIED), on_write, ""))
    with signals.held(), locked(state_dir):
        clear(root, state_dir, on_write, "")
        journal = Journal(state_dir, APPLIED).load()
        if is_of_another_boot(history(journal.records), root):
            journal.discard()
        if journal.damaged:
            raise Unfit(
                f"the journal {state_dir / APPLIED} is damaged", "put back what it tells: numabench state restore"
            )
        try:
            return tuple(_set(chosen, root, journal, on_write, ""))
        except BaseException:
            undo(root, state_dir, journal)
            raise


def planned(wanted: Mapping[str, str], root: Root = LIVE, state_dir: Path | None = None) -> tuple[Write, ...]:
    """What `keep` would do, with nothing written. Raises `Unfit` while a run lives."""
    seen = left_by_killed(root, state_dir or default_state_dir()) if wanted else {}
    found = [write for knob, value in _in_order(wanted) for write in _capture(knob, value, root, "")]
    return tuple(_on(seen, write) if write.outcome in {"set", "kept"} else write for write in found)


def _on(seen: Mapping[str, str], write: Write) -> Write:
    """The same once what a killed run has left is put back."""
    before = seen.get(write.path, write.before)
    return replace(write, before=before, outcome="kept" if before == write.wanted else "set")


def _capture(knob: Knob, wanted: str, root: Root, otherwise: str) -> list[Write]:
    """What is there now, and what is to become of it: `set`, `kept`, `denied`, `absent`, or `done` without a state."""
    if knob.kind == SHOWN:
        return [Write(knob.name, knob.paths[0], "", wanted, "denied", "it is shown and never set")]
    if knob.kind == PROCESS or any("*" in path for path in knob.paths):
        found = [
            _capture_file(Write(key.name, key.path, "", wanted, "absent"), (key.path,), knob, root, otherwise)
            for key in keys(knob, root)
        ]
        return found or [Write(knob.name, knob.paths[0], "", wanted, "absent", _why_absent(knob, root))]
    return [_capture_file(Write(knob.name, knob.paths[0], "", wanted, "absent"), knob.paths, knob, root, otherwise)]


def _capture_file(absent: Write, paths: tuple[str, ...], knob: Knob, root: Root, otherwise: str) -> Write:
    refused: Write | None = None
    for path in paths:
        write = replace(absent, path=path)
        try:
            if knob.kind != ACTION:
                write = replace(write, before=access.read(root, path, knob.kind))
                if write.before == write.wanted:
                    return replace(write, outcome="kept")
            access.check_writable(root, path, knob.kind)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = refused or _denied(write, error, otherwise)
            continue
        return replace(write, outcome="done" if knob.kind == ACTION else "set")
    return refused or replace(absent, message=_why_absent(knob, root))


def _why_absent(knob: Knob, root: Root) -> str:
    if knob.kind == PROCESS:
        return f"no {knob.name} runs"
    if knob.paths[0].startswith(DEBUGFS) and not root.names(DEBUGFS):
        return f"{DEBUGFS} is not mounted (mount -t debugfs none {DEBUGFS})"
    return f"this kernel has no {' and no '.join(knob.paths)}"


def _denied(write: Write, error: OSError, otherwise: str) -> Write:
    remedies = {errno.EROFS: f" (in a container: run outside it{otherwise})"}
    is_permission = isinstance(error, PermissionError)
    remedy = f" (run as root{otherwise})" if is_permission else remedies.get(error.errno or 0, "")
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


def told_before(write: Write) -> str:
    """A line of what would become of it."""
    if write.outcome in {"set", "done"}:
        return f"would {told(write)}"
    if write.outcome == "kept":
        return f"{told(write)}: it would not be written"
    return f"cannot set {write.name} to {write.wanted}: {write.message}"
