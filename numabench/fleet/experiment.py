"""An experiment of a lab's plan: a workload with every combination of values, as words of `numabench run`."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.errors import CannotRun, UsageError
from numabench.fleet.toml_table import check_name, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numabench.experiment.plan import Request
    from numabench.fleet.plan import KernelPlan, MachinePlan
    from numabench.fleet.toml_table import Table

# What the night says itself of each run.
NOT_OPTIONS = frozenset(
    {"repeats", "seed", "results", "json", "png", "native", "lab", "kernel", "boots", "cpus-per-node"}
    | {"memory-per-node", "run-id", "boot", "asked", "help"}
)
MAX_CELLS = 10_000
# Where neither an option nor a night before says how long a trial takes, and what a run takes beside its trials.
GUESSED_TRIAL_S, GUESSED_RUN_S = 30.0, 10.0
# A run may take so long to start, emulated, and a trial so long beyond its time.
RUN_START_S, TRIAL_EXTRA_S = 300.0, 180.0
_VALUE_SIGNS = re.compile(r"[^A-Za-z0-9_+]+")


@dataclass(frozen=True)
class RunWords:
    """The command line of `numabench run`: its options without dashes, whether each is a flag, and what words ask for.

    `request` raises `UsageError` for what cannot be meant.
    """

    is_flag: Mapping[str, bool]
    request: Callable[[Sequence[str]], Request]


@dataclass(frozen=True)
class Setting:
    """One combination of an experiment's values: its words, and the values of its axes, for people.

    `guess_s` is how long its run may take where no night has shown it yet, `timeout_s` when it is given up.
    """

    words: tuple[str, ...]
    values: tuple[str, ...]
    guess_s: float = 0.0
    timeout_s: float = 0.0


@dataclass(frozen=True)
class Experiment:
    """An experiment as it was read. `settings` are in the order of the file, the last axis fastest.

    Machines and kernels are those named, or all. `asks_boots`: the number of boots is its own.
    """

    name: str
    settings: tuple[Setting, ...]
    kernels: tuple[str, ...]
    machines: tuple[str, ...]
    priority: int
    repeats: int
    boots: int
    asks_boots: bool
    is_aa: bool

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """Those of each setting."""
        return tuple(setting.words for setting in self.settings)


def read_experiment(
    row: Table,
    defaults: tuple[int, int],
    kernels: Mapping[str, KernelPlan],
    machines: Mapping[str, MachinePlan],
    run_words: RunWords,
) -> Experiment:
    """An experiment's table; `defaults` are the night's boots and repeats. What is wrong is noted in its document."""
    name = row.needed_text("name", "a name")
    if name:
        check_name(row, "name", name, "experiment")
    program = row.texts("program", "a list of a command's words")
    workload = () if program else _workload(row)
    if program and row.has("workload"):
        row.wrong("program", "workload and program exclude each other")
    options = row.table("options")
    options.label = f"{row.label}.options"
    settings = _settings(options, workload, program, run_words)
    boots, repeats = defaults
    experiment = Experiment(
        name=name,
        settings=settings,
        kernels=_chosen(row, "kernels", kernels),
        machines=_chosen(row, "machines", machines),
        priority=row.count("priority", 50, 0, 100),
        repeats=row.count("repeats", repeats, 1, 1000),
        boots=row.count("boots", boots, 1, 100),
        asks_boots=row.has("boots"),
        is_aa=row.flag("aa"),
    )
    row.close()
    timed = tuple(_checked(options, setting, experiment, machines, run_words) for setting in settings)
    return replace(experiment, settings=timed)


def _workload(row: Table) -> tuple[str, ...]:
    from numabench.workload import catalog

    name = row.needed_text("workload", "a workload, or `program = [...]`,")
    known = [each.name for each in catalog.WORKLOADS]
    if name and name not in known:
        row.wrong("workload", f"there is no workload '{name}'; {nearest(name, known)}")
    return (name,) if name in known else ()


def _chosen(row: Table, key: str, known: Iterable[str]) -> tuple[str, ...]:
    """The kernels or machines that are named, or all."""
    names = row.texts(key, "a list of names")
    for name in names:
        if name not in known:
            row.wrong(key, f"there is none called '{name}'; {nearest(name, known)}")
    return tuple(dict.fromkeys(name for name in names if name in known)) if names else tuple(known)


def _settings(
    options: Table, workload: tuple[str, ...], program: tuple[str, ...], run_words: RunWords
) -> tuple[Setting, ...]:
    axes: list[tuple[str, tuple[str | None, ...]]] = []
    allowed = {name for name in run_words.is_flag if name not in NOT_OPTIONS}
    for name in options.values:
        options.has(name)
        if name in NOT_OPTIONS:
            options.wrong(name, f"--{name} is not an experiment's: the night says it of each run")
        elif name not in allowed:
            options.wrong(name, f"`numabench run` has no option --{name}; {nearest(name, allowed)}")
        else:
            axes.append((name, _values(options, name, is_flag=run_words.is_flag[name])))
    if not (workload or program) or any(not values for _, values in axes):
        return ()
    count = 1
    for _, values in axes:
        count *= len(values)
    if count > MAX_CELLS:
        options.wrong("", f"{count:,} combinations are more than {MAX_CELLS:,}")
        return ()
    return tuple(_setting(axes, values, workload, program) for values in itertools.product(*(v for _, v in axes)))


def _values(options: Table, name: str, *, is_flag: bool) -> tuple[str | None, ...]:
    """An option's values as words; of a flag None where it is set and an empty word where it is not."""
    given = options.values[name]
    values = given if isinstance(given, list) else [given]
    if not values:
        options.wrong(name, "the list is empty")
    read: list[str | None] = []
    for value in values:
        if is_flag and isinstance(value, bool):
            read.append(None if value else "")
        elif not is_flag and isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            read.append(str(value))
        else:
            wanted = "true or false" if is_flag else "a text or a number"
            options.wrong(name, f"{value!r} is not {wanted}")
            return ()
    if len(set(read)) < len(read):
        options.wrong(name, "a value is there twice: `repeats` repeats them all")
        return ()
    return tuple(read)


def _setting(
    axes: Sequence[tuple[str, tuple[str | None, ...]]],
    values: Sequence[str | None],
    workload: tuple[str, ...],
    program: tuple[str, ...],
) -> Setting:
    """Words by their options' names, so that a file written in another order means the same series."""
    words: list[str] = []
    for name, value in sorted(zip((name for name, _ in axes), values, strict=True), key=lambda pair: pair[0]):
        words += [f"--{name}"] if value is None else [f"--{name}", value] if value else []
    shown = [
        _VALUE_SIGNS.sub("_", name if value is None else value or f"no-{name}")
        for (name, all_values), value in zip(axes, values, strict=True)
        if len(all_values) > 1
    ]
    return Setting(("run", *workload, *words, *(("--", *program) if program else ())), tuple(shown))


def _checked(
    options: Table,
    setting: Setting,
    experiment: Experiment,
    machines: Mapping[str, MachinePlan],
    run_words: RunWords,
) -> Setting:
    """The setting with its times, once `numabench run` has read its words and the guests asked for have the nodes."""
    from numabench.experiment.plan import guest_nodes
    from numabench.lab.shapes import shape

    try:
        request = run_words.request(setting.words)
        for name in experiment.machines:
            machine = machines[name]
            if not machine.shape:
                continue
            nodes = sum(bool(node.cpus and node.memory_bytes) for node in shape(machine.shape).nodes)
            if guest_nodes(request) > nodes:
                options.wrong(
                    "nodes" if "nodes" in options.values else "",
                    f"{guest_nodes(request)} nodes are asked for and machine '{name}' has {nodes}",
                )
    except UsageError as error:
        named = next((name for name in options.values if f"--{name}" in error.message.split()), "")
        options.wrong(named, str(error))
        return setting
    except CannotRun as error:
        # perf is not installed here, and then in no guest either.
        options.wrong("observe", str(error))
        return setting
    return _timed(setting, request, experiment.repeats)


def _timed(setting: Setting, request: Request, repeats: int) -> Setting:
    """The setting with a guess at how long all trials and passes of its run take, and when it is given up."""
    passes = request.observe_repeats * (len(request.observe) + 1) if request.observe else 0
    trials = len(request.placements) * (repeats + request.warmup + passes)
    guess_s = GUESSED_RUN_S + trials * (request.duration_s or min(GUESSED_TRIAL_S, request.timeout_s))
    timeout_s = RUN_START_S + trials * (2 * request.timeout_s + TRIAL_EXTRA_S)
    return replace(setting, guess_s=guess_s, timeout_s=timeout_s)
