"""What is asked of drivers, movers and victims: what is decided, and what is refused with the option's name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from machines import SPARSE, TWO, machine, node

from numabench.errors import CannotRun, UsageError
from numabench.experiment import drive as driving
from numabench.experiment.drive_request import CHURN, DriveRequest
from numabench.experiment.plan import Plan, Request, guest_nodes, make_plan, missing_nodes
from numabench.host.root import LIVE, Root
from numabench.host.topology import HugePages
from numabench.record import FamilyPlan, MoverPlan, VictimPlan
from numabench.units import GIB, MIB
from numabench.workload import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.host.topology import Topology

FOUR = machine(*(node(number, (number,)) for number in range(4)))


def asked(workload: str = "pingpong", drive: dict[str, Any] | None = None, **options: Any) -> Request:
    return replace(Request(argv=("numabench",), workload=workload), drive=DriveRequest(**(drive or {})), **options)


def plan(request: Request, topology: Topology = TWO, *, emulated: bool = False, root: Root = LIVE) -> Plan:
    return make_plan(request, catalog.find(request.workload), topology, emulated=emulated, root=root)


def test_pingpong_is_driven_by_move_pages_unless_told_otherwise() -> None:
    made = plan(asked())
    assert (made.driver, made.threads, made.loops, made.duration_s) == ("move_pages", 1, 100, None)
    assert (made.size_bytes, made.start_node, made.scaled) == (256 * MIB, 0, ())
    assert made.drive is not None
    mover = MoverPlan("inside", ("move",), 512, "sequential", "4k", "all", "ping-pong", 10, "private")
    assert made.drive.mover == mover
    assert made.drive.victims == VictimPlan(0, "write", "sequential", "target")
    assert (made.drive.verify, made.drive.obstacles, made.drive.family) == (False, {}, None)


def test_the_plan_is_recorded_with_the_keys_of_the_format() -> None:
    recorded = plan(asked("forktree", {"churn": "none"})).to_json()
    assert recorded["driver"] == "move_pages"
    assert recorded["mover"]["batch"] == 512
    assert recorded["victims"]["count"] == 0
    assert plan(asked("pingpong", {"obstacles": "pinned:8,ksm:2"})).to_json()["obstacles"] == {"pinned": 8, "ksm": 2}
    assert recorded["family"] == {"depth": 3, "fanout": 2, "mover_at": "parent", "churn": ()}
    assert "drive" not in recorded


def test_a_workload_that_is_not_driven_has_no_mover_and_is_balanced() -> None:
    recorded = plan(asked("numa02")).to_json()
    assert (recorded["driver"], recorded["mover"], recorded["victims"]) == ("autonuma", None, None)
    assert recorded["knobs"]["numa_balancing"] == "1"


@pytest.mark.parametrize(("driver", "balancing"), [("move_pages", "0"), ("null", "0"), ("autonuma", "1")])
def test_balancing_is_on_for_its_own_driver_alone(driver: str, balancing: str) -> None:
    assert dict(plan(asked(drive={"driver": driver})).knobs)["numa_balancing"] == balancing
    assert plan(asked(drive={"driver": driver}, no_tune=True)).knobs == ()


@pytest.mark.parametrize("mode", ["0", "1", "2"])
def test_autonuma_takes_the_balancing_mode_that_is_asked_for(mode: str) -> None:
    request = asked(drive={"driver": "autonuma"}, knobs=(("numa_balancing", mode),))
    assert dict(plan(request).knobs)["numa_balancing"] == mode


def test_autonuma_has_no_movers_but_a_victim_for_each_cpu_of_the_target() -> None:
    made = plan(asked(drive={"driver": "autonuma"}))
    assert made.drive is not None
    assert (made.threads, made.loops, made.duration_s) == (0, 0, driving.BALANCING_S)
    assert made.drive.victims.count == 2
    assert made.drive.mover.batch is None
    assert "--mover-on" not in driving.options(made.drive)


def test_one_way_is_one_pass() -> None:
    made = plan(asked(drive={"route": "one-way"}), emulated=True)
    assert (made.loops, made.duration_s) == (1, None)


def test_emulated_cpus_drive_for_five_seconds_unless_asked_otherwise() -> None:
    made = plan(asked(), emulated=True)
    assert (made.loops, made.duration_s) == (0, 5.0)
    assert made.scaled == ("100 loops -> 5 s (the CPUs are emulated)",)
    assert plan(asked(loops=3), emulated=True).loops == 3


@pytest.mark.parametrize(("pages", "batch"), [("4k", 512), ("thp", 1), ("64k", 512)])
def test_the_batch_is_by_the_kind_of_page(pages: str, batch: int, tmp_path: Path) -> None:
    made = plan(asked(drive={"pages": pages}), root=Root(tmp_path))
    assert made.drive is not None
    assert made.drive.mover.batch == batch


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({"size_bytes": 2 * MIB, "threads": 1}, 512),
        ({"size_bytes": MIB, "threads": 1}, 256),
        ({"size_bytes": MIB, "threads": 3}, 85),
        ({"size_bytes": 4 * MIB, "threads": 1, "drive": {"pages": "64k"}}, 64),
    ],
)
def test_the_usual_batch_is_what_a_mover_has_where_that_is_less(
    options: dict[str, Any], batch: int, tmp_path: Path
) -> None:
    made = plan(asked(**options), root=Root(tmp_path))
    assert made.drive is not None
    assert driving.options(made.drive)["--batch"] == made.drive.mover.batch == batch


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"threads": 1, "drive": {"batch": 257}},
            "--batch 257 is more than the 256 pages of 4 KiB that a mover has",
        ),
        ({"threads": 2, "drive": {"batch": 129}}, "128 pages of 4 KiB that a mover has"),
    ],
)
def test_a_batch_that_no_mover_has_pages_for_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan(asked(size_bytes=MIB, **options))


def test_a_driver_that_moves_a_whole_process_has_no_batch() -> None:
    for name in ("migrate_pages", "cpuset"):
        made = plan(asked(drive={"driver": name}))
        assert made.drive is not None
        assert made.drive.mover.batch is None
        assert "--batch" not in driving.options(made.drive)


def test_the_target_is_the_next_node_in_the_ring() -> None:
    assert driving.target_of((1, 4, 9), 4) == 9
    assert driving.target_of((1, 4, 9), 9) == 1
    assert driving.target_of((3,), 3) == 3


def test_the_target_must_have_room_for_all_of_the_memory() -> None:
    small = machine(node(0, (0,)), node(1, (1,), size_bytes=GIB, free_bytes=200 * MIB))
    made = plan(asked(), small)
    assert made.size_bytes == 148 * MIB  # 3/4 of 200 MiB, in 4 MiB: 2 MiB for each node
    assert made.scaled == ("size 256 MiB -> 148 MiB (what node 1 has free)",)
    with pytest.raises(CannotRun, match=r"1 x 256 MiB do not fit: node 1 has 200 MiB free"):
        plan(asked(size_bytes=256 * MIB), small)


def test_one_way_needs_room_on_its_two_nodes_alone() -> None:
    nodes = [node(number, (number,)) for number in range(3)]
    nodes.append(node(3, (3,), free_bytes=8 * MIB))
    assert plan(asked(nodes="4", drive={"route": "one-way"}), machine(*nodes)).size_bytes == 256 * MIB
    assert plan(asked(nodes="4"), machine(*nodes)).size_bytes < 8 * MIB


def test_source_and_target_must_differ_but_for_the_baseline() -> None:
    with pytest.raises(CannotRun, match="source and target are both node 0") as caught:
        plan(asked(nodes="1"))
    assert caught.value.exit_code == 77
    assert plan(asked(nodes="1", drive={"driver": "null"})).nodes == (0,)


def test_threads_are_put_on_nodes_that_have_cpus() -> None:
    with pytest.raises(CannotRun, match="--victim-on target cannot run here: node 4 has no CPUs"):
        plan(asked(nodes="1,4", drive={"victims": 1}), SPARSE)
    assert plan(asked(nodes="1,4"), SPARSE).nodes == (1, 4)
    assert plan(asked(nodes="1,4", drive={"victims": 1, "victim_on": "source"}), SPARSE).cpus == (0, 1)


def test_a_third_node_gives_its_cpus_and_a_guest_has_it() -> None:
    request = asked(nodes="0,1", drive={"mover_on": "3"})
    assert plan(request, FOUR).cpus == (0, 1, 3)
    assert guest_nodes(request) == 4
    assert guest_nodes(asked(nodes="1")) == 1
    assert missing_nodes(request, TWO) == ("--mover-on 3: node 3 does not exist, this machine has node 0-1",)
    both = asked(nodes="0,1", drive={"mover_on": "7", "victims": 1, "victim_on": "7"})
    assert missing_nodes(both, TWO) == (
        "--mover-on 7: node 7 does not exist, this machine has node 0-1",
        "--victim-on 7: node 7 does not exist, this machine has node 0-1",
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"drive": {"driver": "autonuma", "batch": 8}}, "--batch is of movers"),
        ({"drive": {"driver": "autonuma", "victims": 0}}, "--victims 0 leaves nobody"),
        ({"drive": {"driver": "autonuma"}, "threads": 2}, "--threads is of movers"),
        ({"drive": {"driver": "autonuma"}, "loops": 2}, "--loops are passes of movers"),
        ({"drive": {"strict": True}}, "driver move_pages has no flag strict"),
        ({"drive": {"driver": "mbind", "mover": "outside"}}, "driver mbind cannot move another process's pages"),
        ({"drive": {"driver": "mbind", "order": "interleaved"}}, "driver mbind has no order interleaved"),
        ({"drive": {"driver": "migrate_pages", "batch": 8}}, "driver migrate_pages moves a whole process in one call"),
        ({"drive": {"driver": "migrate_pages"}, "threads": 2}, "2 movers would do the same work"),
        ({"drive": {"driver": "migrate_pages", "move_all": True}}, "driver migrate_pages has no flag move_all"),
        ({"drive": {"driver": "home-node", "victims": 1}}, "driver home-node gives pages up"),
        ({"drive": {"driver": "home-node", "sharing": "shared"}}, "driver home-node gives pages up"),
        ({"drive": {"depth": 3}}, "--depth is an option of forktree"),
        ({"drive": {"churn": "fork"}}, "--churn is an option of forktree"),
        ({"drive": {"pages": "2k"}}, "--pages cannot be '2k'"),
        ({"drive": {"batch": 0}}, "--batch 0 is out of range"),
        ({"drive": {"batch": (1 << 20) + 1}}, "--batch 1048577 is out of range"),
        ({"drive": {"mover_on": "somewhere"}}, "--mover-on cannot be 'somewhere'"),
        ({"drive": {"victims": 1, "victim_on": "-1"}}, "--victim-on cannot be '-1'"),
        ({"drive": {"obstacles": "pinned"}}, "--obstacles cannot hold 'pinned'"),
        ({"drive": {"obstacles": "glued:3"}}, "--obstacles cannot hold 'glued:3'"),
        ({"drive": {"obstacles": "pinned:1", "pages": "thp"}}, "--obstacles are private pages of 4k"),
        ({"drive": {"obstacles": "pinned:1", "sharing": "shared"}}, "--obstacles are private pages of 4k"),
        ({"drive": {"obstacles": "pinned:65537"}}, "--obstacles cannot hold 'pinned:65537'"),
        ({"drive": {"obstacles": "pinned:65536,zero:1,pinned:1"}}, "--obstacles cannot hold 'pinned:1'"),
        ({"drive": {"obstacles": "zero:1,ksm:1"}}, "--obstacles ksm:1 has nothing to be merged with"),
        ({"drive": {"obstacles": "zero:1", "driver": "home-node"}}, "--obstacles are for pages that are migrated"),
        ({"interval_s": 3601.0}, "--interval is an hour at most"),
        ({"threads": 4097}, "--threads 4097 is out of range: a run has 4096 movers at most"),
        ({"size_bytes": 4096, "threads": 2}, "--size 4096 leaves less than a page of 4096 bytes for each of 2 threads"),
        ({"workload": "forktree", "size_bytes": 4096}, "--size 4096 leaves less than a page .* for each quarter"),
        # Of slices of whole pages three are left.
        (
            {"workload": "forktree", "size_bytes": 16384, "threads": 3},
            "--size 16384 leaves less than a page .* for each quarter.*ask for 24576 bytes",
        ),
        ({"drive": {"obstacles": "pinned:1", "driver": "autonuma"}}, "--obstacles are for movers"),
        ({"drive": {"pages": "64k", "sharing": "shared"}}, "--pages 64k is of private memory"),
        ({"drive": {"driver": "teleport"}}, "there is no driver 'teleport'"),
        ({"drive": {"victim_access": "read"}}, "--victim-access is of victims, and there are none"),
        ({"drive": {"victims": 0, "victim_pattern": "random"}}, "--victim-pattern is of victims, and there are none"),
        ({"drive": {"victim_on": "source"}}, "--victim-on is of victims, and there are none"),
        ({"drive": {"verify": True}}, "--verify is of victims, and there are none"),
        ({"drive": {"verify": True, "driver": "home-node"}}, "--verify is of victims, and there are none"),
        ({"workload": "forktree", "drive": {"victim_on": "all"}}, "--victim-on is of pingpong"),
        ({"workload": "forktree", "drive": {"victim_access": "read"}}, "--victim-access is of pingpong"),
        ({"workload": "forktree", "drive": {"verify": True}}, "--verify is of pingpong: .* always compares"),
        ({"drive": {"route": "one-way"}, "loops": 2}, "--route one-way is one pass"),
        ({"placements": ("hard",)}, "--placement hard is not of pingpong"),
        ({"thp": "always"}, "--thp is not of pingpong"),
        ({"knobs": (("numa_balancing", "1"),)}, "--balancing 1 has the kernel move pages, too"),
        ({"workload": "numa02", "drive": {"driver": "mbind"}}, "numa02 is not"),
        ({"workload": "numa02", "drive": {"victims": 1}}, "--victims is an option of pingpong and forktree"),
        ({"workload": "numa02", "drive": {"verify": True}}, "--verify is an option of pingpong and forktree"),
        ({"workload": "forktree", "drive": {"churn": "fork,sleep"}}, "--churn cannot hold 'sleep'"),
        ({"workload": "forktree", "drive": {"driver": "autonuma"}}, "driver autonuma is not of forktree"),
        ({"workload": "forktree", "drive": {"victims": 2}}, "--victims 2 is of pingpong"),
        ({"workload": "forktree", "drive": {"sharing": "shared"}}, "--sharing shared is of pingpong"),
        ({"workload": "forktree", "drive": {"mover": "outside"}}, "--mover outside is of pingpong"),
        ({"workload": "forktree", "drive": {"pages": "hugetlb"}}, "--pages hugetlb is of pingpong"),
        ({"workload": "forktree", "drive": {"obstacles": "zero:1"}}, "--obstacles is of pingpong"),
        ({"workload": "forktree", "mapping": "per-thread"}, "--mapping per-thread is for memset and pingpong"),
        # 1 + 8 + 64 + 512.
        ({"workload": "forktree", "drive": {"depth": 3, "fanout": 8}}, "a family of 585 processes is too large"),
        ({"workload": "forktree", "drive": {"mover_at": "sibling", "fanout": 1}}, "an only child has no sibling"),
        ({"workload": "forktree", "drive": {"mover_at": "sibling", "pages": "thp"}}, "cannot be with --churn write"),
        ({"workload": "forktree", "drive": {"mover_at": "sibling", "driver": "mbind"}}, "the caller's own memory"),
    ],
)
def test_what_does_not_belong_is_refused_by_its_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan(asked(**options))


@pytest.mark.parametrize("placement", ["hard", "inverse", "inverse-compat"])
def test_autonuma_against_a_strict_bind_is_refused_with_the_reason(placement: str) -> None:
    for workload in ("numa02", "pingpong"):
        with pytest.raises(UsageError, match=rf"--placement {placement}: a strict bind without MPOL_F_NUMA_BALANCING"):
            plan(asked(workload, {"driver": "autonuma"}, placements=(placement,)))


def test_the_bounds_of_a_score_and_a_bind_without_a_driver_stay_allowed() -> None:
    assert plan(asked("numa02", {"driver": "autonuma"}, placements=("default", "hard", "inverse"))).driver == "autonuma"
    assert plan(asked("numa02", placements=("hard",))).placements == ("hard",)


def test_victims_are_told_how_to_touch_and_whether_to_check() -> None:
    touch = {"victim_access": "read", "victim_pattern": "random", "victim_on": "source", "verify": True}
    # Balancing has victims unless told otherwise.
    for victims in ({"victims": 2}, {"driver": "autonuma"}):
        made = plan(asked("pingpong", {**victims, **touch}))
        assert made.drive is not None
        options = driving.options(made.drive)
        told = (options["--victim-access"], options["--victim-pattern"], options["--victim-on"], options["--verify"])
        assert told == ("read", "random", "source", 1)


def test_what_the_workload_just_takes_is_not_refused() -> None:
    made = plan(asked(drive={"obstacles": "pinned:65535,pinned:1,ksm:2"}, threads=4096))
    assert made.drive is not None
    assert made.drive.obstacles == {"pinned": 65536, "ksm": 2}
    assert plan(asked("forktree", size_bytes=16384)).size_bytes == 16384


def test_obstacles_are_passed_on_as_they_were_asked_for() -> None:
    made = plan(asked("pingpong", {"obstacles": "zero:3,pinned:8"}))
    assert made.drive is not None
    assert driving.options(made.drive)["--obstacles"] == "zero:3,pinned:8"


def test_the_options_of_the_workload_are_those_of_the_protocol() -> None:
    made = plan(asked("forktree", {"driver": "mbind", "strict": True}))
    assert made.drive is not None
    assert driving.options(made.drive) == {
        "--driver": "mbind",
        "--pages": "4k",
        "--sharing": "private",
        "--victims": 0,
        "--victim-access": "write",
        "--victim-pattern": "sequential",
        "--victim-on": "target",
        "--verify": 0,
        "--mover": "inside",
        "--flags": "move,strict",
        "--order": "sequential",
        "--mover-on": "all",
        "--route": "ping-pong",
        "--retries": 10,
        "--batch": 512,
        "--depth": 3,
        "--fanout": 2,
        "--mover-at": "parent",
        "--churn": "fork,mremap,split,write",
    }
    assert made.drive.family == FamilyPlan(3, 2, "parent", CHURN)


@pytest.mark.parametrize(("driver", "flags"), [("move_pages", ("move",)), ("migrate_pages", ()), ("cpuset", ())])
def test_flags_that_the_kernel_sets_are_not_asked_for(driver: str, flags: tuple[str, ...]) -> None:
    made = plan(asked("pingpong", {"driver": driver}))
    assert made.drive is not None
    assert made.drive.mover.flags == flags
    assert driving.options(made.drive).get("--flags") == (",".join(flags) or None)


def test_pages_and_obstacles_bring_the_knobs_that_they_need(tmp_path: Path) -> None:
    thp = tmp_path / "sys/kernel/mm/transparent_hugepage"
    thp.mkdir(parents=True)
    root = Root(tmp_path)

    def knobs(topology: Topology = TWO, **drive: Any) -> dict[str, str]:
        return {
            name: value for name, value in plan(asked(drive=drive), topology, root=root).knobs if "numa" not in name
        }

    (thp / "enabled").write_text("always [madvise] never\n")
    assert knobs(pages="thp") == {}
    (thp / "enabled").write_text("always madvise [never]\n")
    assert knobs(pages="thp") == {"thp_enabled": "madvise"}
    for size_kib in (32, 64, 128, 2048):
        (thp / f"hugepages-{size_kib}kB").mkdir()
        (thp / f"hugepages-{size_kib}kB" / "enabled").write_text("always inherit madvise [never]\n")
    # The kernel takes the largest that is on.
    off = {"hugepages-128kB": "never", "hugepages-2048kB": "never"}
    assert knobs(pages="64k") == {"hugepages-64kB": "madvise", **off}
    assert knobs(obstacles="ksm:8") == {"ksm_run": "1"}


def with_hugetlb(root: Path, size_kib: int) -> Root:
    """A kernel whose hugetlb pages have that size unless another is asked for."""
    (root / "proc").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 1 kB\nHugePages_Total: 0\nHugepagesize:    {size_kib} kB\n")
    return Root(root)


def pools(made: Plan) -> dict[str, str]:
    return {name: value for name, value in made.knobs if "numa" not in name}


def test_every_node_of_the_ring_has_hugetlb_pages_for_all_of_the_memory(tmp_path: Path) -> None:
    root = with_hugetlb(tmp_path, 2048)
    # 256 MiB are 128 huge pages: node 0 has 10 of 30 free, node 1 enough, nodes 2 and 3 have none.
    found = ((30, 10), (200, 128), (0, 0), (0, 0))
    nodes = [
        replace(node(number, (number,)), huge_pages=(HugePages(2 * MIB, *pool), HugePages(GIB, 0, 0)))
        for number, pool in enumerate(found)
    ]
    wanted = {
        "node0-hugepages-2048kB": "148",
        "node2-hugepages-2048kB": "128",
        "node3-hugepages-2048kB": "128",
    }
    for route in ("ping-pong", "one-way"):
        request = asked(nodes="4", drive={"pages": "hugetlb", "route": route})
        assert pools(plan(request, machine(*nodes), root=root)) == wanted
    two = asked(nodes="0,1", drive={"pages": "hugetlb"}, size_bytes=3 * MIB)
    assert pools(plan(two, machine(*nodes), root=root)) == {}


def test_hugetlb_pages_have_the_size_that_the_kernel_gives_unasked(tmp_path: Path) -> None:
    nodes = [
        replace(node(number, (number,)), huge_pages=(HugePages(2 * MIB, 0, 0), HugePages(GIB, 0, 0)))
        for number in (0, 1)
    ]
    root = with_hugetlb(tmp_path, 1 << 20)
    request = asked(drive={"pages": "hugetlb"}, size_bytes=2 * GIB)
    wanted = {"node0-hugepages-1048576kB": "2", "node1-hugepages-1048576kB": "2"}
    assert pools(plan(request, machine(*nodes), root=root)) == wanted
    with pytest.raises(UsageError, match="leaves less than a page of 1073741824 bytes"):
        plan(replace(request, size_bytes=512 * MIB), machine(*nodes), root=root)


def test_a_kernel_without_hugetlb_pages_is_told_before_a_trial(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1 kB\n")
    made = plan(asked(drive={"pages": "hugetlb"}), root=Root(tmp_path))
    assert made.drive is not None
    assert pools(made) == {}
    with pytest.raises(CannotRun, match="--pages hugetlb cannot run here: this kernel has no hugetlb pages"):
        driving.require(made.drive, Root(tmp_path))
