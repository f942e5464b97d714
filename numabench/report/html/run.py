"""The page of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.analysis.finding import BIASES, INFORMS, INVALID
from numabench.analysis.missing import Missing
from numabench.analysis.summary import summarize
from numabench.idset import format_ids
from numabench.report import run_text
from numabench.report.html import observed
from numabench.report.html.chart import memory_chart, memory_high
from numabench.report.html.element import Html, clip, number, table, tag
from numabench.report.html.fit import LONGEST_NAME, run_graph
from numabench.report.html.template import Section, page, section
from numabench.report.page import Page
from numabench.report.run_head import guest_note, show_head
from numabench.report.spread_text import count_text, spread_text
from numabench.units import HUGE_2M, format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.finding import Finding
    from numabench.analysis.observed import Observation
    from numabench.analysis.share_tree import ShareTree
    from numabench.analysis.summary import PlacementSummary, Summary
    from numabench.record import Run

_MOST_FUNCTIONS, _MOST_FINDINGS, _MOST_TREES = 60, 40, 6
_TEXT_WIDTH = 100
_LONGEST_REPORT = 30_000
_TREES = {"cpu": "CPU samples", "lock": "sleeping for locks", "sched": "off the CPU"}
_WEIGHTS = {
    INVALID: ("Why it is not valid", "bad"),
    BIASES: ("What biases it", "warn"),
    INFORMS: ("To know", "plain"),
}


def run_page(run: Run, observations: Sequence[Observation] = (), trees: Sequence[ShareTree] = ()) -> str:
    """A run's report as one HTML file of at most 400 KB.

    `observations` are the run's passes, reduced, and `trees` their call trees (`numabench.analysis.share_tree`).
    """
    summary = summarize(run, observations)
    facts = _Facts()
    show_head(facts, run)
    title = facts.paragraphs[0]
    head = _head(summary, facts)
    before = [
        section("ran", "What ran", facts.table()),
        *_findings(summary.verdict.findings),
        *(_placement(summary, placement) for placement in summary.placements),
        *observed.sections(observations, run.is_guest),
    ]
    after = [*_functions(trees), _as_text(run, observations)]
    shown = trees[:_MOST_TREES]

    def graphs(least: float) -> dict[str, Any]:
        found = [run_graph(tree, _tree_title(run, tree), least) for tree in shown]
        return {"kind": "run", "guest": run.is_guest, "graphs": found}

    return page(title, head, before, graphs, after)


class _Facts(Page):
    """A report's head as labels with their texts, which the page lays out itself."""

    def __init__(self) -> None:
        super().__init__(_TEXT_WIDTH, colour=False)
        self.paragraphs: list[str] = []
        self.items: list[tuple[str, list[str]]] = []

    def text(self, text: str, style: str = "", indent: int = 0, hang: int = 0) -> None:  # noqa: ARG002
        self.paragraphs.append(text)

    def item(self, label: str, text: str, indent: int = 0) -> None:  # noqa: ARG002
        if label or not self.items:
            self.items.append((label, []))
        self.items[-1][1].append(text)

    def table(self) -> Html:
        """The items as a list of definitions."""
        rows = [
            part for label, texts in self.items for part in (tag("dt", label), *(tag("dd", text) for text in texts))
        ]
        return tag("dl", *rows, class_="facts")


def _head(summary: Summary, facts: _Facts) -> Html:
    """What the run was, its verdict, and above all whether a guest ran it."""
    run, verdict = summary.run, summary.verdict
    note = guest_note(run) if run.is_guest else None
    title, *others = (text for text in facts.paragraphs if text != note)
    word, look = "valid", "good"
    if not verdict.is_valid:
        word, look = "not valid: " + ", ".join(verdict.codes(INVALID)), "bad"
    elif verdict.codes(BIASES):
        word, look = "valid, but for " + ", ".join(verdict.codes(BIASES)), "warn"
    banner = None if note is None else tag("p", tag("strong", "A guest ran this. "), note, class_="banner", role="note")
    return tag(
        "div",
        tag("h1", title),
        tag("p", "; ".join(others), class_="note"),
        banner,
        tag("p", tag("span", f"verdict: {word}", class_=f"badge {look}")),
    )


def _findings(findings: Sequence[Finding]) -> list[Section]:
    found = []
    for weight, (title, look) in _WEIGHTS.items():
        own = [finding for finding in findings if finding.weight == weight]
        if own:
            rows = [_finding(finding) for finding in own[:_MOST_FINDINGS]]
            if len(own) > _MOST_FINDINGS:
                rows.append(tag("li", f"and {len(own) - _MOST_FINDINGS} more"))
            found.append(section(f"findings-{weight}", title, tag("ul", *rows, class_=f"findings {look}")))
    return found


def _finding(finding: Finding) -> Html:
    where = [f"placement {finding.placement}"] if finding.placement else []
    where += [f"trial {format_ids(finding.trials)}"] if finding.trials else []
    suffix = f" ({', '.join(where)})" if where else ""
    remedy = tag("div", f"→ {finding.remedy}", class_="note") if finding.remedy else None
    return tag("li", tag("strong", finding.code), f"{suffix}: {finding.cause}", remedy)


def _placement(summary: Summary, placement: PlacementSummary) -> Section:
    place = summary.placements.index(placement)
    numbers = format_ids(trial.trial.index for trial in placement.trials)
    title = f"Placement {placement.placement}" + (f": trial {numbers}" if numbers else "")
    shown = placement.typical
    if shown is None:
        return section(f"placement-{place}", title, tag("p", "No measured trial went well."))
    if len(placement.trials) > 1:
        title += ", as median (lowest..highest)"
    if isinstance(shown.memory, Missing):
        chart = tag("p", f"Memory per node is not known: {shown.memory.reason}.", class_="note")
    else:
        chart = memory_chart(
            shown.memory, f"Memory per node over time, trial {shown.trial.index}", _memory_high(summary)
        )
    link = "Memory over time" if len(summary.placements) == 1 else f"Memory over time, {placement.placement}"
    return section(
        f"placement-{place}", title, tag("div", _figures(summary, placement), chart, class_="pair"), link=link
    )


def _memory_high(summary: Summary) -> float | None:
    """The top of a scale that all placements share, where all know bytes."""
    known = [
        shown.memory
        for placement in summary.placements
        if (shown := placement.typical) is not None and not isinstance(shown.memory, Missing)
    ]
    if not known or not all(memory.is_scaled for memory in known):
        return None
    return max(memory_high(memory) for memory in known)


def _figures(summary: Summary, placement: PlacementSummary) -> Html:
    guest = " (guest time, not comparable)" if summary.run.is_guest else ""
    trials = placement.trials
    confirmed = count_text(trial.counts.confirmed for trial in trials)
    if placement.confirmed_bytes is not None:
        confirmed += f" = {format_bytes(placement.confirmed_bytes.median)}"
    rows = [
        ("pages requested", count_text(trial.counts.requested for trial in trials)),
        ("pages confirmed", confirmed + (", gross" if summary.run.planned.has_movers else "")),
        ("pages that the kernel counted", count_text(trial.counts.kernel.total for trial in trials)),
    ]
    if placement.mb_per_s is not None:
        rows.append(("MB/s", spread_text(placement.mb_per_s, lambda rate: f"{rate:.4g}") + guest))
    if placement.seconds_per_gib is not None and summary.run.planned.victims is None:
        rows.append(("time per GiB stored", spread_text(placement.seconds_per_gib, format_seconds) + guest))
    for place, cost in enumerate(trials[0].costs):
        known = [trial.costs[place].per_2mb for trial in trials]
        if not all(isinstance(value, Missing) for value in known):
            rows.append((f"{cost.name} per 2 MB", count_text(known, observed.short)))
    return table(("figure", "median (lowest..highest)" if len(trials) > 1 else "value"), rows, class_="figures")


def _tree_title(run: Run, tree: ShareTree) -> str:
    placement = f", placement {tree.placement}" if len(run.placements) > 1 else ""
    kind = f"{tree.count:,} samples" if tree.of == "cpu" else f"{tree.count:,} times"
    return f"{_TREES[tree.of]}{placement}, trial {tree.trial}: {kind}"


def _functions(trees: Sequence[ShareTree]) -> list[Section]:
    """The functions of the first tree of CPU samples, heaviest by themselves first."""
    tree = next((tree for tree in trees if tree.of == "cpu"), None)
    if tree is None or not tree.total:
        return []
    units = 0.0 if isinstance(tree.migrated_bytes, Missing) else tree.migrated_bytes / HUGE_2M
    rows = []
    for row in tree.functions[:_MOST_FUNCTIONS]:
        name = tag("button", clip_name(row.name), type="button", class_="name")
        cells = [
            tag("td", name),
            number(f"{100 * row.self_weight / tree.total:.2f} %", row.self_weight),
            number(f"{100 * row.weight / tree.total:.2f} %", row.weight),
        ]
        if units >= 1:
            each = row.self_weight / units
            cells.append(number(format_seconds(each * 1e-9) if tree.unit == "ns" else f"{each:,.3g}", each))
        rows.append(cells)
    head = ["function", "by itself", "with all it called"]
    if units >= 1:
        head.append("by itself, per 2 MB" + ("" if tree.unit == "ns" else f" ({tree.unit})"))
    told = f"Of the CPU samples of trial {tree.trial}, by what each weighs itself"
    if len(tree.functions) > _MOST_FUNCTIONS:
        told += f"; the first {_MOST_FUNCTIONS} of {len(tree.functions):,}"
    return [
        section(
            "functions",
            "Functions",
            tag("p", f"{told}. A name is searched for in the graph.", class_="note"),
            table(head, rows, class_="sortable"),
        )
    ]


def clip_name(name: str) -> str:
    """A function's name as the call graph has it."""
    return clip(name, LONGEST_NAME)


def _as_text(run: Run, observations: Sequence[Observation]) -> Section:
    import html

    text = run_text.render(run, _TEXT_WIDTH, observations=observations)
    cut = "\n..." if len(text) > _LONGEST_REPORT else ""
    # Each line was escaped where it was made; line ends are ours.
    body = Html(html.escape(text[:_LONGEST_REPORT] + cut))
    return section(
        "text",
        "As text",
        tag("details", tag("summary", "what numabench report prints"), tag("pre", body, tabindex="0")),
    )
