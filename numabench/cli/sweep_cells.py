"""The words of `numabench sweep` that are meant for `numabench run`, and what the words of one such run ask for."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from numabench.cli.run_words import request, run_command
from numabench.errors import CannotRun, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numabench.experiment.plan import Request
    from numabench.experiment.progress import Progress
    from numabench.host.topology import Topology
    from numabench.record import SweepAxis, SweepCell

# A unit is one measured trial: what makes more of a run, and what is the sweep's own to say.
_NOT_OF_UNITS = frozenset(
    {"--warmup", "--all-placements", "--observe", "--observe-repeats", "--frequency", "--run-id", "--boot", "--asked"}
)


@contextlib.contextmanager
def told_of(axes: Sequence[SweepAxis], cell: SweepCell) -> Iterator[None]:
    """Have what is refused name the cell that it is refused for."""
    from numabench.experiment.matrix import described

    try:
        yield
    except UsageError as error:
        if not axes:
            raise
        raise UsageError(f"{described(axes, cell.values)}: {error.message}", error.hint) from None


def requests(axes: Sequence[SweepAxis], cells: Sequence[SweepCell], progress: Progress) -> list[Request]:
    """What every cell asks for. Raises what `request_from` does, and names the cell."""
    found = []
    for place, cell in enumerate(cells, 1):
        progress.status(f"looking at cell {place} of {len(cells)}")
        with told_of(axes, cell):
            found.append(request(cell.argv))
    return found


def check_plans(
    axes: Sequence[SweepAxis],
    cells: Sequence[SweepCell],
    asked: Sequence[Request],
    topology: Topology,
    progress: Progress,
) -> None:
    """Refuse, with `UsageError`, a cell that no run can be planned for on the machine that all are to run on.

    What that machine lacks is no mistake, nor is a batch of more pages than a mover has in this cell: it is the outcome
    of the cell's units.
    """
    from numabench.experiment.drive import BatchTooLarge
    from numabench.experiment.plan import make_plan
    from numabench.workload import catalog

    for place, (cell, each) in enumerate(zip(cells, asked, strict=True), 1):
        progress.status(f"planning cell {place} of {len(cells)}")
        with told_of(axes, cell), contextlib.suppress(CannotRun, BatchTooLarge):
            make_plan(each, catalog.find(each.workload), topology, emulated=False)


def options(words: Sequence[str]) -> tuple[str, list[tuple[str, str | None]]]:
    """The workload, and the options that are meant for its runs, each with its value; None of one that has none.

    Raises `UsageError` for an option that no unit has, and for one without its value.
    """
    if "--" in sys.argv:
        raise UsageError("a program of your own has no options to sweep over", "take one of `numabench workloads`")
    flags = {name: option.is_flag for option in run_command().params for name in option.opts if name.startswith("--")}
    workloads: list[str] = []
    found: list[tuple[str, str | None]] = []
    left = iter(words)
    for word in left:
        name, equals, text = word.partition("=")
        if name in _NOT_OF_UNITS:
            raise UsageError(f"{name} is not of a sweep, whose units are measured trials", "use numabench run for it")
        if not name.startswith("-"):
            workloads.append(word)
        elif name not in flags:
            raise UsageError(f"there is no option {name}", _meant(name, flags))
        elif flags[name]:
            if equals:
                raise UsageError(f"{name} takes no value", f"write {name}")
            found.append((name, None))
        else:
            value = text if equals else next(left, "")
            if not value or value.startswith("--"):
                raise UsageError(f"{name} has no value", f"write {name} VALUE")
            found.append((name, _portable(value) if name == "--profile" else value))
    if len(workloads) != 1:
        wrong = f"'{workloads[1]}' is one word too many" if workloads else "a sweep needs a workload"
        raise UsageError(wrong, "for example: numabench sweep pingpong --batch 1,8,64")
    return workloads[0], found


def _portable(profile: str) -> str:
    """A profile as a word that means the same in a guest, and when the sweep goes on tomorrow."""
    from numabench.host import profiles

    return profiles.load(profile).word


def _meant(name: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? See numabench run --help" if close else "see numabench run --help"
