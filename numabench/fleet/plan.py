"""A lab's plan, lab.toml: experiments, kernels, machines, and the rules of a night (docs/nightly.md)."""

from __future__ import annotations

import datetime
import itertools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.errors import UsageError
from numabench.fleet.alert import FORMATS, MARKDOWN, OCCASIONS, VARIABLE, AlertPlan
from numabench.fleet.experiment import Experiment, read_experiment
from numabench.fleet.toml_table import Document, nearest
from numabench.lab import cmdline, shapes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numabench.fleet.experiment import RunWords
    from numabench.fleet.toml_table import Table

# What a kernel is: the one that runs, a release that a machine has installed, and three kinds for guests.
RUNNING, INSTALLED, PACKAGE, BUILD, CACHED = "running", "installed", "package", "build", "cached"
KERNEL_KINDS = (RUNNING, INSTALLED, PACKAGE, BUILD, CACHED)
HERE, GUEST, SLURM = "here", "guest", "slurm"
MACHINE_KINDS = (HERE, GUEST, SLURM)
# How a machine comes up with another of its kernels, once (docs/nightly.md).
LOADERS = ("grub", "systemd-boot", "kexec")
# Behind a kernel's name: the same kernel once more, so that what differs is the machine's own noise.
TWIN = "-aa"
MAX_BOOTS, MAX_REPEATS, MAX_ATTEMPTS = 100, 1000, 10
# urllib takes no user and password in an address.
_ADDRESS = re.compile(r"https?://[^\s/@]+(/\S*)?")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class KernelPlan:
    """A kernel by its nickname. `what` is a release, `debian:SUITE`, a source, or a cached kernel's name.

    `features` are the Slurm features that have a node boot it.
    """

    name: str
    kind: str
    what: str
    parameters: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    entry: str = ""
    build_id: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class MachinePlan:
    """A machine by its nickname: this one, a guest's shape, or what Slurm is asked for.

    `reboot` is how this machine boots another kernel: one of `LOADERS`, or words of a command; empty: not at all. Of a
    machine of Slurm's it is not empty where Slurm is to boot it for every block, and not for another kernel alone.
    """

    name: str
    kind: str
    shape: str = ""
    cpus_per_node: int = 1
    memory_per_node_bytes: int | None = None
    reboot: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    partition: str = ""

    @property
    def can_boot(self) -> bool:
        """Whether a block may have it boot another kernel."""
        return self.kind != HERE or bool(self.reboot)

    @property
    def boots_anew(self) -> bool:
        """Whether each block begins with a boot of its own.

        Slurm that is not asked to boots a node for another kernel alone, so that A B B A has two blocks in one boot.
        """
        return self.kind == GUEST or bool(self.reboot)


@dataclass(frozen=True)
class NightRules:
    """Nothing begins later than `budget_s` after the night began, and all is ended by `deadline`, a local time HH:MM.

    `attempts` bounds how often a block is tried. Without a seed each night draws one.
    """

    budget_s: float | None = None
    deadline: str = ""
    boots: int = 3
    repeats: int = 3
    attempts: int = 3
    seed: int | None = None


@dataclass(frozen=True)
class Retention:
    """For how many nights runs, and their recordings, are kept; None for ever."""

    nights: int | None = None
    recordings: int | None = None


@dataclass(frozen=True)
class LabPlan:
    """A lab's plan as it was read; `directory` is the lab's."""

    file: Path
    name: str
    directory: Path
    retention: Retention
    night: NightRules
    kernels: Mapping[str, KernelPlan]
    machines: Mapping[str, MachinePlan]
    experiments: tuple[Experiment, ...]
    alert: AlertPlan


def fits(kernel: KernelPlan, machine: MachinePlan) -> bool:
    """Whether a machine can run a kernel: guests take fetched and built ones, machines those they have installed."""
    if machine.kind == GUEST:
        return kernel.kind in {PACKAGE, BUILD, CACHED}
    if machine.kind == SLURM:
        # What runs on a node, who plans cannot see: a release is named.
        return kernel.kind == INSTALLED
    return kernel.kind == (INSTALLED if machine.reboot else RUNNING)


def read(file: Path, words: RunWords) -> LabPlan:
    """The plan in a file; `words` knows the options of `numabench run`, and checks their values.

    Raises one `UsageError` with all that is wrong, each with its line, its key, what was expected and what was probably
    meant.
    """
    document = Document(file)
    top = document.table
    lab = top.table("lab")
    name = lab.text("name", file.parent.resolve().name)
    directory = _directory(lab, file)
    retention = Retention(_kept(lab, "keep_nights"), _kept(lab, "keep_recordings"))
    night = _night(top.table("night"))
    alert = _alert(top.table("alert"))
    kernels = {name: _kernel(name, table) for name, table in top.named("kernels", "kernel")}
    machines = {name: _machine(name, table) for name, table in top.named("machines", "machine")}
    _check_there(top, kernels, machines)
    experiments = tuple(
        read_experiment(row, _defaults(night), kernels, machines, words) for row in top.rows("experiment")
    )
    _check_experiments(top, experiments, kernels, machines)
    lab.close()
    top.close()
    document.check()
    return LabPlan(file, name, directory, retention, night, kernels, machines, experiments, alert)


def _directory(lab: Table, file: Path) -> Path:
    """Where the lab is, or will be."""
    directory = file.parent / lab.text("directory", ".")
    if "\0" in str(directory) or (os.path.lexists(directory) and not directory.is_dir()):
        lab.wrong("directory", f"'{directory}' is not a directory")
    return directory


def _kept(lab: Table, key: str) -> int | None:
    return lab.count(key, 1, 1, 100_000) if lab.has(key) else None


def _defaults(night: NightRules) -> tuple[int, int]:
    return night.boots, night.repeats


def _night(table: Table) -> NightRules:
    rules = NightRules(
        budget_s=table.duration("budget", None),
        deadline=_clock(table),
        boots=table.count("boots", 3, 1, MAX_BOOTS),
        repeats=table.count("repeats", 3, 1, MAX_REPEATS),
        attempts=table.count("attempts", 3, 1, MAX_ATTEMPTS),
        seed=table.count("seed", 0, 0, 2**31 - 1) if table.has("seed") else None,
    )
    table.close()
    return rules


def _alert(table: Table) -> AlertPlan:
    command = table.texts("command", "a list of a command's words")
    on = table.texts("on", f"a list of some of {', '.join(OCCASIONS)}") if table.has("on") else AlertPlan.on
    for word in on:
        if word not in OCCASIONS:
            table.wrong("on", f"there is no '{word}'; {nearest(word, OCCASIONS)}")
    alert = AlertPlan(command, _webhook(table), on, table.one_of("format", MARKDOWN, FORMATS))
    if table.values and not {"command", "webhook"} & set(table.values):
        table.wrong("", 'it tells nobody: command = [...] or webhook = "https://..." is expected')
    table.close()
    return alert


def _webhook(table: Table) -> str:
    """An address; what its variables hold is not known before the night."""
    webhook = table.text("webhook", "", "an address, https://...")
    plain = VARIABLE.sub("x", webhook)
    if "$" in plain:
        table.wrong("webhook", "a variable of the environment is written ${NAME}")
    elif webhook and not _ADDRESS.fullmatch(plain) and not VARIABLE.match(webhook):
        # It may hold a token: it is not shown.
        table.wrong("webhook", "it is not an address, for example https://hooks.example.org/${HOOK_TOKEN}")
        return ""
    return webhook


def _clock(table: Table) -> str:
    """A time of day as text or as TOML's own."""
    if not table.has("deadline"):
        return ""
    value = table.values["deadline"]
    if isinstance(value, datetime.time):
        return f"{value:%H:%M}"
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        table.wrong("deadline", f"'{value}' is not a time of day, for example 07:00")
        return ""
    return value


def _kernel(name: str, table: Table) -> KernelPlan:
    if name.endswith(TWIN):
        table.wrong("", f"a kernel's name does not end with {TWIN}: so are called the twins of `aa = true`")
    kind = table.one_key(KERNEL_KINDS)
    patches: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    if kind == BUILD:
        build = table.table(BUILD)
        build.label = f"{table.label}.build"
        what = build.needed_text("source", "a source's directory, or debian:6.12")
        patches, fragments = build.texts("patch"), build.texts("config")
        build.close()
    elif kind == RUNNING:
        what = ""
        if table.values[kind] is not True:
            table.wrong(kind, "true is expected: the kernel that the machine runs anyway")
    else:
        what = table.needed_text(kind, _EXPECTED[kind]) if kind else ""
    parameters = _parameters(table, kind)
    kernel = KernelPlan(
        name=name,
        kind=kind,
        what=what,
        parameters=parameters,
        patches=patches,
        fragments=fragments,
        entry=table.text("entry"),
        build_id=table.text("build_id"),
        features=table.texts("features"),
    )
    table.close()
    return kernel


_EXPECTED = {
    INSTALLED: "a release as `uname -r` says it",
    PACKAGE: "a package's source, for example debian:bookworm",
    CACHED: "a name as `numabench lab kernel list` shows it",
    "": "",
}


def _parameters(table: Table, kind: str) -> tuple[str, ...]:
    parameters = table.texts("parameters")
    if parameters and kind == RUNNING:
        table.wrong("parameters", "the kernel that runs has been booted already: leave it out")
        return ()
    try:
        return cmdline.checked(parameters)
    except UsageError as error:
        table.wrong("parameters", error.message)
        return ()


def _machine(name: str, table: Table) -> MachinePlan:
    kind = table.one_key(MACHINE_KINDS)
    machine = MachinePlan(name, kind)
    if kind == HERE:
        if table.values[HERE] is not True:
            table.wrong(HERE, "true is expected")
        machine = MachinePlan(name, kind, reboot=_reboot(table))
    elif kind in {GUEST, SLURM}:
        inner = table.table(kind)
        inner.label = f"{table.label}.{kind}"
        machine = _guest(name, inner) if kind == GUEST else _slurm(name, inner)
        inner.close()
    table.close()
    return machine


def _reboot(table: Table) -> tuple[str, ...]:
    words = table.texts("reboot", "a boot loader, or a list of a command's words")
    if len(words) == 1 and words[0] not in LOADERS:
        table.wrong("reboot", f"'{words[0]}' is no way to boot another kernel; {nearest(words[0], LOADERS)}")
        return ()
    return words


def _guest(name: str, table: Table) -> MachinePlan:
    shape = table.one_of("shape", "", shapes.NAMES)
    nodes = table.count("nodes", 2, 1, 8)
    if shape and "nodes" in table.values:
        table.wrong("nodes", "shape and nodes exclude each other")
    cpus = table.count("cpus_per_node", 1, 1, 64)
    memory = table.size("memory_per_node")
    try:
        chosen = (
            shapes.shape(shape, memory_per_node_bytes=memory, cpus_per_node=cpus)
            if shape
            else shapes.shape_for(nodes, memory_per_node_bytes=memory, cpus_per_node=cpus)
        )
    except UsageError as error:
        table.wrong("memory_per_node", str(error))
        return MachinePlan(name, GUEST, "2n")
    return MachinePlan(name, GUEST, chosen.name, cpus, memory)


def _slurm(name: str, table: Table) -> MachinePlan:
    return MachinePlan(
        name,
        SLURM,
        reboot=(SLURM,) if table.flag("reboot") else (),
        features=table.texts("features"),
        nodes=table.texts("nodes"),
        partition=table.text("partition"),
    )


def _check_there(top: Table, kernels: Mapping[str, KernelPlan], machines: Mapping[str, MachinePlan]) -> None:
    for key, found, example in (
        ("kernels", kernels, "[kernels.NAME] with one of " + ", ".join(KERNEL_KINDS)),
        ("machines", machines, "[machines.NAME] with one of " + ", ".join(MACHINE_KINDS)),
        ("experiment", top.values.get("experiment"), "[[experiment]] with a name and a workload"),
    ):
        if not found and isinstance(top.values.get(key, {}), dict | list):
            top.wrong(key, f"there is none: {example} is expected")
    here = [name for name, machine in machines.items() if machine.kind == HERE]
    for name in here[1:]:
        top.document.wrong(
            ("machines", name),
            f"machines.{name}.here",
            f"this machine is machines.{here[0]} already, and has one history",
        )


def _check_experiments(
    top: Table,
    experiments: tuple[Experiment, ...],
    kernels: Mapping[str, KernelPlan],
    machines: Mapping[str, MachinePlan],
) -> None:
    """Note names and cells that are there twice: each cell is one series."""
    names: set[str] = set()
    cells: dict[tuple[object, ...], str] = {}
    for place, experiment in enumerate(experiments):
        where, path = f"experiment '{experiment.name}'", ("experiment", place)
        if experiment.name in names:
            top.document.wrong((*path, "name"), f"{where}.name", "there is an experiment of that name already")
        names.add(experiment.name)
        pairs = [
            (kernel, machine)
            for kernel, machine in itertools.product(experiment.kernels, experiment.machines)
            if fits(kernels[kernel], machines[machine])
        ]
        own = [(words, *pair) for words in experiment.words for pair in pairs]
        twice = next((cell for cell in own if cell in cells), None)
        if twice is not None:
            words, kernel, machine = twice
            message = (
                f"experiment '{cells[twice]}' measures `numabench {' '.join(words)}` on {machine} and {kernel}, too"
            )
            top.document.wrong(path, where, message)
        cells |= dict.fromkeys(own, experiment.name)
        _check_pairs(top.document, place, experiment, kernels, machines)


def _check_pairs(
    document: Document,
    place: int,
    experiment: Experiment,
    kernels: Mapping[str, KernelPlan],
    machines: Mapping[str, MachinePlan],
) -> None:
    """Note an experiment that none of its machines has a kernel for, and boots that would be none."""
    where = f"experiment '{experiment.name}'"
    pairs = [
        (kernels[kernel], machines[machine])
        for machine, kernel in itertools.product(experiment.machines, experiment.kernels)
        if machines[machine].kind and kernels[kernel].kind
    ]
    fitting = [(kernel, machine) for kernel, machine in pairs if fits(kernel, machine)]
    if pairs and not fitting:
        document.wrong(("experiment", place, "kernels"), f"{where}.kernels", _no_fit(*pairs[0]))
    for kernel, machine in fitting:
        if machine.reboot[:1] in {("grub",), ("systemd-boot",)} and not kernel.entry:
            document.wrong(
                ("kernels", kernel.name),
                f"kernels.{kernel.name}.entry",
                f"it is missing: what {machine.reboot[0]} of machine '{machine.name}' calls this kernel is expected",
            )
    for machine in dict.fromkeys(machine for _, machine in fitting):
        if experiment.asks_boots and experiment.boots > 1 and not machine.boots_anew:
            document.wrong(
                ("experiment", place, "boots"),
                f"{where}.boots",
                f"machine '{machine.name}' is not booted for a block, so that {experiment.boots} boots would be one: "
                "give it `reboot`, or leave out boots",
            )


def _no_fit(kernel: KernelPlan, machine: MachinePlan) -> str:
    if machine.kind == GUEST:
        return (
            f"kernel '{kernel.name}' is {kernel.kind} and machine '{machine.name}' is a guest: it takes package, "
            "build or cached"
        )
    if machine.kind == HERE and machine.reboot:
        return f"kernel '{kernel.name}' is {kernel.kind}, and machine '{machine.name}' boots what is installed there"
    if machine.kind == HERE and kernel.kind == INSTALLED:
        return f"machine '{machine.name}' cannot boot kernel '{kernel.name}': give it `reboot`, one of " + ", ".join(
            LOADERS
        )
    if machine.kind == SLURM:
        return f"kernel '{kernel.name}' is {kernel.kind}, and Slurm's machine '{machine.name}' takes installed"
    return (
        f"kernel '{kernel.name}' is {kernel.kind}, for guests, and machine '{machine.name}' is none: it takes "
        "installed or running"
    )
