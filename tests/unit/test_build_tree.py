"""Build trees as `make` leaves them, put into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench import process
from numabench.errors import UsageError
from numabench.lab import build_tree, kernels

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = "6.18.0-rc3+"
OPTIONS = tuple(f"{name}=y" for name in build_tree._GUEST_OPTIONS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "numabench" / "kernels"


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def image(release: str) -> bytes:
    """A kernel image's header as boot.rst lays it out, and nothing behind it."""
    content = bytearray(2048)
    content[0x202:0x206] = b"HdrS"
    content[0x20E:0x210] = (0x400).to_bytes(2, "little")
    text = f"{release} (someone@somewhere) #1 SMP\0".encode()
    content[0x600 : 0x600 + len(text)] = text
    return bytes(content)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree in which a kernel without modules was built."""
    tree = tmp_path / "linux"
    write(tree / "arch/x86/boot/bzImage", image(RELEASE))
    write(tree / "include/config/kernel.release", f"{RELEASE}\n")
    write(tree / ".config", "\n".join((*OPTIONS, "# CONFIG_MODULES is not set", "")))
    return tree


def with_modules(tree: Path, order: str, *names: str) -> None:
    write(tree / ".config", "\n".join((*OPTIONS, "CONFIG_EXT4_FS=m", "")))
    write(tree / "modules.order", order)
    for name in names:
        write(tree / name, b"")
        process.run(["gcc", "-g", "-x", "c", "-c", "/dev/null", "-o", str(tree / name)]).check("gcc")


def test_a_tree_is_added_under_its_release(tree: Path) -> None:
    kernel = kernels.add([str(tree)])
    assert (kernel.name, kernel.modules, kernel.source, kernel.key) == (RELEASE, None, str(tree), "")
    assert kernel.image.read_bytes() == image(RELEASE)
    assert (kernel.image.parent / f"config-{RELEASE}").read_bytes() == (tree / ".config").read_bytes()
    assert kernels.add([str(tree)]) == kernel


@pytest.mark.parametrize(
    ("order", "listed"),
    [
        ("kernel/fs/ext4/ext4.ko\nkernel/net/9p/9pnet.ko\n", "until 6.2, with a directory in front"),
        ("fs/ext4/ext4.ko\nnet/9p/9pnet.ko\n", "6.1's"),
        ("fs/ext4/ext4.o\nnet/9p/9pnet.o\n", "since 6.3"),
    ],
)
def test_a_trees_modules_are_taken_as_modules_install_would(tree: Path, order: str, listed: str) -> None:
    with_modules(tree, order, "fs/ext4/ext4.ko", "net/9p/9pnet.ko")
    write(tree / "modules.builtin", "kernel/net/9p/9pnet_virtio.ko\n")
    modules = kernels.add([str(tree)]).modules
    assert modules is not None
    found = sorted(str(path.relative_to(modules)) for path in modules.rglob("*.ko"))
    assert found == ["kernel/fs/ext4/ext4.ko", "kernel/net/9p/9pnet.ko"]
    assert (modules / "modules.order").read_text() == "kernel/fs/ext4/ext4.ko\nkernel/net/9p/9pnet.ko\n"
    assert "ext4.ko" in (modules / "modules.dep").read_text()


def test_modules_that_were_installed_somewhere_are_taken_from_there(tree: Path, tmp_path: Path) -> None:
    with_modules(tree, "fs/ext4/ext4.o\n")
    write(tmp_path / "mods" / "lib" / "modules" / RELEASE / "kernel" / "fs" / "ext4.ko.xz", b"")
    write(tmp_path / "mods" / "lib" / "modules" / RELEASE / "modules.builtin", "kernel/net/9p/9pnet_virtio.ko\n")
    modules = kernels.add([str(tree), str(tmp_path / "mods")]).modules
    assert modules is not None
    assert (modules / "kernel/fs/ext4.ko.xz").exists()
    with pytest.raises(UsageError, match=rf"holds no modules of kernel {RELEASE[:-1]}"):
        kernels.add([str(tree), str(tree)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arch/x86/boot/bzImage", r"has no arch/x86/boot/bzImage \(make -C .*linux bzImage"),
        (
            "include/config/kernel.release",
            r"has no include/config/kernel.release, so it is no kernel tree, or not built",
        ),
        (".config", r"has no .config \(give the directory that the kernel was built in"),
    ],
)
def test_what_a_tree_lacks_is_named_with_what_to_do(tree: Path, cache: Path, name: str, message: str) -> None:
    (tree / name).unlink()
    with pytest.raises(UsageError, match=message):
        kernels.add([str(tree)])
    assert not cache.exists() or [path.name for path in cache.iterdir()] == [".lock"]


def test_an_image_older_than_its_trees_configuration_is_refused(tree: Path) -> None:
    write(tree / "include/config/kernel.release", "6.18.0-rc4+\n")
    with pytest.raises(UsageError, match=r"bzImage is kernel 6.18.0-rc3\+, and .* configured as 6.18.0-rc4\+"):
        kernels.add([str(tree)])


def test_a_kernel_that_could_not_boot_a_guest_is_refused_with_the_options_it_lacks(tree: Path) -> None:
    lacking = {"CONFIG_NET_9P_VIRTIO=y", "CONFIG_OVERLAY_FS=y"}
    write(tree / ".config", "\n".join(line for line in OPTIONS if line not in lacking))
    with pytest.raises(UsageError, match=r"without CONFIG_NET_9P_VIRTIO, CONFIG_OVERLAY_FS \(.*-e NET_9P_VIRTIO -e OV"):
        kernels.add([str(tree)])


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (None, "configured with modules, and they are not built .make -C .* modules"),
        ("fs/ext4/ext4.o\n", "has no fs/ext4/ext4.ko, which its modules.order names"),
        ("../../etc/x.o\n", "which is outside of its tree"),
        ("/etc/x.o\n", "which is outside of its tree"),
    ],
)
def test_modules_that_are_not_there_are_named(tree: Path, order: str | None, message: str) -> None:
    with_modules(tree, order or "")
    if order is None:
        (tree / "modules.order").unlink()
    with pytest.raises(UsageError, match=message):
        kernels.add([str(tree)])
