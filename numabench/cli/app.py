"""The command line: which commands there are, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from numabench import __version__
from numabench.cli import callgraph, lab, list_runs, locks, report, run, topology, workloads
from numabench.errors import EXIT_FAILED, EXIT_INTERRUPTED, NumabenchError
from numabench.process import set_debug
from numabench.report.escape import escape, escape_lines

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
app.command("report")(report.report)
app.command("callgraph", no_args_is_help=True)(callgraph.callgraph)
app.command("locks", no_args_is_help=True)(locks.locks)
app.command("list")(list_runs.list_runs)
app.command("workloads")(workloads.workloads)
app.command("topology")(topology.topology)
app.add_typer(lab.app, name="lab")


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


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> NoReturn:
    """Run the command line and exit with its code: see `numabench.errors` for what each means."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except NumabenchError as error:
        print(f"numabench: {escape_lines(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("numabench: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our answer left (`numabench list | head`): not an error, and nothing more can be said.
        _drop_stdout()
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        _drop_stdout()
        where = escape(str(error.filename)) if error.filename else "cannot write the answer"
        print(f"numabench: {where}: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    sys.exit(0)


def _drop_stdout() -> None:
    """Have what is still buffered go nowhere, so that the interpreter does not fail on it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
