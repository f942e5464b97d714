"""The workloads' programs: compiled on first use, and kept by what they were made from."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import CannotRun, UsageError, WorkloadError
from numabench.workload import catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAGS = (
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Werror",
    "-O2",
    "-fno-omit-frame-pointer",
    "-g",
    "-pthread",
)
LIBRARIES = ("-lnuma",)
INSTALL_HINT = "apt install gcc libc6-dev libnuma-dev, or dnf install gcc glibc-devel numactl-devel"
_COMPILERS = ("gcc", "clang", "cc")
# An emulated CPU compiles a hundred times slower than a real one.
_TIMEOUT_S = 600.0
_LAST_LINES = 12


def sources_dir() -> Path:
    """Where the C sources are: inside the package as it is installed, beside it in a checkout.

    Raises `WorkloadError` where they are in neither place.
    """
    import numabench

    package = Path(numabench.__file__).parent
    for directory in (package / "workloads", package.parent / "workloads"):
        if (directory / "runner.h").is_file():
            return directory
    raise WorkloadError(f"the workloads' sources are not in {package} or beside it", "install numabench again")


def cache_dir() -> Path:
    """Where programs are kept: `numabench/workloads` below $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "numabench" / "workloads"


def find_compiler(compiler: str | None = None) -> tuple[str, ...]:
    """The command of a C compiler: the one named, else $CC, else gcc, clang or cc. It may have words behind its name.

    Raises `CannotRun` where it is not found.
    """
    named = compiler or os.environ.get("CC", "").strip()
    if named:
        try:
            words = tuple(shlex.split(named))
        except ValueError as error:
            raise UsageError(f"the C compiler '{named}' is not a command: {error}", "see the variable CC") from None
        if _is_program(words[0]):
            return words
        raise CannotRun("a workload", (f"the C compiler {words[0]} was not found",), INSTALL_HINT)
    for name in _COMPILERS:
        if _is_program(name):
            return (name,)
    raise CannotRun("a workload", ("there is no C compiler",), INSTALL_HINT)


def _is_program(name: str) -> bool:
    return os.access(name, os.X_OK) if "/" in name else process.find_program(name) is not None


def compiler_version(compiler: str | None = None) -> str:
    """A compiler's kind and version, `gcc 12.2.0` or `clang 14.0.6`; of another kind its own first line.

    Raises what `find_compiler` raises.
    """
    return _version(_describe(find_compiler(compiler)))


def _describe(command: Sequence[str]) -> str:
    return process.run([*command, "--version"]).check("asking the compiler for its version").stdout


def _version(description: str) -> str:
    import re

    first = (description.splitlines() or [""])[0]
    clang = re.search(r"clang version (\d[\w.]*)", first)
    if clang:
        return f"clang {clang[1]}"
    gcc = re.search(r"\) (\d[\w.]*)", first) if "Free Software Foundation" in description else None
    return f"gcc {gcc[1]}" if gcc else first


def _shared_sources(directory: Path) -> list[str]:
    programs = {spec.source for spec in catalog.WORKLOADS}
    return sorted(path.name for path in directory.glob("*.c") if path.name not in programs)


def _key(directory: Path, command: Sequence[str], description: str, flags: Sequence[str]) -> str:
    """A digest of all that the program is made from."""
    import hashlib

    digest = hashlib.sha256()
    for part in (*command, description, *flags):
        digest.update(part.encode() + b"\0")
    for path in sorted([*directory.glob("*.c"), *directory.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build(name: str, *, compiler: str | None = None, extra_flags: Sequence[str] = ()) -> Path:
    """The program of a workload, compiled if the cache does not hold it yet.

    Two that build at once both succeed: each writes a file of its own, and the last to be renamed stays. A cache that
    may not be written serves if it holds the program. Raises `UsageError` for an unknown name, `CannotRun` without a
    compiler or libnuma's header, `WorkloadError` where the compiler or the cache fails.
    """
    spec = catalog.find(name)
    directory = sources_dir()
    command = find_compiler(compiler)
    flags = (*FLAGS, *extra_flags)
    program = cache_dir() / f"{name}-{_key(directory, command, _describe(command), (*flags, *LIBRARIES))}"
    if not os.access(program, os.X_OK):
        sources = [str(directory / source) for source in (spec.source, *_shared_sources(directory))]
        _compile_into(program, (*command, *flags), sources)
    return program


def _compile_into(program: Path, compile_command: Sequence[str], sources: Sequence[str]) -> None:
    import tempfile

    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=program.parent) as scratch:
            built = Path(scratch) / program.name
            argv = [*compile_command, "-o", str(built), *sources, *LIBRARIES]
            _explain(process.run(argv, timeout_s=_TIMEOUT_S))
            built.replace(program)
    except OSError as error:
        raise WorkloadError(
            f"cannot build {program.name.rpartition('-')[0]} in {program.parent}: {error.strerror}",
            "set XDG_CACHE_HOME to a directory that can be written",
        ) from None


def _explain(compiled: process.Completed) -> None:
    if compiled.exit_status == 0:
        return
    words = compiled.stderr
    if ("numa.h" in words and "No such file" in words) or "'numa.h' file not found" in words:
        raise CannotRun("a workload", ("libnuma's header numa.h is not installed",), INSTALL_HINT)
    if "-lnuma" in words:
        raise CannotRun("a workload", ("the library libnuma is not installed for linking",), INSTALL_HINT)
    last = "\n  ".join(words.strip().splitlines()[-_LAST_LINES:])
    raise WorkloadError(f"{process.paste(compiled.argv)} {process.describe_exit(compiled.exit_status)}:\n  {last}")


def requirements(compiler: str | None = None) -> tuple[str, ...]:
    """What is missing to build a workload, one sentence each; none when nothing is."""
    try:
        command = find_compiler(compiler)
        _explain(process.run([*command, "-E", "-include", "numa.h", "-x", "c", "-o", os.devnull, os.devnull]))
    except CannotRun as error:
        return error.reasons
    return ()
