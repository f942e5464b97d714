"""`numabench nightly`: a lab's plan, measured every night."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from numabench.cli import nightly_install, nightly_prune, nightly_report, nightly_unattended
from numabench.cli.progress import StderrProgress
from numabench.errors import EXIT_FAILED, CannotRun, NumabenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numabench.analysis.history.types import NightVerdict
    from numabench.fleet.cells import Block
    from numabench.fleet.night_file import Night
    from numabench.fleet.plan import LabPlan, MachinePlan
    from numabench.host.root import Root

app = typer.Typer(help="Measure a lab's plan every night: machines x kernels x workloads.", no_args_is_help=True)
app.command("report", no_args_is_help=True)(nightly_report.report)
app.command("prune", no_args_is_help=True)(nightly_prune.prune)
app.command("unattended", no_args_is_help=True)(nightly_unattended.unattended)
app.command("ended", hidden=True, no_args_is_help=True)(nightly_unattended.ended)
app.command("install", no_args_is_help=True)(nightly_install.install)

_LAB_FILE = typer.Argument(metavar="LAB.toml", help="The lab's plan: see docs/nightly.md.")


@app.command("plan", no_args_is_help=True)
def plan(
    lab: Annotated[Path, _LAB_FILE],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell what a night would do: its cells in order, how long they take, and what falls out of the budget.

    Runs nothing. The seed is drawn anew each time unless the plan has one.
    """
    from numabench.fleet import history, prepare, room, verdict
    from numabench.fleet.plan_text import Outlook
    from numabench.report.escape import escape_lines

    read = _read(lab)
    durations = history.durations(read.directory)
    chosen = prepare.choose(read, durations)
    smallest = verdict.smallest_visible(read.directory)
    outlook = Outlook(read, chosen, durations, smallest, prepare.missing_kernels(read, chosen))
    if as_json:
        import json

        print(json.dumps(outlook.to_json(), indent=1))
    else:
        print(escape_lines(outlook.text()))
        told = room.told(room.needed_bytes(read.directory, chosen), room.free_bytes(read.directory.resolve()))
        if told:
            print(told)


@app.command("run", no_args_is_help=True)
def run(
    lab: Annotated[Path, _LAB_FILE],
    night: Annotated[
        str | None, typer.Option(metavar="DATE", help="The night's name. [default: today; with --resume the last]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a night where it stopped.")] = False,
    root: Annotated[Path, typer.Option(hidden=True)] = Path("/"),
) -> None:
    """Run a night: each block boots a machine with a kernel, attests it, and measures its cells there.

    A night that was interrupted, or killed, goes on with --resume. At its end the lab's index is brought up to it, and
    its verdict is written. Exits with 1 where a cell is not ok, and with 4 where another night of the lab is running,
    or the disk has no room for what nights before took.
    """
    from numabench.fleet import night as of_night
    from numabench.fleet import night_file

    read = _read(lab)
    at = _root(root)
    if night is not None:
        night_file.path_of(read.directory, night)
    read.directory.mkdir(parents=True, exist_ok=True)
    directory = read.directory.resolve()
    progress = StderrProgress()
    try:
        with of_night.alone(directory):
            if resume:
                chosen = night_file.load(night_file.path_of(directory, night or of_night.last(directory)))
                _require(chosen.machines, chosen.blocks)
            else:
                chosen = _begin(read, directory, night, progress, at)
            progress.say(f"night {chosen.name}: {len(chosen.cells)} cells in {len(chosen.blocks)} boots: {chosen.path}")
            how = of_night.run_night(chosen, directory, progress, root=at)
            verdict = _verdict(directory, chosen, progress)
    finally:
        progress.clear()
    _show(chosen, directory, how, verdict)


@app.command("acknowledge", no_args_is_help=True)
def acknowledge(
    lab: Annotated[Path, _LAB_FILE],
    cell: Annotated[str, typer.Argument(metavar="CELL", help="The cell, as the report names it.")],
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="Its figure: default/mb_per_s; * is all of them.")],
    night: Annotated[str, typer.Option(metavar="DATE", help="The first night of the new level.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it is known.")],
) -> None:
    """Acknowledge a change: it is shown with its reason, and alarms no more.

    It is written to acknowledged.toml in the lab's directory, which may be edited by hand.
    """
    from numabench.analysis.history.night import Known
    from numabench.fleet import acknowledged
    from numabench.report.escape import escape

    directory = _read(lab).directory
    acknowledged.add(directory, Known(cell, metric, night, reason))
    print(f"{escape(str(directory / acknowledged.ACKNOWLEDGED_FILE))}: {escape(f'{cell} {metric}')}, {night}")


@app.command("block", hidden=True, no_args_is_help=True)
def block(
    night: Annotated[Path, typer.Argument(metavar="NIGHT_DIR")],
    block_id: Annotated[str, typer.Argument(metavar="BLOCK")],
    attempt_token: Annotated[str, typer.Option(metavar="TOKEN", help="The caller's name for this attempt.")],
    root: Annotated[Path, typer.Option(help="Where the booted kernel is read from.")] = Path("/"),
) -> None:
    """Run what is left of one block of a night, on the machine and in the boot that it is for.

    Exits with 0 where all its cells ended, with 4 on a wrong kernel, else with 1.
    """
    from numabench.fleet.block import run_block

    progress = StderrProgress()
    try:
        _load_what_runs_need()
        status = run_block(night.absolute(), block_id, attempt_token, _main, progress, root=_root(root))
    finally:
        progress.clear()
    raise typer.Exit(status)


def _load_what_runs_need() -> None:
    """Import it once: each run of a block is a fork."""
    import numabench.cli.request
    import numabench.cli.run
    import numabench.experiment.run
    import numabench.host.identity  # noqa: F401


def _main(argv: Sequence[str]) -> NoReturn:
    """Run numabench's command line in this process."""
    from numabench.cli.app import main

    sys.argv = ["numabench", *argv]
    main()


def _root(directory: Path) -> Root:
    from numabench.host.root import Root

    if not directory.is_dir():
        raise UsageError(f"--root {directory} is not a directory", "leave it out")
    return Root(directory)


def _read(lab: Path) -> LabPlan:
    from numabench.cli.run_words import run_words
    from numabench.fleet import plan as of_plan

    return of_plan.read(lab, run_words())


def _begin(read: LabPlan, directory: Path, name: str | None, progress: StderrProgress, root: Root) -> Night:
    """Decide what a new night does, have its kernels and workloads built, and write its plan."""
    from numabench.fleet import history, night_file, prepare, room

    date = name or night_file.new_name(directory, f"{datetime.datetime.now().astimezone():%Y-%m-%d}")
    night_file.check_new(directory, date)
    chosen = prepare.choose(read, history.durations(directory))
    if not chosen.cells:
        raise UsageError(
            "nothing fits into the night's budget", f"see what it takes: numabench nightly plan {read.file}"
        )
    _require(read.machines, chosen.blocks)
    told = room.check(directory, chosen)
    if told:
        progress.say(told)
    future = [each for each in (*night_file.names(directory), date) if night_file.is_future(each)]
    if future:
        progress.say(f"of the future, and so never the last: night {', '.join(future)}; see the clock, or remove it")
    _build_workloads(read)
    night = prepare.make_night(read, date, chosen, progress.say, root)
    night_file.create(night)
    return night


def _build_workloads(read: LabPlan) -> None:
    """Build what the night runs here, once: a guest is slow at it and cannot keep it."""
    from numabench.workload import build

    names = {words[1] for experiment in read.experiments for words in experiment.words}
    known = {setting for setting in names if not setting.startswith("-")}
    for name in sorted(known):
        build.build(name)


def _require(machines: Mapping[str, MachinePlan], blocks: Sequence[Block]) -> None:
    """Refuse a night with guests where none can run: before it has a directory, or is gone on with."""
    from numabench.fleet.plan import GUEST
    from numabench.lab.requirements import INSTALL_HINT, requirements

    if any(machines[block.machine].kind == GUEST for block in blocks):
        lacking = requirements()
        if lacking:
            raise CannotRun("a guest", lacking, INSTALL_HINT)


def _verdict(lab: Path, night: Night, progress: StderrProgress) -> NightVerdict | None:
    """The night's verdict; None where it cannot be made, which is told, and does not undo the night."""
    from numabench.cli.index import measured
    from numabench.fleet import verdict

    progress.say(f"night {night.name}: judging it")
    try:
        return verdict.bring_up(lab, night.name, measured, progress.say)
    except NumabenchError as error:
        progress.clear()
        print(f"numabench: the night has no verdict: {error}", file=sys.stderr)
        return None


def _show(night: Night, lab: Path, how: str, verdict: NightVerdict | None) -> None:
    """Tell what became of the night's cells; exits with 1 where not all are ok."""
    from numabench.fleet.ledger import cell_states
    from numabench.fleet.outcome import OK, STATES
    from numabench.report.escape import escape

    states = cell_states(night, lab)
    counts = {state: sum(one == state for one, _ in states.values()) for state in STATES}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    print(f"night {night.name}: {how}: {told}")
    for cell, (state, reason) in states.items():
        if state != OK:
            print(f"  {escape(cell)}: {state}: {escape(reason)}")
    if verdict is not None and verdict.regressions:
        worse = dict.fromkeys(key.cell for key in verdict.regressions)
        print(f"worse than before: {len(verdict.regressions)} figures of {', '.join(map(escape, worse))}")
    if counts[OK] < len(states) or how != "done":
        raise typer.Exit(EXIT_FAILED)
