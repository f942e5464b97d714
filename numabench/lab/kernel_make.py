"""Kbuild at work: the tools that it takes, and `make` in the directories of one build."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import CannotRun, NumabenchError
from numabench.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numabench.reaper import Reaper

_COMPILE_LIMIT_S = 4 * 3600.0
_TELL_S = 30.0
_LAST_LINES = 12
_PROGRAMS = {
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "ld": "binutils",
    "make": "make",
    "patch": "patch",
    "tar": "tar",
    "xz": "xz-utils",
}
_HEADERS = {"libelf.h": "libelf-dev", "openssl/opensslv.h": "libssl-dev", "stdio.h": "libc6-dev"}
_ERROR = re.compile(r"\berror\b|\*\*\*|No space left", re.IGNORECASE)
# Of the compiler; those of Kconfig, of options set anew, have no blank in front.
_WARNING = re.compile(r": warning: ")
_OBJECT = re.compile(r"^  (CC|AS) ", re.MULTILINE)


def require_tools() -> None:
    """Raise `CannotRun`, with what to install, where a kernel cannot be built here."""
    if os.uname().machine != "x86_64":
        raise CannotRun("building a guest kernel", (f"guests are x86_64 and this machine is {os.uname().machine}",))
    reasons = {
        f"{program} is not installed": package
        for program, package in _PROGRAMS.items()
        if not process.find_program(program)
    }
    if "gcc is not installed" not in reasons:
        reasons |= {f"<{name}> is not installed": package for name, package in _HEADERS.items() if not _has(name)}
    if reasons:
        raise CannotRun(
            "building a guest kernel", tuple(reasons), "apt-get install " + " ".join(sorted(set(reasons.values())))
        )


def _has(header: str) -> bool:
    words = f"#include <{header}>\n"
    return process.run(["gcc", "-E", "-o", os.devnull, "-x", "c", "-"], stdin_text=words).exit_status == 0


def toolchain() -> tuple[str, ...]:
    """The versions of compiler and linker, each in its own words."""
    versions = (process.run([program, "--version"]).check(f"asking {program} its version") for program in ("gcc", "ld"))
    return tuple((version.stdout.splitlines() or [""])[0] for version in versions)


class Making:
    """`make` in one build's directories, with everything that it says in one log."""

    def __init__(self, directory: Path, log: Path, jobs: int, reaper: Reaper, say: Callable[[str], None]) -> None:
        self.source = directory / "source"
        self.out = directory / "out"
        self.log = log
        self.began = time.monotonic()
        self._jobs = jobs
        self._reaper = reaper
        self._say = say
        self.log.unlink(missing_ok=True)

    def make(self, what: str, *targets: str) -> None:
        """Make targets. Raises `NumabenchError`, with the end of the log and where it is, where that fails."""
        self._say(f"{what} the kernel (log: {self.log})")
        argv = ["make", "-C", str(self.source), f"O={self.out}", "ARCH=x86_64", "LOCALVERSION=", f"-j{self._jobs}"]
        with self.log.open("ab") as log:
            running = process.start([*argv, *targets], stdout=log.fileno(), stderr=log.fileno(), env=_environment())
        self._reaper.watch(running.pid)
        try:
            status = self._await(running, what)
        except BaseException:
            running.kill()
            raise
        finally:
            self._reaper.forget()
        if status != 0:
            raise NumabenchError(
                f"{what} the kernel failed: make {' '.join(targets)} {process.describe_exit(status)}:\n  "
                + "\n  ".join(self._last_words()),
                f"all of it is in {self.log}",
            )

    def _await(self, running: process.Process, what: str) -> int:
        began = time.monotonic()
        while (elapsed_s := time.monotonic() - began) < _COMPILE_LIMIT_S:
            status = running.wait(_TELL_S)
            if status is not None:
                return status
            elapsed_s = time.monotonic() - began
            objects = len(_OBJECT.findall(self._text()))
            self._say(f"{what} the kernel for {format_seconds(elapsed_s)}, {objects} objects so far")
        raise NumabenchError(f"{what} the kernel was not done after {elapsed_s:.0f} s", f"see {self.log}")

    def _text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def warnings(self) -> int:
        """How many warnings the compiler gave."""
        return len(_WARNING.findall(self._text()))

    def _last_words(self) -> Iterable[str]:
        """The lines that name an error, then the last ones."""
        lines = [line for line in self._text().splitlines() if line.strip()]
        causes = [line for line in lines[:-_LAST_LINES] if _ERROR.search(line)]
        return [*causes[:_LAST_LINES], *(["..."] if causes else []), *lines[-_LAST_LINES:]]


def _environment() -> dict[str, str]:
    """The same for all: what else is in the user's would find its way into the kernel."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
    return kept | {
        "LC_ALL": "C",
        # Documentation/kbuild/reproducible-builds.rst
        "KBUILD_BUILD_TIMESTAMP": "1970-01-01 00:00:00 UTC",
        "KBUILD_BUILD_USER": "numabench",
        "KBUILD_BUILD_HOST": "numabench",
        "KBUILD_BUILD_VERSION": "1",
    }
