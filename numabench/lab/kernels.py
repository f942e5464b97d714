"""Kernels for guests: fetched, built or given once, kept below the cache directory, never installed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import CannotRun, NumabenchError, UsageError
from numabench.lab import apt, build_tree, bzimage, cmdline
from numabench.lab.cache import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_RECORD = "kernel.json"
_LOG = "build.log"
_STAGING = ".adding-"
_UNPACK_S = 600.0
_BUILT_IN = re.compile(r"^CONFIG_NET_9P_VIRTIO=[ym]$", re.MULTILINE)


@dataclass(frozen=True)
class Kernel:
    """A kernel that a guest can boot. `modules` is None for an image without; `source` is what it was added as.

    Of a kernel that numabench built, `key` is a digest of all that it was made of, and `made_of` says it in words; its
    source is the name that it was given, or those words. `parameters` are for its command line in the next guest.
    """

    name: str
    release: str
    image: Path
    modules: Path | None
    source: str
    sha256: str
    key: str = ""
    made_of: str = ""
    parameters: tuple[str, ...] = ()

    @property
    def wish(self) -> str:
        """What `find` gives this kernel for, parameters included."""
        return " ".join((self.name, *self.parameters))


@dataclass(frozen=True)
class Origin:
    """Where a kernel comes from, as `Kernel` has it."""

    source: str
    key: str = ""
    made_of: str = ""


def kernels_directory() -> Path:
    """Where the cached kernels are, one directory each."""
    return cache_directory() / "kernels"


def _version_key(kernel: Kernel) -> tuple[tuple[int, int, str], ...]:
    """Orders releases as people do: 6.9 before 6.12."""
    return tuple(
        (1, int(part), "") if part.isdecimal() else (0, 0, part)
        for part in re.findall(r"\d+|[^\d.+-]+", kernel.release)
    )


def _read(directory: Path) -> Kernel | None:
    """The kernel in a cache directory, or None for what was not written by `add`."""
    if not (directory / _RECORD).is_file():
        return None
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
        release = str(record["release"])
        modules = directory / "lib" / "modules" / release
        return Kernel(
            name=directory.name,
            release=release,
            image=directory / "boot" / f"vmlinuz-{release}",
            modules=modules if modules.is_dir() else None,
            source=str(record["source"]),
            sha256=str(record["sha256"]),
            key=str(record.get("key", "")),
            made_of=str(record.get("made_of", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def cached() -> tuple[Kernel, ...]:
    """All cached kernels, newest release first."""
    try:
        directories = [path for path in kernels_directory().iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return ()
    found = [kernel for kernel in map(_read, directories) if kernel is not None]
    return tuple(sorted(found, key=_version_key, reverse=True))


def find(text: str) -> Kernel:
    """The kernel meant by a name, its beginning (the newest that fits), what it was added as, or an image's path.

    Words behind that are parameters for its command line. A beginning that ends where a number does comes first: 6.1 is
    6.1.0 rather than 6.12; and one that numabench built, and may have patched, comes last. Raises `UsageError` where
    there is none, and for a parameter that is none.
    """
    kernel = _named(text)
    if kernel is None and len(text.split()) > 1:
        name, *parameters = text.split()
        kernel = _named(name)
        text = name
        if kernel is not None:
            return replace(kernel, parameters=cmdline.checked(parameters))
    if kernel is not None:
        return kernel
    names = ", ".join(kernel.name for kernel in cached())
    raise UsageError(
        f"no kernel '{text}' in the cache" + (f", which has {names}" if names else ", which is empty"),
        f"numabench lab kernel add {text}"
        if text.startswith("debian:")
        else "numabench lab kernel add debian:bookworm",
    )


def _named(text: str) -> Kernel | None:
    kernels = cached()
    fitting = [kernel for kernel in kernels if text in {kernel.name, kernel.source}]
    beginning = [kernel for kernel in kernels if text and kernel.name.startswith(text)]
    beginning.sort(key=lambda kernel: bool(kernel.key))
    fitting += [kernel for kernel in beginning if not kernel.name[len(text) :][:1].isdigit()]
    fitting += beginning
    if fitting:
        return fitting[0]
    # It may be no path at all, but too long for one.
    return _in_place(Path(text).resolve()) if os.path.isfile(text) else None  # noqa: PTH113


def _in_place(image: Path) -> Kernel:
    """A kernel that stays where it is; modules are taken from where a distribution would have them."""
    release = bzimage.release(image)
    modules = image.parent.parent / "lib" / "modules" / release
    return Kernel(release, release, image, modules if modules.is_dir() else None, str(image), _sha256(image))


def default() -> Kernel | None:
    """The kernel for who names none: that of the host's Debian suite, else the newest; None where none is cached.

    One that numabench built, and may have patched, is the last choice.
    """
    kernels = sorted(cached(), key=lambda kernel: bool(kernel.key))
    own = [kernel for kernel in kernels if kernel.source == f"debian:{apt.host_suite()}"]
    return next(iter((*own, *kernels)), None)


def remove(name: str) -> Kernel:
    """Take a kernel out of the cache by its whole name; what was taken. Raises `UsageError` where there is none."""
    for kernel in cached():
        if kernel.name == name:
            shutil.rmtree(kernels_directory() / name)
            return kernel
    raise UsageError(f"no kernel '{name}' in the cache", "numabench lab kernel list")


def add(words: Sequence[str], say: Callable[[str], None] = lambda _text: None) -> Kernel:
    """Put a kernel into the cache and return it; one that is there already is returned as it is.

    `words` are `debian:SUITE`, or the files of Debian kernel packages, or an image or a kernel's build tree with,
    optionally, its modules directory. `say` is told of slow steps. Raises `UsageError` for other words and for what is
    no kernel, `CannotRun` where apt's tools or keys are missing, `NumabenchError` where fetching or unpacking fails,
    the disk being full too.
    """
    with _told_of_the_disk():
        _check(list(words))
    with _told_of_the_disk(), _staging() as stage:
        source = _fill(stage, list(words), say)
        return _publish(stage, Origin(source), say)


def publish(tree: Path, origin: Origin, log: Path, say: Callable[[str], None]) -> Kernel:
    """Put what was built in `tree` into the cache, with the log of its building. Raises as `add` does."""
    with _told_of_the_disk(), _staging() as stage:
        build_tree.collect(tree, None, stage, say)
        shutil.copyfile(log, stage / _LOG)
        kernel = _publish(stage, origin, say)
    return give_name(kernel, origin.source)


def give_name(kernel: Kernel, name: str) -> Kernel:
    """Have `find` give this built kernel for a name, and no other one that was built under it before."""
    for other in cached():
        if other.key and other.source == name and other.name != kernel.name:
            _write_record(other.name, other.release, other.sha256, Origin(other.made_of, other.key, other.made_of))
    if kernel.source != name:
        _write_record(kernel.name, kernel.release, kernel.sha256, Origin(name, kernel.key, kernel.made_of))
    return replace(kernel, source=name)


def _write_record(directory: str, release: str, sha256: str, origin: Origin) -> None:
    """Note what a kernel is; who reads it meanwhile sees the old record or the new one."""
    record = {"release": release, "source": origin.source, "sha256": sha256}
    if origin.key:
        record |= {"key": origin.key, "made_of": origin.made_of}
    written = kernels_directory() / directory / f".{_RECORD}"
    written.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    written.replace(written.with_name(_RECORD))


@contextlib.contextmanager
def _told_of_the_disk() -> Iterator[None]:
    """What the operating system refuses, as an error for the user."""
    try:
        yield
    except OSError as error:
        where = error.filename or kernels_directory()
        raise NumabenchError(
            f"cannot add the kernel: {where}: {error.strerror or error}", "is there room on the disk, and permission?"
        ) from None


@contextlib.contextmanager
def _staging() -> Iterator[Path]:
    """A directory to assemble a kernel in, beside the finished ones; one addition at a time."""
    kernels_directory().mkdir(parents=True, exist_ok=True)
    with (kernels_directory() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in kernels_directory().glob(f"{_STAGING}*"):
            shutil.rmtree(left)  # of an addition that was killed
        stage = Path(tempfile.mkdtemp(prefix=_STAGING, dir=kernels_directory()))
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _check(words: Sequence[str]) -> None:
    """Refuse, with `UsageError` and before the cache is touched, words that name no kernel, and an image that is none.

    Raises `OSError` where what they name cannot be read.
    """
    if len(words) == 1 and words[0].startswith("debian:"):
        return
    paths = [Path(word) for word in words]
    for path in paths:
        if not path.is_file() and not path.is_dir():
            what = f"{path} is neither a file nor a directory" if path.exists() else f"there is no {path}"
            raise UsageError(what, "give debian:SUITE, package files, an image, or a build tree")
    if all(path.suffix == ".deb" for path in paths):
        return
    if len(paths) > 2 or not all(path.is_dir() for path in paths[1:]):
        raise UsageError(
            "these are not a kernel: " + " ".join(words), "give packages (.deb), or one image or build tree and modules"
        )
    if paths[0].is_file():
        bzimage.release(paths[0])
    else:
        build_tree.release_of(paths[0])


def _fill(stage: Path, words: list[str], say: Callable[[str], None]) -> str:
    """Bring boot/ and lib/modules/ of a kernel below `stage`; what to note as its source."""
    if len(words) == 1 and words[0].startswith("debian:"):
        packages = apt.fetch(words[0].removeprefix("debian:"), stage / "packages", say)
        _unpack(packages, stage, say)
        shutil.rmtree(stage / "packages")
        return words[0]
    paths = [Path(word) for word in words]
    if all(path.suffix == ".deb" for path in paths):
        _unpack(paths, stage, say)
    else:
        modules = paths[1] if len(paths) == 2 else None
        if paths[0].is_dir():
            build_tree.collect(paths[0], modules, stage, say)
        else:
            _copy(paths[0], modules, stage)
    return str(paths[0].resolve())


def _unpack(packages: Sequence[Path], stage: Path, say: Callable[[str], None]) -> None:
    if not process.find_program("dpkg-deb"):
        raise CannotRun("unpacking a kernel package", ("dpkg-deb is not installed (package dpkg)",))
    for package in packages:
        say(f"unpacking {package.name}")
        process.run(["dpkg-deb", "-x", str(package), str(stage)], timeout_s=_UNPACK_S).check(f"unpacking {package}")


def _copy(image: Path, modules: Path | None, stage: Path) -> None:
    release = bzimage.release(image)
    (stage / "boot").mkdir()
    shutil.copyfile(image, stage / "boot" / f"vmlinuz-{release}")
    if modules is not None:
        build_tree.copy_installed(modules, release, stage)


def _publish(stage: Path, origin: Origin, say: Callable[[str], None]) -> Kernel:
    """Check what was assembled, bring it into the layout of a root directory, and move it to its name."""
    image = _find_image(stage)
    release = bzimage.release(image)
    _lay_out(stage, image, release)
    modules = stage / "lib" / "modules" / release
    if modules.is_dir():
        _refuse_without_9p(stage, modules, release)
        say(f"running depmod for {release}")
        _depmod(stage, release)
    sha256 = _sha256(stage / "boot" / f"vmlinuz-{release}")
    _write_record(stage.name, release, sha256, origin)
    name = release
    present = _read(kernels_directory() / name)
    if present is not None and present.sha256 != sha256:
        name = f"{release}-{sha256[:8]}"
        present = _read(kernels_directory() / name)
    if present is None:
        stage.chmod(0o755)
        stage.rename(kernels_directory() / name)
    elif present.source != origin.source:
        origin = Origin(origin.source, origin.key or present.key, origin.made_of or present.made_of)
        _write_record(name, release, sha256, origin)
    kernel = _read(kernels_directory() / name)
    assert kernel is not None
    return kernel


def _find_image(stage: Path) -> Path:
    """The one kernel image below a directory: in boot/, or beside its modules (Debian since 7.0)."""
    images = [
        path
        for pattern in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")
        for path in stage.glob(pattern)
    ]
    if len(images) != 1:
        found = "no kernel image" if not images else f"{len(images)} kernel images"
        raise UsageError(f"the packages hold {found}", "give the packages of one kernel (image, binary, modules)")
    return images[0]


def _lay_out(stage: Path, image: Path, release: str) -> None:
    """Make it boot/vmlinuz-RELEASE and lib/modules/RELEASE, with usr/lib leading to lib: both are looked for."""
    wanted = stage / "boot" / f"vmlinuz-{release}"
    wanted.parent.mkdir(exist_ok=True)
    if image != wanted:
        image.rename(wanted)
    usr_lib = stage / "usr" / "lib"
    if (usr_lib / "modules").is_dir():
        (stage / "lib").mkdir(exist_ok=True)
        (usr_lib / "modules").rename(stage / "lib" / "modules")
    shutil.rmtree(stage / "usr", ignore_errors=True)
    (stage / "usr").mkdir()
    (stage / "lib").mkdir(exist_ok=True)
    usr_lib.symlink_to("../lib")


def _refuse_without_9p(stage: Path, modules: Path, release: str) -> None:
    """A guest's root comes over 9p; distributions' cloud kernels are built without."""
    config = stage / "boot" / f"config-{release}"
    if any(modules.rglob("9pnet_virtio.ko*")):
        return
    with contextlib.suppress(OSError):
        if "9pnet_virtio.ko" in (modules / "modules.builtin").read_text(encoding="utf-8"):
            return
    with contextlib.suppress(OSError):
        if _BUILT_IN.search(config.read_text(encoding="utf-8")):
            return
    raise UsageError(
        f"kernel {release} cannot boot a guest: it has no 9p file system over virtio (CONFIG_NET_9P_VIRTIO)",
        "cloud kernels lack it; take the generic one",
    )


def _depmod(stage: Path, release: str) -> None:
    if not process.find_program("depmod"):
        raise CannotRun("adding a kernel", ("depmod is not installed (package kmod)",))
    process.run(["depmod", "-a", "-b", str(stage), release], timeout_s=_UNPACK_S).check("depmod")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
