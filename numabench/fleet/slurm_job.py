"""A block of a night as a job of Slurm's: what is asked for, and the script that runs on the node."""

from __future__ import annotations

import hashlib
import os
import shlex
from typing import TYPE_CHECKING

from numabench.fleet import night_file, slurm
from numabench.fleet.block import TRIES_IN_A_BOOT
from numabench.fleet.cell_run import own_command, own_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numabench.fleet.cells import Block
    from numabench.fleet.night_file import Night
    from numabench.fleet.plan import MachinePlan

# Where jobs print to, below the night's directory.
JOBS = "jobs"
# Beyond what its cells may take: the start of the job, and the end of a run that puts the machine back.
_EXTRA_S = 300.0


def job_name(night: Night) -> str:
    """The name that all jobs of a night have, and no other night's."""
    digest = hashlib.sha256(str(night.path).encode()).hexdigest()[:8]
    return f"numabench-{night.name}-{digest}"


def output_file(night: Night, block: Block) -> Path:
    """What the job of a block prints goes there, one start behind another."""
    return night.path / JOBS / f"{block.id}.txt"


def candidates(machine: MachinePlan, nodes: Iterable[slurm.Node]) -> tuple[slurm.Node, ...]:
    """Those of the nodes that a machine of a plan may be: of its names, where it has any, and with all its features."""
    return tuple(
        node
        for node in nodes
        if (not machine.nodes or node.name in machine.nodes) and set(machine.features) <= set(node.features)
    )


def request(
    night: Night, block: Block, cells: Sequence[str], nodes: Sequence[slurm.Node], roots: Path | None
) -> slurm.JobRequest:
    """The job for what is left of a block; `nodes` are those of its partition.

    `roots` is a directory in which each node's name is the root that its booted kernel is read from; None: `/`.
    """
    machine, kernel = night.machines[block.machine], night.kernels[block.kernel]
    several = len(machine.nodes) > 1
    return slurm.JobRequest(
        name=job_name(night),
        comment=block.id,
        script=script(night, block, roots),
        output=output_file(night, block),
        minutes=slurm.minutes(limit_s(night, cells)),
        node=machine.nodes[0] if len(machine.nodes) == 1 else "",
        # --nodelist takes all of a list, and never one of it.
        exclude=tuple(node.name for node in nodes if node.name not in machine.nodes) if several else (),
        constraint=tuple(dict.fromkeys((*machine.features, *kernel.features))),
        partition=machine.partition,
        reboot=machine.boots_anew,
    )


def limit_s(night: Night, cells: Sequence[str]) -> float:
    """When Slurm ends the job of such cells, unless the night's deadline comes first."""
    needed_s = _EXTRA_S + TRIES_IN_A_BOOT * sum(night.cells[cell].timeout_s for cell in cells)
    left_s = night_file.seconds_left(night.deadline_utc)
    return needed_s if left_s is None else min(needed_s, max(left_s, 0.0) + _EXTRA_S)


def script(night: Night, block: Block, roots: Path | None = None) -> str:
    """What the node runs. The attempt's name tells starts of one job apart: a requeued job keeps its number."""
    words = [*own_command(), "nightly", "block", str(night.path), block.id]
    name = '--attempt-token "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}"'
    root = "" if roots is None else f' --root {shlex.quote(str(roots))}/"$SLURMD_NODENAME"'
    environment = {"PATH": os.environ.get("PATH", os.defpath), **own_environment()}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(["#!/bin/sh", *lines, f"exec {shlex.join(words)} {name}{root}", ""])
