"""Patches for a kernel that is to be built: the user's files, and those of the project itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from numabench import named_file, process
from numabench.errors import NumabenchError, UsageError

_OWN = Path(__file__).with_name("patches")
_PATCH_S = 300.0
_HEADER = re.compile(r"^(?:---|\+\+\+) [^/\s]+/([^\t\n]+)", re.MULTILINE)
_RENAMED = re.compile(r"^(?:rename|copy) (?:from|to) (.+)$", re.MULTILINE)
_WHERE = re.compile(r"^(?:checking|patching) (?:file|symbolic link) (.+?)(?: \(.*\))?$")
# What patch(1) says of what it cannot do; the rest is of what it does.
_TROUBLE = re.compile(r"^(Hunk #\d+ FAILED|can't find file|Reversed \(or|The next patch|Only garbage|\S*patch: )")
_TOLD = 6

_MAX_PATCH_BYTES = 256 << 20


@dataclass(frozen=True)
class Patch:
    """A patch in unified format, for `patch -p1`."""

    path: Path
    content: bytes

    @property
    def name(self) -> str:
        """Its file's name."""
        return self.path.name

    @property
    def touched(self) -> frozenset[str]:
        """The files that it changes, makes, removes or renames, by their path in the source."""
        text = self.content.decode(errors="replace")
        return frozenset(_HEADER.findall(text)) | frozenset(_RENAMED.findall(text))


def own() -> tuple[str, ...]:
    """The names of the project's own patches."""
    return tuple(sorted(path.stem for path in _OWN.glob("*.patch")))


def read(word: str) -> Patch:
    """The patch in a file, or the project's own of that name. Raises `UsageError` where there is none."""
    path = Path(word)
    if not path.is_file() and word in own():
        path = _OWN / f"{word}.patch"
    try:
        patch = Patch(path, named_file.read(path, _MAX_PATCH_BYTES))
    except OSError as error:
        raise UsageError(
            f"cannot read the patch {word}: {error.strerror}", f"a file, or one of {', '.join(own())}"
        ) from None
    if not patch.touched:
        raise UsageError(f"{word} is no patch: it changes no file", "make one with git diff or git format-patch")
    return patch


def apply(patch: Patch, source: Path, title: str) -> None:
    """Change a source by a patch, each hunk in the context that it has in the patch, at whatever line that is.

    Raises `NumabenchError`, with the files and hunks, where it does not apply to the source (named by `title`).
    """
    options = ["--batch", "--forward", "--fuzz=0", "--no-backup-if-mismatch", "--reject-file=-"]
    argv = ["patch", "-p1", *options, "-d", str(source), "-i", str(patch.path.resolve())]
    done = process.run(argv, timeout_s=_PATCH_S)
    if done.exit_status == 0:
        return
    told = _troubles(f"{done.stdout}\n{done.stderr}")
    raise NumabenchError(
        f"{patch.path} does not apply to {title}: " + ("; ".join(told[:_TOLD]) or f"patch exited {done.exit_status}"),
        "it must be made against this version",
    )


def _troubles(output: str) -> tuple[str, ...]:
    """What patch(1) could not do, each with the file it was at."""
    told = []
    at = ""
    for line in output.splitlines():
        file = _WHERE.match(line)
        if file:
            at = file[1]
        elif _TROUBLE.match(line):
            words = line.strip().rstrip(".")
            told.append(f"{at}: {words}" if at and words.startswith(("Hunk", "Reversed")) else words)
        elif line.startswith(("|--- ", "|+++ ")):
            # After "can't find file": patch quotes the header whose file it did not find.
            told.append(line[1:].partition("\t")[0])
    return tuple(told)
