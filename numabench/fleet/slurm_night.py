"""A night on Slurm's nodes: each block is a job, machines go on beside each other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.fleet import publish, slurm
from numabench.fleet.plan import SLURM
from numabench.fleet.slurm_job import job_name
from numabench.fleet.slurm_lane import Lane, Patience

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.experiment.progress import Progress
    from numabench.fleet.journal import Journal
    from numabench.fleet.night_file import Night

_PATIENCE = Patience()


def run_blocks(
    night: Night,
    journal: Journal,
    progress: Progress,
    patience: Patience = _PATIENCE,
    *,
    roots: Path | None = None,
) -> None:
    """Run a night's blocks of Slurm's machines to their end; all cells of theirs have ended when it returns.

    A night that was cut off goes on: blocks that ended are left alone, and jobs that live are waited for. Ctrl-C,
    SIGTERM and a full disk cancel the night's jobs, and their blocks have then not ended. `roots`: see
    `slurm_job.request`. Raises `CannotRun` where Slurm is not installed, `ResultError` where the night cannot be
    written, and `ProgramError` where Slurm answers what is not understood.
    """
    lanes = _lanes(night, journal, progress, patience, roots)
    if not lanes:
        return
    slurm.check_installed()
    try:
        _run(lanes, job_name(night), patience)
    except (KeyboardInterrupt, SystemExit, ResultError):
        try:
            slurm.cancel([lane.job for lane in lanes if lane.job is not None])
        except slurm.SilentController as error:
            progress.say(f"the night's jobs could not be cancelled: {error}")
        raise


def _lanes(
    night: Night, journal: Journal, progress: Progress, patience: Patience, roots: Path | None
) -> tuple[Lane, ...]:
    """The machines with blocks that have not ended."""
    machines = [name for name, machine in night.machines.items() if machine.kind == SLURM]
    left = [block for block in night.blocks if not publish.is_closed(night.path, block.id)]
    blocks = {name: [block for block in left if block.machine == name] for name in machines}
    return tuple(
        Lane(night, own, journal, progress=progress, patience=patience, roots=roots) for own in blocks.values() if own
    )


def _run(lanes: Sequence[Lane], name: str, patience: Patience) -> None:
    while True:
        jobs: tuple[slurm.Job, ...] | None = None
        told = ""
        try:
            jobs = slurm.jobs(name)
        except slurm.SilentController as error:
            told = error.message
        for lane in lanes:
            lane.step(jobs, told)
        if all(lane.block is None for lane in lanes):
            return
        time.sleep(patience.poll_s)
