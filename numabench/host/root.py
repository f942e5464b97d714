"""Where /sys and /proc are read from: the machine itself, or a tree captured from another."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_SLASH = Path("/")
_MAX_LINKS = 40  # as the kernel's own limit, path_resolution(7)


@dataclass(frozen=True)
class Root:
    """A file system root. Paths given to it are absolute (`/proc/vmstat`); it finds them below `directory`.

    A captured tree may keep symbolic links that are absolute, or that climb with `..`: they are followed below
    `directory`, never outside, as openat2(2) does with RESOLVE_IN_ROOT.
    """

    directory: Path = Path("/")

    @property
    def is_live(self) -> bool:
        """Whether this is the running machine and not a captured tree."""
        return self.directory == _SLASH

    def path(self, name: str) -> Path:
        """Where `name` lies, its links followed in a captured tree. Raises `OSError` (ELOOP) for links in circles."""
        return Path("/", name) if self.is_live else _resolve_below(self.directory, name)

    def exists(self, name: str) -> bool:
        """Whether there is such a file or directory that can be reached."""
        try:
            return self.path(name).exists()
        except OSError:
            return False

    def read(self, name: str) -> str:
        """The text of a file. Bytes that are not UTF-8 are kept as surrogates. Raises `OSError`."""
        # Without pathlib and text layers: samples are read this way, also in guests where Python is 20 times slower.
        with open(name if self.is_live else self.path(name), "rb", buffering=0) as file:  # noqa: PTH123
            return file.readall().decode("utf-8", "surrogateescape")

    def read_or_none(self, name: str) -> str | None:
        """The text of a file, or None where it is absent or may not be read."""
        try:
            return self.read(name)
        except OSError:
            return None

    def names(self, name: str) -> tuple[str, ...]:
        """The sorted names in a directory; none where it is absent or may not be read."""
        try:
            return tuple(sorted(entry.name for entry in self.path(name).iterdir()))
        except OSError:
            return ()

    def numbers(self, name: str, prefix: str, suffix: str = "") -> tuple[int, ...]:
        """The sorted numbers of a directory's entries named `prefix` number `suffix`: node ids of `node0`, `node8`."""
        middles = (
            entry.removeprefix(prefix).removesuffix(suffix)
            for entry in self.names(name)
            if entry.startswith(prefix) and entry.endswith(suffix)
        )
        return tuple(sorted(int(middle) for middle in middles if middle.isdecimal()))


def _resolve_below(directory: Path, name: str) -> Path:
    ahead = list(reversed(PurePosixPath("/", name).parts[1:]))
    resolved: list[str] = []
    links = 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            del resolved[-1:]
            continue
        here = directory.joinpath(*resolved, part)
        if not here.is_symlink():
            resolved.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(here))
        target = PurePosixPath(here.readlink())
        if target.is_absolute():
            resolved.clear()
        ahead.extend(reversed([step for step in target.parts if step != "/"]))
    return directory.joinpath(*resolved)


LIVE = Root()
