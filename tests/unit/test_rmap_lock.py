"""The thread's question: who waits for the lock, and how often, from captured chains and counts known by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import driven_run
import pytest
import synthetic_run
from migration_stacks import captured
from synthetic_run import SECOND_NS

from numabench import store
from numabench.analysis.kernel_counts import KernelCost, KernelCounts
from numabench.analysis.missing import Missing
from numabench.analysis.observed import Observation
from numabench.analysis.phases import REMAP, UNMAP, PhaseReport, PhaseShare, report
from numabench.comparison import rmap_lock
from numabench.comparison.rmap_lock import ArmResult
from numabench.report import rmap_lock_json, rmap_lock_text

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run

PAGES = 262_144  # 1 GiB


@pytest.mark.parametrize("kernel", ["6.1.192", "6.12.117"])
def test_the_tree_of_who_waits_parts_into_unmap_and_remap_as_in_the_thread(kernel: str) -> None:
    stacks = captured(f"{kernel}-excl.movepages-fork8")
    tree = rmap_lock.waiting_tree(stacks)
    [entry] = tree.entries
    assert entry.symbol == "[waiting for rwsem:W]"
    semaphores = [share for share in report(stacks).shares if share.waits_for.startswith("rwsem")]
    weights = {phase: sum(share.weight for share in semaphores if share.phase == phase) for phase in (UNMAP, REMAP)}
    assert tree.total_weight == sum(weights.values())
    [waiting] = entry.branches
    sides = {branch.frames[0]: branch.weight for branch in waiting.branches}
    # What is below 0.5 % is not drawn.
    assert sides == {
        "folio_lock_anon_vma_read": pytest.approx(weights[UNMAP], rel=0.01),
        "rmap_walk_anon": pytest.approx(weights[REMAP], rel=0.01),
    }


@pytest.mark.parametrize("kernel", ["6.1.192", "6.12.117"])
def test_nobody_waits_where_the_lock_is_shared(kernel: str) -> None:
    assert rmap_lock.waiting_tree(captured(f"{kernel}-shared.movepages-fork8")).entries == ()


def snapshot(second: int, migrated: int, waited: int) -> dict[str, Any]:
    found = synthetic_run.snapshot(second * SECOND_NS, pgmigrate_success=migrated)
    return found | {"lock_events": {"rwsem_opt_lock": waited, "rwsem_wlock": 0, "rwsem_rlock": 5}}


def run_of(results: Path, name: str, waited: int) -> Run:
    """A run whose one measured trial migrated 1 GiB and had that many waits for write locks."""
    counters = {"before": snapshot(0, 0, 100), "after": snapshot(10, PAGES, 100 + waited)}
    trial = driven_run.trial_record(1, counters=counters)
    return store.load(driven_run.write(results, trials=[trial], run_id=name))


def observation(run: Run, *, locks: float, unmap: int, remap: int) -> Observation:
    shares = (
        PhaseShare(UNMAP, "move_pages", "rwsem:W", unmap, unmap),
        PhaseShare(REMAP, "move_pages", "rwsem:W", remap, remap),
        PhaseShare(UNMAP, "move_pages", "", 1000 - unmap - remap, 1000 - unmap - remap),
    )
    counts = KernelCounts(
        (KernelCost("rmap lock acquisitions", 1, locks, 1024), KernelCost("TLB flushes", 1, 6.0, 512)), ()
    )
    return Observation(
        trial=run.trials[0],
        recipe="cpu",
        quality=None,
        own_samples=1000,
        slowdown=1.0,
        migrated_bytes=1 << 30,
        counts=counts,
        phases=PhaseReport(shares, 1000, 1000, 0),
    )


def mode_of(tmp_path: Path, *waited: int, unmap: int = 0, remap: int = 0) -> rmap_lock.Mode:
    runs = [run_of(tmp_path, f"arm-b{number}-{count}", count) for number, count in enumerate(waited)]
    return rmap_lock.mode(runs, [[observation(run, locks=1024.0, unmap=unmap, remap=remap)] for run in runs])


def test_waits_are_shares_of_the_locks_taken_meanwhile_over_all_boots(tmp_path: Path) -> None:
    found = mode_of(tmp_path, 100_000, 120_000, unmap=110, remap=90)
    assert found.boots == 2
    assert found.acquired == 2 * 512 * 1024
    assert found.waited == 220_000
    assert found.contended_share == pytest.approx(220_000 / (2 * 512 * 1024))
    assert found.waits_per_2mb == pytest.approx(220_000 / 1024)
    assert (found.wait_unmap, found.wait_remap) == (0.11, 0.09)


def test_a_kernel_that_does_not_count_locks_has_no_share_rather_than_none_waited(tmp_path: Path) -> None:
    trial = driven_run.trial_record(1)
    run = store.load(driven_run.write(tmp_path, trials=[trial]))
    found = rmap_lock.mode([run], [[]])
    assert isinstance(found.waited, Missing)
    assert isinstance(found.contended_share, Missing)
    assert isinstance(found.locks_per_2mb, Missing)


def test_the_text_sets_both_modes_beside_the_mails(tmp_path: Path) -> None:
    shared, exclusive = mode_of(tmp_path / "s", 1), mode_of(tmp_path / "x", 200_000, unmap=110, remap=90)
    waiting = rmap_lock.waiting_tree(captured("6.1.192-excl.movepages-fork8"))
    arm = ArmResult("one-mapping", "two threads", False, shared, exclusive, None, waiting)
    text = rmap_lock_text.render("6.12-numabench", [arm, ArmResult("one-thread", "one", True, None, None, None)])
    rows = {line[2:46].strip(): line[46:].split("  ") for line in text.splitlines() if line.startswith("  ")}
    assert [cell.strip() for cell in rows["of the locks taken"] if cell.strip()] == ["0.000191 %", "38.1 %"]
    assert "55.0 / 45.0 %" in text
    assert "49.39 / 50.61 %" in text
    assert "[waiting for rwsem:W]" in text
    assert "not run in both modes yet" in text
    document = rmap_lock_json.report("6.12-numabench", [arm])
    assert document["arms"][0]["exclusive"]["contended_share"] == pytest.approx(200_000 / (512 * 1024))
