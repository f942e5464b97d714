"""Every option and argument of every command, given what cannot be meant.

No traceback, the right exit code, a message that names what was wrong, an end in bounded time, and nothing lost or
left: what was there before is there after, to the byte, and no process and no temporary file outlives the command.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import bad_values
import pytest
import typer
from bad_box import DERIVED, RUN, SWEEP, Box
from bad_cases import IMPATIENT, Case, judge
from bad_commands import BASES, COMMANDS, EXCLUDED, KINDS, PARAMETERS, Parameter, parameters

from numabench.cli.commands import app
from numabench.errors import EXIT_FAILED, EXIT_USAGE
from numabench.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forked import Forked


def test_the_walker_knows_how_every_command_is_called() -> None:
    unknown = sorted(COMMANDS.keys() - BASES.keys())
    assert not unknown, f"add to BASES how these are called well: {', '.join(unknown)}"
    assert BASES.keys() <= COMMANDS.keys()


def test_the_walker_knows_what_every_path_is_of() -> None:
    unknown = [each.id for each in PARAMETERS if each.type is Path and each.kind is None]
    assert not unknown, f"add to KINDS whether these are read or written: {', '.join(unknown)}"
    known = {each.id for each in PARAMETERS} | {each.name for each in PARAMETERS}
    assert KINDS.keys() <= known


def values(each: Parameter, box: Box) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Bad values of a parameter by what is wrong with them, and how the command may end."""
    kind = each.kind
    usage = (EXIT_USAGE,)
    if each.type is bool:
        return {word: (word, usage) for word in ("1", "", "x")}
    if each.type is int:
        beyond = [str(int(bound) + step) for bound, step in ((each.low, -1), (each.high, 1)) if bound is not None]
        return {word: (word, usage) for word in (*bad_values.INTEGERS, *beyond)}
    if each.type is float:
        return {word: (word, usage) for word in bad_values.FLOATS}
    if issubclass(each.type, Enum) or kind is None:
        return {word: (word, usage) for word in bad_values.TEXTS}
    found = {word: word for word in bad_values.TEXTS} if each.type is str or kind.of == "text" else {}
    if kind.of != "text":
        found |= bad_values.paths(kind.of, box)
    ends = BASES[each.command].ends
    return {what: (word, (ends, *kind.ends) if what in kind.fitting else kind.ends) for what, word in found.items()}


def cases(each: Parameter, box: Box) -> Iterator[Case]:
    """A command line for every bad value of a parameter."""
    base = BASES[each.command]
    for value, ends in values(each, box).values():
        # What is long has nothing to escape, and takes long to.
        shown = escape(value) if len(value) < 5000 else value
        names = (each.name, shown[:24], ascii(value)[1:25], Path(shown).name[:24])
        names = (*names, value[:24], *(f"'{part}'" for part in re.split(r"[\s,]", value)))
        allowed = ends
        if each.is_option:
            words = [*base.words(each.command, box)[: len(each.command.split())], f"{each.name}={value}"]
            words += [word for word in base.words(each.command, box)[len(words) - 1 :] if word != EXCLUDED.get(each.id)]
            if each.name in base.options and each.type is not bool:
                # The last one counts.
                at = words.index(each.name)
                del words[at : at + 2]
        else:
            # What looks like an option is taken for one.
            words = [*base.words(each.command, box, without=each.name), value]
            allowed = (*ends, 0 if value == "--help" else EXIT_USAGE)
            names = (each.name.upper(), *names) if value else ("argument",)
        yield Case(tuple(words), allowed, () if base.ends in allowed else names, {"constants": IMPATIENT}, base.writes)


@pytest.mark.parametrize("each", [each for each in PARAMETERS if each.type is not typer.Context], ids=lambda p: p.id)
def test_a_bad_value_is_refused(each: Parameter, box: Box, forked: Forked) -> None:
    with box.keeping(BASES[each.command].writes):
        judge(list(cases(each, box)), box, forked)


# Words that are wrong wherever they stand.
_STRAY = ("--nosuch", f"--{bad_values.CONTROL}", f"--{bad_values.BACKWARDS}", f"--{bad_values.LONG}", "-\udcff")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_word_that_nobody_knows_is_refused(command: str, box: Box, forked: Forked) -> None:
    base = BASES[command].words(command, box)
    at = len(command.split())
    told = ("option", "argument")
    judge([Case((*base[:at], word, *base[at:]), (EXIT_USAGE,), told) for word in _STRAY], box, forked)


@pytest.mark.parametrize("group", sorted({command.rpartition(" ")[0] for command in COMMANDS}))
def test_a_command_that_nobody_knows_is_refused(group: str, box: Box, forked: Forked) -> None:
    words = [word for word in bad_values.TEXTS if word and not word.startswith("-")]
    every = [Case((*group.split(), word), (EXIT_USAGE,), ("No such command",)) for word in words]
    judge(every + [Case((*group.split(), word), (EXIT_USAGE,), ("option",)) for word in _STRAY], box, forked)


def test_a_bad_value_before_the_command_is_refused(box: Box, forked: Forked) -> None:
    """The options of numabench itself take none."""
    assert app.registered_callback is not None
    options = list(parameters("", app.registered_callback.callback))
    every = [(each.name, value) for each in options for value in ("1", *bad_values.FEW)]
    assert every
    judge([Case((f"{name}={value}", "list"), (EXIT_USAGE,), (name,)) for name, value in every], box, forked)
    judge([Case(("--debug",), (EXIT_USAGE,)), Case(("--debug", "nosuch"), (EXIT_USAGE,), ("nosuch",))], box, forked)


# Options of `run` that take a text, and that a sweep passes on: what is its own is tried above.
_OWN = {each.name for each in PARAMETERS if each.command == "sweep"}
_PASSED_ON = [
    each
    for each in PARAMETERS
    if each.command == "run"
    and each.is_option
    and each.type is not bool
    and (not each.kind or each.kind.of == "text")
    and each.name not in _OWN
]


@pytest.mark.parametrize("each", _PASSED_ON, ids=lambda p: p.name)
def test_a_bad_value_of_a_run_is_refused_in_a_sweep(each: Parameter, box: Box, forked: Forked) -> None:
    """The options of `run` are those of a sweep's units, too."""
    words = BASES["sweep"].words("sweep", box)
    if each.name in words:
        del words[words.index(each.name) : words.index(each.name) + 2]
    few = [value for value in bad_values.FEW if not each.kind or value not in each.kind.fitting]
    judge(
        [
            Case((*words, f"{each.name}={value}"), (EXIT_USAGE,), (each.name, each.name[2:], escape(value)[:24]))
            for value in few
        ],
        box,
        forked,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_answer_that_cannot_be_written(command: str, box: Box, forked: Forked) -> None:
    """Where nobody listens the command goes on; where the answer is lost that is an error."""
    base = BASES[command]
    words = tuple(base.words(command, box))
    well = forked.run(*words, cwd=box.cwd, env=box.env)
    assert well.status == base.ends, f"add to BASES how {command} is called well: {well.stderr}"
    hows = [{"stdin": "closed"}, {"stdout": "closed"}, {"stderr": "closed"}, {"stderr": "/dev/full"}]
    hows.append({"stdin": "closed", "stdout": "closed", "stderr": "closed"})
    box.written()
    judge([Case(words, (base.ends,), how=how, writes=base.writes) for how in hows], box, forked)
    ends = (EXIT_FAILED if well.stdout else base.ends,)
    judge([Case(words, ends, how={"stdout": "/dev/full"}, writes=base.writes)], box, forked)


_WRITTEN = [each for each in PARAMETERS if each.kind and each.kind.of == "target" and BASES[each.command].ends == 0]


@pytest.mark.parametrize("each", _WRITTEN, ids=lambda p: p.id)
def test_what_was_there_stays_where_the_disk_is_full(each: Parameter, box: Box, forked: Forked) -> None:
    """A limit on the size of files stands for the disk (setrlimit(2)); a result of an option is larger than it."""
    target = box.kept / ("precious.tar" if each.name == "--capture" else "precious")
    words = (*BASES[each.command].words(each.command, box), f"{each.name}={target}")
    if each.command == "report":
        words = tuple(SWEEP if word == RUN and each.name == "--csv" else word for word in words)
    judge([Case(words, (EXIT_FAILED,), (target.name, *DERIVED), {"file_bytes": 64})], box, forked)
    assert target.read_text() == "precious\n"
