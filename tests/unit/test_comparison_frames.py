"""Kernel frames under the names that two kernels share, against chains as perf prints them."""

from __future__ import annotations

import lzma
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import synthetic_run
from migration_stacks import captured

from numabench import perf, store
from numabench.analysis import observed, phases, recorded
from numabench.analysis.callchain import Stack
from numabench.comparison.kernel_tree import SEVERAL_PHASES, TreeBuilder
from numabench.comparison.recorded import Recorder

if TYPE_CHECKING:
    from numabench.record import Run

FIXTURES = Path(__file__).parent.parent / "fixtures/perf"
SYSCALL_6_1 = "__x64_sys_move_pages do_syscall_64 entry_SYSCALL_64_after_hwframe"
SYSCALL_6_12 = "__x64_sys_move_pages x64_sys_call do_syscall_64 entry_SYSCALL_64_after_hwframe"
FAULT = "do_user_addr_fault exc_page_fault asm_exc_page_fault"


def shown(frames: str) -> tuple[str, ...]:
    """What a chain shows as, written as perf does: the sampled function first."""
    names = tuple(frames.split())
    tree = TreeBuilder().of_stacks([Stack(names, 1, 1, "work", kernel_frames=len(names))])
    [path] = tree.chains()
    return path


@pytest.mark.parametrize(
    ("frames", "path"),
    [
        # However a system call is entered, it is one name.
        (f"migrate_pages {SYSCALL_6_1}", ("[syscall move_pages]", "migrate_pages")),
        (f"migrate_pages {SYSCALL_6_12}", ("[syscall move_pages]", "migrate_pages")),
        ("migrate_pages SyS_move_pages entry_SYSCALL_64_fastpath", ("[syscall move_pages]", "migrate_pages")),
        ("migrate_pages sys_move_pages system_call_fastpath", ("[syscall move_pages]", "migrate_pages")),
        (
            "migrate_pages __arm64_sys_move_pages invoke_syscall el0_svc_common do_el0_svc el0_svc el0t_64_sync",
            ("[syscall move_pages]", "migrate_pages"),
        ),
        ("ksys_mmap_pgoff __x64_sys_mmap do_syscall_64", ("[syscall mmap]",)),
        ("do_syscall_64 entry_SYSCALL_64_after_hwframe", ("[syscall]",)),
        (f"handle_mm_fault {FAULT}", ("[page fault]", "handle_mm_fault")),
        ("handle_mm_fault __do_page_fault do_page_fault page_fault", ("[page fault]", "handle_mm_fault")),
        (
            f"__get_user_8 {SYSCALL_6_12}".replace("__get_user_8", f"handle_mm_fault {FAULT} __get_user_8"),
            ("[syscall move_pages]", "__get_user_8", "[page fault]", "handle_mm_fault"),
        ),
        (
            (
                "task_numa_work task_work_run exit_to_user_mode_prepare irqentry_exit_to_user_mode irqentry_exit "
                "exc_page_fault asm_exc_page_fault"
            ),
            ("[page fault]", "[return to user]", "task_work_run", "task_numa_work"),
        ),
        ("kcompactd kthread ret_from_fork ret_from_fork_asm", ("[kthread]", "kcompactd")),
        ("schedule_tail ret_from_fork ret_from_fork_asm", ("[fork]", "schedule_tail")),
        (
            "run_timer_softirq __do_softirq irq_exit_rcu sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt",
            ("[irq]", "handle_softirqs", "run_timer_softirq"),
        ),
        # Waiting for a lock is one name, whoever waits how; an interrupt meanwhile is below it.
        (
            f"rwsem_spin_on_owner rwsem_down_write_slowpath down_write rmap_walk_anon {SYSCALL_6_1}",
            ("[syscall move_pages]", "rmap_walk_anon", "[waits for rwsem:W]"),
        ),
        (
            f"osq_lock rwsem_optimistic_spin rwsem_down_write_failed down_write rmap_walk_anon {SYSCALL_6_1}",
            ("[syscall move_pages]", "rmap_walk_anon", "[waits for rwsem:W]"),
        ),
        (
            f"__schedule schedule __mutex_lock_common.isra.6 __mutex_lock_slowpath mutex_lock rmap_walk {FAULT}",
            ("[page fault]", "rmap_walk", "[waits for mutex]", "schedule", "__schedule"),
        ),
        (
            "native_queued_spin_lock_slowpath _raw_spin_lock do_anonymous_page",
            ("do_anonymous_page", "[waits for spinlock]"),
        ),
        (
            (
                "ktime_get sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt rwsem_spin_on_owner "
                "rwsem_down_read_slowpath down_read f"
            ),
            ("f", "[waits for rwsem:R]", "[irq]", "ktime_get"),
        ),
        ("folio_wait_bit_common __folio_lock f", ("f", "[waits for page lock]")),
        # What the compiler split off, and a wrapper that became the function.
        ("f.cold f g", ("g", "f")),
        ("folio_add_lru_vma lru_cache_add_inactive_or_unevictable g", ("g", "folio_add_lru_vma")),
        ("f f g", ("g", "f", "f")),
        ("[unknown] g", ("g", "[unknown]")),
    ],
)
def test_a_chain_shows_as_what_every_kernel_would_call_it(frames: str, path: tuple[str, ...]) -> None:
    assert shown(frames) == path


@pytest.mark.parametrize(
    ("frames", "path"),
    [
        # Taken without waiting, and functions that only sound like entries or locks.
        ("down_write rmap_walk_anon", ("rmap_walk_anon", "down_write")),
        ("_raw_spin_lock f", ("f", "_raw_spin_lock")),
        ("up_write f", ("f", "up_write")),
        ("mutex_unlock f", ("f", "mutex_unlock")),
        ("rwsem_wake.isra.0 up_write f", ("f", "up_write", "rwsem_wake")),
        ("sys_imageblit bit_putcs", ("bit_putcs", "sys_imageblit")),
        ("sys_info f", ("f", "sys_info")),
        ("page_fault_oops f", ("f", "page_fault_oops")),
        ("kthreadd f", ("f", "kthreadd")),
        ("kthread_should_stop f", ("f", "kthread_should_stop")),
        ("do_syscall_user_dispatch f", ("f", "do_syscall_user_dispatch")),
        ("schedule f", ("f", "schedule")),
        ("handle_irq_event f", ("f", "handle_irq_event")),
    ],
)
def test_what_only_looks_like_an_entry_or_a_wait_stays(frames: str, path: tuple[str, ...]) -> None:
    assert shown(frames) == path


def test_no_sample_is_lost_and_phases_are_those_of_the_whole_chains() -> None:
    stacks = captured("6.1.192-excl.movepages-fork8")
    tree = TreeBuilder().of_stacks(stacks)
    assert tree.samples.sum() == sum(stack.samples for stack in stacks)
    report = phases.report(stacks)
    told = dict(zip(tree.phases, tree.phase_weight.tolist(), strict=True))
    expected: dict[str, int] = {}
    for share in report.shares:
        name = f"{share.phase}, waiting for {share.waits_for}" if share.waits_for else share.phase
        expected[name] = expected.get(name, 0) + share.weight
    assert told == expected
    for number, phase in enumerate(tree.phases):
        own = tree.weight[tree.phase == number].sum()
        assert own <= told[phase] <= own + tree.weight[tree.phase == SEVERAL_PHASES].sum()


def test_samples_of_several_phases_may_show_as_one_path() -> None:
    stacks = [
        Stack((name,), 2, 2, kernel_frames=1) for name in ("smp_invalidate_interrupt", "sysvec_apic_timer_interrupt")
    ]
    tree = TreeBuilder().of_stacks(stacks)
    assert tree.chains() == {("[irq]",): (4, 4)}
    assert tree.phase.tolist() == [-1, SEVERAL_PHASES]
    assert dict(zip(tree.phases, tree.phase_weight.tolist(), strict=True)) == {
        phases.RECEIVED: 2,
        phases.OUTSIDE: 2,
    }


def test_raw_names_are_kept() -> None:
    stacks = [
        Stack(("__mutex_lock.constprop.0", "mutex_lock", "page_lock_anon_vma_read"), 1, 1, kernel_frames=3),
        Stack(("page_lock_anon_vma_read",), 1, 1, kernel_frames=1),
    ]
    tree = TreeBuilder().of_stacks(stacks)
    assert tree.raw_names["folio_lock_anon_vma_read"] == ("page_lock_anon_vma_read",)
    assert tree.raw_names["[waits for mutex]"] == ("__mutex_lock.constprop.0",)


@pytest.mark.parametrize("where", ["perf-6.1/cpu-clock", "perf-6.12/compressed", "perf-7.2/compressed"])
def test_a_recording_makes_the_tree_that_its_stacks_make(tmp_path: Path, where: str) -> None:
    data, symbols = tmp_path / "cpu.data", tmp_path / "kallsyms"
    data.write_bytes(lzma.decompress((FIXTURES / f"{where}.data.xz").read_bytes()))
    symbols.write_bytes(lzma.decompress((FIXTURES / where).with_name("kallsyms.xz").read_bytes()))
    profile = perf.load(data)
    kallsyms = profile.kallsyms(symbols)
    recorder = Recorder()
    tree = recorder.tree(profile, kallsyms)
    event = recorded.cpu_event(profile)
    assert tree is not None
    assert event is not None
    stacks = recorded.stacks(profile, event, kallsyms)
    assert tree.chains() == TreeBuilder().of_stacks(stacks).chains()
    assert tree.samples.sum() == sum(stack.samples for stack in stacks)
    # Whatever the whole chains' names became is a name of the kernel's, or stands in brackets.
    names = recorder.vocabulary(kallsyms)
    assert not {name for name in tree.names if not name.startswith("[")} - names


def test_a_recording_without_the_cpus_event_makes_none(tmp_path: Path) -> None:
    data = tmp_path / "lock.data"
    data.write_bytes(lzma.decompress((FIXTURES / "perf-6.12/lock.data.xz").read_bytes()))
    profile = perf.load(data)
    assert Recorder().tree(profile, None) is None


def test_nothing_selected_makes_no_tree(tmp_path: Path) -> None:
    data = tmp_path / "cpu.data"
    data.write_bytes(lzma.decompress((FIXTURES / "perf-6.12/compressed.data.xz").read_bytes()))
    profile = perf.load(data)
    assert Recorder().tree(profile, None, np.zeros(len(profile.groups), np.bool_)) is None


def stored(results: Path, content: bytes, pids: tuple[int, ...]) -> Run:
    """A run whose second trial was observed, and whose workload were these processes."""
    record = synthetic_run.run_record(boot_id="one boot")
    record["plan"]["order"] = [["default", "measure"], ["default", "observe:cpu"]]
    writer = store.create(results, synthetic_run.RUN_ID)
    writer.write_run(record)
    writer.write_trial(1, synthetic_run.trial_record(1), b"{}\n", synthetic_run.samples())
    recording = writer.scratch(2) / "cpu.data"
    recording.write_bytes(content)
    trial = {**synthetic_run.trial_record(2), "role": "observe:cpu", "observe": {"recipe": "cpu", "file": "cpu.data"}}
    writer.write_trial(2, trial, b"{}\n", synthetic_run.samples(), [recording])
    writer.write_end(synthetic_run.END)
    run = store.load(writer.path)
    threads = tuple(replace(run.trials[1].threads[0], pid=pid) for pid in pids)
    return replace(run, trials=(run.trials[0], replace(run.trials[1], threads=threads)))


def test_what_a_pass_recorded_is_of_the_workloads_own_processes(tmp_path: Path) -> None:
    content = lzma.decompress((FIXTURES / "perf-6.1/cpu-clock.data.xz").read_bytes())
    symbols = tmp_path / "kallsyms"
    symbols.write_bytes(lzma.decompress((FIXTURES / "perf-6.1/kallsyms.xz").read_bytes()))
    (tmp_path / "cpu.data").write_bytes(content)
    profile = perf.load(tmp_path / "cpu.data")
    by_pid: dict[int, int] = {}
    for group in profile.groups:
        by_pid[int(group["pid"])] = by_pid.get(int(group["pid"]), 0) + int(group["count"])
    heaviest = max((pid for pid in by_pid if pid), key=lambda pid: by_pid[pid])
    run = stored(tmp_path / "results", content, (heaviest,))
    kallsyms = profile.kallsyms(symbols)
    recorder = Recorder()
    found = recorder.record(run, run.trials[1], profile, kallsyms)
    assert found is not None
    assert (found.run_id, found.boot_id, found.trial) == (run.run_id, "one boot", 2)
    assert found.tree.samples.sum() == by_pid[heaviest]
    assert found.names == recorder.vocabulary(kallsyms)
    assert found.migrated_bytes == observed.migrated_bytes(run, run.trials[1])
    # Of a program of the user's own nobody knows which processes are its: all count that are no idle CPU.
    everything = recorder.record(run, run.trials[1], profile, None, everything=True)
    assert everything is not None
    assert everything.tree.samples.sum() == sum(count for pid, count in by_pid.items() if pid)
    assert everything.names is None
