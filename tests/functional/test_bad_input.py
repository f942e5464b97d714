"""Every option and argument of every command, given what cannot be meant.

No traceback, the right exit code, a message that names what was wrong, an end in bounded time, and nothing lost or
left: what was there before is there after, to the byte, and no process and no temporary file outlives the command.

The commands and their parameters are read from the command line itself. A new command needs a line in `BASES`, how it
is called well; an option of it that takes a path, or a text of any kind, one in `KINDS`.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import os
import random
import re
import sqlite3
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import bad_box
import bad_values
import damage
import pytest
import typer
from bad_box import CELL, DERIVED, KERNEL, LAST_NIGHT, OLD_NIGHT, OTHER_RUN, PRUNED_NIGHT, RUN, SWEEP, Box
from forked import Ended, Forked

from numabench.cli.commands import app
from numabench.errors import EXIT_CANNOT_RUN, EXIT_FAILED, EXIT_UNFIT, EXIT_USAGE
from numabench.fleet.acknowledged import ACKNOWLEDGED_FILE
from numabench.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What a message may take, whatever was given.
_MESSAGE_BYTES = 4000
_ANY_END = (0, EXIT_FAILED, EXIT_USAGE, EXIT_CANNOT_RUN)


@dataclass(frozen=True)
class Base:
    """How a command is called well: its arguments by their parameters' names, its options, and how it then ends.

    In `{}` stand the box's directories, and the names in it; `writes` are files of the box that it may write. What
    would boot a guest or run a workload is given what no machine has, and ends with 77; anything bad must be refused
    before.
    """

    arguments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    ends: int = 0
    writes: tuple[str, ...] = ()

    def words(self, command: str, box: Box, without: str = "") -> list[str]:
        """The command line, without one of its arguments."""
        given = [word for name, words in self.arguments.items() if name != without for word in words]
        return [*command.split(), *(word.format(**box.places) for word in (*self.options, *given))]


_RESULTS = ("--results", "{at}/results")
_LAB = ("{in}/lab.toml",)
_NOWHERE = ("--native", "--nodes", "64")
BASES = {
    "run": Base({"target": ("pingpong",)}, _NOWHERE, ends=EXIT_CANNOT_RUN),
    "sweep": Base({"context": ("pingpong", "--batch", "1,8")}, _NOWHERE, ends=EXIT_CANNOT_RUN),
    "report": Base({"run": ("{run}",)}, _RESULTS),
    "diff": Base({"a": ("{run}",), "b": ("{other}",)}, _RESULTS),
    "reproduce": Base({"question": ("rmap-lock",)}, ("--kernel", "{kernel}"), ends=EXIT_CANNOT_RUN),
    "migration": Base({"runs": ("{run}",)}, _RESULTS),
    "callgraph": Base({"recording": ("{run}",)}, _RESULTS),
    "locks": Base({"recording": ("{run}",)}, _RESULTS),
    "list": Base({}, _RESULTS),
    # Of so many nodes there are too few on any machine.
    "doctor": Base({}, ("--nodes", "64"), ends=EXIT_UNFIT),
    "index": Base({"lab": ("{in}/lab",)}, writes=DERIVED),
    "nightly plan": Base({"lab": _LAB}),
    # No program is found: no guest can run.
    "nightly run": Base({"lab": _LAB}, ends=EXIT_CANNOT_RUN),
    "nightly block": Base(
        {"night": ("{in}/directory",), "block_id": ("b",)}, ("--attempt-token", "t"), ends=EXIT_FAILED
    ),
    # It is acknowledged already.
    "nightly acknowledge": Base(
        {"lab": _LAB, "cell": ("{cell}",), "metric": ("{metric}",)},
        ("--night", "{night}", "--reason", "it is known"),
        writes=(ACKNOWLEDGED_FILE,),
    ),
    "nightly report": Base({"lab": _LAB}, ("--no-site",), writes=DERIVED),
    "nightly prune": Base({"lab": _LAB}, ("--dry-run",)),
    # No night was broken off.
    "nightly unattended": Base({"lab": _LAB}, ("--resume",)),
    "nightly ended": Base({"lab": _LAB}),
    # Whatever is asked, nothing is written to where systemd looks.
    "nightly install": Base({"lab": _LAB}, ("--user", "--dry-run")),
    "workloads": Base(),
    "drivers": Base(),
    "topology": Base(),
    # No program is found: no guest can run.
    "lab run": Base({"command": ("--", "true")}, (), ends=EXIT_CANNOT_RUN),
    "lab probe": Base(ends=EXIT_CANNOT_RUN),
    "lab kernel add": Base({"what": ("{in}/rubbish",)}, (), ends=EXIT_USAGE),
    "lab kernel build": Base({}, ("--source", "{in}/source"), ends=EXIT_CANNOT_RUN),
    "lab kernel list": Base(),
    "lab kernel remove": Base({"name": ("none",)}, (), ends=EXIT_USAGE),
    "state show": Base(),
    "state diff": Base({"first": ("{run}",), "second": ("none",)}, _RESULTS),
    "state profiles": Base(),
    # Whatever is asked, nothing is written to the machine.
    "state apply": Base({"profile": ("none",)}, ("--dry-run",)),
    "state restore": Base({}, ("--dry-run",)),
}


# What a command is called with that an option of it excludes.
_EXCLUDED = {"nightly report --site": "--no-site"}


@dataclass(frozen=True)
class Kind:
    """What a parameter takes, where its type does not tell.

    `fitting` are those of the bad values that it can mean after all.
    """

    of: str
    ends: tuple[int, ...] = (EXIT_FAILED, EXIT_USAGE)
    fitting: tuple[str, ...] = ()


_FILE, _TARGET, _DIRECTORY = Kind("file"), Kind("target"), Kind("directory")
# Any text can be a name that was sampled, or a program's argument.
_TEXT = Kind("text", ends=_ANY_END)
_WORD = Kind("text")
_PROFILE = Kind("file", ends=(EXIT_USAGE,), fitting=("empty",))
KINDS = {
    "--results": _FILE,
    "--kallsyms": _FILE,
    # A table of no renames is one.
    "--names": Kind("file", fitting=("empty", "null")),
    "--folded": _TARGET,
    "--speedscope": _TARGET,
    "--csv": _TARGET,
    "--svg": _TARGET,
    "--html": _TARGET,
    "--png": _DIRECTORY,
    "run --results": _DIRECTORY,
    "sweep --results": _DIRECTORY,
    "reproduce --results": _DIRECTORY,
    "reproduce --resume": _FILE,
    "sweep --resume": _WORD,
    "report run": _WORD,
    "diff a": _WORD,
    "diff b": _WORD,
    "migration runs": _WORD,
    "callgraph recording": _FILE,
    "locks recording": _FILE,
    "index lab": Kind("file", fitting=("directory",)),
    "index --parquet": _DIRECTORY,
    "nightly plan lab": _FILE,
    "nightly run lab": _FILE,
    "nightly run --root": Kind("file", fitting=("directory",)),
    "nightly block night": _FILE,
    "nightly block --root": Kind("file", fitting=("directory",)),
    "nightly acknowledge lab": _FILE,
    "nightly acknowledge cell": _WORD,
    "nightly acknowledge metric": _WORD,
    "nightly acknowledge --night": _WORD,
    "nightly acknowledge --reason": _TEXT,
    "nightly report lab": _FILE,
    "nightly report --site": _DIRECTORY,
    "nightly prune lab": _FILE,
    "nightly unattended lab": _FILE,
    "nightly ended lab": _FILE,
    "nightly install lab": _FILE,
    # Where systemd cannot be asked, any words may be a time.
    "nightly install --on-calendar": Kind("text", ends=(EXIT_USAGE,), fitting=bad_values.PLAIN),
    "--junit": _TARGET,
    "--markdown": _TARGET,
    "nightly block block_id": _WORD,
    "nightly block --attempt-token": _WORD,
    "callgraph --comm": _TEXT,
    "callgraph --symbol": _TEXT,
    "callgraph --event": _WORD,
    "topology --root": _FILE,
    "topology --capture": _TARGET,
    "topology --png": _TARGET,
    "lab run command": _TEXT,
    "lab run --writable": Kind("file", fitting=("directory",)),
    # They can be names.
    "run --run-id": Kind("text", ends=(EXIT_USAGE,), fitting=("nan", "1e400", bad_values.HUGE)),
    "lab kernel build --name": Kind("text", ends=(EXIT_USAGE,), fitting=("nan",)),
    # What is found only when it is written.
    "sweep --csv": Kind("target", fitting=("full", "a fifo that nobody reads")),
    "lab kernel add what": _FILE,
    "lab kernel build --patch": _FILE,
    "lab kernel build --config": Kind("file", fitting=("empty", "null")),
    "lab kernel build --source": _FILE,
    # A name, or a file of TOML: an empty one is of what it inherits.
    "--profile": _PROFILE,
    "state apply profile": _PROFILE,
    "state diff first": Kind("file", fitting=("empty",)),
    "state diff second": Kind("file", fitting=("empty",)),
    "list --results": Kind("file", fitting=("directory",)),
}


@dataclass(frozen=True)
class Parameter:
    """An option or an argument of a command, as its function has it."""

    command: str
    name: str
    is_option: bool
    type: Any
    low: float | None = None
    high: float | None = None

    @property
    def id(self) -> str:
        return f"{self.command} {self.name}"

    @property
    def kind(self) -> Kind | None:
        return KINDS.get(self.id) or KINDS.get(self.name)


def commands(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that there is, by its words, with its function."""
    for each in group.registered_commands:
        assert each.callback is not None
        yield " ".join((*path, each.name or each.callback.__name__.replace("_", "-"))), each.callback
    for each_group in group.registered_groups:
        assert each_group.typer_instance is not None
        yield from commands(each_group.typer_instance, (*path, str(each_group.name)))


def parameters(command: str, function: Any) -> Iterator[Parameter]:
    """A command's options and arguments."""
    hints = get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        kind, *annotations = get_args(hints[name]) if hasattr(hints[name], "__metadata__") else (hints[name],)
        if kind is typer.Context:
            yield Parameter(command, name, False, kind)
            continue
        (info,) = annotations
        inner = [one for one in get_args(kind) if one is not type(None)]
        plain = inner[0] if inner else kind
        plain = get_args(plain)[0] if get_args(plain) else plain
        is_option = type(info).__name__ == "OptionInfo"
        # Within `Annotated` the first of the names stands where the default would.
        names = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
        declared = [word.split("/")[0] for word in names if word.startswith("--")]
        shown = next(iter(declared), f"--{name.replace('_', '-')}") if is_option else name
        yield Parameter(command, shown, is_option, plain, info.min, info.max)


COMMANDS = dict(commands(app))
PARAMETERS = [each for command, function in COMMANDS.items() for each in parameters(command, function)]


def test_the_walker_knows_how_every_command_is_called() -> None:
    unknown = sorted(COMMANDS.keys() - BASES.keys())
    assert not unknown, f"add to BASES how these are called well: {', '.join(unknown)}"
    assert BASES.keys() <= COMMANDS.keys()


def test_the_walker_knows_what_every_path_is_of() -> None:
    unknown = [each.id for each in PARAMETERS if each.type is Path and each.kind is None]
    assert not unknown, f"add to KINDS whether these are read or written: {', '.join(unknown)}"
    known = {each.id for each in PARAMETERS} | {each.name for each in PARAMETERS}
    assert KINDS.keys() <= known


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    return Box(tmp_path_factory.mktemp("box"))


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    started = Forked()
    yield started
    print(f"\nCPU of the commands: {started.cpu_s:.1f} s")
    started.close()


# Nobody writes to the box's fifos.
_IMPATIENT = {"numabench.named_file.FIFO_WAIT_S": 0.2}


@dataclass(frozen=True)
class Case:
    """A command line, how it may end, and what its message must name one of (none: whatever it likes)."""

    words: tuple[str, ...]
    ends: tuple[int, ...]
    names: tuple[str, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    is_told_in_its_answer: bool = False


_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OF_PYTHON = re.compile("Traceback|Exception ignored|[a-z]Warning:|[a-z]Error:")


def faults(case: Case, ended: Ended) -> Iterator[str]:
    """What is wrong with how a command ended, and with what it said."""
    if ended.hung:
        yield "it did not end"
    if ended.left:
        yield f"it left running: {ended.left}"
    if _OF_PYTHON.search(ended.stderr):
        yield "a traceback"
    if not ended.hung and ended.status not in case.ends:
        yield f"it ended with {ended.status}, not {' or '.join(map(str, case.ends))}"
    if len(ended.stderr) > _MESSAGE_BYTES and not ended.hung:
        yield f"a message of {len(ended.stderr)} bytes"
    for text in (ended.stdout, ended.stderr):
        if found := _NOT_SHOWN.search(text):
            yield f"it prints {found[0]!a}"
    message = f"{ended.stdout}{ended.stderr}" if case.is_told_in_its_answer else ended.stderr
    if ended.status and case.names and not any(name and name in message for name in case.names):
        yield "its message does not name what was wrong"
    if ended.status and not message and not {"stdin", "stdout", "stderr"} & case.how.keys():
        yield "it does not say why"


def traces(case: Case, box: Box, status: int) -> Iterator[str]:
    """What a command has touched, or left where it failed."""
    if changed := _touched(box, case.writes):
        yield f"it touched {', '.join(changed)}"
    if (written := box.written()) and status:
        yield f"it left {', '.join(map(ascii, written))}"


def _touched(box: Box, writes: Sequence[str]) -> list[str]:
    return [path for path in box.changes() if Path(path).name not in writes]


def judge(cases: Sequence[Case], box: Box, forked: Forked) -> None:
    """Run them all, and tell all that is wrong at once."""
    assert cases
    _fail_with(judged(cases, box, forked))


def _fail_with(told: Sequence[str]) -> None:
    if told:
        pytest.fail(f"{len(told)} command lines\n" + "\n".join(told), pytrace=False)


def judged(cases: Sequence[Case], box: Box, forked: Forked, what: str = "") -> list[str]:
    """Run them all; what is wrong with each.

    They are run in one process, and where anything is wrong there each anew in its own.
    """
    in_turn = _in_turn(cases, box, forked)
    if in_turn == []:
        return []
    told = []
    for case in cases:
        ended = forked.run(*case.words, cwd=box.cwd, env=box.env, **case.how)
        found = [*faults(case, ended), *traces(case, box, ended.status)]
        if found:
            words = " ".join(ascii(word)[1:-1] if len(word) < 200 else f"{word[:20]!a}..." for word in case.words)
            shown = ended.stderr if len(ended.stderr) < 3000 else f"{ended.stderr[:300]} ... {ended.stderr[-2500:]}"
            told.append(
                f"{what}{words} {case.how or ''}\n  {'; '.join(found)}\n    " + ascii(shown).replace(r"\n", "\n    ")
            )
    return told or [f"{what}one of several in one process: {found}" for found in in_turn or ()]


def _in_turn(cases: Sequence[Case], box: Box, forked: Forked) -> list[str] | None:
    """What is wrong with any of them; None where it is not known, for they cannot be run so, or one has written."""
    if len(cases) < 2 or any(case.how != cases[0].how or case.how.keys() - {"constants"} for case in cases):
        return None
    every = forked.run_in_turn([case.words for case in cases], cwd=box.cwd, env=box.env, **cases[0].how)
    found = [fault for case, ended in zip(cases, every, strict=False) for fault in faults(case, ended)]
    changed = _touched(box, [name for case in cases for name in case.writes])
    found += [f"it touched {', '.join(changed)}"] if changed else []
    return None if not found and (box.written() or not every) else found


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
            words += [
                word for word in base.words(each.command, box)[len(words) - 1 :] if word != _EXCLUDED.get(each.id)
            ]
            if each.name in base.options and each.type is not bool:
                # The last one counts.
                at = words.index(each.name)
                del words[at : at + 2]
        else:
            # What looks like an option is taken for one.
            words = [*base.words(each.command, box, without=each.name), value]
            allowed = (*ends, 0 if value == "--help" else EXIT_USAGE)
            names = (each.name.upper(), *names) if value else ("argument",)
        yield Case(tuple(words), allowed, () if base.ends in allowed else names, {"constants": _IMPATIENT}, base.writes)


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


@pytest.mark.parametrize("each", [each for each in PARAMETERS if each.command == "run"], ids=lambda p: p.name)
def test_a_bad_value_of_a_run_is_refused_in_a_sweep(each: Parameter, box: Box, forked: Forked) -> None:
    """The options of `run` are those of a sweep's units, too."""
    if not each.is_option or each.type is bool or (each.kind and each.kind.of != "text"):
        return
    own = {other.name for other in PARAMETERS if other.command == "sweep"}
    words = BASES["sweep"].words("sweep", box)
    if each.name in words:
        del words[words.index(each.name) : words.index(each.name) + 2]
    few = [value for value in bad_values.FEW if not each.kind or value not in each.kind.fitting]
    judge(
        [
            Case((*words, f"{each.name}={value}"), (EXIT_USAGE,), (each.name, each.name[2:], escape(value)[:24]))
            for value in few
            if each.name not in own
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


_FIRST, _SECOND = f"results/{RUN}/trials/0001", f"results/{RUN}/trials/0002"
_READERS = (("report", RUN), ("list",))
_PASSES = (("callgraph", RUN), ("locks", RUN), ("migration", RUN), ("report", RUN, "--html", "-"))
_SWEEPS = (("report", SWEEP), ("list",), ("sweep", "--resume", SWEEP))
# The files of a result, and what reads them.
_FILES = {
    f"results/{RUN}/run.json": (*_READERS, ("diff", RUN, OTHER_RUN)),
    f"results/{RUN}/end.json": _READERS,
    f"{_FIRST}/trial.json": _READERS,
    f"{_FIRST}/samples.jsonl": _READERS,
    f"{_FIRST}/events.jsonl": _READERS,
    f"{_SECOND}/trial.json": _PASSES[:2],
    f"{_SECOND}/cpu.data": (_PASSES[0], *_PASSES[2:]),
    f"results/{RUN}/trials/0003/lock.data": (("locks", RUN), ("callgraph", RUN, "--observed", "lock")),
    f"results/{RUN}/kallsyms-0123": _PASSES[:1],
    f"results/{SWEEP}/sweep.json": _SWEEPS,
}
# What is no longer there may leave a report of the rest; it is then told on stderr, or in the report.
_ENDS = (0, EXIT_FAILED)


def _damaged(path: Path, commands: Sequence[tuple[str, ...]], box: Box) -> Iterator[Case]:
    names = (path.name, path.parent.name, RUN, SWEEP)
    box.accept()
    for words in commands:
        yield Case((*words, "--results", str(box.results)), _ENDS, names, {"constants": _IMPATIENT})


def test_every_file_of_a_result_is_damaged(box: Box) -> None:
    written = {path.name for path in box.results.rglob("*") if path.is_file()}
    unknown = written - {Path(name).name for name in _FILES}
    assert not unknown, f"add to _FILES what reads these: {', '.join(unknown)}"


@pytest.mark.parametrize("name", _FILES)
def test_a_damaged_result_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.at / name, []
    for kind, do in damage.KINDS.items():
        with damage.kept(path):
            do(path)
            told += judged(list(_damaged(path, _FILES[name], box)), box, forked, f"{name}, {kind}: ")
    box.accept()
    _fail_with(told)


# Other files that commands read, below the box.
_OTHERS = {
    "in/perf.data": (("callgraph", "{in}/perf.data"), ("locks", "{in}/perf.data")),
    "in/names.toml": (("callgraph", "{in}/perf.data", "--names", "{in}/names.toml"),),
    "in/tree.tar": (("topology", "--root", "{in}/tree.tar"),),
    "in/state.json": (("state", "diff", "{in}/state.json", "none"),),
    "in/lab.toml": (
        ("nightly", "plan", "{in}/lab.toml"),
        ("nightly", "install", "--user", "--dry-run", "{in}/lab.toml"),
    ),
    "in/profile.toml": (("state", "show", "--profile", "{in}/profile.toml"),),
    "home/numabench/profiles/own.toml": (("state", "profiles"), ("state", "diff", "own", "none")),
    f"cache/numabench/kernels/{KERNEL}/kernel.json": (("lab", "kernel", "list"),),
    "reproduced/reproduce.json": (("reproduce", "rmap-lock", "--resume", "{at}/reproduced"),),
}


@pytest.mark.parametrize("name", _OTHERS)
def test_another_damaged_file_is_told(name: str, box: Box, forked: Forked) -> None:
    path = box.at / name
    _judge_damaged(path, [tuple(word.format(**box.places) for word in words) for words in _OTHERS[name]], box, forked)


_BOOT = f"cells/{CELL}/boot-01"
_PLANNED, _PRUNED = ("nightly", "plan", "{in}/lab.toml"), ("nightly", "prune", "{in}/lab.toml", "--dry-run")
_REPORTED, _KILLED = ("nightly", "report", "{in}/lab.toml", "--no-site"), ("nightly", "ended", "{in}/lab.toml")
_INDEXED, _REBUILT = ("index", "{in}/lab"), ("index", "{in}/lab", "--rebuild")
_RESUMED = ("nightly", "unattended", "{in}/lab.toml", "--resume")
_ACKNOWLEDGED = (
    *("nightly", "acknowledge", "{in}/lab.toml", "{cell}", "{metric}", "--night", "{night}"),
    *("--reason", "it is known by now"),
)
# The files of a lab, and what reads them; the first tells of those that are missed.
_OF_LAB = {
    f"nights/{LAST_NIGHT}/night.json": (_REPORTED, _REBUILT, _PLANNED, _PRUNED),
    f"nights/{OLD_NIGHT}/night.json": (_PRUNED,),
    f"nights/{LAST_NIGHT}/journal.jsonl": (_REPORTED, _PLANNED),
    f"nights/{OLD_NIGHT}/journal.jsonl": (_PRUNED,),
    f"nights/{LAST_NIGHT}/verdict.json": (_REPORTED, _PLANNED, _PRUNED),
    f"nights/{LAST_NIGHT}/{_BOOT}/cell.json": (_REBUILT, _PLANNED),
    f"nights/{PRUNED_NIGHT}/{_BOOT}/values.json": (_REBUILT, _PLANNED, _PRUNED),
    "index.sqlite": (_REPORTED, _INDEXED, _ACKNOWLEDGED),
    "acknowledged.toml": (_REPORTED, _PRUNED, _ACKNOWLEDGED),
    "quarantine.json": (_REPORTED, _PRUNED),
    "unattended.json": (_RESUMED, _KILLED),
    "reboot.json": (_RESUMED, _KILLED),
}
# What is made anew where it cannot be read, or says nothing then; the others are missed.
_NOT_MISSED = (*DERIVED, "cell.json")
# What the first of the readers is given alone costs half as much: they read a file by the same lines.
_READ_BY_ALL = frozenset({"removed", "cut to a half", "rubbish", "deep", "an empty object", "a fifo", "of the future"})


def _of_the_future(path: Path) -> None:
    """Written by a numabench that is newer by one version."""
    if path.name == "index.sqlite":
        with contextlib.closing(sqlite3.connect(path)) as index:
            index.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(re.sub(rb'("schema_version": ?)1\b', rb"\g<1>2", path.read_bytes()))


@pytest.mark.parametrize("name", _OF_LAB)
def test_a_damaged_file_of_a_lab_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.lab / name, []
    every = [tuple(word.format(**box.places) for word in words) for words in _OF_LAB[name]]
    kinds = damage.KINDS if path.suffix == ".json" else damage.OF_ANY
    if path.suffix in {".json", ".sqlite"}:
        kinds = {**kinds, "of the future": _of_the_future}
    names = (path.name, path.parent.name, "has not ended", "was broken off")
    with bad_box.broken_off(box):
        for kind, do in kinds.items():
            with box.keeping([path.name, *DERIVED, ACKNOWLEDGED_FILE, *bad_box.BROKEN_OFF]):
                do(path)
                box.accept()
                writes = (*DERIVED, ACKNOWLEDGED_FILE, *bad_box.BROKEN_OFF)
                cases = [Case(words, _ENDS, names, {"constants": _IMPATIENT}, writes, True) for words in every]
                told += judged(cases if kind in _READ_BY_ALL else cases[:1], box, forked, f"{name}, {kind}: ")
                if kind == "of the future" and path.name not in _NOT_MISSED:
                    answer = forked.run(*every[0], cwd=box.cwd, env=box.env)
                    told += (
                        []
                        if "has schema version 2" in f"{answer.stdout}{answer.stderr}"
                        else [f"{name}, {kind}: {answer.stdout}"]
                    )
    _fail_with(told)


@pytest.mark.parametrize("directory", ["directory/file", "loop", "dangling", r"a\u0000b", "fifo"])
def test_a_lab_that_cannot_be_a_directory_is_told(directory: str, box: Box, forked: Forked) -> None:
    file = box.inputs / "lab.toml"
    readers = [f"nightly {name}" for name in ("plan", "run", "report", "prune", "unattended", "install", "ended")]
    with damage.kept(file):
        file.write_text(file.read_text().replace('"lab"', f'"{directory}"', 1))
        box.accept()
        cases = [Case(tuple(BASES[name].words(name, box)), (EXIT_USAGE,), ("lab.directory",)) for name in readers]
        judge(cases, box, forked)
    box.accept()


def test_who_cannot_go_on_with_a_night_tells_of_it_and_is_not_held_up_by_it(box: Box, forked: Forked) -> None:
    file, words = box.inputs / "lab.toml", ("nightly", "unattended", str(box.inputs / "lab.toml"), "--resume")
    told = box.cwd / "told"
    with bad_box.broken_off(box), damage.kept(file):
        file.write_text(f'{file.read_text()}[alert]\ncommand = ["/usr/bin/tee", "{told}"]\n')
        note = box.lab / bad_box.BROKEN_OFF[0]
        with damage.kept(note):
            note.write_bytes(damage.RUBBISH)
            assert forked.run(*words, cwd=box.cwd, env=box.env).status == EXIT_FAILED
            assert note.name in told.read_text()
            assert "take it away" in told.read_text()
        # Of what it was to go on with there is nothing: it is told once, and done with.
        assert forked.run(*words, cwd=box.cwd, env=box.env).status == EXIT_FAILED
        assert "did not begin" in told.read_text()
        ended = forked.run(*words, cwd=box.cwd, env=box.env)
        assert (ended.status, ended.stdout) == (0, ""), ended.stderr
        assert not [name for name in bad_box.BROKEN_OFF if (box.lab / name).exists()]
    box.written()
    box.accept()


def test_every_file_of_a_lab_is_damaged(box: Box) -> None:
    with bad_box.broken_off(box):
        published = [path for path in box.lab.rglob("*") if path.is_file() and "runs" not in path.parts]
        unknown = {path.name for path in published if not path.name.startswith(".")} - {
            Path(name).name for name in _OF_LAB
        }
    assert not unknown, f"add to _OF_LAB what reads these: {', '.join(unknown)}"


def test_a_damaged_journal_is_told(box: Box, forked: Forked) -> None:
    """What a killed run has left altered is not to be had from it any more; what can be read of it is told."""
    with bad_box.left_by_a_killed_run(box) as journal:
        restore = ("state", "restore", "--dry-run")
        ended = forked.run(*restore, cwd=box.cwd, env=box.env)
        assert "would set ksm.run: 0 -> 1" in ended.stdout
        _judge_damaged(journal, [("state", "show"), ("list", *BASES["list"].words("", box))], box, forked)
        for kind, do in damage.KINDS.items():
            with damage.kept(journal):
                do(journal)
                box.accept()
                ended = forked.run(*restore, cwd=box.cwd, env=box.env, constants=_IMPATIENT)
                # What is damaged is part of the answer: it is put aside, and what can be read is put back.
                assert ended.status in {0, EXIT_FAILED, EXIT_UNFIT}, kind
                assert not ended.status or journal.name in f"{ended.stdout} {ended.stderr}", kind
                assert not any((box.changes(), ended.hung, ended.left, "Traceback" in ended.stderr)), kind
    box.accept()


def _judge_damaged(path: Path, every: Sequence[tuple[str, ...]], box: Box, forked: Forked) -> None:
    told, names = [], (path.name, path.stem, path.parent.name)
    box.accept()
    told += judged([Case(words, (0, EXIT_CANNOT_RUN)) for words in every], box, forked, "with nothing damaged: ")
    for kind, do in damage.KINDS.items():
        with damage.kept(path):
            do(path)
            box.accept()
            # Without its last newline a file is whole.
            ends = (0, EXIT_FAILED, EXIT_USAGE, *([EXIT_CANNOT_RUN] if kind == "cut by its last byte" else []))
            cases = [Case(words, ends, names, {"constants": _IMPATIENT}) for words in every]
            told += judged(cases, box, forked, f"{path.name}, {kind}: ")
    box.accept()
    _fail_with(told)


@pytest.mark.parametrize("command", ["callgraph", "locks"])
def test_a_recording_that_is_cut_or_changed_anywhere_is_told(command: str, box: Box, forked: Forked) -> None:
    """At places that a generator with a fixed start has chosen."""
    path, told, chosen = box.inputs / "perf.data", [], random.Random(1)  # noqa: S311
    whole = bad_box.unpacked("cpu-clock.data" if command == "callgraph" else "lock.data")
    with damage.kept(path):
        for turn in range(60):
            place = chosen.randrange(len(whole)) if turn % 3 else chosen.randrange(2000)
            changed = bytes([whole[place] ^ 1 << chosen.randrange(8)])
            path.write_bytes(whole[:place] if turn % 2 else whole[:place] + changed + whole[place + 1 :])
            box.accept()
            what = f"{place}, {'cut' if turn % 2 else changed}: "
            told += judged([Case((command, str(path)), _ENDS, (path.name,))], box, forked, what)
    box.accept()
    _fail_with(told)


@pytest.mark.parametrize("command", ["report", "list", "diff", "migration", "callgraph", "locks", "state diff"])
def test_what_only_reads_does_so_where_nothing_can_be_written(command: str, box: Box, forked: Forked) -> None:
    directories = [box.results, *(path for path in box.results.rglob("*") if path.is_dir())]
    for path in directories:
        path.chmod(0o555)
    box.accept()
    words = tuple(BASES[command].words(command, box))
    told = judged([Case(words, (0,)), Case((*words, "--help"), (0,))], box, forked)
    for path in directories:
        path.chmod(0o755)
    box.accept()
    _fail_with(told)


def test_a_sweep_in_a_directory_that_is_read_only_is_told(box: Box, forked: Forked) -> None:
    sweep = box.results / SWEEP
    for path in (sweep, sweep / "units"):
        path.chmod(0o555)
    box.accept()
    words = ("sweep", "--resume", SWEEP, "--results", str(box.results), "--json")
    told = judged([Case(words, (0, EXIT_FAILED), (SWEEP,))], box, forked)
    for path in (sweep, sweep / "units"):
        path.chmod(0o755)
    box.accept()
    _fail_with(told)


def test_a_kernel_that_does_not_fit_on_the_disk_leaves_nothing(box: Box, forked: Forked) -> None:
    """A limit on the size of files stands for the disk, of which apart from the lock nothing is used afterwards."""
    words = ("lab", "kernel", "add", str(box.inputs / "image"))
    ended = forked.run(*words, cwd=box.cwd, env=box.env, file_bytes=64)
    lock = str(box.at / "cache/numabench/kernels/.lock")
    assert (ended.status, box.changes()) == (EXIT_FAILED, [lock]), ended.stderr
    assert not _OF_PYTHON.search(ended.stderr)


@pytest.mark.parametrize("name", [f"results/{RUN}/run.json", f"results/{SWEEP}/sweep.json"])
def test_a_wrong_schema_version_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.at / name, []
    for version in damage.VERSIONS:
        with damage.kept(path):
            path.write_bytes(re.sub(rb'("schema_version":) *\d+', rb"\1 " + version, path.read_bytes()))
            cases = [
                Case((*words, "--results", str(box.results)), (EXIT_FAILED,), (path.name,))
                for words in [("report", path.parent.name), *([("migration", RUN)] if RUN in name else [])]
            ]
            box.accept()
            told += judged(cases, box, forked, f"{name}, version {version!r}: ")
    box.accept()
    _fail_with(told)


# Every value of every file is walked by hand with 1; here each so many-th, which differ from file to file.
_STEP = int(os.environ.get("NUMABENCH_BAD_INPUT_STEP", "97"))


@pytest.mark.parametrize("name", [name for name in _FILES if name.endswith(".json")])
def test_a_wrong_value_in_a_result_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.at / name, []
    document = json.loads(path.read_text())
    all_of_them = list(itertools.product(damage.places(document), damage.VALUES))
    with damage.kept(path):
        for place, value in all_of_them[_STEP // 2 :: _STEP]:
            path.write_bytes(damage.changed(document, place, value))
            cases = list(_damaged(path, _FILES[name][:1], box))
            told += judged(cases, box, forked, f"{name}, {place} = {value!a:.60}: ")
    box.accept()
    _fail_with(told)
