"""Guests shared by all tests: booting one takes about ten seconds of both CPUs of a small machine."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from numabench.lab import kernels
from numabench.lab.accel import probe
from numabench.lab.guest import Guest
from numabench.lab.requirements import requirements
from numabench.lab.shapes import Shape, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numabench.lab.kernels import Kernel


def _require_guests() -> None:
    """Skip, loudly, where no guest can run; in CI that is a failure."""
    reasons = requirements()
    if reasons and os.environ.get("CI"):
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
    """The one directory that `guest_2n` shares with the host for writing; it has the same path in the guest."""
    return tmp_path_factory.mktemp("guest")


@pytest.fixture(scope="session")
def _shared_guest(kernel_6_1: Kernel, guest_dir: Path) -> Iterator[Callable[[], Guest]]:
    running: list[Guest] = []

    def current() -> Guest:
        if running and not running[-1].alive:
            running.pop().close()
        if not running:
            accel = probe(kernel_6_1.image).accel
            running.append(Guest.boot(kernel_6_1, shape("2n"), accel, writable=(guest_dir,)))
        return running[-1]

    yield current
    for guest in running:
        guest.close()


@pytest.fixture
def guest_2n(_shared_guest: Callable[[], Guest]) -> Guest:
    """A guest with 2 nodes, 1 GiB and one CPU each, on 6.1: shared by all tests, booted again when lost."""
    return _shared_guest()


@pytest.fixture
def guest(lab_kernel: Callable[[str], Kernel]) -> Iterator[Callable[..., Guest]]:
    """A function that boots a guest of its own, `guest("debian:sid", "4n")`, which ends with the test."""
    with ExitStack() as stack:

        def boot(spec: str, of: str | Shape, *, writable: tuple[Path, ...] = ()) -> Guest:
            kernel = lab_kernel(spec)
            machine = of if isinstance(of, Shape) else shape(of)
            return stack.enter_context(Guest.boot(kernel, machine, probe(kernel.image).accel, writable=writable))

        yield boot
