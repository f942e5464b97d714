"""Which commands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from numabench import __version__
from numabench.cli import (
    callgraph,
    diff,
    doctor,
    drivers,
    index,
    lab,
    list_runs,
    locks,
    migration,
    nightly,
    report,
    reproduce,
    run,
    state,
    sweep,
    topology,
    workloads,
)
from numabench.process import set_debug

app = typer.Typer(
    name="numabench",
    help="Benchmark NUMA page migration on Linux: how many pages moved, how fast, where to, and whether it counts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", no_args_is_help=True)(run.run)
app.command("sweep", no_args_is_help=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    sweep.sweep
)
app.command("report")(report.report)
app.command("diff", no_args_is_help=True)(diff.diff)
app.command("reproduce", no_args_is_help=True)(reproduce.reproduce)
app.command("migration", no_args_is_help=True)(migration.migration)
app.command("callgraph", no_args_is_help=True)(callgraph.callgraph)
app.command("locks", no_args_is_help=True)(locks.locks)
app.command("index", no_args_is_help=True)(index.index)
app.command("list")(list_runs.list_runs)
app.command("doctor")(doctor.doctor)
app.command("workloads")(workloads.workloads)
app.command("drivers")(drivers.drivers)
app.command("topology")(topology.topology)
app.add_typer(nightly.app, name="nightly")
app.add_typer(lab.app, name="lab")
app.add_typer(state.app, name="state")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"numabench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001  its callback answers
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print every program started, as a line to paste.")] = False,
) -> None:
    set_debug(debug)
