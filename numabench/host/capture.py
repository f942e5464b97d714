"""A machine's topology as a small tree in a tar file, and trees of other machines opened as a `Root`.

A tree is what hwloc-gather-topology(1) writes: a directory that holds `sys` and `proc`. Ours keeps exactly what
`numabench.host.topology.read` asked for, so that the tree answers as the machine did.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from numabench import named_file
from numabench.errors import NumabenchError, UsageError
from numabench.host import topology
from numabench.host.root import LIVE, Root
from numabench.units import MIB, format_bytes

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable, Iterator

    from numabench.host.topology import Topology

MAX_TREE_BYTES = 256 * MIB
MAX_TREE_MEMBERS = 500_000

_MODES: dict[str, Literal["w:", "w:gz", "w:xz"]] = {".tar": "w:", ".gz": "w:gz", ".xz": "w:xz"}
_TOP = "topology"
_ROOT_NAMES = ("sys", "proc")

# Parameters that change what a topology shows. Any other may name a host, a disk or a key.
_BOOT_PARAMETERS = {
    "acpi", "default_hugepagesz", "efi_fake_mem", "hugepages", "hugepagesz", "isolcpus", "kernelcore", "maxcpus", "mem",
    "memmap", "movable_node", "movablecore", "nohz_full", "nosmt", "nr_cpus", "numa", "numa_balancing",
    "numa_zonelist_order", "possible_cpus", "smt", "transparent_hugepage",
}  # fmt: skip


@dataclass(frozen=True)
class _Recorder(Root):
    """A root that notes the files read through it, and the directory entries that were looked for."""

    files: dict[str, str] = field(default_factory=dict)
    entries: set[str] = field(default_factory=set)

    def read(self, name: str) -> str:
        self.files[name] = super().read(name)
        return self.files[name]

    def numbers(self, name: str, prefix: str, suffix: str = "") -> tuple[int, ...]:
        found = super().numbers(name, prefix, suffix)
        self.entries.update(f"{name}/{prefix}{number}{suffix}" for number in found)
        return found


def write(path: Path, root: Root = LIVE) -> Topology:
    """Write the tree of the machine below `root` to a tar file, and give the topology that it holds.

    The suffix says how it is compressed: .tar, .tar.gz or .tar.xz. Host names, serial numbers and boot parameters that
    do not concern the topology are left out. Raises `UsageError` for another suffix and `NumabenchError` where the file
    cannot be written.
    """
    if path.suffix not in _MODES:
        raise UsageError(f"cannot tell how to write {path}", "name it FILE.tar, FILE.tar.gz or FILE.tar.xz")
    recorder = _Recorder(root.directory)
    shown = topology.read(recorder)
    for name in ("/proc/cpuinfo", "/proc/meminfo", "/proc/cmdline", "/proc/version"):
        recorder.read_or_none(name)
    try:
        _write_tar(path, recorder)
    except OSError as error:
        raise NumabenchError(f"cannot write {path}: {error.strerror}") from None
    return shown


def _write_tar(path: Path, recorder: _Recorder) -> None:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=_MODES[path.suffix]) as tar:
        for name in sorted(recorder.entries - recorder.files.keys()):
            tar.addfile(_entry(name, recorder))
        for name, text in sorted(recorder.files.items()):
            content = _REDACTIONS.get(name, str)(text).encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(_TOP + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    named_file.write(path, (buffer.getvalue(),))


def _entry(name: str, recorder: _Recorder) -> tarfile.TarInfo:
    import tarfile

    member = tarfile.TarInfo(_TOP + name)
    parent, _, last = name.rpartition("/")
    here = recorder.path(parent) / last
    if here.is_symlink():
        member.type, member.linkname = tarfile.SYMTYPE, os.fspath(here.readlink())
    else:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member


def _only_limits(status: str) -> str:
    return "".join(line for line in status.splitlines(keepends=True) if re.match("(Cpus|Mems)_allowed", line))


def _only_boot_parameters(cmdline: str) -> str:
    kept = [word for word in cmdline.split() if word.partition("=")[0] in _BOOT_PARAMETERS]
    return " ".join(kept) + "\n"


def _without_builder(version: str) -> str:
    return re.sub(r"\([^()\s]+@[^()\s]+\)", "(builder)", version)


def _without_serials(cpuinfo: str) -> str:
    # arm: "Serial : 0000..."; s390: "identification = 0133E8" in each processor's line.
    lines = (line for line in cpuinfo.splitlines(keepends=True) if not re.match("serial", line, re.IGNORECASE))
    return re.sub(r"identification = \w+", "identification = 0", "".join(lines))


_REDACTIONS: dict[str, Callable[[str], str]] = {
    "/proc/self/status": _only_limits,
    "/proc/cmdline": _only_boot_parameters,
    "/proc/version": _without_builder,
    "/proc/cpuinfo": _without_serials,
}


@contextlib.contextmanager
def open_tree(path: Path) -> Iterator[Root]:
    """The root of a captured tree: the directory that holds `sys` and `proc`, its parent, or a tar file of either.

    A tar file is unpacked into a temporary directory that lasts as long as the context. Raises `UsageError` for what is
    no such tree, for members that would land outside it, and beyond `MAX_TREE_BYTES` or `MAX_TREE_MEMBERS`.
    """
    import tempfile

    if not path.exists():
        raise UsageError(f"{path} does not exist", "give a directory or a tar file that holds sys and proc")
    if path.is_dir():
        yield _find_root(path, path)
        return
    if not path.is_file():
        raise UsageError(f"{path} is neither a directory nor a file", "give one that holds sys and proc, or a tar file")
    with tempfile.TemporaryDirectory(prefix="numabench-tree-") as name:
        _unpack(path, Path(name))
        yield _find_root(Path(name), path)


def _find_root(directory: Path, given: Path) -> Root:
    try:
        inner = sorted(child for child in directory.iterdir() if child.is_dir() and not child.is_symlink())
        roots = [here for here in (directory, *inner) if any((here / name).is_dir() for name in _ROOT_NAMES)]
    except OSError as error:
        raise UsageError(f"cannot read {given}: {error.strerror}") from None
    if not roots:
        raise UsageError(
            f"{given} holds neither sys nor proc", "make a tree with numabench topology --capture FILE.tar"
        )
    if roots[0] != directory and len(roots) > 1:
        names = ", ".join(root.name for root in roots)
        raise UsageError(f"{given} holds more than one tree: {names}", "give one of them")
    return Root(roots[0].resolve())


def _unpack(path: Path, directory: Path) -> None:
    """Files first and links last: no file is ever written through a link, and only `Root` follows them."""
    import tarfile
    import zlib
    from lzma import LZMAError

    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in _bounded(tar, path):
                target = directory.joinpath(*_below_top(member, path))
                if member.issym():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    links.append((target, member.linkname))
                else:
                    _write_member(tar, member, target)
        for target, linkname in links:
            if not os.path.lexists(target):
                target.symlink_to(linkname)
    except (tarfile.TarError, EOFError, LZMAError, zlib.error) as error:
        why = str(error).partition("\n")[0].rstrip(":")
        raise UsageError(f"{path} is not a whole tar file: {why}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot unpack {path}: {error}") from None


def _bounded(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    total_bytes = 0
    for count, member in enumerate(tar, start=1):
        total_bytes += member.size
        if total_bytes > MAX_TREE_BYTES or count > MAX_TREE_MEMBERS:
            limits = f"{format_bytes(MAX_TREE_BYTES)} and {MAX_TREE_MEMBERS} members"
            raise UsageError(f"{path} is too large for a captured tree", f"at most {limits} are unpacked")
        yield member


def _below_top(member: tarfile.TarInfo, path: Path) -> tuple[str, ...]:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise UsageError(f"{path} is not a captured tree: its member {member.name!r} would land outside it")
    if not (member.isfile() or member.isdir() or member.issym()):
        raise UsageError(f"{path} is not a captured tree: its member {member.name!r} is no file, directory or symlink")
    return name.parts


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    import shutil

    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    if content is not None:
        with target.open("wb") as file:
            shutil.copyfileobj(content, file)
