"""What a kernel's build leaves in its directory: the image, the configuration, the modules."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import UsageError
from numabench.lab import bzimage, kconfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

IMAGE = "arch/x86/boot/bzImage"
_STRIP_S = 600.0
_STRIPPED_AT_ONCE = 200
# Without any of these a guest does not get to its first command; they may be modules.
_GUEST_OPTIONS = (
    "CONFIG_9P_FS",
    "CONFIG_BINFMT_SCRIPT",
    "CONFIG_BLK_DEV_INITRD",
    "CONFIG_DEVTMPFS",
    "CONFIG_NET_9P_VIRTIO",
    "CONFIG_OVERLAY_FS",
    "CONFIG_PROC_FS",
    "CONFIG_SERIAL_8250_CONSOLE",
    "CONFIG_SYSFS",
    "CONFIG_TMPFS",
    "CONFIG_VIRTIO_CONSOLE",
    "CONFIG_VIRTIO_PCI",
)


def collect(tree: Path, modules: Path | None, stage: Path, say: Callable[[str], None]) -> None:
    """Bring a build tree's kernel below `stage`: boot/ and, where it has modules, lib/modules/.

    `tree` is where `make` ran, or its O= directory; `modules` is what `make modules_install` was given as
    INSTALL_MOD_PATH, and without it the modules are taken from the tree. Nothing in the tree is changed. Raises
    `UsageError` where something is not built, or cannot serve as a guest's kernel.
    """
    release = release_of(tree)
    config = _config(tree)
    image = tree / IMAGE
    if bzimage.release(image) != release:
        raise UsageError(
            f"{image} is kernel {bzimage.release(image)}, and {tree} was since configured as {release}",
            f"make -C {tree} bzImage",
        )
    lacking = lacking_options(config)
    if lacking:
        words = " ".join(f"-e {name.removeprefix('CONFIG_')}" for name in lacking)
        raise UsageError(
            f"the kernel in {tree} cannot boot a guest: it is built without {', '.join(lacking)}",
            f"scripts/config --file {tree / '.config'} {words}; make olddefconfig; make",
        )
    (stage / "boot").mkdir()
    shutil.copyfile(image, stage / "boot" / f"vmlinuz-{release}")
    shutil.copyfile(tree / ".config", stage / "boot" / f"config-{release}")
    if modules is not None:
        copy_installed(modules, release, stage)
    elif "m" in config.values():
        _copy_built(tree, release, stage, say)


def release_of(tree: Path) -> str:
    """The release that a tree is configured to build, where it has been built."""
    for name, target in (("include/config/kernel.release", ""), (IMAGE, " bzImage")):
        if not (tree / name).is_file():
            source = "" if target else ", so it is no kernel tree, or not built yet"
            raise UsageError(
                f"{tree} has no {name}{source}",
                f"make -C {tree}{target}, or give the O= directory that it was built in",
            )
    return (tree / "include/config/kernel.release").read_text(encoding="utf-8").strip()


def _config(tree: Path) -> dict[str, str]:
    try:
        return kconfig.values((tree / ".config").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{tree} has no .config", "give the directory that the kernel was built in") from None


def lacking_options(config: Mapping[str, str]) -> tuple[str, ...]:
    """What a guest's kernel needs, and a configuration has neither built in nor as modules."""
    return tuple(name for name in _GUEST_OPTIONS if name not in config)


def copy_installed(modules: Path, release: str, stage: Path) -> None:
    """Copy what `make modules_install` made. Raises `UsageError` where it is not of this kernel."""
    below = modules / "lib" / "modules" / release
    chosen = below if below.is_dir() else modules
    if not (chosen / "kernel").is_dir():
        raise UsageError(f"{modules} holds no modules of kernel {release}", f"it should have lib/modules/{release}/")
    target = stage / "lib" / "modules" / release
    shutil.copytree(chosen, target, symlinks=True, ignore=shutil.ignore_patterns("build", "source"))


def _copy_built(tree: Path, release: str, stage: Path, say: Callable[[str], None]) -> None:
    """Copy the modules of a tree in which `make modules` ran to where `make modules_install` would put them."""
    order = tree / "modules.order"
    if not order.is_file():
        raise UsageError(f"{tree} is configured with modules, and they are not built", f"make -C {tree} modules")
    names = [_module(line) for line in order.read_text(encoding="utf-8").split()]
    say(f"copying {len(names)} modules of {release}")
    root = stage / "lib" / "modules" / release
    root.mkdir(parents=True)
    for name in names:
        if not (tree / name).is_file():
            raise UsageError(f"{tree} has no {name}, which its modules.order names", f"make -C {tree} modules")
        target = root / "kernel" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / name, target)
    for name in ("modules.builtin", "modules.builtin.modinfo"):
        if (tree / name).is_file():
            shutil.copyfile(tree / name, root / name)
    (root / "modules.order").write_text("".join(f"kernel/{name}\n" for name in names), encoding="utf-8")
    _strip([root / "kernel" / name for name in names])


def _module(line: str) -> str:
    """A module's file by its line in modules.order: `kernel/fs/9p/9p.ko` until 5.x, `fs/9p/9p.o` since 6.3."""
    path = Path(line.removeprefix("kernel/")).with_suffix(".ko")
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"modules.order names {line}, which is outside of its tree", "make modules")
    return str(path)


def _strip(files: Sequence[Path]) -> None:
    """Leave debugging information out, which is most of a module; where binutils are absent it stays."""
    if not process.find_program("strip"):
        return
    for at in range(0, len(files), _STRIPPED_AT_ONCE):
        some = [str(path) for path in files[at : at + _STRIPPED_AT_ONCE]]
        process.run(["strip", "--strip-debug", *some], timeout_s=_STRIP_S).check("stripping modules")
