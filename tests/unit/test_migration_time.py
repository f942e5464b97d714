"""Where each second goes, of runs whose answers are known by hand (tests/driven_run.py), and what is nobody's."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import driven_run
import numpy as np
import pytest
import synthetic_run
from driven_run import CONFIRMED, PAGE, SECOND_NS
from migration_stacks import captured

from numabench import store
from numabench.analysis import contention, phases, thread_time
from numabench.analysis.callchain import Stack
from numabench.analysis.kernel_counts import KernelCost, KernelCounts
from numabench.analysis.migration_time import BETWEEN, CPU, NOT_SPLIT, OFF, QUERIES, MigrationTime, migration_time
from numabench.analysis.missing import Missing
from numabench.analysis.observed import Observation
from numabench.analysis.offcpu import Switches
from numabench.analysis.thread_time import OTHER, PREEMPTED, CpuTime, Doing, LockTime, PassTime
from numabench.report import migration_png, migration_text
from numabench.report.migration_json import report as report_json

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run

GIB = 1 << 30
CALL = ("kernel_move_pages", "__x64_sys_move_pages", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
BIND = ("migrate_pages", "do_mbind", "__x64_sys_mbind", "do_syscall_64")
COPY = ("copy_page", "folio_copy", "migrate_folio_extra", "move_to_new_folio", "migrate_pages", *CALL)
UNMAP = ("try_to_migrate_one", "rmap_walk_anon", "try_to_migrate", "migrate_pages", *CALL)
SPIN = ("rwsem_spin_on_owner", "rwsem_down_write_slowpath", "down_write", "folio_lock_anon_vma_read", *UNMAP[1:])
DRAIN = ("schedule", "__mutex_lock", "mutex_lock", "__lru_add_drain_all", "lru_cache_disable", *CALL)
QUERY = ("folio_walk_start", "do_pages_stat", *CALL)
FAULT = ("clear_page_erms", "do_anonymous_page", "handle_mm_fault", "exc_page_fault", "asm_exc_page_fault")


def run_of(results: Path, driver: str = "move_pages", trials: list[dict[str, Any]] | None = None, **plan: Any) -> Run:
    return store.load(driven_run.write(results, driven_run.run_record(driver, **plan), trials=trials))


def stack(kernel: tuple[str, ...], weight: int) -> Stack:
    return Stack((*kernel, "syscall"), 1, weight, "pingpong-m0", kernel_frames=len(kernel))


def cpu_pass(*stacks: tuple[tuple[str, ...], int], driver: str = "move_pages") -> PassTime:
    found = thread_time.cpu_time([stack(*each) for each in stacks], driver)
    return PassTime(2, "cpu", SECOND_NS, GIB, cpu=found)


def sched_pass(**ns: int) -> PassTime:
    return PassTime(3, "sched", SECOND_NS, GIB, off_cpu={Doing(phase): value for phase, value in ns.items()})


def time_of(run: Run, *passes: PassTime, counts: tuple[Observation, ...] = ()) -> MigrationTime:
    found = migration_time(run, "default", passes, counts)
    assert isinstance(found, MigrationTime)
    return found


# Of the run: movers' time 2.25 + 1 s, of it queries 0.25 s, calls 1.4 + 0.6 s, a CPU 0.5 + 0.5 s; 8,096 pages.
WHOLE_S, QUERY_S, CALL_S, CPU_S = 3.25, 0.25, 2.0, 1.0


def test_parts_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    # Of 1 s on a CPU 80 % are in calls: 0.5 s copy, 0.3 s unmap; so 1.2 s of the calls are off it.
    cpu = cpu_pass((COPY, 50), (UNMAP, 30), (QUERY, 15), ((), 5))
    found = time_of(run_of(tmp_path), cpu, sched_pass(prepare=900, preempted=300))
    seconds = {(part.where, part.phase): part.seconds for part in found.parts}
    assert seconds == pytest.approx(
        {
            (CPU, "copy"): 0.5,
            (CPU, "unmap"): 0.3,
            (OFF, "prepare"): 0.9,
            (OFF, PREEMPTED): 0.3,
            (QUERIES, ""): QUERY_S,
            (BETWEEN, ""): WHOLE_S - QUERY_S - CALL_S,
        }
    )
    assert found.total_s == pytest.approx(WHOLE_S)
    assert found.threads_s == pytest.approx(WHOLE_S)
    assert found.cpu_s == pytest.approx(CPU_S)
    assert found.total_per_gib_s == pytest.approx(WHOLE_S / (CONFIRMED * PAGE / GIB))
    assert sum(part.share for part in found.parts) == pytest.approx(1)


@pytest.mark.parametrize(
    "passes",
    [
        (),
        (cpu_pass((COPY, 1)),),
        (sched_pass(prepare=1),),
        (cpu_pass((COPY, 1), ((), 9)), sched_pass(unmap=3, preempted=1)),
        (cpu_pass(((), 1)), sched_pass()),
        (cpu_pass((UNMAP, 3)), PassTime(4, "lock", 1, GIB, locks=LockTime(contention.waits(np.array([7])), {}))),
    ],
    ids=["none", "cpu", "sched", "cpu and sched", "nothing seen", "cpu and lock"],
)
def test_parts_add_up_to_the_movers_time_whatever_passes_there_are(
    tmp_path: Path, passes: tuple[PassTime, ...]
) -> None:
    found = time_of(run_of(tmp_path), *passes)
    assert sum(part.seconds for part in found.parts) == pytest.approx(WHOLE_S)
    assert found.seconds(QUERIES) == pytest.approx(QUERY_S)
    assert found.seconds(CPU) + found.seconds(OFF) == pytest.approx(CALL_S)
    assert sum(migration_png.shares(found).values()) == pytest.approx(1)


def test_seconds_are_of_the_measured_trials_and_only_shares_of_the_passes(tmp_path: Path) -> None:
    slow = {"role": "observe:cpu", "movers": [driven_run.mover(0, elapsed_ns=900 * SECOND_NS)]}
    run = run_of(tmp_path, trials=[driven_run.trial_record(1), driven_run.trial_record(2) | slow])
    assert time_of(run, cpu_pass((COPY, 10**9))).threads_s == pytest.approx(WHOLE_S)


def test_repeats_are_pooled_and_their_spread_is_told(tmp_path: Path) -> None:
    quick = driven_run.trial_record(2, movers=[driven_run.mover(0), driven_run.mover(1)])
    found = time_of(run_of(tmp_path, trials=[driven_run.trial_record(1), quick]))
    assert found.total_s == pytest.approx(WHOLE_S + 2.0)
    assert found.migrated_bytes == (CONFIRMED + 2 * 4096) * PAGE
    assert found.per_gib is not None
    assert found.per_gib.values == pytest.approx((WHOLE_S / (CONFIRMED * PAGE / GIB), 2.0 / (8192 * PAGE / GIB)))


def test_without_passes_it_is_said_what_is_not_split(tmp_path: Path) -> None:
    found = time_of(run_of(tmp_path))
    # On a CPU for 1 s, 0.75 s less than that is spent outside of calls... which leaves none of it in them.
    assert {part.phase for part in found.parts if part.where in {CPU, OFF}} == {NOT_SPLIT}
    causes = [text.split(":")[0] for text in found.unjoined]
    assert causes == ["no cpu pass", "that cannot be", "no sched pass", "no cost pass"]


def test_locks_of_a_lock_pass_are_told_apart_where_no_switches_were_recorded(tmp_path: Path) -> None:
    # 2 GiB and 100 s of waiting in the pass: of the run's 8,096 pages that would be 1.544 s, and 1.2 s were off.
    waits = contention.waits(np.array([60 * SECOND_NS, 40 * SECOND_NS]))
    lock = Doing("unmap", "rwsem:W anon_vma")
    few = PassTime(3, "lock", SECOND_NS, 2 * GIB, locks=LockTime(waits, {lock: 30 * SECOND_NS}))
    found = time_of(run_of(tmp_path), cpu_pass((COPY, 80), ((), 20)), few)
    expected = 30 * CONFIRMED * PAGE / (2 * GIB)
    assert found.seconds(OFF, *("unmap", lock.lock)) == pytest.approx(expected)
    assert found.seconds(OFF, NOT_SPLIT) == pytest.approx(1.2 - expected)
    assert any("only locks are told apart" in text for text in found.unjoined)
    # 100 s of waits in 2 GiB, which are 1,024 times 2 MiB.
    assert found.lock_waits is not None
    assert (found.lock_waits.count_per_2mb, found.lock_waits.ns_per_2mb) == (2 / 1024, 100 * SECOND_NS / 1024)
    many = PassTime(3, "lock", SECOND_NS, 2 * GIB, locks=LockTime(waits, {lock: 900 * SECOND_NS}))
    assert time_of(run_of(tmp_path / "2"), cpu_pass((COPY, 80), ((), 20)), many).seconds(OFF) == pytest.approx(1.2)


def test_more_samples_in_calls_than_calls_took_is_said_and_not_counted(tmp_path: Path) -> None:
    busy = [driven_run.mover(0, cpu_ns=SECOND_NS)]
    found = time_of(run_of(tmp_path, trials=[driven_run.trial_record(1, movers=busy)]), cpu_pass((COPY, 1)))
    assert found.seconds(CPU) == pytest.approx(0.6)
    assert found.seconds(OFF) == 0
    assert any("which took 0.6 s" in text for text in found.unjoined)


def test_spinning_is_a_part_of_its_phase_with_the_lock_named(tmp_path: Path) -> None:
    found = time_of(run_of(tmp_path), cpu_pass((SPIN, 1), (UNMAP, 1)))
    assert found.seconds(CPU, "unmap") == pytest.approx(1.0)
    assert found.seconds(CPU, "unmap", "rwsem:W anon_vma") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("driver", "kernel", "expected"),
    [
        ("move_pages", COPY, Doing("copy")),
        ("move_pages", (), None),
        ("move_pages", FAULT, None),
        ("move_pages", ("update_process_times", "sysvec_apic_timer_interrupt", *COPY), Doing(OTHER)),
        ("move_pages", QUERY, None),
        ("move_pages", ("try_to_migrate", *BIND), None),
        ("mbind", ("try_to_migrate", *BIND), Doing("unmap")),
        ("mbind", COPY, None),
        ("weighted-interleave", ("try_to_migrate", *BIND), Doing("unmap")),
        ("migrate_pages", ("folio_isolate_lru", "do_migrate_pages", "kernel_migrate_pages"), Doing("isolate")),
        ("null", COPY, None),
        ("autonuma", ("change_pte_range", "change_prot_numa", "task_numa_work", "task_work_run"), Doing("scan")),
        ("autonuma", ("do_numa_page", "handle_mm_fault"), Doing("entry")),
        ("autonuma", FAULT, None),
    ],
)
def test_a_stack_is_at_work_only_in_a_call_of_the_driver(
    driver: str, kernel: tuple[str, ...], expected: Doing | None
) -> None:
    assert thread_time.at_work(kernel, driver) == expected


def test_a_call_of_another_name_is_a_query_where_the_driver_is_not_move_pages() -> None:
    found = thread_time.cpu_time([stack(CALL, 3), stack(QUERY, 4)], "mbind")
    assert (found.queries, found.elsewhere, found.in_calls) == (7, 0, {})
    found = thread_time.cpu_time([stack(CALL, 3), stack(QUERY, 4)], "move_pages")
    assert (found.queries, found.in_calls) == (4, {Doing("entry"): 3})


@pytest.mark.parametrize("kernel", ["6.1.192-excl", "6.12.117-shared"])
def test_little_of_a_captured_move_pages_is_outside_of_its_calls(kernel: str) -> None:
    own = [each for each in captured(f"{kernel}.movepages-fork8") if each.comm == "migbench"]
    found = thread_time.cpu_time(own, "move_pages")
    in_kernel = sum(each.weight for each in own if any("sys_move_pages" in frame for frame in each.kernel))
    assert sum(found.in_calls.values()) == in_kernel
    assert in_kernel > 0.5 * found.total


@pytest.mark.parametrize("kernel", ["6.1.192-shared", "6.12.117-shared"])
def test_with_balancing_a_captured_workload_is_in_migration_where_phases_say_so(kernel: str) -> None:
    stacks = captured(f"{kernel}.numahint")
    found = thread_time.cpu_time(stacks, "autonuma")
    assert sum(found.in_calls.values()) == phases.report(stacks).migration_weight
    assert found.elsewhere > 0
    assert {"copy", "unmap", "entry"} <= {doing.phase for doing in found.in_calls}


def test_time_off_the_cpu_is_that_of_the_calls_with_preemption_apart() -> None:
    # Thread 8 leaves in a drain (100 to 150), preempted in a copy (200 to 230), and in user space (300 to 900).
    chains = (DRAIN, COPY, ("schedule", "exit_to_user_mode_loop"))
    switches = Switches(
        time_ns=np.array([100, 150, 200, 230, 300, 900], np.uint64),
        prev_pid=np.array([8, 0, 8, 0, 8, 0]),
        next_pid=np.array([0, 8, 0, 8, 0, 8]),
        prev_state=np.array([2, 0, 0, 0, 1, 0]),
        stack=np.array([0, 0, 1, 0, 2, 0]),
    )
    found = thread_time.off_time(switches, chains.__getitem__, "move_pages")
    assert found == {Doing("prepare", "mutex lru_add_drain"): 50, Doing(PREEMPTED): 30}


def test_only_locks_that_are_slept_for_are_off_the_cpu() -> None:
    events = contention.ContentionEvents(
        time_ns=np.array([10, 30, 50, 90, 100, 400], np.uint64),
        tid=np.array([8] * 6),
        begin=np.array([True, False] * 3),
        lock_addr=np.array([1, 1, 2, 2, 3, 3], np.uint64),
        flags=np.array([contention.MUTEX, 0, contention.SPIN, 0, contention.MUTEX, 0], np.uint32),
        stack=np.array([0, 0, 0, 0, 1, 0], np.uint32),
    )
    chains = (DRAIN[1:], ("__mutex_lock", "mutex_lock", "pipe_write", "do_syscall_64"))
    found = thread_time.lock_time(events, chains.__getitem__, "move_pages")
    # The mutex of 20 ns, and the spinlock of 40 ns, which is on the CPU; the pipe's is not a call's.
    assert (found.waits.count, found.waits.total_ns) == (2, 60)
    assert found.asleep == {Doing("prepare", "mutex lru_add_drain"): 20}


def test_a_kernel_worker_takes_the_place_of_the_sleep_of_the_mover_that_waits_for_it(tmp_path: Path) -> None:
    worker = ("copy_page", "folio_copy", "migrate_pages", "do_migrate_pages", "cpuset_migrate_mm_workfn", "kthread")
    own = thread_time.cpu_time([stack((), 1)], "cpuset")
    workers_ns = thread_time.workers_time([stack(worker, 1), stack(COPY, 1)], "cpuset", SECOND_NS)
    assert workers_ns == {Doing("copy"): SECOND_NS}
    # A second of it for 64 MiB: of the run's 8,096 pages that is 0.494 s, of 2 s asleep in calls.
    cpu = PassTime(2, "cpu", SECOND_NS, 64 << 20, cpu=replace(own, workers_ns=workers_ns))
    off = PassTime(3, "sched", SECOND_NS, GIB, off_cpu={Doing(OTHER): 7, Doing("entry", "mutex"): 1})
    found = time_of(run_of(tmp_path, "cpuset"), cpu, off)
    copied = CONFIRMED * PAGE / (64 << 20)
    assert found.seconds(CPU, "copy") == pytest.approx(copied)
    assert found.seconds(OFF, OTHER) == pytest.approx(2.0 * 7 / 8 - copied)
    assert found.seconds(OFF, "entry") == pytest.approx(0.25)
    assert sum(part.seconds for part in found.parts) == pytest.approx(WHOLE_S)


def test_with_balancing_the_whole_is_what_the_threads_spend_in_migration(tmp_path: Path) -> None:
    trial = synthetic_run.trial_record()
    for work in trial["done"]:
        work["cpu_ns"] = 8 * SECOND_NS
    run = store.load(synthetic_run.write(tmp_path, trials=[(trial, synthetic_run.samples())]))
    fault = ("do_numa_page", "handle_mm_fault")
    cpu = cpu_pass((fault, 10), (("change_prot_numa", "task_numa_work"), 10), ((), 80), driver="autonuma")
    # Two threads of 10 s and 8 s on a CPU: 20 % of 16 s; a tenth of their time in the pass was waiting for pages.
    off = PassTime(3, "sched", 2 * SECOND_NS, GIB, off_cpu={Doing("wait for migration entry"): SECOND_NS // 5})
    found = time_of(run, cpu, off)
    assert found.seconds(CPU, "entry") == pytest.approx(1.6)
    assert found.seconds(CPU, "scan") == pytest.approx(1.6)
    assert found.seconds(OFF) == pytest.approx(2.0)
    assert (found.total_s, found.threads_s) == pytest.approx((5.2, 20.0))
    assert found.migrated_bytes == synthetic_run.SLICE_PAGES * PAGE
    assert found.moved.mb_per_s is not None
    assert found.moved.mb_per_s.median == pytest.approx(6.71, abs=0.01)


def test_a_driver_that_moves_nothing_has_shares_and_no_seconds_per_gib(tmp_path: Path) -> None:
    still = [driven_run.mover(0, confirmed=0, left=0, directions=[])]
    found = time_of(
        run_of(tmp_path, "null", [driven_run.trial_record(1, movers=still)]), cpu_pass(((), 1), driver="null")
    )
    assert found.total_per_gib_s == Missing("nothing was migrated")
    assert found.seconds(BETWEEN) == pytest.approx(1.0)
    assert "100.0" in migration_text.render([found])
    assert migration_png.draw([found], tmp_path / "png").stat().st_size > 0


def test_a_run_that_failed_or_has_no_movers_says_why(tmp_path: Path) -> None:
    failed = driven_run.trial_record(1) | {"status": "workload-failed"}
    assert migration_time(run_of(tmp_path / "1", trials=[failed]), "default", ()) == Missing(
        "no measured trial went well"
    )
    other = run_of(tmp_path / "2", trials=[driven_run.trial_record(1, movers=[])])
    told = migration_time(other, "default", ())
    assert isinstance(told, Missing)
    assert told.reason.startswith("it has no movers")


def several(tmp_path: Path, count: int) -> list[MigrationTime]:
    costs = KernelCounts(
        (KernelCost("TLB flushes", 100, 12.5, 512), KernelCost("x", Missing("no"), Missing("no"), None)), ()
    )
    found = []
    for number in range(count):
        run = run_of(tmp_path / str(number), threads=number + 1)
        counted = Observation(run.trials[0], "cost", None, 0, Missing(""), GIB, counts=costs)
        passes = (cpu_pass((COPY, 50), (SPIN, 30), ((), 20)), sched_pass(prepare=900, remap=2, preempted=300))
        found.append(time_of(run, *passes, counts=(counted,)))
    return found


@pytest.mark.parametrize("count", [1, 5, 6, 12, 27])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_text_fits_its_width_and_has_every_run(tmp_path: Path, count: int, width: int) -> None:
    times = several(tmp_path, count)
    lines = migration_text.render(times, width).splitlines()
    assert max(map(len, lines)) <= width
    whole = [line for line in lines if line.startswith("movers, GO to last call")]
    assert sum(line.count("105.2 100.0") for line in whole) == count
    assert "per 2 MB migrated (in 2012: 512 TLB flushes)" in lines
    assert any(line.split()[-1] == "12.5" for line in lines if line.startswith("  TLB flushes"))
    assert any(line.startswith("      at rwsem:W anon_vma") for line in lines)
    assert any(line.startswith("    else") for line in lines)


def test_runs_that_differ_in_what_must_be_alike_are_told_so(tmp_path: Path) -> None:
    same, other = several(tmp_path, 2)
    assert migration_text.comparability([same, other]) == ""
    larger = time_of(run_of(tmp_path / "larger", size_bytes=64 << 20))
    assert "differ in size (16 MiB, 64 MiB)" in migration_text.comparability([same, larger])


def test_json_has_the_parts_unrounded_and_missing_figures_with_their_reasons(tmp_path: Path) -> None:
    told = json.loads(json.dumps(report_json(several(tmp_path, 2)), allow_nan=False))
    assert told["differing"] == ["threads"]
    first = told["runs"][0]
    assert sum(part["seconds"] for part in first["parts"]) == pytest.approx(WHOLE_S)
    assert first["costs"]["costs"][1]["per_2mb"] == {"missing": "no"}
    assert first["driver"] == "move_pages"


def test_the_picture_has_a_bar_a_run_and_every_kind_in_its_legend(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    times = several(tmp_path, 3)
    figure = Figure()
    migration_png._paint(figure, times)
    seconds, percent = figure.axes
    assert [label.get_text().split("\n")[0] for label in seconds.get_yticklabels()] == [
        f"{letter}  move_pages" for letter in "ABC"
    ]
    widths = [patch.get_width() for patch in percent.patches]
    assert sum(widths) == pytest.approx(300)
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"copy", "unmap, at a lock", "off the CPU: preempted", "between calls"} <= names


# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
_VISION = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, vision: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """CIE L*a*b* of a colour as it is seen."""
    srgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = _XYZ @ np.clip(vision @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", _VISION)
def test_the_colour_blind_can_tell_phases_apart(vision: str) -> None:
    seen = {phase: lab(colour, _VISION[vision]) for phase, colour in migration_png.COLOURS.items()}
    for (one, first), (other, second) in itertools.combinations(seen.items(), 2):
        assert np.linalg.norm(first - second) > 15, (one, other)


def test_the_samples_of_a_pass_that_has_none_of_the_movers_are_said_to_be_missing(tmp_path: Path) -> None:
    empty = PassTime(2, "cpu", SECOND_NS, GIB, cpu=CpuTime(0, 500, {}, 0, 0))
    assert any("no sample of the threads that migrate" in text for text in time_of(run_of(tmp_path), empty).unjoined)
