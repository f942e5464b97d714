"""libnuma compared with what the kernel and Python's own calls say of this machine."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from numabench import process
from numabench.errors import NumabenchError
from numabench.host import libnuma, seccomp
from numabench.host.root import LIVE, Root
from numabench.idset import parse_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = mmap.PAGESIZE
Result = TypeVar("Result")


def status_line(name: str) -> str:
    lines = Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(name + ":"))


def in_a_thread(work: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.fixture
def memory() -> Iterator[int]:
    """Sixteen untouched pages; their address."""
    with mmap.mmap(-1, 16 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        view = ctypes.c_char.from_buffer(pages)
        yield ctypes.addressof(view)
        del view


def policy_in_numa_maps(address: int) -> str:
    for line in Path("/proc/self/numa_maps").read_text(encoding="utf-8").splitlines():
        start, policy, *_ = line.split()
        if int(start, 16) == address:
            return policy
    raise AssertionError(f"no mapping starts at {address:#x}")


def test_affinity_is_what_the_kernel_says() -> None:
    assert set(libnuma.get_affinity()) == os.sched_getaffinity(0)


def test_affinity_is_set_for_the_calling_thread_alone() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)

    def confine() -> str:
        libnuma.set_affinity([one])
        return status_line("Cpus_allowed_list")

    assert in_a_thread(confine) == str(one)
    assert os.sched_getaffinity(0) == before


def test_a_cpu_beyond_the_kernels_mask_is_refused_and_not_dropped() -> None:
    with pytest.raises(OSError, match="there is no CPU 60000") as caught:
        libnuma.set_affinity([0, 60000])
    assert caught.value.errno == errno.EINVAL


def test_no_cpus_at_all_is_the_kernels_einval() -> None:
    with pytest.raises(OSError, match=r"sched_setaffinity\(0, cpus=\)") as caught:
        libnuma.set_affinity([])
    assert caught.value.errno == errno.EINVAL


def test_running_on_a_node_means_its_cpus() -> None:
    node = libnuma.nodes_allowed()[0]
    cpus = parse_ids(Path(f"/sys/devices/system/node/node{node}/cpulist").read_text(encoding="utf-8"))

    def confine() -> set[int]:
        libnuma.run_on_nodes([node])
        return os.sched_getaffinity(0)

    assert in_a_thread(confine) == set(cpus) & os.sched_getaffinity(0)


def test_running_on_a_node_that_does_not_exist_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="there is no node 900"):
        libnuma.run_on_nodes([900])
    assert capfd.readouterr().err == ""


def test_allowed_nodes_are_those_of_proc_status() -> None:
    assert libnuma.nodes_allowed() == parse_ids(status_line("Mems_allowed_list"))


def test_a_policy_that_was_set_is_read_back_and_stays_in_its_thread() -> None:
    nodes = libnuma.nodes_allowed()

    def bind() -> libnuma.MemoryPolicy:
        libnuma.set_mempolicy("bind", nodes, ["static-nodes"])
        return libnuma.get_mempolicy()

    assert in_a_thread(bind) == libnuma.MemoryPolicy("bind", nodes, ("static-nodes",))
    assert libnuma.get_mempolicy() == libnuma.MemoryPolicy("default")


def test_a_policy_that_does_not_exist_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="there is no memory policy 'bnid'"):
        libnuma.set_mempolicy("bnid", [0])


def test_a_mappings_policy_is_the_one_in_numa_maps(memory: int) -> None:
    nodes = libnuma.nodes_allowed()
    libnuma.mbind(memory, PAGE, "interleave", nodes)
    assert policy_in_numa_maps(memory).startswith("interleave:")
    assert libnuma.policy_at(memory) == libnuma.MemoryPolicy("interleave", nodes)


def test_the_node_of_a_touched_page_agrees_with_move_pages(memory: int) -> None:
    ctypes.memset(memory, 1, PAGE)
    assert libnuma.move_pages(0, [memory]) == libnuma.MovePages(0, (libnuma.node_at(memory),))


def test_asking_for_the_node_of_an_untouched_page_faults_it_in(memory: int) -> None:
    (before,) = libnuma.move_pages(0, [memory + PAGE]).status
    assert libnuma.node_at(memory + PAGE) in libnuma.nodes_allowed()
    (after,) = libnuma.move_pages(0, [memory + PAGE]).status
    assert libnuma.status_name(before) in {"ENOENT", "EFAULT"}
    # A read faults in the zero page, which belongs to nobody.
    assert libnuma.status_name(after) == "EFAULT"


def test_an_unmapped_address_has_no_policy() -> None:
    with pytest.raises(OSError, match=r"get_mempolicy\(address=0x1000") as caught:
        libnuma.policy_at(0x1000)
    assert caught.value.errno == errno.EFAULT


def test_a_target_that_is_not_online_fails_the_call_and_leaves_the_status_untouched(memory: int) -> None:
    ctypes.memset(memory, 1, PAGE)
    with pytest.raises(libnuma.CallFailed, match=r"move_pages\(0, 1 pages, nodes=900, flags=2\)") as caught:
        libnuma.move_pages(0, [memory], [900])
    assert caught.value.errno == errno.ENODEV
    assert "there is no node 900" in str(caught.value)
    assert caught.value.status == (libnuma.UNTOUCHED,)


def test_binding_to_a_node_that_does_not_exist_says_so(memory: int) -> None:
    with pytest.raises(OSError, match="there is no node 900") as caught:
        libnuma.mbind(memory, PAGE, "bind", [900])
    assert caught.value.errno == errno.EINVAL


def test_a_process_that_does_not_exist_is_a_process_lookup_error() -> None:
    with pytest.raises(ProcessLookupError, match=r"move_pages\(4194304"):
        libnuma.move_pages(4194304, [0x1000])


def test_migrating_from_a_node_to_itself_leaves_nothing_behind() -> None:
    node = libnuma.nodes_allowed()[0]
    assert libnuma.migrate_pages(0, [node], [node]) == 0


def test_a_home_node_needs_a_policy(memory: int) -> None:
    if libnuma.probe().home_node:
        pytest.skip(str(libnuma.probe().home_node))
    with pytest.raises(OSError, match="set_mempolicy_home_node") as caught:
        libnuma.set_mempolicy_home_node(memory, PAGE, 0)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (0, "node 0"),
        (1023, "node 1023"),
        (-errno.EBUSY, "EBUSY"),
        (libnuma.UNTOUCHED, "untouched"),
        (-4000, "errno 4000"),
    ],
)
def test_a_status_has_a_name(status: int, name: str) -> None:
    assert libnuma.status_name(status) == name


def test_probing_leaves_policy_affinity_and_mappings_as_they_were() -> None:
    def snapshot() -> tuple[object, ...]:
        return libnuma.get_mempolicy(), libnuma.get_affinity(), threading.active_count()

    before = snapshot()
    features = libnuma.probe()
    assert snapshot() == before
    assert features.move_pages is None or "move_pages" in features.move_pages


def test_every_failure_is_an_os_error_and_a_message_for_the_user() -> None:
    with pytest.raises(OSError, match="mbind") as caught:
        libnuma.mbind(1, PAGE, "bind", [0])
    assert isinstance(caught.value, NumabenchError)
    assert "address=0x1, bytes=4096, bind, nodes=0, flags=0" in str(caught.value)
    assert os.strerror(errno.EINVAL) in str(caught.value)


def test_an_extension_that_is_not_built_is_told_with_how_to_build_it() -> None:
    program = (
        "import sys; sys.modules['numabench._libnuma'] = None\n"
        "from numabench.errors import NumabenchError\n"
        "try: import numabench.host.libnuma\n"
        "except NumabenchError as error: print(error)\n"
    )
    told = process.run([sys.executable, "-c", program]).check("the import").stdout
    assert "numabench._libnuma is not built" in told
    assert "pip install ." in told


LIMITS = seccomp.Limits(seccomp_mode=0, capabilities=0, allowed_nodes=(0,))
FILTERED = seccomp.Limits(seccomp_mode=2, capabilities=0, allowed_nodes=(0,))


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (seccomp.Refusal("move_pages", errno.EPERM, errno.EPERM, FILTERED), "a seccomp filter forbids move_pages"),
        (seccomp.Refusal("move_pages", errno.ENOSYS, errno.ENOSYS, FILTERED), "a seccomp filter forbids move_pages"),
        (seccomp.Refusal("mbind", errno.ENOSYS, errno.ENOSYS, LIMITS), "this kernel has no mbind"),
        (seccomp.Refusal("mbind", errno.EPERM, errno.EPERM, LIMITS), "though no seccomp filter is set"),
        (
            seccomp.Refusal("move_pages", errno.EACCES, 0, LIMITS, online_nodes=(0, 1), nodes=(1,)),
            "node 1 is outside the cpuset of this process (Mems_allowed_list 0)",
        ),
        (
            seccomp.Refusal("move_pages", errno.EPERM, 0, LIMITS, wants_all_pages=True),
            "pages that other processes map need CAP_SYS_NICE",
        ),
        (seccomp.Refusal("move_pages", errno.EPERM, 0, LIMITS, pid=7), "the right to ptrace(2) process 7"),
        # A filter elsewhere does not explain a failure that the harmless call does not share.
        (seccomp.Refusal("move_pages", errno.EPERM, 0, FILTERED, pid=7), "the right to ptrace(2) process 7"),
    ],
)
def test_a_refusal_says_which_of_its_reasons_it_was(refusal: seccomp.Refusal, why: str) -> None:
    assert why in refusal.explain()[0]


def test_a_refusal_that_nothing_explains_is_not_explained() -> None:
    assert seccomp.Refusal("mbind", errno.EFAULT, 0, FILTERED, nodes=(5,)).explain() == ("", "")


def test_limits_are_read_from_proc_status() -> None:
    limits = seccomp.read_limits()
    assert limits is not None
    assert limits.allowed_nodes == libnuma.nodes_allowed()
    assert limits.capabilities == int(status_line("CapEff"), 16)
    assert limits.seccomp_mode == int(status_line("Seccomp"))


def test_limits_of_a_process_that_is_gone_are_none(tmp_path: Path) -> None:
    assert seccomp.read_limits(Root(tmp_path), 7) is None


def test_libnumas_version_is_the_installed_ones() -> None:
    described = LIVE.read_or_none("/usr/lib/x86_64-linux-gnu/pkgconfig/numa.pc")
    if described is None:
        pytest.skip("numa.pc is not where Debian has it")
    assert f"Version: {libnuma.version()}" in described


def test_keeping_from_balancing_binds_the_thread_and_gives_back_its_policy() -> None:
    libnuma.set_mempolicy("preferred", (0,))
    try:
        with libnuma.kept_from_balancing():
            assert libnuma.get_mempolicy() == libnuma.MemoryPolicy("bind", libnuma.nodes_allowed())
        assert libnuma.get_mempolicy() == libnuma.MemoryPolicy("preferred", (0,))
    finally:
        libnuma.set_mempolicy("default")
