"""`numabench reproduce rmap-lock`: the linux-mm thread of 2012 asked of a kernel of today."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli import boots as of_boots
from numabench.cli import outputs
from numabench.cli.diff import View, compare
from numabench.cli.progress import StderrProgress
from numabench.cli.run import DEFAULT_RESULTS, GuestWish
from numabench.cli.run_words import request
from numabench.errors import EXIT_FAILED, CannotRun, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numabench.analysis.callchain import Stack
    from numabench.comparison.rmap_lock import ArmResult
    from numabench.lab.rmap_lock import Arm
    from numabench.perf import Kallsyms, Profile
    from numabench.record import Run, Trial

_QUESTION = "rmap-lock"
_PLAN_FILE = "reproduce.json"


def reproduce(
    question: Annotated[str, typer.Argument(metavar="rmap-lock", help="What to reproduce.")],
    source: Annotated[
        str, typer.Option(metavar="debian:6.12|debian:6.1", help="The kernel's source, built once (about 10 minutes).")
    ] = "debian:6.12",
    kernel: Annotated[
        str | None, typer.Option(help="A cached kernel that has the switch, instead: see `numabench lab kernel list`.")
    ] = None,
    boots: Annotated[int, typer.Option(min=1, max=100, help="Boots in each mode.")] = 3,
    arms: Annotated[str | None, typer.Option(metavar="LIST", help="Only these arms. [default: all]")] = None,
    results: Annotated[Path, typer.Option(help="Where its directory of runs goes.")] = DEFAULT_RESULTS,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on with one that stopped, or show it again.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run the workload of the linux-mm thread of 2012 with anon_vma's lock taken exclusively and shared, and report.

    `rmap-lock` builds a guest kernel with a switch at boot, runs each arm in both modes in turns, and sets what it
    counts beside what the mails said. Everything takes place in guests: counts are real, times are not performance.
    """
    from numabench import store
    from numabench.lab import kernels

    if question != _QUESTION:
        raise UsageError(f"there is nothing called '{question}' to reproduce", f"numabench reproduce {_QUESTION}")
    _check_source(source)
    outputs.check(results if resume is None else None)
    progress = StderrProgress()
    try:
        if resume is not None:
            directory, plan = resume, _read_plan(resume)
        else:
            chosen = _arms(arms)
            if kernel is not None:
                kernels.find(kernel)
            _check_can_run(chosen)
            directory = results / store.new_run_id(_QUESTION)
            plan = _Plan(_kernel(source, kernel, progress), boots, tuple(arm.name for arm in chosen))
            store.write_note(directory, _PLAN_FILE, asdict(plan))
        progress.say(f"results: {directory}")
        _run_arms(directory, plan, progress)
    finally:
        progress.clear()
    found = [_result(directory, arm) for arm in _named(plan.arms)]
    if as_json:
        from numabench.report.rmap_lock_json import report

        print(json.dumps(report(plan.kernel, found), indent=1, allow_nan=False))
    else:
        from numabench.cli.report import has_colour, print_text
        from numabench.report.rmap_lock_text import render

        width = shutil.get_terminal_size((100, 0)).columns
        print_text(render(plan.kernel, found, width=width, colour=has_colour()))
    if any(mode is None or mode.boots < plan.boots for arm in found for mode in (arm.shared, arm.exclusive)):
        progress.say(f"boots are missing; go on with: numabench reproduce {_QUESTION} --resume {directory}")
        raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True)
class _Plan:
    """What a directory of `reproduce` is to hold."""

    kernel: str
    boots: int
    arms: tuple[str, ...]


def _read_plan(directory: Path) -> _Plan:
    from numabench import store

    fields = store.read_note(directory, _PLAN_FILE)
    plan = _Plan(fields.text("kernel"), fields.count("boots"), tuple(fields.texts("arms")))
    _named(plan.arms)
    return plan


def _arms(text: str | None) -> tuple[Arm, ...]:
    from numabench.lab.rmap_lock import ARMS

    return ARMS if text is None else _named([word.strip() for word in text.split(",")])


def _named(names: Sequence[str]) -> tuple[Arm, ...]:
    from numabench.lab.rmap_lock import ARMS

    known = {arm.name: arm for arm in ARMS}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no arm '{name}'", f"they are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _check_source(source: str) -> None:
    from numabench.lab.rmap_lock import SOURCES

    if source not in SOURCES:
        raise UsageError(f"--source: there is no patch for '{source}'", f"there are patches for {', '.join(SOURCES)}")


def _check_can_run(arms: Sequence[Arm]) -> None:
    """Raises `CannotRun`, before anything is written, where the arms lack what they need: perf, or guests at all."""
    from numabench.lab.requirements import INSTALL_HINT, requirements

    for arm in arms:
        request(("run", *arm.words))
    lacking = requirements()
    if lacking:
        raise CannotRun("a guest", lacking, INSTALL_HINT)


def _kernel(source: str, kernel: str | None, progress: StderrProgress) -> str:
    """The name of a cached kernel that has the switch: the one named, or one that is built now unless it was before."""
    from numabench.lab import kernels, rmap_lock

    if kernel is not None:
        return kernels.find(kernel).name
    from numabench.lab.kernel_build import build

    release = source.removeprefix("debian:")
    built = build(source, patches=(rmap_lock.patch_name(release),), name=f"{_QUESTION}-{release}", say=progress.say)
    return built.name


def _run_arms(directory: Path, plan: _Plan, progress: StderrProgress) -> None:
    """Run what is missing: each arm in both modes, in turns."""
    from numabench.lab.rmap_lock import PARAMETER

    modes = (plan.kernel, f"{plan.kernel} {PARAMETER}")
    for arm in _named(plan.arms):
        progress.say(f"{arm.name}: {arm.what}: numabench run {' '.join(arm.words)}")
        of_boots.run_boots(
            request(("run", *arm.words)), directory, modes, plan.boots, GuestWish(), progress, series=arm.name
        )


def _result(directory: Path, arm: Arm) -> ArmResult:
    """An arm's runs in both modes, each with its passes."""
    from numabench import store
    from numabench.cli import recordings
    from numabench.comparison import rmap_lock
    from numabench.lab.rmap_lock import PARAMETER

    runs = [run for run in map(store.load, store.find_all(directory, f"{arm.name}-b")) if run.complete]
    by_mode: dict[bool, list[Run]] = {False: [], True: []}
    for run in runs:
        if run.boot is not None:
            by_mode[PARAMETER in run.boot.kernel.split()[1:]].append(run)
    shared, exclusive = (
        rmap_lock.mode(chosen, [recordings.observations(run) for run in chosen]) if chosen else None
        for chosen in by_mode.values()
    )
    both = compare(by_mode[False], by_mode[True], View(anyway=True)) if all(by_mode.values()) else None
    waiting = rmap_lock.waiting_tree(stack for run in by_mode[True] for stack in _stacks(run))
    return rmap_lock.ArmResult(arm.name, arm.what, arm.is_control, shared, exclusive, both, waiting)


def _stacks(run: Run) -> Iterator[Stack]:
    """The stacks of a run's CPU samples, of the workload's own threads."""
    import numpy as np

    from numabench.analysis import observed, recorded
    from numabench.cli import recordings

    def of_pass(trial: Trial, profile: Profile, symbols: Kallsyms | None) -> tuple[Stack, ...]:
        cpu = recorded.cpu_event(profile)
        own = np.isin(profile.groups["pid"], observed.workload_pids(trial))
        return () if cpu is None else recorded.stacks(profile, cpu, symbols, select=own)

    for found in recordings.reduced(run, of_pass, lambda _trial, _text: ()):
        yield from found
