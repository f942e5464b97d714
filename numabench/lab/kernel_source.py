"""Kernel sources to build from: Debian's packages, and trees of the user's own. Neither is changed."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from numabench import process
from numabench.errors import NumabenchError, UsageError
from numabench.lab import apt
from numabench.lab.cache import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Half of a source, and no guest kernel is built from it. The second word: a patch to what begins so brings it back.
_LEFT_OUT = (
    ("Documentation/[!K]*", "Documentation/"),
    ("arch/*/boot/dts", "arch/"),
    ("drivers/gpu/drm/amd/include", "drivers/gpu/drm/amd/include/"),
    ("tools/testing", "tools/testing/"),
)
_BUILT = (".o", ".a", ".ko", ".cmd")
_META_PACKAGE = "linux-source"
_PACKAGE = re.compile(r"linux-source-\d+\.\d+")
_SERIES = re.compile(r"\d+\.\d+")
# Where a series is looked for, behind the host's own suite.
_SUITES = ("bookworm", "trixie", "sid")
_UNPACK_S = 1200.0
_GIT_S = 120.0


class Source(Protocol):
    """A kernel's source."""

    @property
    def words(self) -> str:
        """What it was asked for as, and its version where that does not say it."""

    @property
    def identity(self) -> str:
        """The same for the same content alone."""

    def unpack(self, into: Path, touched: Iterable[str], say: Callable[[str], None]) -> None:
        """Fill an empty directory with what a guest kernel is built from, and with the files `touched`."""


def check(wish: str) -> None:
    """Refuse, with `UsageError` and before anything is fetched or read through, what can be no source."""
    if wish != "debian" and not wish.startswith("debian:"):
        _version(Path(wish))


def find(wish: str, say: Callable[[str], None]) -> Source:
    """The source meant by `debian`, `debian:SUITE`, `debian:6.12`, or a directory.

    Raises `UsageError` where there is none, and what `apt.prepare` raises.
    """
    if wish == "debian" or wish.startswith("debian:"):
        return _debian(wish.partition(":")[2] or apt.host_suite(), say)
    return _tree(Path(wish))


def _left_out(touched: Iterable[str]) -> tuple[str, ...]:
    names = tuple(touched)
    return tuple(pattern for pattern, below in _LEFT_OUT if not any(name.startswith(below) for name in names))


@dataclass(frozen=True)
class DebianSource:
    """A package linux-source-*; `configuration` is apt's, of the suite that has it."""

    wish: str
    package: str
    version: str
    sha256: str
    configuration: Path

    @property
    def words(self) -> str:
        """Such as `debian:6.12 (6.12.117-1~deb12u1)`."""
        return f"debian:{self.wish} ({self.version})"

    @property
    def identity(self) -> str:
        """The package's digest, as the signed lists have it."""
        return f"{self.package} {self.version} {self.sha256}"

    def unpack(self, into: Path, touched: Iterable[str], say: Callable[[str], None]) -> None:
        """Fetch the package where it is not kept from before, and unpack it."""
        package = self._package(say)
        say(f"unpacking {self.package} {self.version}")
        with tempfile.TemporaryDirectory(dir=into.parent, prefix="package-") as directory:
            process.run(["dpkg-deb", "-x", str(package), directory], timeout_s=_UNPACK_S).check(f"unpacking {package}")
            tarball = Path(directory) / "usr" / "src" / f"{self.package}.tar.xz"
            excluded = [f"--exclude={self.package}/{pattern}" for pattern in _left_out(touched)]
            argv = ["tar", "-xf", str(tarball), "--strip-components=1", "--anchored", "--wildcards", *excluded]
            process.run([*argv, "-C", str(into)], timeout_s=_UNPACK_S).check(f"unpacking {tarball.name}")

    def _package(self, say: Callable[[str], None]) -> Path:
        """The package's file; only the newest of a series is kept."""
        directory = cache_directory() / "sources"
        kept = directory / f"{self.package}_{self.sha256}.deb"
        if kept.is_file() and _sha256(kept) == self.sha256:
            return kept
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".fetching-") as fetching:
            files = apt.download(self.configuration, [f"{self.package}={self.version}"], Path(fetching), say)
            if len(files) != 1 or _sha256(files[0]) != self.sha256:
                raise NumabenchError(f"apt did not download {self.package} {self.version} as its lists have it")
            for older in directory.glob(f"{self.package}_*.deb"):
                older.unlink()
            files[0].replace(kept)
        return kept


def _debian(wish: str, say: Callable[[str], None]) -> DebianSource:
    """The source package of a suite, or of a series in the first suite that has it."""
    if not _SERIES.fullmatch(wish):
        configuration = apt.prepare(wish, say)
        packages = [name for name in apt.depends(configuration, _META_PACKAGE) if _PACKAGE.fullmatch(name)]
        if not packages:
            raise UsageError(f"Debian {wish} has no package {_META_PACKAGE}", "for example debian:bookworm")
        return _described(wish, packages[0], configuration)
    suites = tuple(dict.fromkeys((apt.host_suite(), *_SUITES)))
    for suite in suites:
        configuration = apt.prepare(suite, say)
        if apt.describe(configuration, f"{_META_PACKAGE}-{wish}"):
            return _described(wish, f"{_META_PACKAGE}-{wish}", configuration)
    raise UsageError(
        f"none of Debian's {', '.join(suites)} has the source of a {wish} kernel",
        "for example debian:6.1 or debian:6.12, or a suite as in debian:bookworm-backports, or a directory",
    )


def _described(wish: str, package: str, configuration: Path) -> DebianSource:
    fields = apt.describe(configuration, package)
    return DebianSource(wish, package, fields["version"], fields["sha256"], configuration)


@dataclass(frozen=True)
class TreeSource:
    """A directory with a kernel's source, maybe built in, maybe a git work tree; `digest` is of its files."""

    path: Path
    version: str
    files: tuple[str, ...]
    from_git: bool
    digest: str

    @property
    def words(self) -> str:
        """Such as `/src/linux (6.12.0-rc3)`."""
        return f"{self.path} ({self.version})"

    @property
    def identity(self) -> str:
        """The same wherever the same files are."""
        return f"tree {self.digest}"

    def unpack(self, into: Path, touched: Iterable[str], say: Callable[[str], None]) -> None:
        """Copy the files. Raises `NumabenchError` where they change meanwhile."""
        say(f"copying {self.path}")
        left_out = _left_out(touched)
        for name in self.files:
            if not any(fnmatch.fnmatchcase(name, f"{pattern}*") for pattern in left_out):
                _copy(self.path / name, into / name)
        if _tree(self.path).digest != self.digest:
            raise NumabenchError(f"{self.path} was changed while it was copied", "try again when it is at rest")
        if not self.from_git:
            _clean(into)


def _clean(copy: Path) -> None:
    """Remove what was built in a tree: it would be taken for sources. Kbuild itself knows what that is."""
    makefile = copy / "Documentation" / "Makefile"
    if not makefile.exists():
        # It is cleaned, too, and was left out.
        makefile.parent.mkdir(exist_ok=True)
        makefile.touch()
    argv = ["make", "-C", str(copy), "ARCH=x86_64", "mrproper"]
    process.run(argv, timeout_s=_UNPACK_S).check("cleaning the copy of the source")


def _tree(path: Path) -> TreeSource:
    version = _version(path)
    listed = _listed_by_git(path)
    files = tuple(sorted(_walked(path) if listed is None else listed))
    return TreeSource(path.resolve(), version, files, listed is not None, _digest(path, files))


def _version(path: Path) -> str:
    """The version that a kernel's Makefile begins with."""
    if not path.is_dir():
        raise UsageError(f"there is no directory {path}", "give a kernel's source tree, or debian:6.12")
    try:
        head = (path / "Makefile").read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        head = ""
    fields = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$", head, re.MULTILINE))
    if not {"VERSION", "PATCHLEVEL"} <= fields.keys() or not (path / "Kconfig").is_file():
        raise UsageError(
            f"{path} is no kernel source: it needs a Kconfig, and a Makefile with VERSION and PATCHLEVEL",
            "give the top directory of a source tree, not that of a build",
        )
    return f"{fields['VERSION']}.{fields['PATCHLEVEL']}.{fields.get('SUBLEVEL') or 0}{fields.get('EXTRAVERSION', '')}"


def _listed_by_git(path: Path) -> set[str] | None:
    """The files that git has or would take, without what it ignores, or None outside of a work tree."""
    if not (path / ".git").exists() or not process.find_program("git"):
        return None
    argv = ["git", "-C", str(path), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = process.run(argv, timeout_s=_GIT_S)
    if listed.exit_status != 0:
        return None
    return {name for name in listed.stdout.split("\0") if name and os.path.lexists(path / name)}


def _walked(path: Path) -> Iterable[str]:
    for directory, below, names in os.walk(path):
        below[:] = [name for name in below if name != ".git"]
        links = [name for name in below if (Path(directory) / name).is_symlink()]
        for name in (*names, *links):
            if not name.endswith(_BUILT):
                yield os.path.relpath(Path(directory) / name, path)


def _digest(root: Path, files: Iterable[str]) -> str:
    """A digest of files: names, contents, whether they may be executed, and where links lead."""
    digest = hashlib.sha256()
    for name in files:
        path = root / name
        digest.update(name.encode(errors="surrogateescape") + b"\0")
        if path.is_symlink():
            digest.update(b"link\0" + os.fsencode(path.readlink()))
        elif path.is_file():
            digest.update(b"program\0" if os.access(path, os.X_OK) else b"file\0")
            digest.update(bytes.fromhex(_sha256(path)))
        digest.update(b"\0")
    return digest.hexdigest()


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.is_symlink():
        target.symlink_to(file.readlink())
    elif file.is_file():
        shutil.copyfile(file, target)
        shutil.copymode(file, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
