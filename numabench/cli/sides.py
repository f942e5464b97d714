"""What a user means by a side of a comparison: runs, or those of several that ran on one kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from numabench.errors import ResultError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.record import Run

_KERNEL = "@"


def runs_of(results: Path, text: str) -> tuple[Run, ...]:
    """The runs of a side: `WORD[@KERNEL],...`, each a run, the beginning of several runs' names, a path, or `last`.

    With `@KERNEL` only those that ran on this kernel: the beginning of its release and, where it was booted with
    parameters of the user's, these (`"SERIES@6.12 anon_vma_excl"`). Raises `ResultError` where there is none.
    """
    from numabench import store

    found: dict[Path, Run] = {}
    for word in text.split(","):
        name, mark, kernel = word.strip().partition(_KERNEL)
        loaded = [store.load(path) for path in store.find_all(results, name)]
        chosen = on_kernel(loaded, kernel) if mark else loaded
        if not chosen:
            kernels = ", ".join(dict.fromkeys(kernel_of(run) for run in loaded))
            raise ResultError(f"none of the runs {name!a} ran on kernel {kernel!a}", f"they ran on {kernels}")
        found |= {run.path.resolve(): run for run in chosen}
    return tuple(found.values())


def kernel_of(run: Run) -> str:
    """The kernel of a run, with the parameters that a user had it booted with."""
    _, _, parameters = (run.boot.kernel if run.boot else "").partition(" ")
    return f"{run.machine.kernel_release} {parameters}".strip()


def on_kernel(runs: Sequence[Run], kernel: str) -> tuple[Run, ...]:
    """The runs on a kernel by its name, or the beginning of one that ends where a number does; 6.1 is not 6.12.

    Without parameters those that had none are meant where there are any.
    """
    whole = tuple(run for run in runs if run.boot and run.boot.kernel == kernel)
    if whole:
        return whole
    release, _, parameters = kernel.partition(" ")
    beginning = re.compile(re.escape(release) + r"(?!\d)") if release[-1:].isdigit() else re.compile(re.escape(release))
    fitting = tuple(run for run in runs if release and beginning.match(kernel_of(run)))
    same = tuple(run for run in fitting if kernel_of(run).partition(" ")[2].split() == parameters.split())
    return same if parameters or same else fitting


def two_sides(results: Path, text: str) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Both sides of one word: the runs of two kernels, in the order that they ran. Raises `UsageError` for others."""
    runs = runs_of(results, text)
    kernels = list(dict.fromkeys(kernel_of(run) for run in runs))
    if len(kernels) != 2:
        told = ", ".join(kernels)
        raise UsageError(
            f"{text} has runs on {len(kernels)} kernel{'s' * (len(kernels) != 1)} ({told}), and two are compared",
            "name both sides: numabench diff A B",
        )
    first, second = (tuple(run for run in runs if kernel_of(run) == kernel) for kernel in kernels)
    return first, second


def side_name(runs: Sequence[Run]) -> str:
    """What to call a side: its kernel where it has one, and its run where that is one."""
    kernels = list(dict.fromkeys(kernel_of(run) for run in runs))
    name = kernels[0] if len(kernels) == 1 else f"{len(kernels)} kernels"
    return f"{name} ({runs[0].run_id})" if len(runs) == 1 else name
