"""Lock contention from lock:contention_begin and _end (since Linux kernel v5.19): exact pairs, and what they leave out.

The rule of pairing is that of `perf lock contention` (report_lock_contention_begin_event): one sequence for each thread
and lock address. A mutex fires begin twice, once for its spinning phase and once before it sleeps, and end once: the
first begin opens the wait, the end closes it. An rwsem fires begin only after it has spun in vain, so these pairs are
the waits that slept, and `spin` finds the others in CPU samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.analysis import phases
from numabench.analysis.lock_names import lock_name
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from numpy.typing import NDArray

    from numabench.analysis.callchain import Stack

    Column = NDArray[Any]

_TABLE = SymbolTable()
SPIN, READ, WRITE, RT, PERCPU, MUTEX = 1, 2, 4, 8, 16, 32
# include/trace/events/lock.h and perf's lock_type_table; a mutex that spins is still a mutex.
_CLASSES = {
    0: "semaphore",
    SPIN: "spinlock",
    SPIN | READ: "rwlock:R",
    SPIN | WRITE: "rwlock:W",
    READ: "rwsem:R",
    WRITE: "rwsem:W",
    RT: "rt-mutex",
    RT | READ: "rwlock-rt:R",
    RT | WRITE: "rwlock-rt:W",
    PERCPU | READ: "pcpu-sem:R",
    PERCPU | WRITE: "pcpu-sem:W",
    MUTEX: "mutex",
    MUTEX | SPIN: "mutex",
}


@dataclass(frozen=True)
class ContentionEvents:
    """Columns of equal length, one row an event, in the order of the file: time need not rise.

    `time_ns` uint64, `tid` integer, `begin` bool (False: an end), `lock_addr` uint64, `flags` integer (of ends: any),
    `stack` integer: an index into the caller's table of chains (of ends: any).
    """

    time_ns: Column
    tid: Column
    begin: Column
    lock_addr: Column
    flags: Column
    stack: Column


@dataclass(frozen=True)
class ContentionPairs:
    """Columns of equal length, one row a wait, by thread, address and time; what of the events found no partner beside.

    `wait_ns` int64; `tid`, `lock_addr`, `flags` and `stack` are those of the begin that opened the wait.
    """

    wait_ns: Column
    tid: Column
    lock_addr: Column
    flags: Column
    stack: Column
    unfinished: int
    repeated_begins: int
    stray_ends: int


def pair(events: ContentionEvents) -> ContentionPairs:
    """The waits of contention events, exact to the nanosecond.

    Of events of one thread, lock and nanosecond the order is that in which they make sense: a clock may be coarse.
    A begin without an end (the recording stopped) is `unfinished`, an end without a begin a `stray_end`: neither is
    a wait.
    """
    import numpy as np

    order = _in_turns(events, np.lexsort((events.time_ns, events.lock_addr, events.tid)))
    tid, addr, begin = events.tid[order], events.lock_addr[order], events.begin[order].astype(bool)
    time = events.time_ns[order].astype(np.int64)
    if not len(order):
        empty = time[:0]
        return ContentionPairs(empty, tid, addr, events.flags, events.stack, 0, 0, 0)
    same = np.zeros(len(order), bool)
    same[1:] = (tid[1:] == tid[:-1]) & (addr[1:] == addr[:-1])
    # Whether a wait is open is told by the event before: open after a begin, closed after an end.
    open_before = same & np.concatenate(([False], begin[:-1]))
    opens = np.flatnonzero(begin & ~open_before)
    closes = np.flatnonzero(~begin & open_before)
    # Opens and closes take turns within a thread and lock, so the open of a close is the last one before it.
    partner = opens[np.searchsorted(opens, closes) - 1]
    source = order[partner]
    return ContentionPairs(
        wait_ns=time[closes] - time[partner],
        tid=events.tid[source],
        lock_addr=events.lock_addr[source],
        flags=events.flags[source],
        stack=events.stack[source],
        unfinished=len(opens) - len(closes),
        repeated_begins=int(np.count_nonzero(begin & open_before)),
        stray_ends=int(np.count_nonzero(~begin & ~open_before)),
    )


def _in_turns(events: ContentionEvents, order: Column) -> Column:
    """The order of events by thread, lock and time, with begins and ends of the same nanosecond taking turns."""
    import numpy as np

    tid, addr, time = events.tid[order], events.lock_addr[order], events.time_ns[order]
    begin = events.begin[order].astype(bool)
    same = (tid[1:] == tid[:-1]) & (addr[1:] == addr[:-1])
    tied = same & (time[1:] == time[:-1])
    if not tied.any():
        return order
    order = order.copy()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], tied, [False])).astype(np.int8)))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        rows = order[first : last + 1]
        is_open = bool(first and same[first - 1] and events.begin[order[first - 1]])
        if 0 < np.count_nonzero(begin[first : last + 1]) < len(rows):
            order[first : last + 1] = _taking_turns(events, rows.tolist(), is_open)
    return order


def _taking_turns(events: ContentionEvents, rows: list[int], is_open: bool) -> list[int]:
    begins = [row for row in rows if events.begin[row]]
    ends = [row for row in rows if not events.begin[row]]
    turns: list[int] = []
    while begins or ends:
        # A mutex that spun in vain begins once more before it sleeps.
        again = bool(begins) and events.flags[begins[0]] & (MUTEX | SPIN) == MUTEX
        if not ends or (begins and (again or not is_open)):
            turns.append(begins.pop(0))
            is_open = True
        else:
            turns.append(ends.pop(0))
            is_open = False
    return turns


@dataclass(frozen=True)
class Waits:
    """How often and how long something was waited for.

    `histogram[n]` counts the waits of 2^n up to 2^(n+1) ns, those of 0 ns in the first.
    """

    count: int
    total_ns: int
    max_ns: int
    histogram: tuple[int, ...]

    @property
    def average_ns(self) -> float:
        """The mean wait; 0 for none."""
        return self.total_ns / self.count if self.count else 0.0


def waits(wait_ns: Column) -> Waits:
    """Count, total, maximum and histogram of a column of waits in ns."""
    import numpy as np

    if not len(wait_ns):
        return Waits(0, 0, 0, ())
    # frexp is exact up to 2^53 ns, which is 104 days.
    exponents = np.frexp(np.maximum(wait_ns, 1).astype(np.float64))[1] - 1
    return Waits(len(wait_ns), int(wait_ns.sum()), int(wait_ns.max()), tuple(int(n) for n in np.bincount(exponents)))


@dataclass(frozen=True)
class Contended:
    """The waits that share a key: a lock class, an address, a call path or a phase; and how many threads had them."""

    key: tuple[str, ...]
    waits: Waits
    threads: int


def _by(codes: Column, pairs: ContentionPairs, key_of: Callable[[int], tuple[str, ...]]) -> tuple[Contended, ...]:
    """The waits grouped by a column of codes, longest total first."""
    import numpy as np

    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    found = []
    for rows in np.split(order, bounds) if len(order) else ():
        key = key_of(int(codes[rows[0]]))
        found.append(Contended(key, waits(pairs.wait_ns[rows]), len(np.unique(pairs.tid[rows]))))
    return tuple(sorted(found, key=lambda row: (-row.waits.total_ns, row.key)))


def _by_label(labels: Sequence[Hashable], pairs: ContentionPairs) -> tuple[Contended, ...]:
    """The waits grouped by a label for each row; a label is the key as a tuple of texts."""
    import numpy as np

    codes: dict[Hashable, int] = {}
    column = np.fromiter((codes.setdefault(label, len(codes)) for label in labels), np.int64, len(labels))
    keys: list[Any] = list(codes)
    return _by(column, pairs, lambda code: keys[code])


@dataclass(frozen=True)
class ContentionReport:
    """Waits by lock class, by lock, by call path and by phase, and the totals over all.

    `by_lock` keys are (class, name, address), `by_path` (class, name, frames...), `by_phase` (phase, driver).
    """

    total: Waits
    threads: int
    unfinished: int
    repeated_begins: int
    stray_ends: int
    by_class: tuple[Contended, ...]
    by_lock: tuple[Contended, ...]
    by_path: tuple[Contended, ...]
    by_phase: tuple[Contended, ...]


def lock_class(flags: int) -> str:
    """Perf's name for the kind of lock that the flags of a contention_begin tell."""
    return _CLASSES.get(flags, f"flags {flags:#x}")


def report(
    pairs: ContentionPairs, chain: Callable[[int], tuple[str, ...]], table: SymbolTable = _TABLE
) -> ContentionReport:
    """The report of waits. `chain` gives the kernel frames of a stack index, its innermost first."""
    import numpy as np

    # One label for each pair of stack and flags, of which there are few, then a table look-up for each wait.
    kinds, kind_of = np.unique(
        np.stack([pairs.stack.astype(np.int64), pairs.flags.astype(np.int64)]), axis=1, return_inverse=True
    )
    kind_of = kind_of.reshape(-1)
    told = [_tell(chain(int(stack)), int(flags), table) for stack, flags in kinds.T]
    return ContentionReport(
        total=waits(pairs.wait_ns),
        threads=len(np.unique(pairs.tid)),
        unfinished=pairs.unfinished,
        repeated_begins=pairs.repeated_begins,
        stray_ends=pairs.stray_ends,
        by_class=_by_label([(told[kind].lock_class,) for kind in kind_of], pairs),
        by_lock=_by_lock(pairs, kind_of, told),
        by_path=_by_label([(told[kind].lock_class, told[kind].lock, *told[kind].path) for kind in kind_of], pairs),
        by_phase=_by_label([told[kind].phase for kind in kind_of], pairs),
    )


@dataclass(frozen=True)
class _Told:
    lock_class: str
    lock: str
    path: tuple[str, ...]
    phase: tuple[str, str]


def _tell(frames: tuple[str, ...], flags: int, table: SymbolTable) -> _Told:
    where = phases.place(frames, table)
    name, path = lock_name(frames, table), phases.above_lock(frames, table)
    return _Told(lock_class(flags), name, path, (where.phase, where.driver))


def _by_lock(pairs: ContentionPairs, kind_of: Column, told: Sequence[_Told]) -> tuple[Contended, ...]:
    """By address. A lock is taken in several modes and on several paths: each name that they give is said once."""
    names: dict[int, set[str]] = {}
    classes: dict[int, set[str]] = {}
    for address, kind in zip(pairs.lock_addr.tolist(), kind_of.tolist(), strict=True):
        names.setdefault(address, set()).add(told[kind].lock)
        classes.setdefault(address, set()).add(told[kind].lock_class)
    labels = {
        address: (" ".join(sorted(classes[address])), " or ".join(sorted(names[address] - {""})), f"{address:#x}")
        for address in names
    }
    return _by_label([labels[address] for address in pairs.lock_addr.tolist()], pairs)


@dataclass(frozen=True)
class SpinSamples:
    """CPU samples below one lock's spin functions: the waiting that the pairs do not show.

    `share` is that of all CPU samples given; `path` the frames above the lock's own functions, nearest first.
    """

    lock_class: str
    lock: str
    phase: str
    path: tuple[str, ...]
    samples: int
    share: float


@dataclass(frozen=True)
class SpinReport:
    """The spinning among `cpu_samples` CPU samples, most first; no rows where none of them spun."""

    rows: tuple[SpinSamples, ...]
    cpu_samples: int


def spin(cpu: Iterable[Stack], table: SymbolTable = _TABLE) -> SpinReport:
    """The CPU samples in which a lock was spun for, by lock, phase and path."""
    sums: dict[tuple[str, str, str, tuple[str, ...]], int] = {}
    total = 0
    for stack in cpu:
        total += stack.samples
        where = phases.place(stack.kernel, table)
        if where.spins:
            name, path = lock_name(stack.kernel, table), phases.above_lock(stack.kernel, table)
            key = (where.waits_for, name, where.phase, path)
            sums[key] = sums.get(key, 0) + stack.samples
    rows = [SpinSamples(*key, samples=samples, share=samples / total) for key, samples in sums.items()]
    return SpinReport(tuple(sorted(rows, key=lambda row: (-row.samples, row.lock_class, row.path))), total)
