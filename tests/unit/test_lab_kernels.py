from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest

from numabench import process
from numabench.errors import UsageError
from numabench.lab import apt, bzimage, kernels
from numabench.lab.console import last_words

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "numabench" / "kernels"


def header(release: str) -> bytes:
    """A kernel image's header as boot.rst lays it out, and nothing behind it."""
    image = bytearray(2048)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x400).to_bytes(2, "little")
    text = f"{release} (someone@somewhere) #1 SMP\0".encode()
    image[0x600 : 0x600 + len(text)] = text
    return bytes(image)


def write_image(path: Path, release: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header(release))
    return path


def write_modules(root: Path, release: str, *names: str) -> None:
    for name in names:
        module = root / "lib" / "modules" / release / "kernel" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.touch()


def package(root: Path, name: str) -> Path:
    """A Debian package of the files below `root`."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed (package dpkg)")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@y.z>\nDescription: x\n"
    )
    file = root.parent / f"{name}.deb"
    process.run(["dpkg-deb", "-b", str(root), str(file)]).check("dpkg-deb")
    return file


def test_an_image_names_its_release(tmp_path: Path) -> None:
    assert bzimage.release(write_image(tmp_path / "bzImage", "6.12.0-rc3+")) == "6.12.0-rc3+"


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(2000), b"!<arch>\n" + bytes(2000)])
def test_what_is_no_kernel_image_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path, content: bytes) -> None:
    (tmp_path / "vmlinux").write_bytes(content)
    with pytest.raises(UsageError, match="is not an x86 kernel image"):
        kernels.add([str(tmp_path / "vmlinux")])
    assert not cache.exists()


@pytest.mark.parametrize("release", ["../../etc", "", ".hidden"])
def test_a_release_that_would_lead_elsewhere_is_refused(tmp_path: Path, release: str) -> None:
    with pytest.raises(UsageError, match="names no kernel version"):
        kernels.add([str(write_image(tmp_path / "bzImage", release))])


def test_an_image_is_cached_under_its_release_and_found_by_its_beginning(tmp_path: Path) -> None:
    added = kernels.add([str(write_image(tmp_path / "bzImage", "6.9.1"))])
    assert (added.name, added.release, added.modules) == ("6.9.1", "6.9.1", None)
    assert added.image.read_bytes() == header("6.9.1")
    kernels.add([str(write_image(tmp_path / "bzImage", "6.12.0"))])
    assert [kernel.name for kernel in kernels.cached()] == ["6.12.0", "6.9.1"]
    assert kernels.find("6.9") == added
    assert kernels.find("6").name == "6.12.0"
    assert kernels.find(str(tmp_path / "bzImage")).release == "6.12.0"


def test_6_1_is_not_the_beginning_of_6_12(tmp_path: Path) -> None:
    for release in ("6.1.0-56-amd64", "6.12.95+deb12-amd64"):
        kernels.add([str(write_image(tmp_path / "bzImage", release))])
    assert kernels.find("6.1").release == "6.1.0-56-amd64"
    assert kernels.find("6.12").release == "6.12.95+deb12-amd64"
    assert kernels.find("6.1.0-5").release == "6.1.0-56-amd64"
    assert kernels.find("6").release == "6.12.95+deb12-amd64"


def test_two_builds_of_one_release_are_kept_apart_and_the_same_build_once(tmp_path: Path) -> None:
    image = write_image(tmp_path / "bzImage", "6.9.1")
    first = kernels.add([str(image)])
    image.write_bytes(header("6.9.1") + b"patched")
    second = kernels.add([str(image)])
    assert second.name == f"6.9.1-{second.sha256[:8]}"
    assert kernels.add([str(image)]) == second
    assert set(kernels.cached()) == {first, second}


def test_a_removed_kernel_is_gone_and_an_unknown_one_is_said(tmp_path: Path, cache: Path) -> None:
    kernels.add([str(write_image(tmp_path / "bzImage", "6.9.1"))])
    with pytest.raises(UsageError, match=r"no kernel '6.9'"):
        kernels.remove("6.9")
    assert kernels.remove("6.9.1").name == "6.9.1"
    assert kernels.cached() == ()
    assert not (cache / "6.9.1").exists()
    with pytest.raises(UsageError, match="which is empty"):
        kernels.find("6.9.1")


def test_a_package_is_unpacked_with_its_modules(tmp_path: Path) -> None:
    write_image(tmp_path / "deb" / "boot" / "vmlinuz-6.9.1", "6.9.1")
    write_modules(tmp_path / "deb", "6.9.1", "net/9p/9pnet_virtio.ko")
    kernel = kernels.add([str(package(tmp_path / "deb", "linux-image-6.9.1"))])
    assert kernel.modules is not None
    assert (kernel.modules / "kernel/net/9p/9pnet_virtio.ko").exists()
    assert (kernel.modules / "modules.dep").exists()


def test_a_kernel_split_over_packages_is_put_together(tmp_path: Path) -> None:
    release = "7.2.13+deb14-amd64"
    write_image(tmp_path / "binary" / "usr" / "lib" / "modules" / release / "vmlinuz", release)
    write_modules(tmp_path / "modules" / "usr", release, "net/9p/9pnet_virtio.ko.xz")
    parts = [package(tmp_path / "binary", "linux-binary"), package(tmp_path / "modules", "linux-modules")]
    kernel = kernels.add([str(part) for part in parts])
    assert kernel.image.parts[-2:] == ("boot", f"vmlinuz-{release}")
    assert kernel.modules == kernel.image.parent.parent / "lib" / "modules" / release


def test_a_kernel_without_9p_is_refused_with_the_reason(tmp_path: Path, cache: Path) -> None:
    release = "6.9.1-cloud-amd64"
    write_image(tmp_path / "deb" / "boot" / f"vmlinuz-{release}", release)
    write_modules(tmp_path / "deb", release, "fs/ext4/ext4.ko")
    with pytest.raises(UsageError, match="no 9p file system over virtio"):
        kernels.add([str(package(tmp_path / "deb", "linux-image-cloud"))])
    assert kernels.cached() == ()
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_a_package_without_a_kernel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deb" / "usr" / "share").mkdir(parents=True)
    with pytest.raises(UsageError, match="hold no kernel image"):
        kernels.add([str(package(tmp_path / "deb", "hello"))])


def test_what_a_killed_addition_left_is_removed_by_the_next(tmp_path: Path, cache: Path) -> None:
    (cache / ".adding-dead" / "boot").mkdir(parents=True)
    kernels.add([str(write_image(tmp_path / "bzImage", "6.9.1"))])
    assert not (cache / ".adding-dead").exists()


def test_the_hosts_own_suite_is_the_default_before_newer_kernels(tmp_path: Path) -> None:
    assert kernels.default() is None
    older = kernels.add([str(write_image(tmp_path / "bzImage", "5.10.1"))])
    newer = kernels.add([str(write_image(tmp_path / "bzImage", "7.2.0"))])
    assert kernels.default() == newer
    record = older.image.parent.parent / "kernel.json"
    record.write_text(record.read_text().replace(older.source, f"debian:{apt.host_suite()}"))
    chosen = kernels.default()
    assert chosen is not None
    assert chosen.name == "5.10.1"


def test_a_directory_that_is_not_ours_is_no_kernel(cache: Path) -> None:
    (cache / "6.9.1").mkdir(parents=True)
    (cache / "6.9.2").mkdir()
    (cache / "6.9.2" / "kernel.json").write_text("[]")
    assert kernels.cached() == ()


def test_a_consoles_last_words_name_the_cause_and_no_control_characters(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    trace = "".join(f"[    2.{n:06}]  frame_{n}+0x1/0x2\r\n" for n in range(40))
    log.write_text(f"\x1bc\x1b[2JBIOS\nKernel panic - not syncing: VFS: no root\n\n{trace}end\x07\n", newline="")
    lines = last_words(log).splitlines()
    assert lines[0] == "; its console ended with:"
    assert lines[1] == "  Kernel panic - not syncing: VFS: no root"
    assert lines[-1] == "  end"
    assert len(lines) == 15
    assert not set(last_words(log)) & {"\x1b", "\r", "\x07"}


def test_a_silent_console_is_said_to_be_silent(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"\x1b[2J\n\n")
    assert last_words(tmp_path / "console.log") == "; its console stayed silent"


def test_words_behind_a_kernels_name_are_parameters_for_it(tmp_path: Path) -> None:
    added = kernels.add([str(write_image(tmp_path / "bz Image", "6.9.1"))])
    found = kernels.find("6.9  numa_balancing=disable anon_vma_excl")
    assert found == dataclasses.replace(added, parameters=("numa_balancing=disable", "anon_vma_excl"))
    assert found.wish == "6.9.1 numa_balancing=disable anon_vma_excl"
    assert kernels.find(found.wish) == found
    assert (added.wish, kernels.find("6.9.1")) == ("6.9.1", added)
    # A path may have blanks of its own.
    assert kernels.find(str(tmp_path / "bz Image")) == added
    (tmp_path / "bz Image").rename(tmp_path / "bzImage")
    assert kernels.find(f"{tmp_path / 'bzImage'} quiet").parameters == ("quiet",)


def test_a_parameter_that_breaks_the_guest_and_a_kernel_that_is_absent_are_told_apart(tmp_path: Path) -> None:
    kernels.add([str(write_image(tmp_path / "bzImage", "6.9.1"))])
    with pytest.raises(UsageError, match="kernel parameter 'root' is the guest's own"):
        kernels.find("6.9.1 root=/dev/vda")
    with pytest.raises(UsageError, match=r"no kernel '6\.8' in the cache, which has 6\.9\.1"):
        kernels.find("6.8 quiet")
