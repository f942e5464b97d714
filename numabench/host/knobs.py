"""The kernel's knobs that matter to page migration: read for the record, set for a run, and put back exactly.

All are captured, and the capture is on disk, before the first is written; each is put back in reverse order whatever
ends the run, and after SIGKILL at the next start (`recover`). A value that is neither ours nor the old one is somebody
else's: it is left alone and reported.
"""

from __future__ import annotations

import contextlib
import errno
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from numabench import signals
from numabench.errors import Unfit, UsageError
from numabench.host.knob_journal import Journal, default_state_dir, locked
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_DEBUGFS = "/sys/kernel/debug"
_BALANCING = f"{_DEBUGFS}/sched/numa_balancing"
THP = "/sys/kernel/mm/transparent_hugepage"
_NODES = "/sys/devices/system/node"
# Pools of hugetlb pages, by node: node0-hugepages-2048kB.
_POOL = re.compile(r"(?:hugetlb\.)?(node\d{1,5})-(hugepages-\d{1,10}kB)")
FOLIOS_KIB = (16, 32, 64, 128, 256, 512, 1024, 2048)
_RUN_AS_ROOT = "run as root, or pass --no-tune"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Knob:
    """A knob: its name in results, the short name it may be asked by, where kernels have it, and what it means."""

    name: str
    alias: str
    paths: tuple[str, ...]
    meaning: str
    is_settable: bool = False


def _scan_knob(alias: str, meaning: str) -> Knob:
    # A sysctl until Linux kernel commit 8a99b6833c88 ("sched: Move SCHED_DEBUG sysctl to debugfs") (in v5.13).
    sysctl = f"/proc/sys/kernel/numa_balancing_{alias}"
    return Knob(f"kernel.numa_balancing_{alias}", alias, (f"{_BALANCING}/{alias}", sysctl), meaning, is_settable=True)


def _sysctl(name: str, meaning: str, *, is_settable: bool = False) -> Knob:
    return Knob(name, name.rpartition(".")[2], (f"/proc/sys/{name.replace('.', '/')}",), meaning, is_settable)


# Written in this order, put back in the reverse: the switch last, so that balancing starts with its periods in place.
KNOBS = (
    _scan_knob("scan_delay_ms", "how long a new task runs before its memory is scanned"),
    _scan_knob("scan_period_min_ms", "shortest time between two scans of a task"),
    _scan_knob("scan_period_max_ms", "longest time between two scans of a task"),
    _scan_knob("scan_size_mb", "how much memory one scan marks for hint faults"),
    _sysctl("kernel.numa_balancing", "automatic balancing: 0 off, 1 on, 2 memory tiering, 3 both", is_settable=True),
    _sysctl("kernel.numa_balancing_promote_rate_limit_MBps", "most that tiering promotes"),
    Knob(
        "kernel.numa_balancing_hot_threshold_ms",
        "hot_threshold_ms",
        (f"{_BALANCING}/hot_threshold_ms",),
        "how soon after its scan a page must be used to be promoted",
    ),
    Knob(
        "mm.numa.demotion_enabled",
        "demotion_enabled",
        ("/sys/kernel/mm/numa/demotion_enabled",),
        "whether reclaim moves pages to a slower node",
    ),
    _sysctl("vm.zone_reclaim_mode", "whether a node reclaims before it takes memory elsewhere"),
    _sysctl("vm.numa_stat", "whether numastat is counted; 0 freezes it"),
    _sysctl("vm.stat_interval", "seconds between folds of per-CPU counters"),
    _sysctl("vm.swappiness", "anonymous memory against page cache in reclaim"),
    _sysctl("vm.compaction_proactiveness", "how eagerly memory is compacted, which migrates pages"),
    _sysctl("vm.overcommit_memory", "whether mappings are promised without memory"),
    Knob("thp.enabled", "thp_enabled", (f"{THP}/enabled",), "where transparent huge pages are used", is_settable=True),
    *(
        Knob(
            f"thp.hugepages-{size_kib}kB",
            f"hugepages-{size_kib}kB",
            (f"{THP}/hugepages-{size_kib}kB/enabled",),
            f"where folios of {size_kib} KiB are used",
            is_settable=True,
        )
        for size_kib in FOLIOS_KIB
    ),
    Knob("thp.defrag", "thp_defrag", (f"{THP}/defrag",), "whether a fault waits for compaction"),
    Knob("thp.khugepaged_defrag", "khugepaged_defrag", (f"{THP}/khugepaged/defrag",), "whether khugepaged compacts"),
    Knob("ksm.run", "ksm_run", ("/sys/kernel/mm/ksm/run",), "whether equal pages are merged", is_settable=True),
    Knob(
        "ksm.merge_across_nodes",
        "merge_across_nodes",
        ("/sys/kernel/mm/ksm/merge_across_nodes",),
        "over node borders, too",
    ),
    Knob(
        "x86.tlb_single_page_flush_ceiling",
        "tlb_single_page_flush_ceiling",
        (f"{_DEBUGFS}/x86/tlb_single_page_flush_ceiling",),
        "above so many pages the whole TLB is flushed",
    ),
)


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
    """How one knob was left: `restored`, `foreign` (somebody else's value, left alone), `failed`, or `discarded`."""

    name: str
    path: str
    value: str
    outcome: str
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry of `restored` in end.json as plain data."""
        return asdict(self)


def find(name: str) -> Knob:
    """The settable knob of that name or short name. Raises `UsageError` where there is none."""
    for knob in KNOBS:
        if knob.is_settable and name in (knob.name, knob.alias):
            return knob
    if pool := _POOL.fullmatch(name):
        node, size = pool.groups()
        path = f"{_NODES}/{node}/hugepages/{size}/nr_hugepages"
        return Knob(
            f"hugetlb.{node}-{size}", f"{node}-{size}", (path,), "how many the node's pool has", is_settable=True
        )
    known = ", ".join(knob.alias for knob in KNOBS if knob.is_settable)
    raise UsageError(f"there is no knob '{name}' that a run may set", f"there are {known}")


def read_all(root: Root = LIVE) -> dict[str, str]:
    """The values in force, by name; knobs that the kernel lacks or does not let us read are absent."""
    values: dict[str, str] = {}
    for knob in KNOBS:
        texts = (root.read_or_none(path) for path in knob.paths)
        text = next((text for text in texts if text is not None), None)
        if text is not None:
            values[knob.name] = shown(text)
    return values


def shown(text: str) -> str:
    """A knob's value in the text of its file: of `always [madvise] never` the word in brackets, else the text."""
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else text.strip()


def _read(root: Root, path: str) -> str:
    return shown(root.read(path))


def _write(root: Root, path: str, value: str) -> None:
    root.path(path).write_text(f"{value}\n", encoding="utf-8")


class Applied:
    """Knobs set for as long as the `with` block runs. Made by `apply`; not to be entered twice."""

    def __init__(self, wanted: Mapping[str, str], root: Root, state_dir: Path, on_write: Callable[[str], None]) -> None:
        order = {knob.name: index for index, knob in enumerate(KNOBS)}
        found = ((find(name), value) for name, value in wanted.items())
        self._wanted = sorted(found, key=lambda entry: order.get(entry[0].name, -1))
        self._root, self._state_dir, self._on_write = root, state_dir, on_write
        self._journal = Journal(state_dir)
        self._stack = contextlib.ExitStack()
        self.writes: tuple[Write, ...] = ()
        self.restored: tuple[Restored, ...] = ()

    def __enter__(self) -> Self:
        if not self._wanted:
            return self
        try:
            with signals.held():
                self._stack.enter_context(locked(self._state_dir))
                self._clear_leftovers()
                self._stack.callback(self._restore)
                self._set()
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

    def _clear_leftovers(self) -> None:
        left = [entry for entry in _undo(self._root, self._journal.load(), self._on_write) if entry.outcome == "failed"]
        if left:
            raise Unfit(
                f"a run that was killed has left {left[0].name} set, and it cannot be put back: {left[0].message}",
                _RUN_AS_ROOT,
            )

    def _set(self) -> None:
        captured = [_capture(knob, value, self._root) for knob, value in self._wanted]
        changes = [write for write in captured if write.outcome == "set"]
        if changes:
            self._journal.append({"boot_id": _boot_id(self._root)})
        for write in changes:
            self._journal.append(write.to_json())
        for write in captured:
            done = self._change(write) if write.outcome == "set" else write
            self.writes += (done,)
            self._on_write(_told(done))

    def _change(self, write: Write) -> Write:
        self._journal.append({"writing": write.name})
        try:
            _write(self._root, write.path, write.wanted)
        except OSError as error:
            self._journal.append({"refused": write.name})
            return _denied(write, error)
        now = _read(self._root, write.path)
        if now == write.wanted:
            return write
        self._journal.append({"writing": write.name, "shown": now})
        if now == write.before:
            return replace(write, outcome="denied", message=f"{write.path} took it and kept {now}")
        return replace(write, message=f"the kernel made it {now}")

    def _restore(self) -> None:
        self.restored = _undo(self._root, self._journal, self._on_write)


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
    if not Journal(state_dir).load().records:
        return ()
    with signals.held(), locked(state_dir):
        return _undo(root, Journal(state_dir).load(), on_write)


def _capture(knob: Knob, wanted: str, root: Root) -> Write:
    """What is there now, and what is to become of it: `set`, `kept`, `denied` or `absent`."""
    refused: Write | None = None
    for path in knob.paths:
        write = Write(knob.name, path, "", wanted, "absent")
        try:
            before = _read(root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = refused or _denied(write, error)
            continue
        return replace(write, before=before, outcome="kept" if before == wanted else "set")
    return refused or replace(write, message=_why_absent(knob, root))


def _why_absent(knob: Knob, root: Root) -> str:
    if knob.paths[0].startswith(_DEBUGFS) and not root.names(_DEBUGFS):
        return f"{_DEBUGFS} is not mounted (mount -t debugfs none {_DEBUGFS})"
    return f"this kernel has no {' and no '.join(knob.paths)}"


def _denied(write: Write, error: OSError) -> Write:
    remedies = {errno.EROFS: " (in a container: run outside it, or pass --no-tune)"}
    remedy = f" ({_RUN_AS_ROOT})" if isinstance(error, PermissionError) else remedies.get(error.errno or 0, "")
    return replace(write, outcome="denied", message=f"cannot write {write.path}: {error.strerror}{remedy}")


def _told(write: Write) -> str:
    message = f": {write.message}" if write.message else ""
    texts = {
        "set": f"set {write.name}: {write.before} -> {write.wanted} ({write.path}){message}",
        "kept": f"{write.name} is {write.wanted} already",
        "denied": f"{write.name} is not set to {write.wanted}{message}",
        "absent": f"{write.name} is not set to {write.wanted}{message}",
    }
    return texts[write.outcome]


def _boot_id(root: Root) -> str:
    return (root.read_or_none(_BOOT_ID) or "").strip()


def _undo(root: Root, journal: Journal, on_write: Callable[[str], None]) -> tuple[Restored, ...]:
    """Put back what the journal says was being written, last first, then remove the journal."""
    records = tuple(journal.records)
    captured = {record["name"]: record for record in records if "before" in record}
    ours = _our_values(records, captured)
    if records and _is_of_another_boot(records[0], root):
        undone = [
            Restored(name, captured[name]["path"], captured[name]["before"], "discarded", "set before the last boot")
            for name in ours
        ]
    else:
        undone = [_put_back(root, captured[name], ours[name]) for name in reversed(ours)]
    for entry in undone:
        message = f": {entry.message}" if entry.message else ""
        on_write(f"{entry.outcome} {entry.name}: {entry.value} ({entry.path}){message}")
    if all(entry.outcome != "failed" for entry in undone):
        journal.discard()
    return tuple(undone)


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
            ours.setdefault(name, set()).update({captured[name]["wanted"], record.get("shown", "")} - {""})
        elif "refused" in record:
            ours.pop(record["refused"], None)
    return ours


def _put_back(root: Root, record: dict[str, str], ours: set[str]) -> Restored:
    name, path, before = record["name"], record["path"], record["before"]
    try:
        now = _read(root, path)
        if now == before:
            return Restored(name, path, before, "restored")
        if now not in ours:
            return Restored(name, path, now, "foreign", f"somebody else set it; it was {before} before the run")
        _write(root, path, before)
        now = _read(root, path)
    except OSError as error:
        return Restored(name, path, before, "failed", f"cannot write {path}: {error.strerror}")
    if now != before:
        return Restored(name, path, now, "failed", f"{before} was written to {path}, which shows {now}")
    return Restored(name, path, before, "restored")
