"""Pairs of contention events: worked out by hand, and against `perf lock contention` on the same recording."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from migration_stacks import captured

from numabench.analysis import contention
from numabench.analysis.contention import MUTEX, READ, SPIN, WRITE, ContentionEvents, Waits
from numabench.analysis.lock_names import lock_name
from numabench.report import locks_text

if TYPE_CHECKING:
    from collections.abc import Sequence

FIXTURES = Path(__file__).parent.parent / "fixtures/locks"
FLAGS = {"SPIN": 1, "READ": 2, "WRITE": 4, "RT": 8, "PERCPU": 16, "MUTEX": 32}
EVENT = re.compile(r"(-?\d+)\s+(\d+)\.(\d{9}):\s+lock:contention_(begin|end): (0x[0-9a-f]+) \((?:flags|ret)=([^)]*)\)")


def events(rows: Sequence[tuple[int, int, bool, int, int, int]]) -> ContentionEvents:
    """Rows of (time_ns, tid, is begin, address, flags, stack)."""
    columns = list(zip(*rows, strict=True)) or [()] * 6
    kinds = (np.uint64, np.int64, np.bool_, np.uint64, np.int64, np.int64)
    return ContentionEvents(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def recorded() -> tuple[list[tuple[int, int, bool, int, int, int]], list[tuple[str, ...]]]:
    """The rows that perf script printed, and their chains."""
    chains: dict[tuple[str, ...], int] = {}
    rows = []
    with gzip.open(FIXTURES / "contention.script.tsv.gz", "rt") as file:
        for line in file:
            head, _, chain = line.rstrip("\n").partition("\t")
            found = EVENT.match(head)
            assert found, line
            tid, seconds, ns, kind, address, words = found.groups()
            flags = sum(FLAGS.get(word.strip(), 0) for word in words.split("|")) if kind == "begin" else 0
            stack = chains.setdefault(tuple(chain.split(";")), len(chains))
            rows.append((int(seconds) * 10**9 + int(ns), int(tid), kind == "begin", int(address, 16), flags, stack))
    return rows, list(chains)


def printed(ns: int) -> str:
    """A time as perf lock prints it: two digits of the largest unit, divided in single precision."""
    for base, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= base:
            return f"{np.float32(ns) / np.float32(base):.2f} {unit}"
    return f"{ns} ns"


@pytest.mark.parametrize(
    ("rows", "waits"),
    [
        # A coarse clock: one wait ends and the next begins in the same nanosecond, then that ends in its first.
        ([(1, "B", WRITE), (5, "B", WRITE), (5, "E", 0), (9, "E", 0)], [4, 4]),
        ([(1, "B", WRITE), (5, "B", WRITE), (5, "B", WRITE), (5, "E", 0), (5, "E", 0), (7, "E", 0)], [4, 0, 2]),
        ([(5, "B", WRITE), (5, "E", 0)], [0]),
        ([(5, "E", 0), (5, "B", WRITE), (6, "E", 0)], [0]),
        # A mutex begins twice, and the second time does not open a wait.
        ([(1, "B", MUTEX | SPIN), (5, "B", MUTEX), (5, "E", 0)], [4]),
        ([(5, "B", MUTEX), (5, "E", 0)], [0]),
        ([(1, "B", MUTEX | SPIN), (5, "B", MUTEX | SPIN), (5, "E", 0), (6, "E", 0)], [4, 1]),
    ],
)
def test_events_of_one_nanosecond_take_turns(rows: list[tuple[int, str, int]], waits: list[int]) -> None:
    pairs = contention.pair(events([(time, 7, kind == "B", 0xA, flags, 0) for time, kind, flags in rows]))
    assert pairs.wait_ns.tolist() == waits


def test_every_threads_waits_are_those_of_perf_lock_contention() -> None:
    rows, _ = recorded()
    pairs = contention.pair(events(rows))
    table = re.findall(
        r"^ +(\d+) +([\d.]+ \w+) +([\d.]+ \w+) +([\d.]+ \w+) +(\d+)",
        (FIXTURES / "contention.perf-lock.txt").read_text(),
        re.MULTILINE,
    )
    perfs = {int(tid): (int(count), total, longest) for count, total, longest, _, tid in table}
    mine = {}
    for tid in np.unique(pairs.tid).tolist():
        found = contention.waits(pairs.wait_ns[pairs.tid == tid])
        mine[tid] = (found.count, printed(found.total_ns), printed(found.max_ns))
    assert len(perfs) == 41
    assert mine == perfs


def test_columns_pair_as_one_event_after_the_other_does() -> None:
    rows, _ = recorded()
    assert sorted(contention.pair(events(rows)).wait_ns.tolist()) == sorted(one_by_one(rows))


def one_by_one(rows: Sequence[tuple[int, int, bool, int, int, int]]) -> list[int]:
    """The rule as perf's source has it, an event at a time."""
    begun: dict[tuple[int, int], int] = {}
    waits = []
    for time_ns, tid, begin, address, _, _ in sorted(rows, key=lambda row: row[0]):
        if begin:
            begun.setdefault((tid, address), time_ns)
        elif (tid, address) in begun:
            waits.append(time_ns - begun.pop((tid, address)))
    return waits


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(1, 3)), max_size=60))
def test_any_sequence_pairs_as_one_event_after_the_other_does(steps: list[tuple[int, bool, int]]) -> None:
    rows = [(time, tid, begin, address, 0, 0) for time, (tid, begin, address) in enumerate(steps)]
    pairs = contention.pair(events(rows))
    assert sorted(pairs.wait_ns.tolist()) == sorted(one_by_one(rows))
    assert 2 * len(pairs.wait_ns) + pairs.unfinished + pairs.repeated_begins + pairs.stray_ends == len(rows)


def test_a_mutex_begins_twice_and_ends_once() -> None:
    rows = [(100, 7, True, 1, SPIN | MUTEX, 0), (130, 7, True, 1, MUTEX, 1), (190, 7, False, 1, 0, 2)]
    pairs = contention.pair(events(rows))
    assert (pairs.wait_ns.tolist(), pairs.flags.tolist(), pairs.stack.tolist()) == ([90], [SPIN | MUTEX], [0])
    assert (pairs.repeated_begins, pairs.unfinished, pairs.stray_ends) == (1, 0, 0)


def test_times_need_not_rise_in_the_file() -> None:
    rows = [(190, 7, False, 1, 0, 0), (100, 7, True, 1, WRITE, 0), (150, 8, True, 1, WRITE, 0)]
    pairs = contention.pair(events(rows))
    assert (pairs.wait_ns.tolist(), pairs.unfinished) == ([90], 1)


def test_a_histogram_has_a_row_for_each_power_of_two() -> None:
    assert contention.waits(np.array([0, 1, 2, 3, 4, 1023, 1024])) == Waits(
        7, 2057, 1024, (2, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1)
    )
    assert contention.waits(np.array([], np.int64)) == Waits(0, 0, 0, ())


@pytest.mark.parametrize(
    ("flags", "name"),
    [(0, "semaphore"), (SPIN, "spinlock"), (READ, "rwsem:R"), (WRITE, "rwsem:W"), (SPIN | READ, "rwlock:R"),
     (MUTEX, "mutex"), (MUTEX | SPIN, "mutex"), (16 | WRITE, "pcpu-sem:W"), (8, "rt-mutex"), (64, "flags 0x40")],
)  # fmt: skip
def test_a_lock_class_has_perfs_name(flags: int, name: str) -> None:
    assert contention.lock_class(flags) == name


UNMAP = ("rwsem_down_write_slowpath", "down_write", "folio_lock_anon_vma_read", "rmap_walk_anon", "try_to_migrate",
         "migrate_pages_batch", "migrate_pages", "__x64_sys_move_pages")  # fmt: skip
FAULT = ("rwsem_down_read_slowpath", "down_read", "do_user_addr_fault", "exc_page_fault")


def test_waits_are_grouped_by_class_lock_path_and_phase() -> None:
    rows = [
        (0, 1, True, 0xA, WRITE, 0), (10, 1, False, 0xA, 0, 0),
        (20, 2, True, 0xA, WRITE, 0), (50, 2, False, 0xA, 0, 0),
        (60, 1, True, 0xB, READ, 1), (65, 1, False, 0xB, 0, 1),
    ]  # fmt: skip
    report = contention.report(contention.pair(events(rows)), [UNMAP, FAULT].__getitem__)
    anon, fault = Waits(2, 40, 30, (0, 0, 0, 1, 1)), Waits(1, 5, 5, (0, 0, 1))
    assert (report.total.count, report.total.total_ns, report.threads) == (3, 45, 2)
    assert [(row.key, row.waits, row.threads) for row in report.by_class] == [
        (("rwsem:W",), anon, 2),
        (("rwsem:R",), fault, 1),
    ]
    assert [(row.key, row.threads) for row in report.by_lock] == [
        (("rwsem:W", "anon_vma", "0xa"), 2),
        (("rwsem:R", "mmap_lock", "0xb"), 1),
    ]
    assert [row.key for row in report.by_path] == [
        ("rwsem:W", "anon_vma", *UNMAP[2:]),
        ("rwsem:R", "mmap_lock", *FAULT[2:]),
    ]
    assert [row.key for row in report.by_phase] == [("unmap", "move_pages"), ("outside migration", "")]


@pytest.mark.parametrize(
    ("frames", "name"),
    [
        ("__mutex_lock_common.isra.6 __mutex_lock_slowpath mutex_lock rmap_walk move_to_new_page", "anon_vma"),
        ("mutex_lock page_lock_anon_vma try_to_unmap_anon", "anon_vma"),
        ("native_queued_spin_lock_slowpath _raw_spin_lock page_vma_mapped_walk remove_migration_pte rmap_walk_anon",
         "page table"),
        ("__pv_queued_spin_lock_slowpath _raw_spin_lock_irqsave folio_lruvec_lock_irqsave folio_batch_move_lru", "lru"),
        ("native_queued_spin_lock_slowpath _raw_spin_lock rmqueue_bulk get_page_from_freelist", "zone"),
        ("rwsem_down_write_slowpath down_write_killable __vm_munmap __x64_sys_munmap", "mmap_lock"),
        ("io_schedule folio_wait_bit_common __folio_lock migrate_folio_unmap", "page"),
        ("__mutex_lock.constprop.0 exp_funnel_lock synchronize_rcu_expedited", "rcu expedited"),
        ("queued_spin_lock_slowpath _raw_spin_lock unix_stream_sendmsg", ""),
    ],
)  # fmt: skip
def test_a_lock_is_named_by_the_path_to_it(frames: str, name: str) -> None:
    assert lock_name(tuple(frames.split())) == name


def test_spinning_that_no_tracepoint_shows_is_found_in_cpu_samples() -> None:
    """Measured apart on the capture: 17.9 % wait in unmap, 14.3 % in remap, and perf lock saw 19 waits."""
    report = contention.spin(captured("6.1.192-excl.movepages-fork8"))
    shares: dict[str, float] = {}
    for row in report.rows:
        if row.lock == "anon_vma":
            shares[row.phase] = shares.get(row.phase, 0) + row.share * 100
    assert shares["unmap"] == pytest.approx(17.9, abs=0.6)
    assert shares["remap"] == pytest.approx(14.3, abs=0.6)
    assert report.cpu_samples == 2924


def test_a_kernel_that_takes_the_lock_for_reading_does_not_spin() -> None:
    report = contention.spin(captured("6.12.117-shared.movepages-fork8"))
    assert not [row for row in report.rows if row.lock == "anon_vma"]


def test_a_source_that_was_not_recorded_is_never_reported_as_no_contention() -> None:
    text = locks_text.render(None, None, None)
    assert text.count("not recorded") == 3
    rows, chains = recorded()
    pairs = contention.report(contention.pair(events(rows[:0])), chains.__getitem__)
    text = locks_text.render(pairs, None, None)
    assert "no waits" in text
    assert "An rwsem is traced only once it has spun in vain" in text
    assert "Spinning (CPU samples in the lock functions): not recorded" in text


def test_the_report_gives_totals_to_the_nanosecond() -> None:
    rows, chains = recorded()
    report = contention.report(contention.pair(events(rows)), chains.__getitem__)
    text = locks_text.render(report, contention.spin(()), None, migrated_bytes=4 << 20)
    total = sum(one_by_one(rows))
    assert f"{total:,} ns in all" in text
    assert "for each 2 MiB migrated: " in text
    assert "0 of 0 CPU samples" in text
    for groups in (report.by_class, report.by_lock, report.by_path, report.by_phase):
        assert sum(row.waits.total_ns for row in groups) == total
        assert sum(row.waits.count for row in groups) == report.total.count


@pytest.mark.parametrize("width", [80, 100])
def test_the_report_fits_its_width_and_gives_whole_call_paths(width: int) -> None:
    rows, chains = recorded()
    report = contention.report(contention.pair(events(rows)), chains.__getitem__)
    text = locks_text.render(report, contention.spin(captured("6.12.117-excl.movepages-fork8")), None, width=width)
    assert max(map(len, text.splitlines())) <= width
    paths = " ".join(text.split())
    for row in report.by_path[:10]:
        assert " < ".join(row.key[2:]) in paths


def test_a_gap_in_the_histogram_is_one_line() -> None:
    one = contention.report(
        contention.pair(
            events([(0, 1, True, 5, 4, 0), (1, 1, False, 5, 0, 0), (10, 1, True, 5, 4, 0), (9000, 1, False, 5, 0, 0)])
        ),
        lambda _: (),
    )
    lines = locks_text.render(one, None, None).splitlines()
    assert "      (the call path is not known)" in lines
    assert [line.split() for line in lines[2:5]] == [
        ["1", "ns", "to", "2", "ns", "1", "#" * 40],
        ["..."],
        ["8.19", "us", "to", "16.4", "us", "1", "#" * 40],
    ]
