"""Making a night of a plan: what is measured tonight, of which kernels as they are tonight, and until when."""

from __future__ import annotations

import dataclasses
import datetime
import random
from typing import TYPE_CHECKING

from numabench.errors import NumabenchError
from numabench.fleet import cells as of_cells
from numabench.fleet import night_file
from numabench.fleet.night_file import Night, NightKernel, now_utc
from numabench.fleet.plan import BUILD, CACHED, INSTALLED, PACKAGE, RUNNING, TWIN
from numabench.host.booted import booted
from numabench.host.root import LIVE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.fleet.cells import Block, Cell, Durations
    from numabench.fleet.plan import KernelPlan, LabPlan
    from numabench.host.root import Root
    from numabench.lab.kernels import Kernel

_SEEDS = 2**31


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What of a plan is measured in a night, in which boots, and what is left out, with the reason."""

    cells: tuple[Cell, ...]
    blocks: tuple[Block, ...]
    left_out: dict[str, str]
    seed: int


def choose(plan: LabPlan, durations: Durations, seed: int | None = None) -> Chosen:
    """The cells that fit into a night, and its blocks in order; a seed is drawn where none is given or planned."""
    chosen = seed if seed is not None else plan.night.seed
    if chosen is None:
        chosen = random.SystemRandom().randrange(_SEEDS)
    kept, left_out = of_cells.fit(of_cells.all_cells(plan), plan.machines, durations, plan.night.budget_s)
    return Chosen(kept, of_cells.blocks(kept, plan.machines, chosen), left_out, chosen)


def missing_kernels(plan: LabPlan, chosen: Chosen) -> dict[str, str]:
    """Which kernels that a night would take from the cache are not there, and why; what is fetched is not tried."""
    from numabench.lab import kernels

    found = {}
    for name in sorted({cell.kernel.removesuffix(TWIN) for cell in chosen.cells}):
        if plan.kernels[name].kind == CACHED:
            try:
                kernels.find(plan.kernels[name].what)
            except NumabenchError as error:
                found[name] = str(error)
    return found


def make_night(plan: LabPlan, name: str, chosen: Chosen, say: Callable[[str], None], root: Root = LIVE) -> Night:
    """The night of that name, with the kernels fetched, built or found; one that cannot be had is told as missing.

    It is not written yet. Raises `ResultError` for a name that is not a night's.
    """
    began = now_utc()
    rules = plan.night
    start_by = "" if rules.budget_s is None else (began + datetime.timedelta(seconds=rules.budget_s)).isoformat()
    return Night(
        path=night_file.path_of(plan.directory.resolve(), name),
        lab=plan.name,
        seed=chosen.seed,
        attempts=rules.attempts,
        began_utc=began.isoformat(),
        start_by_utc=start_by,
        deadline_utc=deadline(rules.deadline, began),
        kernels=_kernels(plan, {cell.kernel for cell in chosen.cells}, say, root),
        machines=dict(plan.machines),
        blocks=chosen.blocks,
        cells={cell.id: cell for cell in chosen.cells},
        left_out=chosen.left_out,
    )


def deadline(clock: str, began: datetime.datetime) -> str:
    """The next time that a clock on this machine's wall shows that time of day, as UTC."""
    if not clock:
        return ""
    hour, minute = (int(part) for part in clock.split(":"))
    # Without an offset: that of the deadline may be another (summer time).
    local = began.astimezone().replace(tzinfo=None)
    then = local.replace(hour=hour, minute=minute, second=0)
    if then <= local:
        then += datetime.timedelta(days=1)
    return then.astimezone(datetime.UTC).isoformat()


def _kernels(plan: LabPlan, names: set[str], say: Callable[[str], None], root: Root) -> dict[str, NightKernel]:
    found: dict[str, NightKernel] = {}
    for name in sorted(names):
        own = name.removesuffix(TWIN)
        kernel = found.get(own) or _kernel(plan.kernels[own], plan.file.parent, say, root)
        found[name] = kernel if own == name else dataclasses.replace(kernel, name=name, twin_of=own)
    return found


def _kernel(planned: KernelPlan, base: Path, say: Callable[[str], None], root: Root) -> NightKernel:
    kernel = NightKernel(
        name=planned.name,
        kind=planned.kind,
        wish="",
        release=planned.what if planned.kind == INSTALLED else "",
        build_id=planned.build_id,
        parameters=planned.parameters,
        entry=planned.entry,
        features=planned.features,
    )
    if planned.kind == RUNNING:
        return dataclasses.replace(kernel, release=booted(root).release)
    if planned.kind == INSTALLED:
        return kernel
    try:
        cached = _for_guests(planned, base, say)
    except NumabenchError as error:
        say(f"kernel {planned.name} cannot be had: {error}")
        return dataclasses.replace(kernel, missing=f"kernel {planned.name} cannot be had: {error}")
    parameters = (*cached.parameters, *planned.parameters)
    wish = dataclasses.replace(cached, parameters=parameters).wish
    return dataclasses.replace(kernel, wish=wish, release=cached.release, parameters=parameters)


def _for_guests(planned: KernelPlan, base: Path, say: Callable[[str], None]) -> Kernel:
    """A kernel in the cache; files of a build are named as seen from the plan's directory, `base`."""
    from numabench.lab import kernels

    if planned.kind == PACKAGE:
        return _package(planned.what, say)
    if planned.kind == BUILD:
        from numabench.lab.kernel_build import build

        source = base / planned.what if (base / planned.what).is_dir() else planned.what
        patches = [str(base / patch) if (base / patch).is_file() else patch for patch in planned.patches]
        fragments = [base / fragment for fragment in planned.fragments]
        return build(str(source), patches=patches, fragments=fragments, say=say)
    return kernels.find(planned.what)


def _package(spec: str, say: Callable[[str], None]) -> Kernel:
    """The newest kernel of a suite; where that cannot be fetched tonight, the one that was before."""
    from numabench.lab import kernels

    try:
        return kernels.add([spec], say)
    except NumabenchError as error:
        known = next((kernel for kernel in kernels.cached() if kernel.source == spec), None)
        if known is None:
            raise
        say(f"{spec} cannot be fetched, {known.name} is taken, which was before: {error}")
        return known
