"""`numabench sweep`: a matrix of runs, shuffled and resumable, here or all in one guest."""

from __future__ import annotations

import contextlib
import random
import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli import outputs, report, run_words, sweep_cells
from numabench.cli.progress import StderrProgress
from numabench.cli.run import (
    DEFAULT_RESULTS,
    GUEST_SILENCE_S,
    GUEST_START_S,
    TRIAL_EXTRA_S,
    GuestWish,
    needs_guest,
    run_here,
)
from numabench.errors import EXIT_CANNOT_RUN, EXIT_FAILED, CannotRun, Unfit, UsageError
from numabench.record import CANNOT_RUN
from numabench.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.experiment.plan import Request
    from numabench.experiment.progress import Progress
    from numabench.host.topology import Topology
    from numabench.lab.shapes import Shape
    from numabench.record import Sweep, SweepAxis

_SEED_LIMIT = 2**31


def sweep(
    context: typer.Context,
    pairs: Annotated[
        str | None,
        typer.Option(metavar="all|S>T,...", help="Sweep over pairs of nodes, too: all of --nodes, or 0>1,1>0."),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, max=10000, help="Each holds every cell once, shuffled. [default: 3]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Of the order, and of each unit. [default: random]")
    ] = None,
    stall_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="What p99 of the victims' accesses may be, e.g. 100us.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="SWEEP|last", help="Go on with a sweep where it stopped.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where result directories go.")] = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write a line for each unit as CSV.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the report's pictures there, too.")] = None,
    native: Annotated[bool, typer.Option("--native", help="Run on this machine or not at all.")] = False,
    lab: Annotated[bool, typer.Option("--lab", help="Run in a guest, even where this machine would do.")] = False,
    kernel: Annotated[str | None, typer.Option(help="The guest's kernel: see `numabench lab run --help`.")] = None,
    cpus_per_node: Annotated[int, typer.Option(min=1, max=64, help="CPUs of each node of a guest.")] = 1,
    memory_per_node: Annotated[str | None, typer.Option(help="Memory of each node of a guest. [default: 1G]")] = None,
    inside: Annotated[bool, typer.Option("--inside", hidden=True)] = False,
) -> None:
    """Run a workload with every combination of options, in a shuffled order, and report what pays.

    `numabench sweep pingpong --driver move_pages --batch 1,8,64,512 --threads 1,2 --pages 4k,thp`: the options are
    those of `numabench run`, and each of these may have a list: --driver --pages --threads --batch --order --mover
    --mover-on --route --retries --sharing --mapping --victims --victim-access --victim-pattern --victim-on --depth
    --fanout --mover-at --size --start-node --thp --balancing. Each unit is a run of one measured trial. A sweep that
    was interrupted, or killed, goes on with --resume.
    """
    guest = GuestWish(kernel, cpus_per_node, None if memory_per_node is None else parse_size(memory_per_node))
    budget_s = None if stall_budget is None else parse_duration(stall_budget)
    view = report.SweepView(as_json=as_json, csv=csv, png=png, stall_budget_s=budget_s)
    outputs.check(results if resume is None else None, png=png, csv=csv)
    progress = StderrProgress()
    try:
        if resume is not None:
            if context.args or pairs or repeats or seed is not None or native or lab or guest != GuestWish():
                raise UsageError("--resume takes everything from the sweep", "give it --results and what to show alone")
            path = _find(results, resume)
        else:
            where = _where(native=native, lab=lab, guest=guest)
            path = _begin(context.args, pairs, repeats or 3, seed, budget_s, results, where, progress)
        _go_on(path, progress, inside=inside)
    finally:
        progress.clear()
    if not inside:
        _show(path, view)


@dataclass(frozen=True)
class _Where:
    """Where a sweep was asked to run; neither `native` nor `lab`: the machine decides."""

    native: bool
    lab: bool
    guest: GuestWish


def _where(*, native: bool, lab: bool, guest: GuestWish) -> _Where:
    if native and lab:
        raise UsageError("--native and --lab exclude each other", "leave both out to have the machine decide")
    if native and guest != GuestWish():
        raise UsageError("--kernel, --cpus-per-node and --memory-per-node are of a guest", "leave out --native")
    return _Where(native, lab, guest)


def _find(results: Path, word: str) -> Path:
    from numabench import store

    return store.find(results, word, having=(store.SWEEP_FILE,))


def _begin(
    words: Sequence[str],
    pairs: str | None,
    repeats: int,
    seed: int | None,
    budget_s: float | None,
    results: Path,
    where: _Where,
    progress: Progress,
) -> Path:
    """Check every cell and write the sweep's plan; nothing runs before all of it can be meant."""
    from numabench import store
    from numabench.experiment import matrix
    from numabench.host import topology as host_topology

    workload, options = sweep_cells.options(words)
    axes, same = matrix.split(options)
    matrix.check_units(axes, repeats)
    topology = host_topology.read()
    if pairs is not None:
        axes = (_pairs(pairs, workload, axes, same, topology, where, progress), *axes)
        # Each pair names its nodes: what was asked for says of which nodes all pairs are.
        same = matrix.without(same, "--nodes")
        matrix.check_units(axes, repeats)
    cells = matrix.cells(workload, axes, same)
    requests = sweep_cells.requests(axes, cells, progress)
    is_for_guest = _is_for_guest(requests, topology, where, progress)
    machine = _shape(requests, where.guest).topology() if is_for_guest else topology
    sweep_cells.check_plans(axes, cells, requests, machine, progress)
    guest = _guest(requests, where.guest) if is_for_guest else None
    chosen = random.SystemRandom().randrange(_SEED_LIMIT) if seed is None else seed
    _build(workload)
    plan = {
        "argv": ["numabench", *sys.argv[1:]],
        **matrix.plan(workload, axes, cells, repeats, chosen),
        "timeout_s": requests[0].timeout_s,
        "stall_budget_s": budget_s,
        "guest": guest,
    }
    path = store.create_sweep(results, store.new_run_id(f"sweep-{workload}"), plan)
    units = len(cells) * repeats
    progress.say(f"results: {path}: {len(cells)} cells in {repeats} repeats, {units} units")
    return path


def _pairs(
    text: str,
    workload: str,
    axes: Sequence[SweepAxis],
    same: Sequence[str],
    topology: Topology,
    where: _Where,
    progress: Progress,
) -> SweepAxis:
    from numabench.experiment import matrix, plan
    from numabench.experiment.drive_request import ONE_WAY

    (first,) = sweep_cells.requests(axes, [matrix.first_cell(workload, axes, same)], progress)
    if "--start-node" in same or any(axis.name == "start-node" for axis in axes):
        raise UsageError("--pairs and --start-node exclude each other", "a pair begins on its source")
    if text != matrix.ALL_PAIRS:
        if "--nodes" in same:
            raise UsageError("--pairs names the nodes", "leave out --nodes, or pass --pairs all")
        return matrix.pair_axis(text, (), both_ways=False)
    asked = plan.asked_nodes(first.nodes)
    nodes: Sequence[int]
    if where.lab or (not where.native and plan.missing_nodes(first, topology)):
        nodes = range(asked) if isinstance(asked, int) else asked
    else:
        nodes = plan.choose_nodes(first, topology)
    one_way = first.drive.route == ONE_WAY or any(ONE_WAY in axis.values for axis in axes if axis.name == "route")
    return matrix.pair_axis(text, nodes, both_ways=one_way)


def _is_for_guest(requests: Sequence[Request], topology: Topology, where: _Where, progress: Progress) -> bool:
    """Whether all of the sweep runs in a guest; else this machine serves all cells, or has to."""
    from numabench.experiment import plan

    lacking = [request for request in requests if plan.missing_nodes(request, topology)]
    if where.native and len(lacking) == len(requests):
        raise CannotRun(lacking[0].name, plan.missing_nodes(lacking[0], topology))
    if not where.native and (where.lab or (lacking and needs_guest(lacking[0], topology, progress))):
        return True
    if where.guest != GuestWish():
        raise UsageError("--kernel, --cpus-per-node and --memory-per-node are of a guest", "pass --lab to have one")
    return False


def _shape(requests: Sequence[Request], guest: GuestWish) -> Shape:
    """That of the smallest guest which serves all cells."""
    from numabench.experiment import plan
    from numabench.lab.shapes import shape_for

    return shape_for(
        max(plan.guest_nodes(request) for request in requests),
        memory_per_node_bytes=guest.memory_per_node_bytes,
        cpus_per_node=guest.cpus_per_node,
    )


def _guest(requests: Sequence[Request], guest: GuestWish) -> dict[str, object]:
    """The guest that all of the sweep runs in, for its record."""
    from numabench.experiment import plan
    from numabench.lab.delegate import choose_kernel

    return {
        "nodes": max(plan.guest_nodes(request) for request in requests),
        # A guest of another kernel is no place to go on: the name is kept also where it was not asked for.
        "kernel": choose_kernel(guest.kernel).wish,
        "cpus_per_node": guest.cpus_per_node,
        "memory_per_node_bytes": guest.memory_per_node_bytes,
    }


def _build(workload: str) -> None:
    from numabench.workload import build, catalog

    build.build(catalog.find(workload).name)


def _go_on(path: Path, progress: Progress, *, inside: bool) -> None:
    """Run what is left of a sweep: here, or in its guest."""
    from numabench import store

    plan = store.read_plan(path)
    if plan.guest is not None and not inside:
        if not plan.is_complete:
            _run_in_guest(plan, progress)
        return
    _recover(progress)
    if plan.is_complete:
        return
    from numabench.experiment.sweep import run_sweep
    from numabench.host import topology as host_topology
    from numabench.host.identity import identity

    who = identity()

    def run_unit(argv: tuple[str, ...], results_dir: Path, run_id: str, progress: Progress) -> None:
        run_here(run_words.request(argv), results_dir, run_id, host_topology.read(), progress, who=who)

    run_sweep(path, run_unit, progress, who=who)


def _recover(progress: Progress) -> None:
    """Put back what a unit that was killed has left set: its trial may be whole, and no other one left to do so."""
    from numabench.host import cpuset, knobs

    # One that lives has the knobs: it puts them back itself.
    with contextlib.suppress(Unfit):
        knobs.recover_before_run(on_write=progress.say)
    cpuset.recover()


def _run_in_guest(plan: Sweep, progress: Progress) -> None:
    """Have one guest, and one Python in it, run what is left: both take long to start."""
    from numabench import store
    from numabench.lab.delegate import run_in_guest

    assert plan.guest is not None
    _build(plan.workload)
    directory = plan.path.resolve().parent
    # A guest's lock does not reach this machine.
    with store.alone(plan.path):
        status = run_in_guest(
            ["sweep", "--resume", str(directory / plan.sweep_id), "--inside", "--results", str(directory)],
            shown=plan.argv,
            results_dir=directory,
            nodes=plan.guest.nodes,
            kernel=plan.guest.kernel,
            timeout_s=GUEST_START_S + plan.pending * (2 * plan.timeout_s + TRIAL_EXTRA_S),
            silence_s=GUEST_SILENCE_S,
            memory_per_node_bytes=plan.guest.memory_per_node_bytes,
            cpus_per_node=plan.guest.cpus_per_node,
        )
    if status != 0:
        progress.say(f"the sweep stopped; go on with it: numabench sweep --resume {plan.sweep_id}")
        raise typer.Exit(status)


def _show(path: Path, view: report.SweepView) -> None:
    from numabench import store

    loaded = store.load_sweep(path)
    report.show_sweep(loaded, view)
    if all(unit.status == CANNOT_RUN for unit in loaded.units):
        raise typer.Exit(EXIT_CANNOT_RUN)
    if any(unit.status != CANNOT_RUN and not unit.is_well for unit in loaded.units):
        raise typer.Exit(EXIT_FAILED)
