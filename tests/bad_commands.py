"""Every command with its options and arguments, read from the command line itself, and how each is called well.

A new command needs a line in `BASES`; an option of it that takes a path, or a text of any kind, one in `KINDS`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import bad_values
import typer
from bad_box import DERIVED, Box

from numabench.cli.commands import app
from numabench.errors import EXIT_CANNOT_RUN, EXIT_FAILED, EXIT_UNFIT, EXIT_USAGE
from numabench.fleet.acknowledged import ACKNOWLEDGED_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_END = (0, EXIT_FAILED, EXIT_USAGE, EXIT_CANNOT_RUN)


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
EXCLUDED = {"nightly report --site": "--no-site"}


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
_TEXT = Kind("text", ends=ANY_END)
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
