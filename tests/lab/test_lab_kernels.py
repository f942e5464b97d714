"""Kernels and machines that a guest can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench import process
from numabench.errors import UsageError
from numabench.idset import parse_ids
from numabench.lab import bzimage, kernel_source, kernels
from numabench.lab.accel import Accel, probe
from numabench.lab.guest import Guest
from numabench.lab.shapes import shape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.lab.kernels import Kernel

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("spec", "series"),
    [("debian:bullseye", "5.10."), ("debian:bookworm-backports", "6.12."), ("debian:sid", "7.")],
)
def test_kernels_of_other_suites_boot(
    lab_kernel: Callable[[str], Kernel], shared_guest: Callable[[str, str], Guest], spec: str, series: str
) -> None:
    kernel = lab_kernel(spec)
    booted = shared_guest(spec, "2n")
    assert booted.run(["uname", "-r"]).stdout == f"{kernel.release}\n"
    assert kernel.release.startswith(series)
    assert booted.run(["cat", "/sys/devices/system/node/has_memory"]).stdout == "0-1\n"
    assert booted.run(["sh", "-c", "exit 9"]).exit_status == 9


@pytest.mark.parametrize("name", ["1n", "4n", "8n", "cpuless", "memless"])
def test_a_guest_has_the_shape_it_was_asked_for(
    guest: Callable[..., Guest], shared_guest: Callable[[str, str], Guest], name: str
) -> None:
    wanted = shape(name)
    nodes = "/sys/devices/system/node"
    booted = shared_guest("debian:bookworm", name) if name == "4n" else guest("debian:bookworm", wanted)
    words = f"cd {nodes}; cat online has_memory has_cpu; for n in node[0-9]*; do cat $n/cpulist $n/distance; done"
    lines = booted.run(["sh", "-c", words]).stdout.splitlines()
    count = len(wanted.nodes)
    assert parse_ids(lines[0]) == tuple(range(count))
    assert parse_ids(lines[1]) == tuple(n for n in range(count) if wanted.nodes[n].memory_bytes)
    assert parse_ids(lines[2]) == tuple(n for n in range(count) if wanted.nodes[n].cpus)
    assert [parse_ids(line) for line in lines[3::2]] == [node.cpus for node in wanted.nodes]
    assert [tuple(map(int, line.split())) for line in lines[4::2]] == list(wanted.distances)


def test_the_release_in_an_image_is_what_file_says(kernel_6_1: Kernel) -> None:
    if not process.find_program("file"):
        pytest.skip("file is not installed")
    said = process.run(["file", "-L", str(kernel_6_1.image)]).check("file").stdout
    assert f"version {bzimage.release(kernel_6_1.image)} " in said


def test_a_kernel_that_is_cached_is_not_unpacked_again(kernel_6_1: Kernel) -> None:
    before = kernel_6_1.image.stat()
    assert kernels.add(["debian:bookworm"]) == kernel_6_1
    assert kernel_6_1.image.stat() == before


def test_a_suite_that_does_not_exist_is_named(kernel_6_1: Kernel) -> None:
    with pytest.raises(UsageError, match="has no suite 'nosuchsuite'"):
        kernels.add(["debian:nosuchsuite"])


def test_the_probe_remembers_its_answer_and_does_not_boot_again(
    kernel_6_1: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    qemu = process.find_program("qemu-system-x86_64")
    wrapper = tmp_path / "bin" / "qemu-system-x86_64"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$@" >>{started}\nexec {qemu} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = probe(kernel_6_1.image), probe(kernel_6_1.image)
    assert (second.accel, second.reason) == (first.accel, first.reason)
    boots = started.read_text().count("-kernel") if started.exists() else 0
    if first.reason.startswith("/dev/kvm"):
        assert boots == 0
        assert first.accel is Accel.TCG
    else:
        assert boots == 1
        assert (first.remembered, second.remembered) == (False, True)


@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_debians_source_of_a_series_is_the_one_that_apt_offers(kernel_6_1: Kernel, series: str) -> None:
    source = kernel_source.find(f"debian:{series}", lambda _text: None)
    assert isinstance(source, kernel_source.DebianSource)
    argv = ["apt-cache", "-c", str(source.configuration), "policy", f"linux-source-{series}"]
    assert f"Candidate: {source.version}\n" in process.run(argv).check("apt-cache policy").stdout
    assert source.version.startswith(f"{series}.")
    assert len(bytes.fromhex(source.sha256)) == 32


def test_words_behind_a_kernels_name_reach_its_command_line(kernel_6_1: Kernel) -> None:
    wish = f"{kernel_6_1.name} numa_balancing=disable transparent_hugepage=never"
    with Guest.boot(kernels.find(wish), shape("2n"), probe(kernel_6_1.image).accel) as booted:
        words = booted.run(["cat", "/proc/cmdline"]).stdout.split()
        assert {"numa_balancing=disable", "transparent_hugepage=never", "numabench.lab=1"} <= set(words)
        assert booted.run(["cat", "/proc/sys/kernel/numa_balancing"]).stdout == "0\n"
        assert "[never]" in booted.run(["cat", "/sys/kernel/mm/transparent_hugepage/enabled"]).stdout
