"""`numabench run`: plan, run here or in a guest, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.cli.progress import StderrProgress
from numabench.errors import EXIT_FAILED, CannotRun, UsageError
from numabench.units import parse_duration, parse_size

if TYPE_CHECKING:
    from numabench.experiment.plan import Request
    from numabench.host.topology import Topology
    from numabench.store import Run

DEFAULT_RESULTS = Path("results")
# What is added to the user's command line for the guest, followed by --run-id ID --results DIR.
RECORD_HERE = ("--native", "--record-only")
RECORD_HERE_WORDS = len(RECORD_HERE) + 4


def run(
    target: Annotated[
        list[str], typer.Argument(metavar="WORKLOAD | -- PROGRAM [ARG]...", help="See `numabench workloads`.")
    ],
    nodes: Annotated[str, typer.Option(metavar="N|LIST", help="How many nodes, or which: 2, or 0,2, or 0-1.")] = "2",
    placement: Annotated[str, typer.Option(help="default, hard, inverse or inverse-compat.")] = "default",
    all_placements: Annotated[
        bool, typer.Option("--all-placements", help="Run default, hard and inverse, and score default between them.")
    ] = False,
    start_node: Annotated[int | None, typer.Option(min=0, help="Node of the first touch. [default: the first]")] = None,
    size: Annotated[
        str | None, typer.Option(help="Memory per process, e.g. 512M. [default: published, clipped]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=65536, help="Threads per process. [default: published]")
    ] = None,
    loops: Annotated[int | None, typer.Option(min=1, max=2**40, help="Loops per thread. [default: published]")] = None,
    duration: Annotated[str | None, typer.Option(help="Stop after this time, e.g. 90s, instead of by loops.")] = None,
    thp: Annotated[str, typer.Option(help="Transparent huge pages: default, always or never.")] = "default",
    mapping: Annotated[str, typer.Option(help="memset only: one mapping, or one per-thread.")] = "one",
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
        int, typer.Option(min=0, max=3, help="kernel.numa_balancing while the trials run (numa(7), sysctl kernel.rst).")
    ] = 1,
    scan_delay: Annotated[str | None, typer.Option(metavar="MS", help="Balancing's scan_delay_ms.")] = None,
    scan_period_min: Annotated[str | None, typer.Option(metavar="MS", help="Balancing's scan_period_min_ms.")] = None,
    scan_period_max: Annotated[str | None, typer.Option(metavar="MS", help="Balancing's scan_period_max_ms.")] = None,
    scan_size: Annotated[str | None, typer.Option(metavar="MB", help="Balancing's scan_size_mb.")] = None,
    no_tune: Annotated[bool, typer.Option("--no-tune", help="Write nothing to the machine's knobs.")] = False,
    results: Annotated[Path, typer.Option(help="Where result directories go.")] = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the report's pictures there, too.")] = None,
    native: Annotated[bool, typer.Option("--native", help="Run on this machine or not at all.")] = False,
    lab: Annotated[bool, typer.Option("--lab", help="Run in a guest, even where this machine would do.")] = False,
    kernel: Annotated[str | None, typer.Option(help="The guest's kernel: see `numabench lab kernel list`.")] = None,
    run_id: Annotated[str | None, typer.Option(hidden=True)] = None,
    record_only: Annotated[bool, typer.Option("--record-only", hidden=True)] = False,
) -> None:
    """Run a workload on NUMA nodes and report how many pages the kernel migrated, how fast, and where to.

    With fewer memory nodes than asked for, the same run takes place in an emulated guest that has them.
    """
    from numabench.experiment import plan as planning
    from numabench.host import topology as host_topology

    foreign = _is_foreign(target)
    if not foreign and len(target) != 1:
        raise UsageError(f"'{target[1]}' is one word too many", "a program of your own goes after '--'")
    if native and lab:
        raise UsageError("--native and --lab exclude each other", "leave both out to have the machine decide")
    if all_placements and placement != "default":
        raise UsageError("--all-placements and --placement exclude each other", "leave one out")
    knobs = {
        "numa_balancing": str(balancing),
        "scan_delay_ms": scan_delay,
        "scan_period_min_ms": scan_period_min,
        "scan_period_max_ms": scan_period_max,
        "scan_size_mb": scan_size,
    }
    request = planning.Request(
        argv=("numabench", *_as_asked(sys.argv[1:])),
        workload=planning.FOREIGN if foreign else target[0],
        command=tuple(target) if foreign else (),
        nodes=nodes,
        placements=planning.ALL_PLACEMENTS if all_placements else (placement,),
        start_node=start_node,
        size_bytes=None if size is None else parse_size(size),
        threads=threads,
        loops=loops,
        duration_s=None if duration is None else parse_duration(duration),
        thp=thp,
        mapping=mapping,
        repeats=repeats,
        warmup=warmup,
        timeout_s=parse_duration(timeout),
        interval_s=parse_duration(interval),
        sample_pages=sample_pages,
        seed=seed,
        knobs=()
        if no_tune
        else tuple((name, _number(name, value)) for name, value in knobs.items() if value is not None),
    )
    planning.check_request(request)
    topology = host_topology.read()
    progress = StderrProgress()
    try:
        if lab or (not native and _needs_guest(request, topology, progress)):
            path = _run_in_guest(request, results, run_id, kernel, progress)
        else:
            path = _run_here(request, results, run_id, topology, progress)
    finally:
        progress.clear()
    if record_only:
        print(path)
        return
    _show(path, as_json=as_json, png=png)


def _is_foreign(target: list[str]) -> bool:
    """Whether the words stand behind `--`: then they are a program of the user's own."""
    return "--" in sys.argv and sys.argv[sys.argv.index("--") + 1 :] == target


def _number(name: str, text: str) -> str:
    if not text.isdecimal() or not 0 <= int(text) < 2**31:
        raise UsageError(f"--{name.removesuffix('_ms').removesuffix('_mb').replace('_', '-')} {text} is not a number")
    return text


def _needs_guest(request: Request, topology: Topology, progress: StderrProgress) -> bool:
    """Whether a guest must serve the request; `CannotRun` where none can run here either."""
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


def _run_here(
    request: Request, results: Path, run_id: str | None, topology: Topology, progress: StderrProgress
) -> Path:
    from numabench import store
    from numabench.experiment.plan import make_plan
    from numabench.experiment.run import run_plan
    from numabench.host.identity import identity
    from numabench.workload import catalog

    spec = None if request.command else catalog.find(request.workload)
    plan = make_plan(request, spec, topology, emulated=identity()["accelerator"] == "tcg")
    for text in plan.scaled:
        progress.say(f"note: {text}")
    return run_plan(plan, results, run_id or store.new_run_id(plan.name), topology=topology, progress=progress)


def _run_in_guest(
    request: Request, results: Path, run_id: str | None, kernel: str | None, progress: StderrProgress
) -> Path:
    """Run the same command line in a guest; only its result directory comes back."""
    from numabench import store
    from numabench.experiment.plan import guest_nodes
    from numabench.lab.delegate import run_in_guest
    from numabench.workload import build, catalog

    if not request.command:
        build.build(catalog.find(request.workload).name)
    chosen_id = run_id or store.new_run_id(request.name)
    store.check_writable(results)
    own, mark, command = _split(sys.argv[1:])
    argv = [*own, *RECORD_HERE, "--run-id", chosen_id, "--results", str(results.resolve()), *mark, *command]
    trials = len(request.placements) * (request.repeats + request.warmup)
    status = run_in_guest(
        [word for word in argv if word != "--lab"],
        results_dir=results.resolve(),
        nodes=guest_nodes(request),
        kernel=kernel,
        timeout_s=trials * request.timeout_s,
    )
    path = results / chosen_id
    if status != 0 and not path.exists():
        raise typer.Exit(status)
    progress.say(f"results: {path}")
    return path


def _as_asked(argv: list[str]) -> list[str]:
    """The command line as the user gave it, without what was added for the guest."""
    own, mark, command = _split(argv)
    if tuple(own[-RECORD_HERE_WORDS:][: len(RECORD_HERE)]) == RECORD_HERE:
        own = own[:-RECORD_HERE_WORDS]
    return [*own, *mark, *command]


def _split(argv: list[str]) -> tuple[list[str], list[str], list[str]]:
    """A command line's own words, the `--`, and the words behind it."""
    if "--" not in argv:
        return argv, [], []
    mark = argv.index("--")
    return argv[:mark], ["--"], argv[mark + 1 :]


def _show(path: Path, *, as_json: bool, png: Path | None) -> None:
    from numabench import store
    from numabench.cli.report import show

    loaded: Run = store.load(path)
    show(loaded, as_json=as_json, png=png)
    if not loaded.complete or any(trial.status != "ok" for trial in loaded.trials):
        raise typer.Exit(EXIT_FAILED)
