"""Three convergences of runs whose answers are known by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import synthetic_run
from hypothesis import given
from hypothesis import strategies as st

from numabench import store
from numabench.analysis import convergence
from numabench.analysis.missing import Missing
from numabench.analysis.residency import ELSEWHERE, NodeMemory, node_memory

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Trial

NODES = (0, 1)
MIB = 1 << 20


def trial_of(tmp_path: Path, samples: list[dict[str, Any]], **changes: Any) -> Trial:
    record = {**synthetic_run.trial_record(), **changes}
    return store.load(synthetic_run.write(tmp_path, trials=[(record, samples)])).trials[0]


def reached(found: convergence.Convergence) -> list[float | None]:
    return [reach.reached_s for reach in found.reaches]


def residency(trial: Trial) -> convergence.PageResidency:
    found = convergence.page_residency(trial, NODES)
    assert isinstance(found, convergence.PageResidency)
    return found


def placement(trial: Trial) -> convergence.ThreadPlacement:
    found = convergence.cpu_placement(trial)
    assert isinstance(found, convergence.ThreadPlacement)
    return found


def test_residency_is_seen_from_the_thread_that_uses_the_pages(tmp_path: Path) -> None:
    found = residency(trial_of(tmp_path, synthetic_run.samples()))
    # Half the memory is local from the start; the other half comes between the 2nd and the 7th second.
    assert found.convergence.points[0].share == 0.5
    assert found.convergence.points[4].share == pytest.approx(0.5 + 0.5 * 102 / 256)
    assert reached(found.convergence) == [0.0, 6.0, 7.0]
    assert [reach.after_s for reach in found.convergence.reaches] == [0.0, 5.0, 6.0]
    assert found.attainable == 1.0


def test_pages_that_stay_remote_are_censored_and_not_converged(tmp_path: Path) -> None:
    found = residency(trial_of(tmp_path, synthetic_run.still_samples(remote=True)))
    reaches = found.convergence.reaches
    assert [(reach.after_s, reach.reached_s, reach.observed_s) for reach in reaches] == [(None, None, 10.0)] * 3
    assert found.convergence.final.share == 0.0


def test_a_share_that_is_lost_again_is_not_held(tmp_path: Path) -> None:
    samples = [synthetic_run.sample(second, 1.0 if second < 5 else 0.0) for second in range(11)]
    reaches = residency(trial_of(tmp_path, samples)).convergence.reaches
    assert [(reach.reached_s, reach.held) for reach in reaches] == [(0.0, True), (0.0, False), (0.0, False)]


def test_a_slice_that_threads_on_both_nodes_share_can_be_half_local_at_most(tmp_path: Path) -> None:
    slices = [{"pid": 77, "addr": 0, "bytes": 64 * MIB, "threads": [0, 1]}]
    samples = [{**synthetic_run.sample(second, 0), "pages": [[300, 212, 0]]} for second in range(11)]
    found = residency(trial_of(tmp_path, samples, slices=slices))
    assert found.convergence.final.share == pytest.approx(0.5)
    assert found.attainable == 0.5


def test_slices_count_by_their_size_and_not_by_their_sample(tmp_path: Path) -> None:
    slices = [
        {"pid": 77, "addr": 0, "bytes": 30 * MIB, "threads": [0]},
        {"pid": 77, "addr": 0, "bytes": 10 * MIB, "threads": [1]},
    ]
    samples = [{**synthetic_run.sample(second, 0), "pages": [[10, 0, 0], [90, 0, 0]]} for second in range(3)]
    trial = trial_of(tmp_path, samples, slices=slices)
    assert residency(trial).convergence.final.share == pytest.approx(0.75)
    memory = node_memory(trial, NODES)
    assert isinstance(memory, NodeMemory)
    assert memory.of_node(0) == pytest.approx([40 * MIB] * 3)


def test_threads_are_numbered_over_all_processes(tmp_path: Path) -> None:
    threads = [
        {"pid": pid, "tid": tid, "thread": n} for n, (pid, tid) in enumerate([(8, 9), (8, 10), (20, 21), (20, 22)])
    ]
    slices = [
        {"pid": pid, "addr": 0, "bytes": MIB, "threads": [2 * place, 2 * place + 1]}
        for place, pid in enumerate((8, 20))
    ]
    samples = [
        {**synthetic_run.sample(second, 0, cpu_nodes=(0, 0, 1, 1)), "pages": [[100, 0, 0], [0, 100, 0]]}
        for second in range(4)
    ]
    assert residency(trial_of(tmp_path, samples, slices=slices, threads=threads)).convergence.final.share == 1.0


def test_threads_settle_when_they_change_node_for_the_last_time(tmp_path: Path) -> None:
    samples = [synthetic_run.sample(second, 0, cpu_nodes=(0, 0 if second < 4 else 1)) for second in range(11)]
    found = placement(trial_of(tmp_path, samples))
    assert (found.settled_after_s, found.settled_s) == (3.0, 4.0)
    assert found.homes == ((0, 1), (1, 1))
    assert found.restless == 0
    assert reached(found.convergence) == [0.0, 4.0, 4.0]


def test_a_thread_that_goes_to_and_fro_never_settles(tmp_path: Path) -> None:
    samples = [synthetic_run.sample(second, 0, cpu_nodes=(0, second % 2)) for second in range(12)]
    found = placement(trial_of(tmp_path, samples))
    assert found.settled_s is None
    assert found.restless == 1


def test_a_calm_of_two_samples_is_not_called_settled(tmp_path: Path) -> None:
    samples = [synthetic_run.sample(second, 0, cpu_nodes=(0, 0 if second < 9 else 1)) for second in range(11)]
    assert placement(trial_of(tmp_path, samples)).settled_s is None


def test_a_thread_whose_cpu_is_not_known_is_left_out(tmp_path: Path) -> None:
    samples = [synthetic_run.sample(second, 1.0, cpu_nodes=(-1, 1)) for second in range(5)]
    trial = trial_of(tmp_path, samples)
    assert placement(trial).homes == ((1, 1),)
    assert residency(trial).convergence.final == convergence.Point(4.0, 1.0, *convergence.wilson(1.0, 256), 256)


def test_a_share_that_is_there_in_the_first_sample_came_since_go(tmp_path: Path) -> None:
    trial = trial_of(tmp_path, [synthetic_run.sample(second, 1.0) for second in range(3, 8)])
    assert [(reach.after_s, reach.reached_s) for reach in residency(trial).convergence.reaches] == [(0.0, 3.0)] * 3


@pytest.mark.parametrize("with_pages", [0, 1, 2])
def test_samples_without_pages_are_none(tmp_path: Path, with_pages: int) -> None:
    samples = [
        synthetic_run.sample(second, 1.0)
        if 3 <= second < 3 + with_pages
        else {**synthetic_run.sample(second, 0), "pages": [[0, 0, 0], [0, 0, 0]]}
        for second in range(8)
    ]
    found = convergence.page_residency(trial_of(tmp_path, samples), NODES)
    assert found == Missing(f"{with_pages} of 8 samples held pages, 3 are needed")


def test_pages_without_threads_are_not_called_converged(tmp_path: Path) -> None:
    samples = [synthetic_run.sample(second, 1.0, cpu_nodes=(0, 1) if second < 2 else (-1, -1)) for second in range(8)]
    found = convergence.page_residency(trial_of(tmp_path, samples), NODES)
    assert found == Missing("fewer than 3 samples know both pages and the threads that use them")


def test_locality_is_of_windows_of_faults(tmp_path: Path) -> None:
    found = convergence.hint_fault_locality(trial_of(tmp_path, synthetic_run.samples()))
    assert isinstance(found, convergence.Convergence)
    # 4,000 faults a second, 2,000 of them local and the others as far as their pages have come.
    assert [point.share for point in found.points[:4]] == [0.5, 0.5, 0.8, 1.0]
    assert found.points[0].size == 4000


def test_what_cannot_be_known_says_why(tmp_path: Path) -> None:
    samples = [{**sample, "vmstat": {}, "cpu_node": [-1, -1]} for sample in synthetic_run.samples()]
    trial = trial_of(tmp_path, samples)
    for found in (
        convergence.cpu_placement(trial),
        convergence.page_residency(trial, NODES),
        convergence.hint_fault_locality(trial),
    ):
        assert isinstance(found, Missing)
        assert found.reason


def test_memory_per_node_is_scaled_to_the_slices(tmp_path: Path) -> None:
    memory = node_memory(trial_of(tmp_path, synthetic_run.samples()), NODES)
    assert isinstance(memory, NodeMemory)
    assert memory.nodes == (0, 1, ELSEWHERE)
    assert (memory.of_node(0)[0], memory.of_node(0)[-1]) == (64 * MIB, 32 * MIB)
    assert (memory.of_node(1)[0], memory.of_node(1)[-1]) == (0, 32 * MIB)
    assert set(memory.of_node(ELSEWHERE)) == {0.0}


def test_memory_of_an_unknown_program_is_in_shares(tmp_path: Path) -> None:
    samples = [{**synthetic_run.sample(n, 0), "pages": [[100, 300, 0]] * (1 + n % 2)} for n in range(4)]
    memory = node_memory(trial_of(tmp_path, samples, slices=[], threads=[]), NODES)
    assert isinstance(memory, NodeMemory)
    assert not memory.is_scaled
    assert memory.of_node(1) == pytest.approx([0.75] * 4)


@pytest.mark.parametrize(
    ("found", "size", "low", "high"), [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_wilson_intervals_are_those_of_the_tables(found: int, size: int, low: float, high: float) -> None:
    assert convergence.wilson(found / size, size) == pytest.approx((low, high), abs=1e-4)


@given(size=st.integers(0, 10**6), share=st.floats(0, 1))
def test_an_interval_holds_its_share_and_stays_in_bounds(size: int, share: float) -> None:
    low, high = convergence.wilson(share, size)
    assert 0 <= low <= share <= high <= 1


def test_where_threads_wake_after_the_stop_is_not_where_they_worked(tmp_path: Path) -> None:
    samples = synthetic_run.samples()
    stop_ns = synthetic_run.trial_record()["clock"]["stop"]
    after = {**samples[-1], "t_ns": stop_ns + 1_000_000, "cpu_node": [0, 0]}
    trial = trial_of(tmp_path, [*samples, after])
    assert residency(trial).convergence.final.share == 1.0
    assert placement(trial).convergence.final.share == 1.0
    assert placement(trial).restless == 0
