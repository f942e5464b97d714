"""The words of `numabench sweep` that are meant for `numabench run`, and what the words of one such run ask for."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import typer
import typer.main

from numabench.cli.request import request_from
from numabench.cli.run import run
from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.experiment.plan import Request

# A unit is one measured trial: what makes more of a run, and what is the sweep's own to say.
_NOT_OF_UNITS = frozenset(
    {"--warmup", "--all-placements", "--observe", "--observe-repeats", "--frequency", "--run-id", "--asked"}
)


@functools.cache
def _run_command() -> Any:
    """The command line of `numabench run`, as click has it."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command("run")(run)
    return typer.main.get_command(app)


def request(argv: Sequence[str]) -> Request:
    """What the words of a `numabench run` ask for. Raises click's and our own usage errors, as that command does."""
    context = _run_command().make_context("numabench run", list(argv[1:]))
    return request_from(context.params, argv=("numabench", *argv))


def options(words: Sequence[str]) -> tuple[str, list[tuple[str, str | None]]]:
    """The workload, and the options that are meant for its runs, each with its value."""
    if "--" in sys.argv:
        raise UsageError("a program of your own has no options to sweep over", "take one of `numabench workloads`")
    flags = {name for option in _run_command().params if getattr(option, "is_flag", False) for name in option.opts}
    workloads: list[str] = []
    found: list[tuple[str, str | None]] = []
    left = iter(words)
    for word in left:
        name, equals, text = word.partition("=")
        if name in _NOT_OF_UNITS:
            raise UsageError(f"{name} is not of a sweep, whose units are measured trials", "use numabench run for it")
        if not name.startswith("--"):
            workloads.append(word)
        elif name in flags:
            found.append((word, None))
        else:
            found.append((name, text if equals else next(left, "")))
    if len(workloads) != 1:
        wrong = f"'{workloads[1]}' is one word too many" if workloads else "a sweep needs a workload"
        raise UsageError(wrong, "for example: numabench sweep pingpong --batch 1,8,64")
    return workloads[0], found
