"""Guests shared by the tests of a process, and which tests CI may skip. Booting a guest takes ten seconds of CPU."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from numabench.lab import kernels
from numabench.lab.accel import probe
from numabench.lab.guest import Guest
from numabench.lab.requirements import requirements
from numabench.lab.shapes import Shape, shape
from numabench.state_dir import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from scheduling import Scheduling
    from xdist.remote import Producer

    from numabench.lab.kernels import Kernel

# The machine's own journals are not the tests': what a real run has left stays known.
os.environ.setdefault(VARIABLE, tempfile.mkdtemp(prefix="numabench-tests-state-"))
IN_CI = bool(os.environ.get("CI"))
# What CI may skip: a file, how the reason begins, and why no installed package would help.
ALLOWED_SKIPS = (
    # CI is root, whom no permission stops; what another user sees is tested where one runs the tests.
    ("unit/test_store.py", "root may write everywhere"),
    # Kernels of hosted machines are often built without; guests have it, and the same is tested there.
    ("unit/test_knobs.py", "this kernel has no /proc/sys/kernel/numa_balancing"),
    ("functional/test_run_here.py", "this kernel has no automatic balancing"),
    # Containers may neither mount, nor have a machine-id, nor systemd to be asked.
    ("unit/test_store.py", "a tmpfs cannot be mounted here"),
    ("functional/test_nightly_here.py", "a tmpfs cannot be mounted here"),
    ("unit/test_identity.py", "there is no /etc/machine-id"),
    ("unit/test_identity.py", "systemd-detect-virt is not installed"),
    # A property of the Python that runs, as it was linked.
    ("unit/test_identity.py", "this Python has no build id"),
    # A system call since Linux 5.17; the guests' kernels stand on both sides.
    ("unit/test_libnuma.py", "set_mempolicy_home_node"),
    # Only emulated processors are told to leave instructions out.
    ("lab/test_lab_guest.py", "KVM passes the host's processor on"),
)


def _fail_unlisted_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI a skip that is not listed above is a failure: there, nothing may go untested unnoticed."""
    if not IN_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    path = report.nodeid.partition("::")[0]
    if any(path.endswith(f"tests/{file}") and reason.startswith(start) for file, start in ALLOWED_SKIPS):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped in CI, and not on the list in tests/conftest.py: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_unlisted_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_unlisted_skip(report)
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        import scheduling

        scheduling.order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    import scheduling

    # Not by the number of tests: a few in guests take longer than a thousand others.
    config.option.loadscopereorder = False
    return scheduling.Scheduling(config, log)


def _require_guests() -> None:
    """Skip, loudly, where no guest can run; in CI that is a failure."""
    reasons = requirements()
    if reasons and IN_CI:
        pytest.fail("CI must be able to run guests: " + "; ".join(reasons))
    if reasons:
        pytest.skip("; ".join(reasons))


def _kernel(spec: str) -> Kernel:
    """The kernel of that specification from the user's own cache; it is added where it is absent."""
    for known in kernels.cached():
        if known.source == spec:
            return known
    return kernels.add([spec])


@pytest.fixture(scope="session")
def lab_kernel() -> Callable[[str], Kernel]:
    """A function that gives the kernel of a specification such as `debian:sid`."""
    _require_guests()
    return _kernel


@pytest.fixture(scope="session")
def kernel_6_1(lab_kernel: Callable[[str], Kernel]) -> Kernel:
    """Debian bookworm's kernel."""
    return lab_kernel("debian:bookworm")


@pytest.fixture(scope="session")
def guest_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one directory that shared guests share with the host for writing; it has the same path in them."""
    return tmp_path_factory.mktemp("guest")


@pytest.fixture(scope="session")
def shared_guest(lab_kernel: Callable[[str], Kernel], guest_dir: Path) -> Iterator[Callable[[str, str], Guest]]:
    """A function that gives the guest of a kernel and topology which all tests share, booted again when lost."""
    running: dict[tuple[str, str], Guest] = {}

    def current(spec: str, of: str) -> Guest:
        known = running.get((spec, of))
        if known is not None and known.alive:
            return known
        if known is not None:
            known.close()
        kernel = lab_kernel(spec)
        booted = Guest.boot(kernel, shape(of), probe(kernel.image).accel, writable=(guest_dir,))
        running[spec, of] = booted
        return booted

    yield current
    for guest in running.values():
        guest.close()


@pytest.fixture
def guest_2n(shared_guest: Callable[[str, str], Guest]) -> Guest:
    """A guest with 2 nodes, 1 GiB and one CPU each, on 6.1."""
    return shared_guest("debian:bookworm", "2n")


@pytest.fixture
def guest(lab_kernel: Callable[[str], Kernel]) -> Iterator[Callable[..., Guest]]:
    """A function that boots a guest of its own, `guest("debian:sid", "4n")`, which ends with the test."""
    with ExitStack() as stack:

        def boot(spec: str, of: str | Shape, *, writable: tuple[Path, ...] = ()) -> Guest:
            kernel = lab_kernel(spec)
            machine = of if isinstance(of, Shape) else shape(of)
            return stack.enter_context(Guest.boot(kernel, machine, probe(kernel.image).accel, writable=writable))

        yield boot
