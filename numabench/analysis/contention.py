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
from numabench.perf.columns import distinct, grouped
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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

    if not len(events.time_ns):
        empty = events.time_ns.astype(np.int64)
        return ContentionPairs(empty, events.tid, events.lock_addr, events.flags, events.stack, 0, 0, 0)
    order, sequence = _by_sequence(events)
    order = _in_turns(events, order, sequence)
    begin = events.begin[order].astype(bool)
    time = events.time_ns[order].astype(np.int64)
    same = np.zeros(len(order), bool)
    same[1:] = sequence[1:] == sequence[:-1]
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


def _by_sequence(events: ContentionEvents) -> tuple[Column, Column]:
    """The order of the events by sequence (thread and lock) and time, and the sequences' numbers in that order."""
    import numpy as np

    threads, thread = distinct(events.tid)
    locks, lock = distinct(events.lock_addr)
    pairs = thread.astype(np.uint64) * np.uint64(len(locks)) + lock
    sequences, sequence = distinct(pairs)
    # Sequences in the order of thread and lock; numbers of 16 bits are sorted in linear time.
    thread_rank, lock_rank = np.argsort(np.argsort(threads)), np.argsort(np.argsort(locks))
    wanted = thread_rank[(sequences // np.uint64(len(locks))).astype(np.int64)] * len(locks)
    rank = np.argsort(np.argsort(wanted + lock_rank[(sequences % np.uint64(len(locks))).astype(np.int64)]))
    number = rank.astype(np.uint16 if len(rank) <= 1 << 16 else np.uint32)[sequence]
    in_time = np.argsort(events.time_ns, kind="stable")
    order = in_time[np.argsort(number[in_time], kind="stable")]
    return order, number[order]


def _in_turns(events: ContentionEvents, order: Column, sequence: Column) -> Column:
    """The order of events by sequence and time, with begins and ends of the same nanosecond taking turns."""
    import numpy as np

    time, begin = events.time_ns[order], events.begin[order].astype(bool)
    same = sequence[1:] == sequence[:-1]
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
    return Waits(len(wait_ns), int(wait_ns.sum()), int(wait_ns.max()), tuple(np.bincount(exponents).tolist()))


@dataclass(frozen=True)
class Contended:
    """The waits that share a key: a lock class, an address, a call path or a phase; and how many threads had them."""

    key: tuple[str, ...]
    waits: Waits
    threads: int


class _Table:
    """The waits with what all groupings of them need."""

    def __init__(self, pairs: ContentionPairs) -> None:
        self._wait_ns = pairs.wait_ns
        threads, self._thread = distinct(pairs.tid)
        self.threads = len(threads)

    def by(self, code: Column, keys: Sequence[tuple[str, ...]]) -> tuple[Contended, ...]:
        """The waits grouped by a column of positions in `keys`, longest total first; no row for a key without waits."""
        import numpy as np

        total, most, histogram = grouped(code, self._wait_ns, len(keys))
        pairs, _ = distinct(code * self.threads + self._thread)
        threads = np.bincount((pairs // np.uint64(max(self.threads, 1))).astype(np.int64), minlength=len(keys))
        columns = zip(keys, total.tolist(), most.tolist(), threads.tolist(), histogram.tolist(), strict=True)
        found = []
        for key, total_ns, max_ns, thread_count, counts in columns:
            if not thread_count:
                continue
            last = next(n for n in range(len(counts), 0, -1) if counts[n - 1])
            shown = tuple(counts[:last])
            found.append(Contended(key, Waits(sum(shown), total_ns, max_ns, shown), thread_count))
        return tuple(sorted(found, key=lambda row: (-row.waits.total_ns, row.key)))

    def by_label(self, kind_of: Column, labels: Sequence[tuple[str, ...]]) -> tuple[Contended, ...]:
        """The waits grouped by a label of each kind."""
        import numpy as np

        codes: dict[tuple[str, ...], int] = {}
        column = np.array([codes.setdefault(label, len(codes)) for label in labels], np.int64)
        return self.by(column[kind_of], list(codes))


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
    kinds, kind_of = distinct(pairs.stack.astype(np.uint64) << np.uint64(32) | pairs.flags.astype(np.uint32))
    told = [_tell(chain(kind >> 32), kind & 0xFFFFFFFF, table) for kind in kinds.tolist()]
    rows = _Table(pairs)
    return ContentionReport(
        total=waits(pairs.wait_ns),
        threads=rows.threads,
        unfinished=pairs.unfinished,
        repeated_begins=pairs.repeated_begins,
        stray_ends=pairs.stray_ends,
        by_class=rows.by_label(kind_of, [(one.lock_class,) for one in told]),
        by_lock=_by_lock(rows, pairs, kind_of, told),
        by_path=rows.by_label(kind_of, [(one.lock_class, one.lock, *one.path) for one in told]),
        by_phase=rows.by_label(kind_of, [one.phase for one in told]),
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


def _by_lock(table: _Table, pairs: ContentionPairs, kind_of: Column, told: Sequence[_Told]) -> tuple[Contended, ...]:
    """By address. A lock is taken in several modes and on several paths: each name that they give is said once."""
    import numpy as np

    locks, lock = distinct(pairs.lock_addr)
    names: list[set[str]] = [set() for _ in locks]
    classes: list[set[str]] = [set() for _ in locks]
    seen, _ = distinct(lock.astype(np.uint64) << np.uint64(32) | kind_of)
    for both in seen.tolist():
        one = told[both & 0xFFFFFFFF]
        names[both >> 32].add(one.lock)
        classes[both >> 32].add(one.lock_class)
    labels = [
        (" ".join(sorted(classes[n])), " or ".join(sorted(names[n] - {""})), f"{address:#x}")
        for n, address in enumerate(locks.tolist())
    ]
    return table.by(lock.astype(np.int64), labels)


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
