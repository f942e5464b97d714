"""The page of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.analysis.missing import Missing
from numabench.analysis.summary import summarize
from numabench.report.html.chart import bar, forest, memory_chart, memory_high
from numabench.report.html.element import MINUS, Html, number, table, tag
from numabench.report.html.fit import FOUND, diff_graph
from numabench.report.html.observed import look
from numabench.report.html.run import clip_name
from numabench.report.html.template import Section, page, section
from numabench.report.run_head import guest_note
from numabench.units import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numabench.analysis.residency import NodeMemory
    from numabench.comparison.change import MetricChange
    from numabench.comparison.diff import Diff
    from numabench.comparison.side import Side
    from numabench.comparison.treediff import Folded, NodeChange, TreeDiff
    from numabench.record import Run

_MOST_ROWS, _MOST_FUNCTIONS, _MOST_CHARTS = 60, 80, 6
_FEW_RUNS = 3
# Verdicts by how much they say, for a table sorted by what changed.
_ORDER = (*FOUND, "insufficient", "no change found", "not comparable")
_CLOCKS = ("cpu-clock", "task-clock")


def diff_page(diff: Diff) -> str:
    """A comparison as one HTML file of at most 400 KB: both sides, what changed, and the call trees on one another."""
    title = f"{diff.a.name} (A) against {diff.b.name} (B)"
    unit = _unit(diff)
    tree = diff.tree
    before = [*_sides(diff), *_metrics(diff.metrics, diff), *_memory(diff)]
    after: list[Section] = []
    if tree is not None:
        before += _phases(tree)
        after = [*_functions(tree, unit), *_only_in_one(tree)]

    def graphs(least: float) -> dict[str, Any]:
        return {
            "kind": "diff",
            "guest": _is_guest(diff),
            "sides": [clip_name(diff.a.name), clip_name(diff.b.name)],
            "tested": tree is not None and min(tree.runs_a, tree.runs_b) >= _FEW_RUNS,
            "graphs": [diff_graph(tree, "CPU samples", unit, least)] if tree is not None and tree.nodes else [],
        }

    return page(title, _head(diff, title), before, graphs, after)


def _runs(diff: Diff) -> tuple[Run, ...]:
    return (*diff.a.runs, *diff.b.runs)


def _is_guest(diff: Diff) -> bool:
    return any(run.is_guest for run in _runs(diff))


def _unit(diff: Diff) -> str:
    """The unit of what 2 MB cost at a node: nanoseconds, or the event that was sampled."""
    events = [
        event
        for run in _runs(diff)
        for trial in run.trials
        if trial.observed is not None and trial.observed.recipe == "cpu"
        for event in trial.observed.events
    ]
    return next(("ns" if event.split(":")[0] in _CLOCKS else event for event in events), "ns")


def _head(diff: Diff, title: str) -> Html:
    guest = next((run for run in _runs(diff) if run.is_guest), None)
    banners = []
    if diff.is_forced:
        reasons = [difference.forbids for difference in diff.differences if difference.forbids]
        banners.append(
            tag(
                "p",
                tag("strong", "These are not comparable, and were compared anyway. "),
                "; ".join(reasons),
                class_="banner",
                role="note",
            )
        )
    if guest is not None:
        banners.append(tag("p", tag("strong", "Guests ran this. "), guest_note(guest), class_="banner", role="note"))
    changed = sum(change.verdict in FOUND for change in diff.metrics)
    words = [f"{changed} of {len(diff.metrics)} figures changed"]
    if diff.tree is not None:
        nodes = sum(node.verdict in FOUND for node in diff.tree.nodes)
        words.append(f"{nodes:,} of {len(diff.tree.nodes):,} frames of the call tree changed")
        if min(diff.tree.runs_a, diff.tree.runs_b) < _FEW_RUNS:
            words[-1] = "the call trees were not tested: descriptive only"
    return tag(
        "div",
        tag("h1", title),
        *banners,
        tag("p", tag("span", "; ".join(words), class_="badge " + ("warn" if changed else "plain"))),
        tag("ul", *(tag("li", note) for note in diff.notes), class_="findings plain") if diff.notes else None,
    )


def _sides(diff: Diff) -> list[Section]:
    sides = [_side(diff.a), _side(diff.b)]
    head = ("", *(tag("span", letter, class_=f"side side-{letter.lower()}") for letter in "AB"))
    rows = [(label, *(side[place][1] for side in sides)) for place, (label, _) in enumerate(sides[0])]
    tree = diff.tree
    if tree is not None:
        rows += [
            ("recordings compared", f"{tree.runs_a:,}", f"{tree.runs_b:,}"),
            ("samples compared", f"{tree.samples_a:,}", f"{tree.samples_b:,}"),
            ("samples whose every frame both kernels have", *(_share(share) for share in tree.whole_share)),
            ("frames that both kernels have", *(_share(share) for share in tree.kept_frames)),
        ]
    differing = [
        (difference.key, difference.a, difference.b, difference.forbids or "allowed") for difference in diff.differences
    ]
    told = (
        table(("key", "A", "B", "why a comparison would mean nothing"), differing[:_MOST_ROWS])
        if differing
        else tag("p", "No identity key differs.")
    )
    return [
        section("sides", "Sides", table(head, rows, class_="figures")),
        section("differences", "What differs", told),
    ]


def _side(side: Side) -> list[tuple[str, str]]:
    def each(values: Iterable[str]) -> str:
        listed = list(dict.fromkeys(value for value in values if value))
        return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")

    return [
        ("name", side.name),
        ("runs", f"{len(side.runs)} in {len(side.boots)} boot{'s' * (len(side.boots) != 1)}"),
        ("ran", each(f"{run.workload} on {len(run.nodes)} node{'s' * (len(run.nodes) != 1)}" for run in side.runs)),
        ("kernel", each(run.machine.kernel_release for run in side.runs)),
        ("machine", each(f"{run.machine.cpu_count} x {run.machine.cpu_model}" for run in side.runs)),
        ("run names", each(run.run_id for run in side.runs)),
    ]


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _metrics(changes: Sequence[MetricChange], diff: Diff) -> list[Section]:
    if not changes:
        return [section("figures", "Figures", tag("p", "No figure was compared."))]
    guest = _is_guest(diff)
    several = len({change.placement for change in changes}) > 1
    rows = [_metric(change, guest, several) for change in sorted(changes, key=_by_verdict)[:_MOST_ROWS]]
    head = ("figure", "verdict", "A", "B", "B by A", "95 % interval", "", "q", "could show from")
    told = (
        "Medians of the boots' medians. The scale is logarithmic, from a quarter to four times, no change in its "
        "middle. q is after Benjamini-Hochberg over all that was compared; the last column is the smallest change that "
        "this data would have shown in 80 of 100 cases."
    )
    return [section("figures", "Figures", tag("p", told, class_="note"), table(head, rows, class_="sortable"))]


def _by_verdict(change: MetricChange) -> tuple[int, float]:
    return _ORDER.index(change.verdict), 1.0 if change.q is None else change.q


def _metric(change: MetricChange, guest: bool, several: bool) -> list[str]:
    metric = change.metric
    name = metric.label + (f", {change.placement}" if several else "")
    if metric.is_time and guest:
        name += " (guest time)"
    interval = "none" if change.ci95 is None else f"{change.ci95[0]:.3g}..{change.ci95[1]:.3g}"
    if change.ci95 is not None and change.approximate_ci:
        interval += " (approximate)"
    two = " (two groups of values)" if any(change.bimodal) else ""
    return [
        tag("th", name + two, scope="row"),
        _verdict(change.verdict, _better(change)),
        number(_amount(change.median_a, metric.unit), change.median_a),
        number(_amount(change.median_b, metric.unit), change.median_b),
        number("none" if change.ratio is None else f"{change.ratio:.3g}", change.ratio),
        number(interval),
        tag("td", forest(change.ratio, change.ci95, _look(change)), class_="bars"),
        number("" if change.q is None else f"{change.q:.2g}", change.q),
        number("" if change.smallest_ratio is None else f"{change.smallest_ratio:.3g} times", change.smallest_ratio),
    ]


def _better(change: MetricChange) -> str:
    if change.verdict not in {"grown", "shrunk"} or change.metric.better == "neither":
        return ""
    return " (better)" if (change.verdict == "grown") == (change.metric.better == "higher") else " (worse)"


def _look(change: MetricChange) -> str:
    return change.verdict if change.verdict in FOUND else "same"


def _verdict(verdict: str, more: str = "") -> Html:
    mark = {"grown": "▲ ", "shrunk": "▼ ", "appeared": "+ ", "disappeared": f"{MINUS} "}.get(verdict, "")
    look = verdict if verdict in FOUND else "same"
    return tag(
        "td", tag("span", mark + verdict + more, class_=f"verdict {look}"), data_value=str(_ORDER.index(verdict))
    )


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    if unit in {"s", "ns"}:
        return format_seconds(value if unit == "s" else value * 1e-9)
    if unit in {"B", "bytes"}:
        return format_bytes(value)
    text = format_count(value) if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def _memory(diff: Diff) -> list[Section]:
    """The first run of each side, on one scale."""
    found: list[tuple[str, NodeMemory]] = []
    for letter, side in (("A", diff.a), ("B", diff.b)):
        for placement in summarize(side.runs[0]).placements if side.runs else ():
            shown = placement.typical
            if shown is not None and not isinstance(shown.memory, Missing):
                caption = f"{letter}, placement {placement.placement}: {side.runs[0].run_id}, trial {shown.trial.index}"
                found.append((caption, shown.memory))
    if not found:
        return [section("memory", "Memory over time", tag("p", "Of no side memory per node is known."))]
    found = found[:_MOST_CHARTS]
    high = max(memory_high(memory) for _, memory in found) if all(memory.is_scaled for _, memory in found) else None
    charts = [memory_chart(memory, caption, high) for caption, memory in found]
    return [section("memory", "Memory over time", tag("div", *charts, class_="charts"))]


def _phases(tree: TreeDiff) -> list[Section]:
    """By phase of migration, and what of each waits for a lock."""
    waiting = [phase for phase in tree.phases if ", waiting for " in phase.name]
    whole = [phase for phase in tree.phases if ", waiting for " not in phase.name]
    return [
        section(
            "phases",
            "Phases of migration",
            *_phase_table(whole, "phase", "No sample is in a migration."),
            link="Phases",
        ),
        section(
            "locks",
            "Waiting for locks, by phase",
            *_phase_table(waiting, "phase and lock", "No sample waits for a lock."),
            link="Locks",
        ),
    ]


def _phase_table(phases: Sequence[NodeChange], what: str, none: str) -> list[Html]:
    if not phases:
        return [tag("p", none)]
    most = max(max(phase.share_a, phase.share_b) for phase in phases)
    rows = [
        [
            phase.name,
            tag(
                "td",
                tag("div", bar(phase.share_a, 0, most, look(phase.name.partition(",")[0]) + " of-a")),
                tag("div", bar(phase.share_b, 0, most, look(phase.name.partition(",")[0]))),
                class_="bars",
            ),
            *_change_cells(phase),
        ]
        for phase in sorted(phases, key=lambda phase: -max(phase.share_a, phase.share_b))[:_MOST_ROWS]
    ]
    return [table((what, "A above B", *_CHANGE_HEAD), rows, class_="sortable")]


_CHANGE_HEAD = ("verdict", "A", "B", "change, points", "95 % interval", "q")


def _change_cells(node: NodeChange) -> list[Html]:
    interval = "" if node.ci95 is None else "..".join(_points(bound) for bound in node.ci95)
    return [
        _verdict(node.verdict),
        number(f"{100 * node.share_a:.2f} %", node.share_a),
        number(f"{100 * node.share_b:.2f} %", node.share_b),
        number(_points(node.delta), abs(node.delta)),
        number(interval),
        number("" if node.q is None else f"{node.q:.2g}", node.q),
    ]


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", MINUS)


def _functions(tree: TreeDiff, unit: str) -> list[Section]:
    """By function, what changed first."""
    listed = sorted(tree.functions, key=lambda node: (_ORDER.index(node.verdict) >= len(FOUND), -abs(node.delta)))
    rows = []
    for node in listed[:_MOST_FUNCTIONS]:
        name = clip_name(node.name)
        button = tag("button", name, type="button", class_="name")
        other = [one for one in dict.fromkeys((*node.raw_a, *node.raw_b)) if one != node.name]
        raw = tag("div", ", ".join(other[:4]), class_="note raw") if other else None
        rows.append(
            [
                tag("td", button, raw),
                *_change_cells(node),
                number(_cost(node.per_2mb_a, unit), node.per_2mb_a),
                number(_cost(node.per_2mb_b, unit), node.per_2mb_b),
            ]
        )
    told = "Shares are inclusive: of the samples at and below a function. What changed is first."
    if len(listed) > _MOST_FUNCTIONS:
        told += f" The first {_MOST_FUNCTIONS} of {len(listed):,}."
    head = ("function", *_CHANGE_HEAD, "A per 2 MB", "B per 2 MB")
    return [section("functions", "Functions", tag("p", told, class_="note"), table(head, rows, class_="sortable"))]


def _cost(cost: float | None, unit: str) -> str:
    if cost is None:
        return ""
    return format_seconds(cost * 1e-9) if unit == "ns" else f"{cost:,.3g} {unit}"


def _only_in_one(tree: TreeDiff) -> list[Section]:
    """What one kernel has no function for: its samples count for the caller."""
    if not tree.folded:
        return [section("only", "Only in one kernel", tag("p", "Both kernels have every function that was seen."))]
    listed = sorted(tree.folded, key=lambda folded: -folded.share)
    told = (
        "The other kernel has no such function: before trees were compared, these frames became part of their callers."
    )
    if len(listed) > _MOST_ROWS:
        told += f" The first {_MOST_ROWS} of {len(listed):,}."
    head = ("function", "only in", "share with all below", "by itself")
    rows = [_folded(folded) for folded in listed[:_MOST_ROWS]]
    return [section("only", "Only in one kernel", tag("p", told, class_="note"), table(head, rows, class_="sortable"))]


def _folded(folded: Folded) -> list[str]:
    return [
        tag("td", tag("code", clip_name(folded.name))),
        folded.side.upper() if folded.side in {"a", "b"} else folded.side,
        number(f"{100 * folded.share:.2f} %", folded.share),
        number(f"{100 * folded.self_share:.2f} %", folded.self_share),
    ]
