"""Which keys differ between two sides, and which of these forbid to compare them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import driven_run
import pytest
import synthetic_run

from numabench import store
from numabench.comparison.comparable import Difference, differences
from numabench.comparison.identity_keys import kernel_options
from numabench.comparison.side import Side

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run

GIB = 1 << 30
TOPOLOGY = {
    "nodes": [{"id": 0, "cpus": "0", "size_bytes": 2 * GIB}, {"id": 1, "cpus": "1", "size_bytes": 2 * GIB}],
    "distances": [[10, 20], [20, 10]],
}
GUEST_LINE = (
    "virtme_hostname=numabench-guest nr_open=1048576 virtme_rw_overlay0=/etc virtme_console=ttyS0 console=ttyS0 "
    "earlyprintk=serial,ttyS0,115200 panic=-1 virtme.exec=`bWtkaXIgLXA=` virtme_root_user=1 loglevel=7 "
    "numabench.lab=1 numabench.accel=tcg init=/usr/lib/virtme-ng-init"
)


class Runs:
    """Makes runs that differ in what is said."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0

    def numa02(
        self, *, plan: dict[str, Any] | None = None, kernel: dict[str, Any] | None = None, **identity: Any
    ) -> Run:
        record = synthetic_run.run_record(topology=TOPOLOGY, **identity)
        record["identity"]["kernel"] |= kernel or {}
        return self._load(record, plan or {})

    def pingpong(self, **plan: Any) -> Run:
        return self._load(driven_run.run_record(), plan)

    def _load(self, record: dict[str, Any], plan: dict[str, Any]) -> Run:
        self._made += 1
        record = copy.deepcopy(record)
        record["plan"] |= plan
        path = self._directory / str(self._made)
        return store.load(synthetic_run.write(path, record, [], end=None))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def between(a: Run, b: Run) -> tuple[Difference, ...]:
    return differences(Side("A", (a,)), Side("B", (b,)))


def forbidden(a: Run, b: Run) -> list[str]:
    return [difference.key for difference in between(a, b) if difference.forbids]


def test_equal_runs_do_not_differ(runs: Runs) -> None:
    assert between(runs.numa02(), runs.numa02()) == ()


def test_two_kernels_are_what_is_compared(runs: Runs) -> None:
    new = runs.numa02(kernel={"release": "6.12.0", "version": "#2 SMP", "build_id": "ab", "cmdline": "mitigations=off"})
    assert between(runs.numa02(), new) == (
        Difference("kernel", "6.1.0", "6.12.0"),
        Difference("kernel version", "#1 SMP", "#2 SMP"),
        Difference("kernel build id", "not known", "ab"),
        Difference("kernel command line", "none", "mitigations=off"),
    )


def test_a_knob_is_told_and_one_that_a_kernel_lacks_is_absent(runs: Runs) -> None:
    one = runs.numa02(knobs={"kernel.numa_balancing": "1"})
    other = runs.numa02(knobs={"kernel.numa_balancing": "2", "thp.hugepages-64kB": "never"})
    assert between(one, other) == (
        Difference("knob kernel.numa_balancing", "1", "2"),
        Difference("knob thp.hugepages-64kB", "absent", "never"),
    )


def test_plumbing_of_a_guest_is_no_difference(runs: Runs) -> None:
    moved = GUEST_LINE.replace("/usr/lib/", "/opt/lib/").replace("virtme_rw_overlay0=/etc ", "")
    one, other = (runs.numa02(kernel={"cmdline": line}) for line in (GUEST_LINE, moved))
    assert between(one, other) == ()


@pytest.mark.parametrize(
    ("cmdline", "kept"),
    [
        (GUEST_LINE, ""),
        (GUEST_LINE + " numa_balancing=disable", "numa_balancing=disable"),
        ("BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro quiet mitigations=off isolcpus=1", "isolcpus=1 mitigations=off"),
        ("b=2 a=1 -- --addr 0.0.0.0:1", "a=1 b=2"),
        ('dyndbg="file mm/migrate.c +p" quiet', 'dyndbg="file mm/migrate.c +p"'),
        (
            "transparent_hugepage=never rd.luks=1 systemd.unit=x initcall_debug",
            "initcall_debug transparent_hugepage=never",
        ),
        ("rootless=1 rodata=off consoleblank=0", "consoleblank=0 rodata=off rootless=1"),
    ],
)
def test_options_that_change_how_a_kernel_behaves_are_kept(cmdline: str, kept: str) -> None:
    assert kernel_options(cmdline) == kept


def test_a_guest_is_not_compared_with_hardware(runs: Runs) -> None:
    guest = runs.numa02(where="guest", accelerator="tcg", virtualization="qemu")
    assert forbidden(runs.numa02(), guest) == ["where", "accelerator", "virtualization"]
    first = between(runs.numa02(), guest)[0]
    assert first == Difference("where", "metal", "guest", "what a guest shows is not what hardware shows")


def test_guests_of_two_accelerators_are_not_compared(runs: Runs) -> None:
    kvm, tcg = (runs.numa02(where="guest", accelerator=name, virtualization="qemu") for name in ("kvm", "tcg"))
    assert forbidden(kvm, tcg) == ["accelerator"]


def test_a_rented_machine_is_not_compared_with_hardware(runs: Runs) -> None:
    assert forbidden(runs.numa02(), runs.numa02(virtualization="amazon")) == ["virtualization"]
    assert forbidden(runs.numa02(virtualization="kvm"), runs.numa02(virtualization="amazon")) == []


@pytest.mark.parametrize(
    ("one", "other", "forbids"),
    [
        (("always", "default"), ("madvise", "default"), True),
        (("always", "default"), ("never", "default"), True),
        (("madvise", "default"), ("never", "default"), False),
        (("madvise", "always"), ("always", "always"), False),
        (("always", "never"), ("never", "never"), False),
        (("madvise", "always"), ("never", "always"), True),
    ],
)
def test_huge_pages_are_not_compared_with_small_ones(
    runs: Runs, one: tuple[str, str], other: tuple[str, str], forbids: bool
) -> None:
    found = between(*(runs.numa02(thp_enabled=enabled, plan={"thp": asked}) for enabled, asked in (one, other)))
    assert ("pages of the workload" in {each.key for each in found if each.forbids}) is forbids
    assert ("transparent huge pages" in {each.key for each in found}) is (one[0] != other[0])


def test_what_was_in_force_counts_not_what_was_found(runs: Runs) -> None:
    told = runs.numa02(thp_enabled="always", knobs={"thp.enabled": "never"})
    assert forbidden(told, runs.numa02(thp_enabled="never", knobs={"thp.enabled": "never"})) == []


def test_movers_say_what_pages_they_moved(runs: Runs) -> None:
    plan = driven_run.run_record()["plan"]["mover"]
    found = between(runs.pingpong(), runs.pingpong(mover=plan | {"pages": "thp", "batch": 1}))
    assert [(each.key, each.a, each.b, bool(each.forbids)) for each in found] == [
        ("pages of the workload", "4k", "thp", True),
        ("mover batch", "512", "1", True),
        ("mover pages", "4k", "thp", True),
    ]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"size_bytes": GIB}, ("size", "64 MiB", "1 GiB")),
        ({"threads": 4}, ("threads", "2", "4")),
        ({"loops": 3}, ("loops", "0", "3")),
        ({"duration_s": None}, ("duration", "10 s", "none")),
        ({"start_node": 1}, ("start node", "0", "1")),
        ({"workload": "numa01"}, ("workload", "numa02", "numa01")),
        ({"driver": "null"}, ("driver", "autonuma", "null")),
        ({"verify": True}, ("verify", "False", "True")),
        ({"nodes": [0]}, ("number of nodes", "2", "1")),
    ],
)
def test_other_work_is_not_compared(runs: Runs, plan: dict[str, Any], expected: tuple[str, str, str]) -> None:
    (found,) = between(runs.numa02(plan={"verify": False}), runs.numa02(plan={"verify": False} | plan))
    assert (found.key, found.a, found.b) == expected
    assert found.forbids


def test_two_programs_of_the_users_are_two_workloads(runs: Runs) -> None:
    one, other = (runs.numa02(plan={"workload": "foreign", "command": ["./prog", word]}) for word in "12")
    (found,) = between(one, other)
    assert (found.key, found.a, found.b, bool(found.forbids)) == ("command", "./prog 1", "./prog 2", True)
    # What pages it asks for is not known: what was in force decides.
    told = runs.numa02(plan={"workload": "foreign", "command": ["./prog", "1"]}, thp_enabled="never")
    assert forbidden(one, told) == ["pages of the workload"]


def test_seeds_and_repeats_make_no_other_work(runs: Runs) -> None:
    assert between(runs.numa02(), runs.numa02(plan={"seed": 99, "repeats": 7, "warmup": 2, "timeout_s": 1.0})) == ()


def test_how_often_it_was_looked_at_is_told(runs: Runs) -> None:
    assert between(runs.numa02(), runs.numa02(plan={"interval_s": 0.25})) == (
        Difference("sampling interval", "1 s", "250 ms"),
    )


def test_what_an_older_version_did_not_write_forbids_nothing(runs: Runs) -> None:
    assert between(runs.numa02(), runs.numa02(plan={"mapping": "one", "verify": False})) == (
        Difference("mapping", "not known", "one"),
        Difference("verify", "not known", "False"),
    )


def test_an_identity_that_is_not_what_it_should_be_is_told_as_it_is(runs: Runs) -> None:
    odd = runs.numa02(swap_total_bytes="much", machine_id_hash=7, python=None)
    odd.identity["topology"] = {"nodes": [3, {"id": None, "cpus": [], "size_bytes": "many"}], "distances": None}
    assert {each.key for each in between(runs.numa02(), odd)} == {"machine", "nodes", "node memory", "distances"}


def test_placements_in_common_are_enough(runs: Runs) -> None:
    one = runs.numa02(plan={"placements": ["default", "hard"]})
    assert forbidden(one, runs.numa02()) == []
    assert forbidden(one, runs.numa02(plan={"placements": ["inverse"]})) == ["placements"]


def test_memory_that_a_kernel_keeps_for_itself_is_no_other_machine(runs: Runs) -> None:
    def sized(*sizes: int) -> dict[str, Any]:
        nodes = [node | {"size_bytes": size} for node, size in zip(TOPOLOGY["nodes"], sizes, strict=True)]
        return {"nodes": nodes, "distances": TOPOLOGY["distances"]}

    def run(*sizes: int) -> Run:
        record = synthetic_run.run_record(topology=sized(*sizes))
        return runs._load(record, {})

    assert between(run(2 * GIB, 2 * GIB), run(2 * GIB - (50 << 20), 2 * GIB)) == ()
    assert between(run(2 * GIB, 2 * GIB), run(GIB, 2 * GIB)) == (
        Difference("node memory", "2 GiB, 2 GiB", "1 GiB, 2 GiB"),
    )


def test_a_side_of_two_kernels_is_no_side(runs: Runs) -> None:
    old, new = runs.numa02(), runs.numa02(kernel={"release": "6.12.0"})
    (found,) = differences(Side("old", (old, new)), Side("new", (new, new)))
    assert (found.key, found.a, found.b) == ("kernel", "6.1.0 / 6.12.0", "6.12.0")
    assert found.forbids == "old is of runs that differ in it: a side is runs of one kernel and one setting"


def test_both_sides_mixed_alike_are_told(runs: Runs) -> None:
    old, new = runs.numa02(), runs.numa02(kernel={"release": "6.12.0"})
    (found,) = differences(Side("A", (old, new)), Side("B", (new, old)))
    assert found.forbids.startswith("A and B are each of runs that differ")


def test_versions_of_tools_may_be_mixed(runs: Runs) -> None:
    one, other = runs.numa02(python="3.11.7"), runs.numa02(python="3.12.1")
    assert differences(Side("A", (one, other)), Side("B", (one,))) == (
        Difference("python", "3.11.7 / 3.12.1", "3.11.7"),
    )


def test_the_first_are_those_that_forbid(runs: Runs) -> None:
    found = between(runs.numa02(), runs.numa02(kernel={"release": "7.0"}, hostname="b", plan={"threads": 9}))
    assert [(each.key, bool(each.forbids)) for each in found] == [("threads", True), ("kernel", False), ("host", False)]
