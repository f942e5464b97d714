"""Building a small guest kernel: a source, patches and configuration fragments in, a cached kernel out.

A kernel is kept by the content of all that it was made of; what was built once is not built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench.errors import CannotRun, NumabenchError, UsageError
from numabench.lab import build_tree, kconfig, kernel_make, kernel_patch, kernel_source, kernels
from numabench.lab.cache import cache_directory
from numabench.lab.kernel_make import Making
from numabench.reaper import Reaper
from numabench.units import GIB, format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numabench.lab.kconfig import Option
    from numabench.lab.kernel_patch import Patch
    from numabench.lab.kernel_source import Source
    from numabench.lab.kernels import Kernel

_GUEST_CONFIG = Path(__file__).with_name("guest.config")
# To be counted up when the way of building changes what is built.
_RECIPE = 1
# Source and objects of 6.12 take 1.5 GiB.
_ROOM_BYTES = 2 * GIB
_NAME = re.compile(r"[A-Za-z][\w.+-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Recipe:
    """All that decides what is built; `toolchain` are the versions of compiler and linker."""

    source: Source
    patches: tuple[Patch, ...]
    options: tuple[Option, ...]
    fragments: tuple[str, ...]
    toolchain: tuple[str, ...]

    @property
    def key(self) -> str:
        """A digest of it."""
        parts = {
            "recipe": _RECIPE,
            "source": self.source.identity,
            "patches": [hashlib.sha256(patch.content).hexdigest() for patch in self.patches],
            "options": [option.line for option in self.options],
            "toolchain": self.toolchain,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def suffix(self) -> str:
        """What the kernel's release ends with (LOCALVERSION)."""
        return f"-numabench-{self.key[:8]}"

    @property
    def words(self) -> str:
        """It, for people."""
        return ", ".join((self.source.words, *(patch.name for patch in self.patches), *self.fragments))


def build(
    source: str,
    *,
    patches: Sequence[str] = (),
    fragments: Sequence[Path] = (),
    name: str | None = None,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Kernel:
    """A guest kernel built of a source, or the cached one that was built of the same.

    `source` is what `kernel_source.find` takes, `patches` what `kernel_patch.read` takes; of two fragments that set one
    option the later counts, and all count before numabench's own. `name` is one that `kernels.find` will give it for.
    `jobs` is how many compilers run at once, by default one per CPU that this process may use.

    Raises `UsageError` for a bad wish, `CannotRun` with the packages to install where tools are missing, and
    `NumabenchError` where a patch does not apply, an option does not take, or the compiler fails.
    """
    if name is not None:
        _check_name(name)
    read = tuple(kernel_patch.read(word) for word in patches)
    options = _options(fragments)
    kernel_source.check(source)
    kernel_make.require_tools()
    made = kernel_source.find(source, say)
    recipe = Recipe(made, read, options, tuple(path.name for path in fragments), kernel_make.toolchain())
    known = _known(recipe, name, say)
    if known is not None:
        return known
    try:
        with _workshop(say) as directory:
            # Whoever had the lock before may have built it.
            return _known(recipe, name, say) or _build(
                recipe, directory, name, jobs or len(os.sched_getaffinity(0)), say
            )
    except OSError as error:
        where = error.filename or _builds()
        raise NumabenchError(
            f"cannot build the kernel: {where}: {error.strerror or error}", "is there room on the disk, and permission?"
        ) from None


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a kernel's name", "letters, digits, and . _ + -, a letter first")
    for kernel in kernels.cached():
        if name == kernel.name or (name == kernel.source and not kernel.key):
            raise UsageError(f"'{name}' is the name of another kernel: {kernel.name}", "take another")


def _options(fragments: Sequence[Path]) -> tuple[Option, ...]:
    """What the project and the user ask for."""
    wanted = [kconfig.read_fragment(path) for path in (_GUEST_CONFIG, *fragments)]
    options = kconfig.merge(wanted)
    for option in options:
        if option.name == "CONFIG_LOCALVERSION":
            raise UsageError(f"{option.where}: numabench names the release of what it builds", "use --name")
    return options


def _known(recipe: Recipe, name: str | None, say: Callable[[str], None]) -> Kernel | None:
    """The cached kernel of this recipe, under the name that it is to have now."""
    for kernel in kernels.cached():
        if kernel.key == recipe.key:
            say(f"it is cached: {kernel.name}, of {recipe.words}")
            return kernels.give_name(kernel, name) if name is not None else kernel
    return None


def _builds() -> Path:
    return cache_directory() / "builds"


@contextlib.contextmanager
def _workshop(say: Callable[[str], None]) -> Iterator[Path]:
    """A directory to build in, removed whatever happens; one build at a time."""
    _builds().mkdir(parents=True, exist_ok=True)
    with (_builds() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another kernel is being built: waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in _builds().glob(".building-*"):
            shutil.rmtree(left, ignore_errors=True)  # of a machine that went down; a reaper may be at it, too
        free = shutil.disk_usage(_builds()).free
        if free < _ROOM_BYTES:
            raise CannotRun(
                "building a guest kernel", (f"{_builds()} has {format_bytes(free)} free",), "it takes 1.5 GiB meanwhile"
            )
        yield Path(tempfile.mkdtemp(prefix=".building-", dir=_builds()))


def _build(recipe: Recipe, directory: Path, name: str | None, jobs: int, say: Callable[[str], None]) -> Kernel:
    reaper = Reaper(directory)
    try:
        making = Making(directory, _builds() / f"{recipe.key[:8]}.log", jobs, reaper, say)
        making.source.mkdir()
        making.out.mkdir()
        recipe.source.unpack(making.source, frozenset().union(*(patch.touched for patch in recipe.patches)), say)
        for patch in recipe.patches:
            say(f"applying {patch.name}")
            kernel_patch.apply(patch, making.source, recipe.source.words)
        config = _configure(recipe, making, say)
        making.make("compiling", "bzImage", *(["modules"] if "m" in config.values() else []))
        say(f"built in {format_seconds(time.monotonic() - making.began)}, {making.warnings()} warnings")
        origin = kernels.Origin(name or recipe.words, recipe.key, recipe.words)
        kernel = kernels.publish(making.out, origin, making.log, say)
        making.log.unlink()
        return kernel
    finally:
        reaper.reap()


def _configure(recipe: Recipe, making: Making, say: Callable[[str], None]) -> dict[str, str]:
    """Make .config of the options, and check that they took; all that is set."""
    making.make("configuring", "tinyconfig")
    with (making.out / ".config").open("a", encoding="utf-8") as file:
        file.writelines(f"{option.line}\n" for option in recipe.options)
        file.write(f'CONFIG_LOCALVERSION="{recipe.suffix}"\n# CONFIG_LOCALVERSION_AUTO is not set\n')
    making.make("settling the configuration of", "olddefconfig")
    config = kconfig.values((making.out / ".config").read_text(encoding="utf-8"))
    missed = kconfig.untaken(recipe.options, config)
    told = kconfig.explain(missed, config, making.source)
    for option, words in zip(missed, told, strict=True):
        if not option.needed:
            say(f"note: {words}")
    needed = [words for option, words in zip(missed, told, strict=True) if option.needed]
    if needed:
        raise NumabenchError(
            f"{len(needed)} options did not take in {recipe.source.words}:\n  " + "\n  ".join(needed),
            "set what they want too, or put them behind a line '# optional'",
        )
    lacking = build_tree.lacking_options(config)
    if lacking:
        raise UsageError(
            f"a kernel without {', '.join(lacking)} cannot boot a guest",
            "leave them as numabench's own fragment has them",
        )
    return config
