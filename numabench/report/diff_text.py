"""A comparison in text: what differs about the sides, figures, phases, functions, and both trees drawn as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.report.escape import escape
from numabench.report.page import BOLD, RED, YELLOW, Page
from numabench.units import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numabench.comparison.change import Metric, MetricChange, Verdict
    from numabench.comparison.diff import Diff
    from numabench.comparison.side import Side
    from numabench.comparison.treediff import NodeChange, TreeDiff

_MIN_WIDTH = 100
_ABSENT = "absent"
_TOP = 20
# Verdicts that a test stands behind, or that name something only one side shows.
_CHANGED = ("grown", "shrunk", "appeared", "disappeared")
_LABEL, _VALUE, _RATIO, _INTERVAL, _Q = 42, 10, 8, 15, 7
# Units that a value is written with, or needs none.
_SELF_EVIDENT = {"", "B", "s", "ns", "share"}
_SHARE, _DELTA, _COST = 8, 9, 17


def render(diff: Diff, *, min_share: float = 0.005, width: int = 100, colour: bool = False) -> str:
    """The report; nodes of the trees below `min_share` (0 to 1) on both sides are left out, unless they changed."""
    page = Page(max(width, _MIN_WIDTH), colour=colour)
    _head(page, diff)
    _differences(page, diff)
    _metrics(page, diff)
    if diff.tree is not None:
        _phases(page, diff.tree)
        _functions(page, diff.tree, min_share)
        _tree(page, diff.tree, min_share)
        _only_one(page, diff.tree)
    _notes(page, diff)
    return "".join(line.rstrip() + "\n" for line in page.lines)


def _head(page: Page, diff: Diff) -> None:
    page.text("A and B compared", BOLD)
    for label, side in (("A", diff.a), ("B", diff.b)):
        page.item(label, f"{side.name}: {_side(side)}")
    if diff.is_forced:
        page.text("These sides are not comparable and were compared anyway: see what differs about them.", RED)
    if any(run.is_guest for run in (*diff.a.runs, *diff.b.runs)):
        page.text(
            "Times are an emulated guest's and not performance. Counts, shares, placement and locks are real.", YELLOW
        )
    page.blank()


def _side(side: Side) -> str:
    trials = sum(trial.counts for run in side.runs for trial in run.trials)
    runs = f"{_number(len(side.runs), 'run')} in {_number(len(side.boots), 'boot')}"
    return f"{runs}, {_number(trials, 'measured trial')}, {_number(len(side.recorded), 'call graph')}"


def _number(count: int, what: str) -> str:
    return f"{format_count(count)} {what}{'' if count == 1 else 's'}"


def _differences(page: Page, diff: Diff) -> None:
    if not diff.differences:
        page.text("Nothing that is recorded about them differs.")
        page.blank()
        return
    page.text("What differs about them", BOLD)
    only_one = [one for one in diff.differences if _ABSENT in {one.a, one.b} and not one.forbids]
    for one in diff.differences:
        if one in only_one:
            continue
        page.text(f"{one.key}: {one.a or '-'}  ->  {one.b or '-'}", RED if one.forbids else "", indent=2, hang=4)
        if one.forbids:
            page.text(f"not comparable: {one.forbids}", RED, indent=4, hang=2)
    for side in ("A", "B"):
        had = [
            f"{one.key} {one.a if side == 'A' else one.b}" for one in only_one if (one.b == _ABSENT) == (side == "A")
        ]
        if had:
            page.text(f"only {side} has: {', '.join(had)}", indent=2, hang=4)
    page.blank()


def _metrics(page: Page, diff: Diff) -> None:
    if not diff.metrics:
        return
    page.text("Figures: the median of each side's boots, and B by A", BOLD)
    for placement in dict.fromkeys(change.placement for change in diff.metrics):
        rows = [change for change in diff.metrics if change.placement == placement]
        told = [change for change in rows if change.median_a or change.median_b or change.verdict in _CHANGED]
        heads = f"{'A':>{_VALUE}}{'B':>{_VALUE}}{'B/A':>{_RATIO}}{'95 %':>{_INTERVAL}}{'q':>{_Q}}"
        page.raw(f"  {f'placement {placement}':<{_LABEL}}{heads}  verdict")
        for change in told:
            page.raw(_metric_row(change))
        if len(told) < len(rows):
            page.text(f"{_number(len(rows) - len(told), 'figure')} more: 0 on both sides", indent=2)
    page.blank()


def _label(metric: Metric) -> str:
    label = escape(f"{metric.label} ({metric.unit})" if metric.unit not in _SELF_EVIDENT else metric.label)
    return label if len(label) < _LABEL else f"{label[: _LABEL - 4]}..."


def _metric_row(change: MetricChange) -> str:
    interval = ""
    if change.ci95 is not None:
        mark = "~" if change.approximate_ci else ""
        interval = f"{mark}{_ratio(change.ci95[0])}..{_ratio(change.ci95[1])}"
    q = "" if change.q is None else _p(change.q)
    values = "".join(f"{_value(value, change.metric.unit):>{_VALUE}}" for value in (change.median_a, change.median_b))
    row = f"{_label(change.metric):<{_LABEL}}{values}{_ratio(change.ratio):>{_RATIO}}{interval:>{_INTERVAL}}{q:>{_Q}}"
    return f"  {row}  {_verdict(change)}"


def _verdict(change: MetricChange) -> str:
    words: str = change.verdict
    if change.verdict == "no change found" and change.smallest_ratio is not None:
        words = f"no change found (x{change.smallest_ratio:.2f} would be)"
    if any(change.bimodal):
        sides = " and ".join(name for name, is_so in zip("AB", change.bimodal, strict=True) if is_so)
        words += f"; {sides} in two groups"
    return words


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    write = _WRITTEN.get(unit)
    if write is not None:
        return write(value)
    return format_count(round(value)) if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


_WRITTEN: dict[str, Callable[[float], str]] = {
    "s": format_seconds,
    "ns": lambda value: format_seconds(value * 1e-9),
    "B": format_bytes,
    "share": lambda value: f"{value * 100:.1f} %",
}


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.2g}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _phases(page: Page, tree: TreeDiff) -> None:
    page.text("Phases: share of the workload's CPU samples, and time of each 2 MB that the kernel migrated", BOLD)
    _table_head(page)
    for node in tree.phases:
        page.raw(_row(node, node.name))
    page.blank()


def _functions(page: Page, tree: TreeDiff, min_share: float) -> None:
    ranked = sorted(tree.functions, key=lambda node: (node.verdict not in _CHANGED, -abs(node.delta), node.name))
    shown = [node for node in ranked if node.verdict in _CHANGED or max(node.share_a, node.share_b) >= min_share]
    if not shown:
        return
    page.text("Functions: with all that they called, what changed first", BOLD)
    _table_head(page)
    for node in shown[:_TOP]:
        page.raw(_row(node, node.name))
    if len(shown) > _TOP:
        page.text(f"{_number(len(shown) - _TOP, 'function')} more: --csv FILE, --json or --html FILE has all", indent=4)
    page.blank()


def _table_head(page: Page) -> None:
    columns = f"{'A':>{_SHARE}}{'B':>{_SHARE}}{'B-A':>{_DELTA}}{'95 %':>{_INTERVAL}}{'per 2 MB':>{_COST}}"
    page.raw(f"  {columns}  {'':<16}")


def _row(node: NodeChange, name: str) -> str:
    shares = "".join(f"{_percent(share):>{_SHARE}}" for share in (node.share_a, node.share_b))
    interval = "" if node.ci95 is None else f"{node.ci95[0] * 100:+.1f}..{node.ci95[1] * 100:+.1f}"
    mark = f"  [{node.verdict}]" if node.verdict in {*_CHANGED, "not comparable"} else ""
    delta = f"{node.delta * 100:+.1f}"
    return f"  {shares}{delta:>{_DELTA}}{interval:>{_INTERVAL}}{_cost(node):>{_COST}}  {escape(name)}{mark}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %" if share else "-"


def _cost(node: NodeChange) -> str:
    if node.per_2mb_a is None or node.per_2mb_b is None:
        return ""
    return f"{format_seconds(node.per_2mb_a * 1e-9)}>{format_seconds(node.per_2mb_b * 1e-9)}"


def _tree(page: Page, tree: TreeDiff, min_share: float) -> None:
    shown = _shown(tree.nodes, min_share)
    if not shown:
        return
    title = "Call tree from the outermost caller down, on the names that both kernels have"
    page.text(title, BOLD)
    page.text(
        f"{format_count(tree.samples_a)} and {format_count(tree.samples_b)} samples; of "
        f"{tree.whole_share[0] * 100:.1f} % and {tree.whole_share[1] * 100:.1f} % every frame could be compared, and "
        f"{tree.kept_frames[0] * 100:.1f} % and {tree.kept_frames[1] * 100:.1f} % of all frames.",
        indent=2,
    )
    _table_head(page)
    for place, is_last in _drawn(tree.nodes, shown):
        node = tree.nodes[place]
        lead = "".join("   " if last else "|  " for last in is_last[:-1])
        page.raw(_row(node, f"{lead}{'`--' if is_last[-1] else '|--'}{node.name}"))
    page.blank()


def _shown(nodes: Sequence[NodeChange], min_share: float) -> set[int]:
    """The nodes that are heavy enough on a side, those that changed, and all that are above either."""
    found: set[int] = set()
    for place, node in enumerate(nodes):
        if max(node.share_a, node.share_b) >= min_share or node.verdict in _CHANGED:
            above = place
            while above >= 0 and above not in found:
                found.add(above)
                above = nodes[above].parent
    return found


def _drawn(nodes: Sequence[NodeChange], shown: set[int]) -> list[tuple[int, tuple[bool, ...]]]:
    """The shown nodes in the order of the drawing, each with whether it and each above it is the last of its parent."""
    children: dict[int, list[int]] = {}
    for place in sorted(shown):
        children.setdefault(nodes[place].parent, []).append(place)
    for below in children.values():
        below.sort(key=lambda place: (-max(nodes[place].share_a, nodes[place].share_b), nodes[place].name))
    drawn: list[tuple[int, tuple[bool, ...]]] = []
    roots = children.get(-1, [])
    # Trees may be deeper than Python recurses.
    left: list[tuple[int, tuple[bool, ...]]] = [(place, (place == roots[-1],)) for place in reversed(roots)]
    while left:
        place, is_last = left.pop()
        drawn.append((place, is_last))
        below = children.get(place, [])
        left += [(child, (*is_last, child == below[-1])) for child in reversed(below)]
    return drawn


def _only_one(page: Page, tree: TreeDiff) -> None:
    if not tree.folded:
        return
    page.text("Only one kernel has these: their samples are their callers' above", BOLD)
    for side in ("A", "B"):
        rows = sorted((one for one in tree.folded if one.side == side.lower()), key=lambda one: -one.share)
        for one in rows[:_TOP]:
            shares = f"{_percent(one.share):>{_SHARE}}  of them itself {_percent(one.self_share):>{_SHARE}}"
            page.raw(f"  {side}  {shares}  {escape(one.name)}")
        if len(rows) > _TOP:
            page.text(f"{side}  and {format_count(len(rows) - _TOP)} more", indent=2)
    page.blank()


def _notes(page: Page, diff: Diff) -> None:
    if diff.notes:
        page.text("to know", BOLD)
        for note in diff.notes:
            page.text(note, indent=2, hang=2)


def changed(verdict: Verdict) -> bool:
    """Whether a verdict says that something changed."""
    return verdict in _CHANGED
