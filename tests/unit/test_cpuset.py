"""What is said of machines that cannot have a cpuset; a real one is in tests/lab/test_cpuset_in_guest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench.errors import CannotRun
from numabench.host import cpuset
from numabench.host.root import Root

if TYPE_CHECKING:
    from pathlib import Path

STATUS = "Name:\tcat\nMems_allowed:\t3\nMems_allowed_list:\t0-1\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"
V1 = "cgroup /sys/fs/cgroup/cpu\\040set cgroup rw,nosuid,nodev,noexec,relatime,cpuset 0 0\n"


def machine(directory: Path, mounts: str, **files: str) -> Root:
    """A captured tree; the keys of `files` name files of /sys/fs/cgroup, with `_` for the dot."""
    root = Root(directory)
    texts = {f"/sys/fs/cgroup/{name.replace('_', '.', 1)}": text for name, text in files.items()}
    for name, text in {"/proc/self/status": STATUS, "/proc/self/mounts": mounts, **texts}.items():
        root.path(name).parent.mkdir(parents=True, exist_ok=True)
        root.path(name).write_text(text, encoding="ascii")
    return root


def test_a_machine_with_the_controller_lacks_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, V2, cgroup_controllers="cpuset cpu io\n", cgroup_subtree_control="\n", cgroup_procs="1\n")
    assert cpuset.requirements(root) == ()


def test_a_hierarchy_of_version_1_will_do_where_version_2_has_no_cpuset(tmp_path: Path) -> None:
    root = machine(tmp_path, V2 + V1, cgroup_controllers="cpu io\n", cgroup_subtree_control="\n")
    assert cpuset.requirements(root) == ()


def test_a_kernel_without_cpusets_is_named(tmp_path: Path) -> None:
    root = machine(tmp_path, V2, cgroup_controllers="cpu io\n")
    root.path("/proc/self/status").write_text("Name:\tcat\nThreads:\t1\n", encoding="ascii")
    assert cpuset.requirements(root) == ("this kernel has no cpusets (CONFIG_CPUSETS)",)


def test_without_a_cgroup_file_system_the_command_that_mounts_one_is_told(tmp_path: Path) -> None:
    assert cpuset.requirements(machine(tmp_path, "proc /proc proc rw 0 0\n")) == (
        "no cgroup file system with cpuset is mounted: as root, mount -t cgroup2 none /sys/fs/cgroup",
    )


def test_a_controller_that_is_elsewhere_is_told_with_what_is_here(tmp_path: Path) -> None:
    (reason,) = cpuset.requirements(machine(tmp_path, V2, cgroup_controllers="cpu io\n"))
    assert reason == (
        "/sys/fs/cgroup has no cpuset controller (it has cpu io): a cgroup v1 hierarchy has it, or it was not given "
        "to this container"
    )


@pytest.mark.parametrize(
    ("subtree_control", "procs", "lacking"),
    [
        ("cpu\n", "1\n22\n", ("cpuset cannot be enabled below /sys/fs/cgroup: that cgroup has processes of its own",)),
        ("cpu cpuset\n", "\n", ()),
        ("cpu\n", "", ()),
    ],
)
def test_a_container_whose_own_cgroup_has_processes_cannot_enable_it(
    subtree_control: str, procs: str, lacking: tuple[str, ...], tmp_path: Path
) -> None:
    root = machine(
        tmp_path,
        V2,
        cgroup_controllers="cpuset cpu\n",
        cgroup_type="domain\n",
        cgroup_subtree_control=subtree_control,
        cgroup_procs=procs,
    )
    assert cpuset.requirements(root) == lacking


def test_confining_gives_the_same_reasons(tmp_path: Path) -> None:
    root = machine(tmp_path, V2, cgroup_controllers="cpu io\n")
    with pytest.raises(CannotRun) as refused, cpuset.confined([0], [0], root):
        pass
    assert refused.value.reasons == cpuset.requirements(root)
    assert [path.name for path in root.path("/sys/fs/cgroup").iterdir()] == ["cgroup.controllers"]


def test_groups_whose_names_only_begin_like_ours_are_not_touched(tmp_path: Path) -> None:
    root = machine(tmp_path, V2, cgroup_controllers="cpuset\n", cgroup_subtree_control="\n")
    names = ("numabench-jobs", "numabench-cpuset-of-mine", "numabench-cpuset-", "numabench-cpuset-ab12cd34-disabled")
    for name in names:
        (tmp_path / "sys/fs/cgroup" / name).mkdir()
    cpuset.recover(root)
    assert all((tmp_path / "sys/fs/cgroup" / name).is_dir() for name in names)


def test_the_group_that_numabench_itself_runs_in_is_in_use(tmp_path: Path) -> None:
    root = machine(tmp_path, V2, cgroup_controllers="cpuset\n", cgroup_subtree_control="\n")
    own = tmp_path / "sys/fs/cgroup/numabench-cpuset-ab12cd34"
    (own / "below").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/numabench-cpuset-ab12cd34/below\n", encoding="utf-8")
    cpuset.recover(root)
    assert own.is_dir()
