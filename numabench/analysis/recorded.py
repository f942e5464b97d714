"""A perf recording as the analyses take it: stacks of one event, and the columns that pairs are made from."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from numabench.analysis.callchain import KERNEL, Stack
from numabench.analysis.contention import ContentionEvents
from numabench.analysis.offcpu import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf import Event, Kallsyms, Profile

BEGIN, END, SWITCH = "lock:contention_begin", "lock:contention_end", "sched:sched_switch"
MIGRATE = "migrate:mm_migrate_pages"
# The events that pairs are made from: their samples must be kept one by one (`numabench.perf.load(rows=PAIRED)`).
PAIRED = (BEGIN, END, SWITCH, MIGRATE)
_CPU_EVENTS = ("cycles", "cpu-clock", "task-clock", "cpu-cycles")
_USER = "[user]"
_BARE_KERNEL = "[kernel]"
_MARK = "\0"


def sampled_events(profile: Profile) -> tuple[Event, ...]:
    """The events that have samples, in the order of the recording."""
    return profile.sampled_events


def cpu_event(profile: Profile) -> Event | None:
    """The event that samples what CPUs do, None where there is none."""
    return next((event for event in sampled_events(profile) if event.name.split(":")[0] in _CPU_EVENTS), None)


def stacks(
    profile: Profile, event: Event, kallsyms: Kallsyms | None, *, select: NDArray[np.bool_] | None = None
) -> tuple[Stack, ...]:
    """The distinct stacks of an event by command; without symbols the kernel's frames are `[kernel]`.

    `select` says of each of the profile's groups whether it counts.
    """
    # A NUL, which no name of a user's function can hold, tells what is the kernel's.
    tree = profile.tree(event, kallsyms=kallsyms, comm=True, modules=True, select=select)
    names = [name.partition(_MARK) for name in tree.names]
    is_kernel = [bool(mark) or name == _BARE_KERNEL for name, mark, _ in names]
    counts, periods = tree.count.tolist(), tree.period.tolist()
    parents, numbers = tree.parent.tolist(), tree.name.tolist()
    found = []
    # Of every node: its command, its chain with the leaf first, and how much of that is the kernel's.
    paths: list[tuple[str, tuple[str, ...], int]] = [("", (), 0)]
    for node in range(1, len(counts)):
        comm, above, kernel = paths[parents[node]]
        number = numbers[node]
        if not parents[node]:
            paths.append((names[number][0], (), 0))
        else:
            kernel += is_kernel[number]
            paths.append((comm, (names[number][0], *above), kernel))
        if counts[node]:
            comm, chain, kernel = paths[node]
            dso = (f"[{names[number][2]}]" if names[number][2] else KERNEL) if kernel else _USER
            found.append(Stack(chain, counts[node], periods[node], comm, dso, kernel))
    return tuple(found)


def kernel_chains(profile: Profile, kallsyms: Kallsyms | None) -> Callable[[int], tuple[str, ...]]:
    """The kernel frames of a chain by its number, the leaf first; nothing is known of any without symbols."""
    if kallsyms is None:
        return lambda _: ()
    return profile.kernel_stacks(kallsyms).__getitem__


def contention_events(profile: Profile, pids: Sequence[int] | None = None) -> ContentionEvents | None:
    """The columns of lock contention, of all processes or of some; None where it was not recorded."""
    import numpy as np

    events = {event.name: event for event in profile.events}
    if BEGIN not in events or END not in events:
        return None
    begin, end = profile.samples(events[BEGIN]), profile.samples(events[END])
    kernel = profile.groups["kernel"]
    nothing = np.zeros(len(end), np.uint32)
    columns = ContentionEvents(
        time_ns=np.concatenate([begin.time_ns, end.time_ns]),
        # Only the thread tells waits apart; an interrupt carries the one that it interrupted.
        tid=np.concatenate([begin.tid, end.tid]),
        begin=np.concatenate([np.ones(len(begin), np.bool_), np.zeros(len(end), np.bool_)]),
        lock_addr=np.concatenate([one.field("lock_addr").astype(np.uint64, copy=False) for one in (begin, end)]),
        flags=np.concatenate([begin.field("flags").astype(np.uint32), nothing]),
        stack=np.concatenate([kernel[begin.group], nothing]),
    )
    if pids is None:
        return columns
    own = np.isin(np.concatenate([begin.pid, end.pid]), pids)
    return ContentionEvents(**{column.name: getattr(columns, column.name)[own] for column in fields(columns)})


def switches(profile: Profile, pids: Sequence[int] | None = None) -> Switches | None:
    """The columns of scheduler switches, None where they were not recorded.

    With `pids` those of these processes' threads alone: all others are told as idle, which is nobody.
    """
    import numpy as np

    event = next((event for event in profile.events if event.name == SWITCH), None)
    if event is None:
        return None
    rows = profile.samples(event)
    prev_pid, next_pid = (rows.field(name).astype(np.int64) for name in ("prev_pid", "next_pid"))
    if pids is not None:
        # The thread that a sample is of is the one that was switched away from.
        own = np.unique(rows.tid[np.isin(rows.pid, pids)])
        prev_pid, next_pid = (np.where(np.isin(tids, own), tids, 0) for tids in (prev_pid, next_pid))
    return Switches(
        time_ns=rows.time_ns,
        prev_pid=prev_pid,
        next_pid=next_pid,
        prev_state=rows.field("prev_state").astype(np.int64),
        stack=profile.groups["kernel"][rows.group].astype(np.int64),
    )


def probed(profile: Profile) -> dict[str, int | None]:
    """How often each tracepoint was hit that stands for a function of the kernel: the name behind its group's."""
    import numpy as np

    groups = profile.groups
    counts = np.bincount(groups["event"], groups["count"].astype(np.float64), len(profile.events))
    return {
        event.name.partition(":")[2]: int(counts[event.number])
        for event in profile.events
        if event.is_tracepoint and event.name.startswith(("probe:", "kprobes:", "numabench_"))
    }


def migrated_pages(profile: Profile) -> int:
    """The base pages that mm_migrate_pages says were migrated, 0 where it was not recorded.

    Since Linux kernel commit 1a5bae25e3cf ("mm/vmstat: add events for THP migration without split") (in v5.9) a huge
    page counts as the base pages it is made of, before as one.
    """
    event = next((event for event in profile.events if event.name == MIGRATE), None)
    if event is None:
        return 0
    # Its fields are "succeeded", "failed"...
    return int(profile.samples(event).field("succeeded").sum())
