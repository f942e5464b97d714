"""Which drivers there are, and why each cannot be used on a machine that lacks something."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from numabench.drivers import catalog
from numabench.drivers.driver import Circumstances
from numabench.errors import UsageError
from numabench.host import libnuma
from numabench.host.root import Root

if TYPE_CHECKING:
    from pathlib import Path

ALL_WORKS = libnuma.Features(*[None] * 9)
CAP_SYS_NICE = 1 << 23


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A machine that has whatever a driver may ask for, and a caller who may do everything."""
    for name, text in {
        "proc/self/status": f"CapEff:\t{CAP_SYS_NICE:016x}\nSeccomp:\t0\nMems_allowed:\t3\nMems_allowed_list:\t0-1\n",
        "proc/self/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
        "proc/self/cgroup": "0::/\n",
        "proc/sys/kernel/numa_balancing": "1\n",
        "sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n",
        "sys/fs/cgroup/cgroup.subtree_control": "cpuset\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Root(tmp_path)


def test_a_machine_that_has_everything_lacks_nothing(root: Root) -> None:
    for driver in catalog.DRIVERS:
        assert driver.requirements(Circumstances(ALL_WORKS, driver.flags, root)) == (), driver.name


@pytest.mark.parametrize(
    ("name", "feature", "told"),
    [
        ("move_pages", "move_pages", "it is refused"),
        ("mbind", "mbind", "it is refused"),
        ("migrate_pages", "migrate_pages", "it is refused"),
        ("weighted-interleave", "weighted_interleave", "6.9: it is refused"),
        ("weighted-interleave", "mbind", "it is refused"),
        ("home-node", "home_node", "5.17: it is refused"),
    ],
)
def test_what_the_kernel_refused_when_it_was_tried_is_the_reason(
    root: Root, name: str, feature: str, told: str
) -> None:
    refused = replace(ALL_WORKS, **{feature: "it is refused"})
    (reason,) = catalog.find(name).requirements(Circumstances(refused, root=root))
    assert reason.endswith(told)
    assert catalog.find("null").requirements(Circumstances(refused, root=root)) == ()


def test_move_all_needs_the_capability_and_move_does_not(root: Root, tmp_path: Path) -> None:
    (tmp_path / "proc/self/status").write_text("CapEff:\t0000000000000000\nSeccomp:\t0\n")
    for name in ("move_pages", "mbind"):
        (reason,) = catalog.find(name).requirements(Circumstances(ALL_WORKS, ("move_all",), root))
        assert "CAP_SYS_NICE" in reason
        assert catalog.find(name).requirements(Circumstances(ALL_WORKS, ("move",), root)) == ()


def test_balancing_needs_a_kernel_that_balances(root: Root, tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel/numa_balancing").unlink()
    (reason,) = catalog.find("autonuma").requirements(Circumstances(ALL_WORKS, root=root))
    assert "CONFIG_NUMA_BALANCING" in reason


def test_the_cpuset_driver_needs_a_cgroup_file_system_with_cpusets(root: Root, tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
    (reason,) = catalog.find("cpuset").requirements(Circumstances(ALL_WORKS, root=root))
    assert "no cpuset controller" in reason


@pytest.mark.parametrize(
    ("typed", "meant"), [("move-pages", "move_pages"), ("migratepages", "migrate_pages"), ("home_node", "home-node")]
)
def test_a_mistyped_driver_gets_the_one_that_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"no driver '{typed}'.*did you mean {meant}[?]"):
        catalog.find(typed)


def test_only_balancing_wants_balancing() -> None:
    assert {driver.name for driver in catalog.DRIVERS if dict(driver.knobs)["numa_balancing"] != "0"} == {"autonuma"}
