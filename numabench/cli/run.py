"""`numabench run`: plan, run here or in a guest, report."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from numabench.cli import outputs
from numabench.cli.boots import as_option, from_option, run_boots, show_boots, words_of
from numabench.cli.options import DEFAULT_PROFILE
from numabench.cli.progress import StderrProgress
from numabench.errors import EXIT_FAILED, CannotRun, UsageError
from numabench.idset import MAX_ID
from numabench.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.experiment.plan import Request
    from numabench.experiment.progress import Progress
    from numabench.experiment.run import Observation
    from numabench.host.profiles import Profile
    from numabench.host.topology import Topology
    from numabench.record import BootTurn
    from numabench.store import Run

DEFAULT_RESULTS = Path("results")
MAX_KNOB = 2**31 - 1
# Emulated, a guest needs this long to boot and to start Python, and may be silent for so long before it is given up.
GUEST_START_S = 300.0
GUEST_SILENCE_S = 300.0
# What a trial may take beyond its time: to be asked to stop, and to check its data.
TRIAL_EXTRA_S = 180.0


@dataclass(frozen=True)
class GuestWish:
    """What was asked of a guest, if one is taken."""

    kernel: str | None = None
    cpus_per_node: int = 1
    memory_per_node_bytes: int | None = None


def run(
    target: Annotated[
        list[str], typer.Argument(metavar="WORKLOAD | -- PROGRAM [ARG]...", help="See `numabench workloads`.")
    ],
    nodes: Annotated[str, typer.Option(metavar="N|LIST", help="How many nodes, or which: 2, or 0,2, or 0-1.")] = "2",
    placement: Annotated[str, typer.Option(help="default, hard, inverse or inverse-compat.")] = "default",
    all_placements: Annotated[
        bool, typer.Option("--all-placements", help="Run default, hard and inverse, and score default between them.")
    ] = False,
    start_node: Annotated[
        int | None, typer.Option(min=0, max=MAX_ID, help="Node of the first touch. [default: the first]")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Memory per process, e.g. 512M. [default: published, clipped]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=65536, help="Threads per process, or movers. [default: published; 1]")
    ] = None,
    loops: Annotated[int | None, typer.Option(min=1, max=2**40, help="Loops per thread. [default: published]")] = None,
    duration: Annotated[str | None, typer.Option(help="Stop after this time, e.g. 90s, instead of by loops.")] = None,
    thp: Annotated[str, typer.Option(help="Transparent huge pages: default, always or never.")] = "default",
    mapping: Annotated[str, typer.Option(help="memset, pingpong, forktree: one mapping, or one per-thread.")] = "one",
    driver: Annotated[
        str | None,
        typer.Option(
            help="What migrates: autonuma, move_pages, mbind, migrate_pages, cpuset, weighted-interleave, home-node, "
            "null. [default: move_pages for pingpong and forktree, else autonuma]"
        ),
    ] = None,
    mover: Annotated[
        str | None,
        typer.Option(
            help="Movers live inside the workload, or outside by its pid. [default: inside, of migrate_pages outside]"
        ),
    ] = None,
    move_all: Annotated[
        bool | None, typer.Option("--move-all", help="Move pages that other processes map, too (MPOL_MF_MOVE_ALL).")
    ] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="mbind only: with MPOL_MF_STRICT.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pages a call. [default: 512, of thp 1]")] = None,
    order: Annotated[
        str | None, typer.Option(help="Pages are taken sequential, random or interleaved. [default: sequential]")
    ] = None,
    pages: Annotated[
        str | None, typer.Option(help="4k, thp, hugetlb, or folios of 16k, 32k, ... 1m. [default: 4k]")
    ] = None,
    mover_on: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Movers run on: all, source, target, or a node. [default: all]")
    ] = None,
    victims: Annotated[
        int | None, typer.Option(min=0, max=64, help="Threads that touch the pages meanwhile. [default: 0]")
    ] = None,
    victim_access: Annotated[str | None, typer.Option(help="They read or write. [default: write]")] = None,
    victim_pattern: Annotated[str | None, typer.Option(help="sequential or random. [default: sequential]")] = None,
    victim_on: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Victims run on: as --mover-on. [default: target]")
    ] = None,
    sharing: Annotated[str | None, typer.Option(help="The memory is private or shared. [default: private]")] = None,
    route: Annotated[
        str | None, typer.Option(help="ping-pong round the nodes, or one-way to the next. [default: ping-pong]")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(min=0, max=1000, help="How often pages that stayed are asked for again. [default: 10]")
    ] = None,
    verify: Annotated[
        bool | None, typer.Option("--verify", help="Victims check what they stored, each time they come by.")
    ] = None,
    obstacles: Annotated[
        str | None,
        typer.Option(metavar="KIND:N,...", help="Pages that will not move: untouched, zero, pinned, unmapped, ksm."),
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, max=6, help="forktree: generations. [default: 3]")] = None,
    fanout: Annotated[int | None, typer.Option(min=1, max=8, help="forktree: children of each. [default: 2]")] = None,
    mover_at: Annotated[
        str | None, typer.Option(help="forktree: parent, child or sibling moves. [default: parent]")
    ] = None,
    churn: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="forktree: others fork, mremap, split, write, or none. [default: all]"),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=10000, help="Measured trials per placement.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, max=1000, help="Trials per placement before those that count.")] = 0,
    timeout: Annotated[str, typer.Option(help="At most this long per trial.")] = "30m",
    interval: Annotated[
        str, typer.Option(help="Time between samples; stretched to cost at most 1 % of a CPU.")
    ] = "250ms",
    sample_pages: Annotated[
        int | None, typer.Option(min=16, max=65536, help="Pages asked for per sample. [default: 512, emulated: 128]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31, help="Of order and samples. [default: random]")] = None,
    balancing: Annotated[
        int | None,
        typer.Option(
            min=0, max=3, help="kernel.numa_balancing while the trials run. [default: 1 for autonuma, else 0]"
        ),
    ] = None,
    scan_delay: Annotated[int | None, typer.Option(min=0, max=MAX_KNOB, metavar="MS", help="scan_delay_ms.")] = None,
    scan_period_min: Annotated[
        int | None, typer.Option(min=1, max=MAX_KNOB, metavar="MS", help="scan_period_min_ms.")
    ] = None,
    scan_period_max: Annotated[
        int | None, typer.Option(min=1, max=MAX_KNOB, metavar="MS", help="scan_period_max_ms.")
    ] = None,
    scan_size: Annotated[int | None, typer.Option(min=1, max=MAX_KNOB, metavar="MB", help="scan_size_mb.")] = None,
    profile: Annotated[
        str, typer.Option(help="Knobs while it runs: measure, quiet, none, your own; see `numabench state profiles`.")
    ] = DEFAULT_PROFILE,
    no_tune: Annotated[bool, typer.Option("--no-tune", help="Write nothing to the machine's knobs.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which knobs would be set and what would be run, and do nothing.")
    ] = False,
    observe: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Record in passes of their own: cpu, lock, sched, cost, stat; as cpu,lock."),
    ] = None,
    observe_repeats: Annotated[int, typer.Option(min=1, max=1000, help="Passes of each kind per placement.")] = 1,
    frequency: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, metavar="HZ", help="CPU samples. [default: 4999, emulated: 499]"),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where result directories go.")] = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the report's pictures there, too.")] = None,
    native: Annotated[bool, typer.Option("--native", help="Run on this machine or not at all.")] = False,
    lab: Annotated[bool, typer.Option("--lab", help="Run in a guest, even where this machine would do.")] = False,
    kernel: Annotated[
        list[str] | None,
        typer.Option(help="The guest's kernel: see `numabench lab kernel list`. Several take turns, boot by boot."),
    ] = None,
    boots: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Run in so many guests of each kernel, one after the other.")
    ] = None,
    cpus_per_node: Annotated[int, typer.Option(min=1, max=64, help="CPUs of each node of a guest.")] = 1,
    memory_per_node: Annotated[str | None, typer.Option(help="Memory of each node of a guest. [default: 1G]")] = None,
    run_id: Annotated[str | None, typer.Option(hidden=True)] = None,
    boot: Annotated[str | None, typer.Option(hidden=True)] = None,
    asked: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a workload on NUMA nodes and report how many pages the kernel migrated, how fast, and where to.

    With fewer memory nodes than asked for, the same run takes place in an emulated guest that has them. With `--boots`,
    or with two kernels, each boot leaves a run of its own, and two kernels are compared at the end.
    """
    options = dict(locals())
    from numabench.cli.request import request_from
    from numabench.host import topology as host_topology

    argv = ("numabench", *sys.argv[1:]) if asked is None else words_of(asked)
    request = request_from(options, argv=argv, foreign=_is_foreign(target))
    kernels = tuple(kernel or ())
    guest = GuestWish(
        kernels[0] if kernels else None, cpus_per_node, None if memory_per_node is None else parse_size(memory_per_node)
    )
    if native and lab:
        raise UsageError("--native and --lab exclude each other", "leave both out to have the machine decide")
    has_boots = boots is not None or len(kernels) > 1
    if native and (guest != GuestWish() or has_boots):
        raise UsageError(
            "--kernel, --boots, --cpus-per-node and --memory-per-node are of a guest", "leave out --native"
        )
    turn = from_option(boot)
    outputs.check(results, run_id=run_id, png=png)
    topology = host_topology.read()
    progress = StderrProgress()
    try:
        if dry_run:
            is_in_guest = lab or (not native and needs_guest(request, topology, progress))
            _say_what_would_be_done(request, topology, is_in_guest=is_in_guest)
            return
        if lab or (not native and needs_guest(request, topology, progress)):
            if has_boots:
                show_boots(run_boots(request, results, kernels, boots or 1, guest, progress), progress)
                return
            path = run_in_one_guest(request, results, run_id, guest, progress)
        elif (guest != GuestWish() or has_boots) and not native:
            raise UsageError(
                "--kernel, --boots, --cpus-per-node and --memory-per-node are of a guest", "pass --lab to have one"
            )
        else:
            if put_back_leftovers(request, progress):
                topology = host_topology.read()
            path = run_here(request, results, run_id, topology, progress, boot=turn)
    finally:
        progress.clear()
    if asked is None:
        _show(path, as_json=as_json, png=png)


def _is_foreign(target: list[str]) -> bool:
    """Whether the words stand behind `--`: then they are a program of the user's own."""
    return "--" in sys.argv and sys.argv[sys.argv.index("--") + 1 :] == target


def needs_guest(request: Request, topology: Topology, progress: Progress) -> bool:
    """Whether a guest must serve the request, which is then told; `CannotRun` where none can run here either."""
    from numabench.experiment import plan as planning

    reasons = planning.missing_nodes(request, topology)
    if not reasons:
        return False
    from numabench.lab.requirements import INSTALL_HINT, requirements

    lacking = requirements()
    if lacking:
        raise CannotRun(request.name, (*reasons, "nor can a guest run here: " + "; ".join(lacking)), INSTALL_HINT)
    progress.say(f"{request.name} {'; '.join(reasons)}: it runs in an emulated guest")
    return True


def _say_what_would_be_done(request: Request, topology: Topology, *, is_in_guest: bool) -> None:
    """A line for each knob that would be written, and one for what would be run; nothing is written."""
    from numabench.experiment.plan import make_plan
    from numabench.host import knobs
    from numabench.host.identity import identity
    from numabench.report.escape import escape
    from numabench.workload import catalog

    if is_in_guest:
        print(f"would run {escape(request.name)} in an emulated guest: no knob of this machine would be written")
        return
    spec = None if request.command else catalog.find(request.workload)
    plan = make_plan(request, spec, topology, emulated=identity()["accelerator"] == "tcg", observe=request.observe)
    lines = [line for line, _ in knobs.planned_release(only_killed=True)] if plan.knobs else []
    lines += [knobs.told_before(write) for write in knobs.planned(dict(plan.knobs))]
    nodes = ", ".join(map(str, plan.nodes))
    for line in (*lines, f"would run {len(plan.order)} trials of {plan.name} on nodes {nodes}, and put all knobs back"):
        print(escape(line))


def put_back_leftovers(request: Request, progress: Progress) -> bool:
    """Put back what a killed run has left, which the plan would take for the machine's own; whether there was any."""
    from numabench.host import knobs

    return not request.no_tune and knobs.recover_before_run(on_write=progress.say)


def run_here(
    request: Request,
    results: Path,
    run_id: str | None,
    topology: Topology,
    progress: Progress,
    *,
    who: dict[str, Any] | None = None,
    boot: BootTurn | None = None,
) -> Path:
    """Plan and run a request on this machine; the run's directory.

    `who` is its identity where that was asked before, `boot` its turn among the boots of one command. Raises what
    `make_plan` and `run_plan` do.
    """
    from numabench import store
    from numabench.experiment.plan import make_plan
    from numabench.experiment.run import run_plan
    from numabench.host.identity import identity
    from numabench.workload import catalog

    spec = None if request.command else catalog.find(request.workload)
    who = who or identity()
    emulated = who["accelerator"] == "tcg"
    observe = _observation(request, progress, emulated=emulated) if request.observe else None
    passes = tuple(recipe.name for recipe in observe.choice.recipes) if observe else ()
    plan = make_plan(request, spec, topology, emulated=emulated, observe=passes)
    for text in plan.scaled:
        progress.say(f"note: {text}")
    chosen_id = run_id or store.new_run_id(plan.name)
    return run_plan(plan, results, chosen_id, topology=topology, who=who, progress=progress, observe=observe, boot=boot)


def _observation(request: Request, progress: Progress, *, emulated: bool) -> Observation:
    """What of the asked passes can take place here; `CannotRun` where none can."""
    from numabench.experiment.run import Observation
    from numabench.observe import kernel_symbols, offer, recipes

    progress.status("looking at perf and at the kernel's symbols")
    kallsyms = kernel_symbols.read()
    found = offer.probe(kallsyms)
    choice = recipes.choose(request.observe, found, emulated=emulated, frequency_hz=request.frequency_hz)
    for remark in choice.remarks:
        progress.say(f"note: {remark.message} ({remark.remedy})")
    return Observation(choice, kallsyms, found.perf_version)


def run_in_one_guest(
    request: Request,
    results: Path,
    run_id: str | None,
    guest: GuestWish,
    progress: StderrProgress,
    *,
    boot: BootTurn | None = None,
) -> Path:
    """Run the same command line in a guest; only its result directory comes back.

    `boot` is its turn among several.
    """
    import json

    from numabench import store
    from numabench.experiment.plan import guest_nodes
    from numabench.lab.delegate import run_in_guest
    from numabench.workload import build, catalog

    nodes = guest_nodes(request)
    if not request.command:
        build.build(catalog.find(request.workload).name)
    chosen_id = run_id or store.new_run_id(request.name)
    store.check_writable(results)
    mark = request.argv.index("--") if "--" in request.argv else len(request.argv)
    own, rest = request.argv[1:mark], request.argv[mark:]
    added = [
        "--native",
        "--run-id",
        chosen_id,
        "--results",
        str(results.resolve()),
        "--asked",
        json.dumps(request.argv),
        *(() if boot is None else ("--boot", as_option(boot))),
    ]
    passes = request.observe_repeats * (len(request.observe) + 1) if request.observe else 0
    trials = len(request.placements) * (request.repeats + request.warmup + passes)
    # A guest's lock does not reach this machine: `numabench list` asks for this one.
    with store.held(results, chosen_id):
        status = run_in_guest(
            [*_for_guest(own, request.profile), *added, *rest],
            shown=request.argv,
            results_dir=results.resolve(),
            nodes=nodes,
            kernel=guest.kernel,
            timeout_s=GUEST_START_S + trials * (2 * request.timeout_s + TRIAL_EXTRA_S),
            silence_s=GUEST_SILENCE_S,
            memory_per_node_bytes=guest.memory_per_node_bytes,
            cpus_per_node=guest.cpus_per_node,
        )
    path = results / chosen_id
    if status != 0 and not path.exists():
        raise typer.Exit(status)
    progress.say(f"results: {path}")
    return path


def _for_guest(own: Sequence[str], profile: Profile) -> list[str]:
    """A command line without the options that are of the guest, and with the profile's knobs, whose file it lacks."""
    kept, words = [], iter(own)
    for word in words:
        name, equals, _ = word.partition("=")
        if name == "--profile":
            kept.append(f"{name}={profile.word}")
        if name in {"--kernel", "--boots", "--cpus-per-node", "--memory-per-node", "--profile"}:
            if not equals:
                next(words, None)
        elif word != "--lab":
            kept.append(word)
    return kept


def _show(path: Path, *, as_json: bool, png: Path | None) -> None:
    from numabench import store
    from numabench.cli.report import show

    loaded: Run = store.load(path)
    show(loaded, as_json=as_json, png=png)
    if not loaded.complete or any(trial.status != "ok" for trial in loaded.trials):
        raise typer.Exit(EXIT_FAILED)
