"""`numabench run --boots N --kernel A --kernel B`: the same command line in several guests, kernels taking turns."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING

import typer

from numabench.errors import EXIT_FAILED, LostGuest, ResultError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.cli.progress import StderrProgress
    from numabench.cli.run import GuestWish
    from numabench.experiment.plan import Request
    from numabench.record import BootTurn


def run_boots(
    request: Request,
    results: Path,
    kernels: Sequence[str],
    boots: int,
    guest: GuestWish,
    progress: StderrProgress,
    *,
    series: str | None = None,
) -> tuple[Path, ...]:
    """Run a request in `boots` guests of each kernel, in turns; the directories of the runs that they left.

    A guest that is lost costs its boot: the others go on. Of a `series` that has a name, boots whose runs are there are
    not made again. Raises `UsageError` for a kernel that is not there or is there twice, and what the first boot raises
    that every other would, too.
    """
    from numabench import store
    from numabench.cli.run import run_in_one_guest
    from numabench.lab import boots as of_lab

    named = _kernels(kernels)
    turns = of_lab.turns(series or store.new_run_id(request.name), named, boots)
    left: list[Path] = []
    for turn in turns:
        if series is not None and _is_done(results / of_lab.run_id(turn)):
            left.append(results / of_lab.run_id(turn))
            continue
        progress.say(f"boot {turn.turn} of {turn.of}: kernel {turn.kernel}")
        wish = dataclasses.replace(guest, kernel=turn.kernel)
        try:
            left.append(run_in_one_guest(request, results, of_lab.run_id(turn), wish, progress, boot=turn))
        except LostGuest as error:
            progress.say(f"boot {turn.turn} is lost: {error}")
    return tuple(left)


def _is_done(path: Path) -> bool:
    """Whether a boot's run is whole; what one that was cut off left is put aside under a hidden name."""
    from numabench import store

    if not path.exists():
        return False
    with contextlib.suppress(ResultError):
        if store.load(path).complete:
            return True
    store.hide(path)
    return False


def _kernels(words: Sequence[str]) -> tuple[str, ...]:
    """The kernels that were asked for, by their names, which say the same tomorrow; or the default one."""
    from numabench.lab.delegate import choose_kernel

    names = tuple(choose_kernel(word).wish for word in words or (None,))
    twice = [word for word, name in zip(words, names, strict=False) if names.count(name) > 1]
    if twice:
        raise UsageError(
            f"--kernel {' and '.join(twice)} are one kernel, {names[0]}", "name each once: --boots N boots each N times"
        )
    return names


def show_boots(paths: Sequence[Path], progress: StderrProgress) -> None:
    """Compare what two kernels' boots left; of other numbers of kernels, say how to. Exits with 1 for lost boots."""
    from numabench import store

    runs = [store.load(path) for path in paths]
    series = runs[0].boot.series if runs and runs[0].boot else ""
    kernels = list(dict.fromkeys(run.boot.kernel for run in runs if run.boot))
    progress.clear()
    if len(kernels) == 2:
        from numabench.cli.diff import show_sides

        show_sides(runs, kernels)
    elif runs:
        progress.say(f"runs: {runs[0].path.parent}/{series}-*; compare them: numabench diff {series} OTHER")
    planned = runs[0].boot.of if runs and runs[0].boot else 1
    if len(runs) < planned or any(not run.complete for run in runs):
        raise typer.Exit(EXIT_FAILED)


def as_option(turn: BootTurn) -> str:
    """A boot's turn as the guest's command line has it."""
    return json.dumps(dataclasses.asdict(turn))


def from_option(text: str | None) -> BootTurn | None:
    """What `as_option` wrote. Raises `UsageError` for anything else."""
    from numabench.record import BootTurn

    if text is None:
        return None
    try:
        return BootTurn(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise UsageError(f"--boot {text} is not what numabench passes on", "leave it out") from None


def words_of(text: str) -> tuple[str, ...]:
    """The command line of `--asked`. Raises `UsageError` for what is none."""
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"--asked {text} is not what numabench passes on", "leave it out")
    return tuple(words)
