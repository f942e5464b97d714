"""Time off the CPU from sched:sched_switch: between a switch away from a thread and the next one to it, exact.

A thread that was still runnable when it was switched away from was preempted; every other had to wait for something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.analysis import phases
from numabench.analysis.contention import Contended, Waits, waits
from numabench.analysis.lock_names import lock_name
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Column = NDArray[Any]

# include/trace/events/sched.h: 0 is running, and TASK_REPORT_MAX, the bit above the states that are reported, says
# that the switch was a preemption. Since Linux kernel commit 3f5fe9fef5b2 ("sched/debug: Fix task state recording/
# printout") (in v4.15) the bit is 0x100; kernels before it record a preempted thread as running, too.
_PREEMPTED = 0x100
_TABLE = SymbolTable()
_STATES = (
    (0x01, "sleeping"),
    (0x02, "uninterruptible"),
    (0x04, "stopped"),
    (0x08, "traced"),
    (0x10, "dead"),
    (0x20, "zombie"),
    (0x40, "parked"),
    (0x80, "idle"),
)


@dataclass(frozen=True)
class Switches:
    """Columns of equal length, one row a sched_switch, in the order of the file: time need not rise.

    `time_ns` uint64, `prev_pid` and `next_pid` thread ids (0 is idle), `prev_state` int64, `stack` an index into the
    caller's table of chains: that of the thread switched away from.
    """

    time_ns: Column
    prev_pid: Column
    next_pid: Column
    prev_state: Column
    stack: Column


@dataclass(frozen=True)
class OffCpu:
    """Columns of equal length, one row a time off the CPU, by thread and time.

    `off_ns` int64, `tid` the thread, `preempted` bool, `state` prev_state as recorded, `stack` as given. `unfinished`
    counts the threads that were off to the end of the recording, `unseen_returns` the times whose end is not in it:
    a recording of one program alone lacks the switches to it from others and from idle.
    """

    off_ns: Column
    tid: Column
    preempted: Column
    state: Column
    stack: Column
    unfinished: int
    unseen_returns: int


def intervals(switches: Switches) -> OffCpu:
    """The times off the CPU of all threads but idle."""
    import numpy as np

    count = len(switches.time_ns)
    row = np.arange(count)
    time = np.concatenate([switches.time_ns, switches.time_ns]).astype(np.int64)
    tid = np.concatenate([switches.prev_pid, switches.next_pid]).astype(np.int64)
    out = np.concatenate([np.ones(count, bool), np.zeros(count, bool)])
    order = np.lexsort((np.concatenate([row, row]), time, tid))
    order = order[tid[order] != 0]
    time, tid, out, source = time[order], tid[order], out[order], np.concatenate([row, row])[order]
    same = tid[:-1] == tid[1:]
    left = np.flatnonzero(out[:-1] & ~out[1:] & same)
    last = np.ones(len(order), bool)
    last[:-1] = tid[:-1] != tid[1:]
    rows = source[left]
    state = switches.prev_state[rows].astype(np.int64)
    return OffCpu(
        off_ns=time[left + 1] - time[left],
        tid=tid[left],
        preempted=(state == 0) | ((state & _PREEMPTED) != 0),
        state=state,
        stack=switches.stack[rows],
        unfinished=int(np.count_nonzero(last & out)),
        unseen_returns=int(np.count_nonzero(out[:-1] & out[1:] & same)),
    )


def state_name(state: int) -> str:
    """A prev_state in words: why the thread could not run on."""
    if state == 0 or state & _PREEMPTED:
        return "preempted"
    return next((name for bit, name in _STATES if state & bit), f"state {state:#x}")


@dataclass(frozen=True)
class Reason:
    """Why a thread was off the CPU: its state, the lock it waited for (if any), the phase and the call path."""

    state: str
    lock_class: str
    lock: str
    phase: str
    driver: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class Blocked:
    """The times off the CPU that share a reason, and how many threads had them."""

    reason: Reason
    waits: Waits
    threads: int


@dataclass(frozen=True)
class OffCpuReport:
    """Voluntary waiting apart from preemption, and the voluntary kind by its reasons, longest total first.

    `by_lock` has what of it was for locks, by (class, name): a switch tells no lock's address; `by_phase` that of
    migrations, by (phase, driver).
    """

    voluntary: Waits
    preempted: Waits
    reasons: tuple[Blocked, ...]
    by_lock: tuple[Contended, ...]
    by_phase: tuple[Contended, ...]
    unfinished: int
    unseen_returns: int


def report(off: OffCpu, chain: Callable[[int], tuple[str, ...]], table: SymbolTable = _TABLE) -> OffCpuReport:
    """The report of times off the CPU. `chain` gives the kernel frames of a stack index, its innermost first."""
    import numpy as np

    chosen = ~off.preempted
    kinds, kind_of = np.unique(
        np.stack([off.stack[chosen].astype(np.int64), off.state[chosen]]), axis=1, return_inverse=True
    )
    codes: dict[Reason, int] = {}
    code_of_kind = np.array(
        [codes.setdefault(_reason(chain(int(stack)), int(state), table), len(codes)) for stack, state in kinds.T],
        np.int64,
    )
    code = code_of_kind[kind_of.reshape(-1)] if len(kind_of) else np.zeros(0, np.int64)
    off_ns, tid = off.off_ns[chosen], off.tid[chosen]
    keys = list(codes)
    reasons = [
        Blocked(keys[number], waits(off_ns[rows]), threads=len(np.unique(tid[rows]))) for number, rows in _groups(code)
    ]
    reasons.sort(key=lambda row: (-row.waits.total_ns, row.reason.path))

    def by(key_of: Callable[[Reason], tuple[str, ...]]) -> tuple[Contended, ...]:
        labels = {key_of(reason): number for number, reason in enumerate(keys)}
        label = np.array([labels[key_of(reason)] for reason in keys] or [0], np.int64)[code]
        found = [
            Contended(key_of(keys[number]), waits(off_ns[rows]), len(np.unique(tid[rows])))
            for number, rows in _groups(label)
            if any(key_of(keys[number]))
        ]
        return tuple(sorted(found, key=lambda row: (-row.waits.total_ns, row.key)))

    return OffCpuReport(
        waits(off_ns),
        waits(off.off_ns[off.preempted]),
        tuple(reasons),
        by(lambda reason: (reason.lock_class, reason.lock)),
        by(lambda reason: ("", "") if reason.phase == phases.OUTSIDE else (reason.phase, reason.driver)),
        off.unfinished,
        off.unseen_returns,
    )


def _groups(code: Column) -> list[tuple[int, Column]]:
    """The rows of each number in a column."""
    import numpy as np

    order = np.argsort(code, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(order) else []
    return [(int(code[rows[0]]), rows) for rows in parts]


def _reason(frames: tuple[str, ...], state: int, table: SymbolTable) -> Reason:
    where = phases.place(frames, table)
    name = lock_name(frames, table) if where.waits_for else ""
    path = phases.above_lock(frames, table)
    return Reason(state_name(state), where.waits_for, name, where.phase, where.driver, path)
