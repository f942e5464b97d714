"""What the words of a `numabench run` ask for, where another command gives them: a sweep, a reproduction, a lab."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import typer
import typer.main

from numabench.cli.request import request_from
from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.experiment.plan import Request
    from numabench.fleet.experiment import RunWords


@functools.cache
def run_command() -> Any:
    """The command line of `numabench run`, as click has it."""
    from numabench.cli.run import run

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command("run")(run)
    return typer.main.get_command(app)


def request(argv: Sequence[str]) -> Request:
    """What the words of a `numabench run` ask for. Raises what `request_from` does."""
    try:
        context = run_command().make_context("numabench run", list(argv[1:]))
    except typer.BadParameter as error:
        raise _cannot_be(error, argv) from None
    return request_from(context.params, argv=("numabench", *argv), foreign="--" in argv)


def run_words() -> RunWords:
    """The command line of `numabench run`, for plans that are made of its words."""
    from numabench.fleet.experiment import RunWords

    flags = {
        name.removeprefix("--"): bool(option.is_flag)
        for option in run_command().params
        for name in option.opts
        if name.startswith("--")
    }
    return RunWords(flags, request)


def _cannot_be(error: typer.BadParameter, argv: Sequence[str]) -> UsageError:
    """What click says of a value, without its usage line: that is of a command nobody gave."""
    option = next((name for name in (error.param.opts if error.param else ()) if name in argv), None)
    if option is None:
        return UsageError(error.format_message().rstrip("."), "see numabench run --help")
    value = argv[argv.index(option) + 1]
    return UsageError(f"{option} cannot be '{value}': {error.message.rstrip('.')}", "see numabench run --help")
