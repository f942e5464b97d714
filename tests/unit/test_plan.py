"""What a request becomes on machines of several shapes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import SPARSE, TWO, machine, node

from numabench.errors import CannotRun, UsageError
from numabench.experiment import plan as planning
from numabench.experiment.plan import Plan, Request, make_plan, missing_nodes
from numabench.units import GIB, MIB
from numabench.workload import catalog

if TYPE_CHECKING:
    from numabench.host.topology import Topology

NUMA01, NUMA02 = catalog.find("numa01"), catalog.find("numa02")


def plan(request: Request, topology: Topology = TWO, *, emulated: bool = False) -> Plan:
    return make_plan(request, catalog.find(request.workload), topology, emulated=emulated)


def asked(**options: object) -> Request:
    return replace(Request(argv=("numabench",), workload="numa02"), **options)  # type: ignore[arg-type]


def test_a_large_machine_gets_the_published_constants() -> None:
    made = plan(asked())
    assert (made.size_bytes, made.threads, made.loops, made.duration_s) == (GIB, 4, 800, None)
    assert made.published
    assert made.scaled == ()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size_bytes": 512 * MIB}, "size 1 GiB -> 512 MiB (asked)"),
        ({"threads": 2}, "threads 4 -> 2 (asked)"),
        ({"loops": 10}, "loops 800 -> 10 (asked)"),
        ({"duration_s": 60.0}, "800 loops -> 60 s (asked)"),
    ],
)
def test_any_other_constant_is_told_and_is_not_published(options: dict[str, object], told: str) -> None:
    made = plan(asked(**options))
    assert told in made.scaled
    assert not made.published


def test_asking_for_the_published_constant_is_published() -> None:
    assert plan(asked(size_bytes=GIB, threads=4, loops=800)).published


def test_a_small_node_clips_the_size_and_says_which() -> None:
    small = machine(node(0, (0,)), node(1, (1,), size_bytes=GIB, free_bytes=400 * MIB))
    made = plan(asked(), small)
    # default has everything on node 0, which has room, and a half on node 1: 2 x 400 MiB, of which 3/4.
    assert made.size_bytes == 600 * MIB
    assert made.scaled[0] == "size 1 GiB -> 600 MiB (what node 1 has free)"


def test_the_start_node_must_hold_everything_at_first() -> None:
    small = machine(node(0, (0,)), node(1, (1,), size_bytes=GIB, free_bytes=400 * MIB))
    assert plan(asked(start_node=1), small).size_bytes == 300 * MIB


def test_both_processes_of_numa01_must_fit() -> None:
    small = machine(node(0, (0,), free_bytes=4 * GIB), node(1, (1,), free_bytes=4 * GIB))
    made = make_plan(asked(workload="numa01"), NUMA01, small, emulated=False)
    assert made.size_bytes * NUMA01.processes <= 3 * GIB


def test_a_size_that_does_not_fit_is_refused_with_what_fits() -> None:
    small = machine(node(0, (0,), free_bytes=GIB), node(1, (1,), free_bytes=GIB))
    with pytest.raises(CannotRun, match=r"1 x 1 GiB do not fit: node 0 has 1 GiB free.*--size 768M") as caught:
        plan(asked(size_bytes=GIB), small)
    assert caught.value.exit_code == 77


def test_emulated_cpus_run_by_the_clock_unless_asked_otherwise() -> None:
    made = plan(asked(), emulated=True)
    assert (made.loops, made.duration_s) == (0, NUMA02.emulated_s)
    assert not made.published
    assert plan(asked(loops=3), emulated=True).loops == 3
    assert plan(asked(duration_s=5.0), emulated=True).duration_s == 5.0


def test_a_number_takes_nodes_with_cpus_first() -> None:
    assert plan(asked(nodes="2"), SPARSE).nodes == (1, 9)
    assert plan(asked(nodes="3"), SPARSE).nodes == (1, 4, 9)


def test_a_list_takes_just_those() -> None:
    made = plan(asked(nodes="4,9"), SPARSE)
    assert made.nodes == (4, 9)
    assert made.cpus == (4, 5)
    assert made.start_node == 4


def test_a_placement_that_binds_needs_cpus_on_every_node() -> None:
    with pytest.raises(CannotRun, match="placement hard needs CPUs on node 4"):
        plan(asked(nodes="4,9", placements=("hard",)), SPARSE)
    assert plan(asked(nodes="4,9"), SPARSE).nodes == (4, 9)


@pytest.mark.parametrize(
    ("nodes", "topology", "told"),
    [
        ("2", machine(node(0, (0, 1))), "needs 2 memory nodes, this machine has 1"),
        ("4", SPARSE, "needs 4 memory nodes, this machine has 3 (node 6 has no memory)"),
        ("1,6", SPARSE, "node 6 has no memory"),
        ("0-1", SPARSE, "node 0 does not exist, this machine has node 1,4,6,9"),
        (
            "2",
            machine(node(0, (0,)), node(1, (1,)), allowed_nodes=(0,)),
            "needs 2 memory nodes, this machine has 1 (node 1 is outside the caller's cpuset (Mems_allowed_list 0))",
        ),
    ],
)
def test_what_the_machine_lacks_is_told(nodes: str, topology: Topology, told: str) -> None:
    assert missing_nodes(asked(nodes=nodes), topology) == (told,)
    with pytest.raises(CannotRun) as caught:
        plan(asked(nodes=nodes), topology)
    assert told in str(caught.value)


def test_nodes_whose_cpus_the_cpuset_denies_cannot_run() -> None:
    with pytest.raises(CannotRun, match="has no CPUs that the caller may use"):
        plan(asked(nodes="1,4"), machine(node(1, (0,)), node(4, ()), node(5, (1,)), allowed_cpus=(1,)))


@pytest.mark.parametrize(
    "options",
    [
        {"nodes": "0"},
        {"nodes": "two"},
        {"nodes": "3-1"},
        {"nodes": ""},
        {"placements": ("sideways",)},
        {"thp": "sometimes"},
        {"start_node": 7},
        {"mapping": "many"},
        {"mapping": "per-thread"},
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        plan(asked(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"size_bytes": GIB},
        {"threads": 3},
        {"loops": 1},
        {"start_node": 0},
        {"thp": "always"},
        {"placements": ("inverse-compat",)},
    ],
)
def test_a_program_of_the_users_own_takes_no_option_of_our_workloads(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        make_plan(asked(workload=planning.FOREIGN, command=("./prog",), **options), None, TWO, emulated=False)


def test_a_program_of_the_users_own_has_no_published_constants() -> None:
    made = make_plan(asked(workload=planning.FOREIGN, command=("./prog", "a")), None, TWO, emulated=True)
    assert made.name == "prog"
    assert made.duration_s is None
    assert not made.published


@given(st.integers(0, 3), st.integers(1, 6), st.integers(0, 2**31 - 1))
def test_every_block_of_the_order_holds_each_placement_once(warmup: int, repeats: int, seed: int) -> None:
    made = plan(asked(placements=planning.ALL_PLACEMENTS, warmup=warmup, repeats=repeats, seed=seed))
    first = len(planning.ALL_PLACEMENTS) * warmup
    assert all(role == "warmup" for _, role in made.order[:first])
    measured = made.order[first:]
    for block in range(repeats):
        begin = block * len(planning.ALL_PLACEMENTS)
        names = Counter(placement for placement, _ in measured[begin : begin + len(planning.ALL_PLACEMENTS)])
        assert names == Counter(planning.ALL_PLACEMENTS)
    again = plan(asked(placements=planning.ALL_PLACEMENTS, warmup=warmup, repeats=repeats, seed=seed))
    assert made == again


def test_another_seed_gives_another_order() -> None:
    orders = {plan(asked(placements=planning.ALL_PLACEMENTS, repeats=5, seed=seed)).order for seed in range(20)}
    assert len(orders) > 10
