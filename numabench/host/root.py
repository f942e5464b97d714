"""Where /sys and /proc are read from: the machine itself, or a tree captured from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Root:
    """A file system root. Paths given to it are absolute (`/proc/vmstat`); it finds them below `directory`.

    A captured tree may keep symbolic links that are absolute: they are followed below `directory`, never outside.
    """

    directory: Path = Path("/")

    @property
    def is_live(self) -> bool:
        """Whether this is the running machine and not a captured tree."""
        return self.directory == Path("/")

    def path(self, name: str) -> Path:
        """Where `name` lies."""
        return self.directory / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether there is such a file or directory."""
        return self.path(name).exists()

    def read(self, name: str) -> str:
        """The text of a file. Bytes that are not UTF-8 are kept as surrogates. Raises `OSError`."""
        return self.path(name).read_text(encoding="utf-8", errors="surrogateescape")

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


LIVE = Root()
