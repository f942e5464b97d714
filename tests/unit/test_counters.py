"""Counters, compared with the files and programs that show them; and on trees of kernels that lack some."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from numabench import process
from numabench.host import counters
from numabench.host.root import LIVE, Root

INTERRUPTS = """            CPU0       CPU1
  4:        100          0   IO-APIC   4-edge      ttyS0
LOC:       1238        868   Local timer interrupts
RES:         49         41   Rescheduling interrupts
CAL:       3474       1000   Function call interrupts
TLB:          2          1   TLB shootdowns
ERR:          0
"""
SCHED = """python (7, #threads: 2)
-------------------------------------------------------------------
se.exec_start                                :          6139.688960
nr_switches                                  :                   12
mm->numa_scan_seq                            :                    4
numa_pages_migrated                          :                 {migrated}
numa_preferred_nid                           :                   -1
total_numa_faults                            :                   30
current_node=0, numa_group_id=0
numa_faults node=0 task_private=1 task_shared=2 group_private=3 group_shared=4
numa_faults node=1 task_private={migrated} task_shared=0 group_private=0 group_shared=0
"""


def write(tree: Path, name: str, text: str) -> None:
    file = tree / name.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_a_snapshot_has_every_counter_of_vmstat_and_node_files() -> None:
    found = counters.snapshot(LIVE, [0], [])
    names = [line.split()[0] for line in Path("/proc/vmstat").read_text(encoding="utf-8").splitlines()]
    assert list(found["vmstat"]) == names
    if LIVE.exists("/sys/devices/system/node/node0"):
        node = Path("/sys/devices/system/node/node0")
        for file in ("numastat", "vmstat"):
            lines = (node / file).read_text(encoding="utf-8").splitlines()
            assert list(found["nodes"]["0"][file]) == [line.split()[0] for line in lines]


def test_faults_of_our_own_are_counted_between_two_snapshots() -> None:
    pages = 512
    before = counters.snapshot(LIVE, [], [])
    with mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1
    change = counters.difference(before, counters.snapshot(LIVE, [], []))
    assert change["vmstat"]["pgfault"] >= pages
    assert change["t_ns"] > 0


def test_settling_makes_page_states_exact_for_root() -> None:
    if os.geteuid() != 0 or not LIVE.exists("/proc/sys/vm/stat_refresh"):
        pytest.skip("/proc/sys/vm/stat_refresh is for root")
    pages = 8192
    with mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        assert counters.settle(LIVE)
        before = counters.vmstat(LIVE, ("nr_anon_pages",))["nr_anon_pages"]
        memory.write(b"x" * len(memory))
        assert counters.settle(LIVE)
        after = counters.vmstat(LIVE, ("nr_anon_pages",))["nr_anon_pages"]
    # Other processes map and unmap at the same time.
    assert after - before >= pages * 3 // 4


def test_settling_says_that_it_could_not(tmp_path: Path) -> None:
    assert counters.settle(Root(tmp_path)) is False


def test_counters_that_a_kernel_lacks_are_absent(tmp_path: Path) -> None:
    write(tmp_path, "/proc/vmstat", "pgfault 7\nnuma_hint_faults 3\n")
    tree = Root(tmp_path)
    assert counters.vmstat(tree, ("numa_hint_faults", "pgmigrate_success")) == {"numa_hint_faults": 3}
    found = counters.snapshot(tree, [5], [9])
    del found["t_ns"]
    assert found == {
        "vmstat": {"pgfault": 7, "numa_hint_faults": 3},
        "nodes": {"5": {}},
        "interrupts": {},
        "sched": {},
        "pressure": {},
    }


def test_interrupts_are_added_up_over_the_cpus(tmp_path: Path) -> None:
    write(tmp_path, "/proc/interrupts", INTERRUPTS)
    assert counters.snapshot(Root(tmp_path), [], [])["interrupts"] == {"RES": 90, "CAL": 4474, "TLB": 3}


def test_balancings_numbers_are_added_up_over_the_threads(tmp_path: Path) -> None:
    write(tmp_path, "/proc/7/task/7/sched", SCHED.format(migrated=10))
    write(tmp_path, "/proc/7/task/8/sched", SCHED.format(migrated=500))
    assert counters.snapshot(Root(tmp_path), [], [7])["sched"] == {
        "7": {
            "numa_scan_seq": 4,
            "numa_pages_migrated": 510,
            "total_numa_faults": 60,
            "numa_faults": {
                "0": {"task_private": 2, "task_shared": 4, "group_private": 6, "group_shared": 8},
                "1": {"task_private": 510, "task_shared": 0, "group_private": 0, "group_shared": 0},
            },
        }
    }


def test_a_process_that_has_ended_is_absent() -> None:
    assert counters.snapshot(LIVE, [], [4194304])["sched"] == {}


def test_pressure_and_load_are_numbers(tmp_path: Path) -> None:
    write(tmp_path, "/proc/pressure/cpu", "some avg10=0.08 avg60=4.64 avg300=3.58 total=35518089\n")
    write(tmp_path, "/proc/loadavg", "0.30 0.48 0.26 1/110 10443\n")
    found = counters.snapshot(Root(tmp_path), [], [])
    assert found["pressure"] == {"cpu": {"some": {"avg10": 0.08, "avg60": 4.64, "avg300": 3.58, "total_us": 35518089}}}
    assert found["loadavg"] == [0.3, 0.48, 0.26]


def test_free_memory_of_a_node_agrees_with_numactl() -> None:
    told = process.run(["numactl", "-H"]).check("numactl").stdout
    free_mb = {line.split()[1]: int(line.split()[3]) for line in told.splitlines() if " free: " in line}
    found = counters.snapshot(LIVE, [int(node) for node in free_mb], [])["nodes"]
    for node, megabytes in free_mb.items():
        assert found[node]["free_bytes"] >> 20 == pytest.approx(megabytes, rel=0.2)


def test_a_difference_has_the_shape_of_what_both_have() -> None:
    before = {"t_ns": 5, "vmstat": {"a": 1, "gone": 2}, "nodes": {"0": {"numastat": {"hit": 10}}}, "loadavg": [1.0]}
    after = {"t_ns": 9, "vmstat": {"a": 4, "new": 2}, "nodes": {"0": {"numastat": {"hit": 7}}}, "loadavg": [2.0]}
    assert counters.difference(before, after) == {
        "t_ns": 4,
        "vmstat": {"a": 3},
        "nodes": {"0": {"numastat": {"hit": -3}}},
    }


def test_lock_events_are_those_of_semaphores_and_absent_where_the_kernel_counts_none(tmp_path: Path) -> None:
    assert "lock_events" not in counters.snapshot(Root(tmp_path), [], [])
    for name, text in (("rwsem_opt_lock", "28420\n"), ("rwsem_rlock", "0\n"), ("pv_wait_node", "7\n")):
        write(tmp_path, f"/sys/kernel/debug/lock_event_counts/{name}", text)
    write(tmp_path, "/sys/kernel/debug/lock_event_counts/.reset_counts", "0\n")
    assert counters.snapshot(Root(tmp_path), [], [])["lock_events"] == {"rwsem_opt_lock": 28420, "rwsem_rlock": 0}
