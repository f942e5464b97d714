"""Time off the CPU: worked out by hand, and against `perf sched timehist` on the same recording."""

from __future__ import annotations

import gzip
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from numabench.analysis import offcpu
from numabench.analysis.offcpu import Reason, Switches
from numabench.report import locks_text

FIXTURES = Path(__file__).parent.parent / "fixtures/locks"
SWITCH = re.compile(r"\S+\s+(\d+)\.(\d{9}):\s+sched:sched_switch: prev_pid=(\d+) .*prev_state=(\S+) ==> next_pid=(\d+)")
STATES = {"R": 0, "S": 1, "D": 2, "T": 4, "t": 8, "X": 16, "Z": 32, "P": 64, "I": 128}
PREEMPTED = 0x100


def switches(rows: list[tuple[int, int, int, int, int]]) -> Switches:
    """Rows of (time_ns, prev_pid, next_pid, prev_state, stack)."""
    columns = list(zip(*rows, strict=True)) or [()] * 5
    kinds = (np.uint64, np.int64, np.int64, np.int64, np.int64)
    return Switches(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def recorded() -> list[tuple[int, int, int, int, int]]:
    rows = []
    with gzip.open(FIXTURES / "switches.script.tsv.gz", "rt") as file:
        for line in file:
            found = SWITCH.match(line)
            assert found, line
            seconds, ns, left, state, entered = found.groups()
            bits = sum(STATES[letter] for letter in state.rstrip("+").split("|")) | PREEMPTED * state.endswith("+")
            rows.append((int(seconds) * 10**9 + int(ns), int(left), int(entered), bits, 0))
    return rows


def test_times_off_the_cpu_are_those_of_perf_sched_timehist() -> None:
    rows = recorded()
    off = offcpu.intervals(switches(rows))
    # Where perf lost the switch back to a thread, timehist takes the CPU's last switch for it: a guess.
    guessed = threads_with_unseen_returns(rows)
    assert (off.unseen_returns, len(guessed)) == (5, 4)
    timehist: dict[int, list[int]] = {}
    with gzip.open(FIXTURES / "switches.timehist.txt.gz", "rt") as file:
        for line in file:
            found = re.search(r"\[(\d+)(?:/\d+)?\] +(\d+)\.(\d{3}) +[\d.]+ +[\d.]+ *$", line)
            if found:
                timehist.setdefault(int(found[1]), []).append(int(found[2]) * 1000 + int(found[3]))
    # timehist prints a wait when the thread next leaves the CPU, so the last one may be missing there; where a thread
    # was not off before, it prints 0.
    compared = 0
    for tid in set(timehist) - guessed:
        mine = (off.off_ns[off.tid == tid] // 1000).tolist()
        theirs = list(itertools.dropwhile(lambda wait_us: wait_us == 0, timehist[tid]))
        assert mine[: len(theirs)] == theirs, tid
        assert len(mine) - len(theirs) in {0, 1}, tid
        compared += len(theirs)
    assert compared > 700


def threads_with_unseen_returns(rows: list[tuple[int, int, int, int, int]]) -> set[int]:
    off, found = set[int](), set[int]()
    for _, left, entered, _, _ in sorted(rows):
        found |= {left} & off
        off = (off | {left}) - {entered}
    return found - {0}


def test_a_return_that_was_not_recorded_is_counted_and_not_guessed() -> None:
    off = offcpu.intervals(switches([(0, 5, 0, 1, 0), (30, 5, 0, 1, 0), (40, 0, 5, 0, 0)]))
    assert (off.off_ns.tolist(), off.unseen_returns) == ([10], 1)
    text = locks_text.render(None, None, offcpu.report(off, lambda _: ("__schedule",)))
    assert "1 time whose end is not in the recording (record all CPUs, with -a)" in " ".join(text.split())


def test_preempted_is_apart_from_voluntary() -> None:
    rows = [(0, 5, 0, 1, 0), (10, 0, 5, 0, 1), (20, 5, 6, 0, 2), (25, 6, 5, PREEMPTED, 3), (40, 5, 6, 2, 4)]
    off = offcpu.intervals(switches(rows))
    assert (off.tid.tolist(), off.off_ns.tolist()) == ([5, 5, 6], [10, 5, 15])
    assert off.preempted.tolist() == [False, True, True]
    assert (off.stack.tolist(), off.unfinished) == ([0, 2, 3], 1)


def test_idle_is_no_thread_and_nothing_is_no_time() -> None:
    assert len(offcpu.intervals(switches([(0, 0, 0, 0, 0), (9, 0, 0, 0, 0)])).off_ns) == 0
    empty = offcpu.report(offcpu.intervals(switches([])), lambda _: ())
    assert (empty.voluntary.count, empty.preempted.count, empty.reasons) == (0, 0, ())


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (0, "preempted"),
        (PREEMPTED, "preempted"),
        (1, "sleeping"),
        (2, "uninterruptible"),
        (128, "idle"),
        (0x1000, "state 0x1000"),
    ],
)
def test_a_state_is_said_in_words(state: int, name: str) -> None:
    assert offcpu.state_name(state) == name


def test_a_reason_is_the_lock_the_phase_and_the_path() -> None:
    frames = (
        "__schedule",
        "schedule",
        "schedule_preempt_disabled",
        "__mutex_lock_common.isra.6",
        "__mutex_lock_slowpath",
        "mutex_lock",
        "rmap_walk",
        "move_to_new_page",
        "migrate_pages",
        "migrate_misplaced_page",
        "__do_numa_page.isra.69",
    )
    rows = [(0, 5, 6, 2, 0), (10, 6, 5, 1, 1), (40, 5, 6, 2, 0), (70, 6, 5, 2, 0)]
    chains = [frames, ("__schedule", "schedule", "do_nanosleep")]
    report = offcpu.report(offcpu.intervals(switches(rows)), chains.__getitem__)
    asleep = Reason("uninterruptible", "mutex", "anon_vma", "remap", "numa hint fault", frames[6:])
    other = Reason("sleeping", "", "", "outside migration", "", ("do_nanosleep",))
    assert [(row.reason, row.waits.total_ns, row.threads) for row in report.reasons] == [
        (asleep, 40, 1),
        (other, 30, 1),
    ]
    text = locks_text.render(None, None, report)
    assert [(row.key, row.waits.total_ns, row.threads) for row in (*report.by_lock, *report.by_phase)] == [
        (("mutex", "anon_vma"), 40, 1),
        (("remap", "numa hint fault"), 40, 1),
    ]
    assert re.search(r"40 ns +2 +20 ns +30 ns +1 +mutex anon_vma \[remap\]\n +rmap_walk < move_to_new_page <", text)
    assert "remap for numa hint fault" in text
    assert "voluntary: 3 waits, 70 ns in all" in text
