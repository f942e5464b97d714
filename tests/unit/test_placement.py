"""Where pages are, compared with what this process knows it touched, and with the kernel's own numa_maps."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from array import array
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numabench.host import libnuma, placement
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = mmap.PAGESIZE
PAGES = 4096
NEVER_TOUCHED = {"ENOENT", "EFAULT"}


@pytest.fixture
def memory() -> Iterator[int]:
    """Pages of which the first half is written, the next quarter read, and the last quarter never touched."""
    with mmap.mmap(-1, PAGES * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.madvise(mmap.MADV_NOHUGEPAGE)
        view = ctypes.c_char.from_buffer(pages)
        address = ctypes.addressof(view)
        ctypes.memset(address, 1, PAGES // 2 * PAGE)
        for page in range(PAGES // 2, PAGES * 3 // 4):
            ctypes.string_at(address + page * PAGE, 1)
        yield address
        del view


def pages_by_node_in_numa_maps(address: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for line in Path("/proc/self/numa_maps").read_text(encoding="utf-8").splitlines():
        start, *fields = line.split()
        if int(start, 16) == address:
            found.update({int(f[1:].partition("=")[0]): int(f.partition("=")[2]) for f in fields if f[1:2].isdigit()})
    return found


def test_every_page_is_where_numa_maps_has_it(memory: int) -> None:
    page_map = placement.query_nodes(os.getpid(), [(memory, PAGES * PAGE)])
    assert Counter(page_map.nodes()) == pages_by_node_in_numa_maps(memory)
    assert sum(page_map.nodes().values()) == PAGES // 2


def test_zero_pages_and_untouched_pages_are_told_by_their_status(memory: int) -> None:
    page_map = placement.query_nodes(os.getpid(), [(memory + PAGES // 2 * PAGE, PAGES // 2 * PAGE)])
    assert page_map.nodes() == {}
    assert sum(page_map.status().values()) == PAGES // 2
    assert page_map.status()["EFAULT"] >= PAGES // 4
    assert set(page_map.status()) <= NEVER_TOUCHED


def test_the_map_agrees_with_move_pages_page_by_page(memory: int) -> None:
    asked = libnuma.move_pages(0, [memory + page * PAGE for page in range(PAGES)]).status
    page_map = placement.query_nodes(os.getpid(), [(memory, PAGES * PAGE)])
    named = Counter(libnuma.status_name(status) for status in asked)
    assert named == Counter({**{f"node {n}": c for n, c in page_map.nodes().items()}, **page_map.status()})


def test_a_page_that_slices_share_is_counted_once(memory: int) -> None:
    slices = [(memory, 3 * PAGE + 100), (memory + 3 * PAGE + 100, PAGE), (memory + PAGE, PAGE)]
    assert sum(placement.query_nodes(os.getpid(), slices).nodes().values()) == 5


def test_pages_that_stayed_are_not_moved_and_pages_that_vanished_are_unknown(memory: int) -> None:
    slices = [(memory, 10 * PAGE)]
    before = placement.query_nodes(os.getpid(), slices)
    assert before.moved_to(placement.query_nodes(os.getpid(), slices)) == ({}, 0)
    ctypes.CDLL(None, use_errno=True).madvise(ctypes.c_void_p(memory), ctypes.c_size_t(4 * PAGE), mmap.MADV_DONTNEED)
    assert before.moved_to(placement.query_nodes(os.getpid(), slices)) == ({}, 4)


def test_maps_of_different_memory_are_not_compared(memory: int) -> None:
    first = placement.query_nodes(os.getpid(), [(memory, PAGE)])
    with pytest.raises(ValueError, match="different memory"):
        first.moved_to(placement.query_nodes(os.getpid(), [(memory, 2 * PAGE)]))


def test_moves_are_counted_by_where_from_and_where_to() -> None:
    before = array("i", [0, 0, 1, 1, 3, -errno.ENOENT, 2])
    after = array("i", [1, 0, 0, 0, 1, 1, libnuma.UNTOUCHED])
    assert libnuma.pairs(before, after, 4) == ({(0, 0): 1, (0, 1): 1, (1, 0): 2, (3, 1): 1}, 2)


def test_of_a_process_that_has_ended_every_page_is_esrch() -> None:
    assert placement.query_nodes(4194304, [(0x1000, 3 * PAGE)]).status() == {"ESRCH": 3}
    sample = placement.PageSampler(4194304, [(0x1000, 3 * PAGE)], 2, [0]).sample()
    assert sample == placement.Sample(((0, 0),), {"ESRCH": 2})


def test_no_slices_are_no_pages() -> None:
    page_map = placement.query_nodes(os.getpid(), [])
    assert (page_map.nodes(), page_map.status()) == ({}, {})
    assert placement.PageSampler(os.getpid(), [], 10, [0]).sample() == placement.Sample((), {})


def test_a_sample_of_every_page_is_exact(memory: int) -> None:
    (node,) = pages_by_node_in_numa_maps(memory)
    quarter = PAGES // 4 * PAGE
    slices = [(memory + index * quarter, quarter) for index in range(4)]
    sample = placement.PageSampler(os.getpid(), slices, PAGES, [node]).sample()
    assert sample.pages == ((PAGES // 4, 0), (PAGES // 4, 0), (0, 0), (0, 0))
    assert sum(sample.status.values()) == PAGES // 2


def test_pages_on_a_node_that_is_no_column_are_elsewhere(memory: int) -> None:
    sample = placement.PageSampler(os.getpid(), [(memory, PAGES // 2 * PAGE)], 64, [900, 901]).sample()
    assert sample.pages == ((0, 0, 64),)


def test_strata_make_a_sample_of_a_half_touched_slice_exact_to_a_page(memory: int) -> None:
    (node,) = pages_by_node_in_numa_maps(memory)
    sampler = placement.PageSampler(os.getpid(), [(memory, PAGES * PAGE)], 512, [node], seed=7)
    assert [sampler.sample().pages for _ in range(5)] == [((256, 0),)] * 5


def test_the_same_seed_draws_the_same_pages_and_the_next_sample_others(memory: int) -> None:
    ranges = libnuma.PageRanges([(memory, PAGES, 100)], PAGE)
    first, again = array("Q", [42]), array("Q", [42])
    drawn = [list(ranges.sample(os.getpid(), libnuma.Pagemap(), first)[0]) for _ in range(2)]
    assert drawn == [list(ranges.sample(os.getpid(), libnuma.Pagemap(), again)[0]) for _ in range(2)]
    assert drawn[0] != drawn[1]


@given(
    pages=st.lists(st.integers(1, 5000), min_size=1, max_size=5),
    draws=st.integers(1, 300),
    state=st.integers(1, 2**64 - 1),
)
def test_one_page_is_drawn_from_each_stratum(pages: list[int], draws: int, state: int) -> None:
    starts = [(index + 1) << 32 for index in range(len(pages))]
    wanted = [min(draws, count) for count in pages]
    ranges = libnuma.PageRanges(list(zip(starts, pages, wanted, strict=True)), PAGE)
    addresses, _ = ranges.sample(os.getpid(), libnuma.Pagemap(), array("Q", [state]))
    drawn = iter(addresses)
    for start, count, of_range in zip(starts, pages, wanted, strict=True):
        for stratum in range(of_range):
            page, rest = divmod(next(drawn) - start, PAGE)
            assert rest == 0
            low = count // of_range * stratum + count % of_range * stratum // of_range
            high = count // of_range * (stratum + 1) + count % of_range * (stratum + 1) // of_range
            assert low <= page < high
    assert next(drawn, None) is None


def test_every_slice_is_sampled_however_small(memory: int) -> None:
    slices = [(memory, PAGES // 2 * PAGE - PAGE), (memory + PAGES // 2 * PAGE - PAGE, PAGE)]
    sample = placement.PageSampler(os.getpid(), slices, 10, libnuma.nodes_allowed()).sample()
    assert [sum(row) for row in sample.pages] == [10, 1]


def test_a_running_thread_is_on_a_cpu_it_may_use() -> None:
    found: list[int] = []

    def pinned() -> None:
        libnuma.set_affinity([max(os.sched_getaffinity(0))])
        found.extend(placement.thread_cpus(LIVE, os.getpid(), [threading.get_native_id()]))

    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join()
    assert found == [max(os.sched_getaffinity(0))]


def test_a_threads_name_may_hold_spaces_and_parentheses(tmp_path: Path) -> None:
    stat = tmp_path / "proc/7/task/8/stat"
    stat.parent.mkdir(parents=True)
    stat.write_text("8 (a) b) S " + " ".join(str(field) for field in range(4, 53)), encoding="utf-8")
    assert placement.thread_cpus(Root(tmp_path), 7, [8, 9]) == (39, -1)
