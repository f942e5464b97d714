"""Call trees in text, drawn line by line as `perf report --stdio` does (ui/stdio/hist.c), less trailing blanks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.analysis.calltree import Branch, CallTree, Entry

_MARGIN = " " * 12
_STEP = " " * 10
REST = "[...]"


@dataclass(frozen=True)
class Form:
    """What differs between perf's drawings: a blank after the dashes, and the side that commands are padded on."""

    gap: str
    comm_right: bool


# perf of today, and perf as it was in November 2012, when the call graph of the linux-mm thread was made with it.
TODAY = Form(gap="", comm_right=False)
OF_2012 = Form(gap=" ", comm_right=True)


@dataclass(frozen=True)
class _Columns:
    comm: int
    dso: int


def render(tree: CallTree, form: Form = TODAY) -> str:
    """The rows of a call tree and the tree below each; empty for none. Names are escaped."""
    columns = _Columns(
        max((len(escape(entry.comm)) for entry in tree.entries), default=0),
        max((len(escape(entry.dso)) for entry in tree.entries), default=0),
    )
    lines: list[str] = []
    for entry in tree.entries:
        lines.append(_row(entry, tree, columns, form))
        left = columns.comm - len(escape(entry.comm)) if form.comm_right else 0
        drawn = list(_draw_entry(entry, tree, form, _MARGIN + " " * left))
        lines += [*drawn, ""] if drawn else []
    return "".join(line.rstrip() + "\n" for line in lines)


def _percent(weight: int, total: int) -> str:
    return f"{weight * 100 / total if total else 0:.2f}%"


def _row(entry: Entry, tree: CallTree, columns: _Columns, form: Form) -> str:
    comm, dso = escape(entry.comm), escape(entry.dso)
    cells = [f"{_percent(entry.self_weight, tree.total_weight):>8}"]
    if tree.inclusive:
        cells.insert(0, f"{_percent(entry.inclusive_weight, tree.total_weight):>8}")
    if columns.comm:
        cells.append(comm.rjust(columns.comm) if form.comm_right else comm.ljust(columns.comm))
    if columns.dso:
        cells.append(dso.ljust(columns.dso))
    return "  " + "  ".join([*cells, f"[{entry.level}] {escape(entry.symbol)}"])


def _draw_entry(entry: Entry, tree: CallTree, form: Form, margin: str) -> Iterator[str]:
    weight = entry.inclusive_weight if tree.inclusive else entry.self_weight
    branches = entry.branches
    if len(branches) == 1 and branches[0].weight == weight:
        # A single chain has the row's own share, which is not said again.
        [branch] = branches
        yield f"{margin}|"
        yield f"{margin}---{form.gap}{escape(branch.frames[0])}"
        margin += "   "
        yield from (f"{margin}{form.gap}{escape(frame)}" for frame in branch.frames[1:])
        branches = branch.branches
    total = weight if tree.relative else tree.total_weight
    # Chains may be deeper than Python recurses.
    levels = [_Level(branches, total, ("|",)).draw(tree.relative, form, margin)]
    while levels:
        drawn = next(levels[-1], None)
        if drawn is None:
            levels.pop()
        elif isinstance(drawn, str):
            yield drawn
        else:
            levels.append(drawn.draw(tree.relative, form, margin))


@dataclass(frozen=True)
class _Level:
    """Branches side by side; `pipes` holds, for each level above and this, whether more follows below there."""

    branches: tuple[Branch, ...]
    total: int
    pipes: tuple[str, ...]

    def draw(self, relative: bool, form: Form, margin: str) -> Iterator[str | _Level]:
        """The lines, and after each branch's own what is below it."""
        rest = self.total
        for branch in self.branches:
            rest -= branch.weight
            last = branch is self.branches[-1] and not (relative and rest)
            yield margin + "".join(pipe + _STEP for pipe in self.pipes)
            pipes = (*self.pipes[:-1], " ") if last else self.pipes
            above = margin + "".join(pipe + _STEP for pipe in pipes[:-1]) + pipes[-1]
            yield f"{above}--{_percent(branch.weight, self.total)}--{form.gap}{escape(branch.frames[0])}"
            yield from (f"{above}{_STEP}{escape(frame)}" for frame in branch.frames[1:])
            yield _Level(branch.branches, branch.below if relative else self.total, (*pipes, "|"))
        if relative and 0 < rest < self.total:
            above = margin + "".join(pipe + _STEP for pipe in self.pipes[:-1])
            yield f"{above} --{_percent(rest, self.total)}--{form.gap}{REST}"
