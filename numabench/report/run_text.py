"""A run's report as text for a person who was not there, within a width and without need of colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.finding import BIASES, INFORMS, INVALID
from numabench.analysis.missing import Missing
from numabench.analysis.residency import ELSEWHERE
from numabench.analysis.spread import spread
from numabench.analysis.summary import summarize
from numabench.idset import format_ids
from numabench.report.moves_text import show_moves, show_outcome
from numabench.report.observed_text import show_observed
from numabench.report.page import BOLD, RED, YELLOW, Page
from numabench.report.run_head import show_head
from numabench.report.sparkline import resample, sparkline
from numabench.report.spread_text import count_text, spread_text
from numabench.units import NS_PER_S, format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.convergence import Convergence, Reach
    from numabench.analysis.finding import Finding
    from numabench.analysis.migration import KernelCount
    from numabench.analysis.observed import Observation
    from numabench.analysis.summary import PlacementSummary, Summary, TrialSummary
    from numabench.record import Run

_MIN_WIDTH = 60
# So many nodes have two rows each in the plot of memory over time.
_TALL_NODES = 9


def render(run: Run, width: int = 100, colour: bool = False, observations: Sequence[Observation] = ()) -> str:
    """The report, ending in its verdict; no line is longer than `width` columns (at least 60).

    `observations` are the run's passes, reduced.
    """
    page = Page(max(width, _MIN_WIDTH), colour)
    summary = summarize(run, observations)
    show_head(page, run)
    for placement in summary.placements:
        _placement(page, summary, placement)
    show_observed(page, observations, run.is_guest)
    _scores(page, summary)
    _findings(page, summary.verdict.findings)
    _verdict(page, summary)
    return "\n".join(page.lines) + "\n"


def _placement(page: Page, summary: Summary, placement: PlacementSummary) -> None:
    numbers = format_ids(trial.trial.index for trial in placement.trials)
    page.blank()
    trials = f": trial {numbers}" if numbers else ""
    if len(placement.trials) > 1:
        trials += ", as median (lowest..highest)"
    driver = f", driver {summary.run.planned.driver}" if summary.run.planned.mover else ""
    page.text(f"placement {placement.placement}{driver}{trials}", BOLD)
    shown = placement.typical
    if shown is None:
        page.text("no measured trial went well", indent=2)
        return
    _data(page, shown)
    _migrated(page, placement, shown, summary.run.planned.has_movers)
    if not summary.run.planned.has_movers:
        _speed(page, placement, shown, summary.run.is_guest)
    show_moves(page, summary.run, placement, shown)
    if not summary.run.planned.has_movers:
        _convergence(page, placement)
    _memory(page, shown)
    _costs(page, placement, with_scans=not summary.run.planned.has_movers)
    if placement.seconds_per_gib is not None and summary.run.planned.victims is None:
        guest = " (guest time)" if summary.run.is_guest else ""
        page.item("time per GiB", spread_text(placement.seconds_per_gib, format_seconds) + f" per GiB stored{guest}", 2)


def _data(page: Page, shown: TrialSummary) -> None:
    trial = shown.trial
    if trial.first_touch:
        total = max(sum(trial.first_touch.values()), 1)
        nodes = ", ".join(f"{pages / total:.0%} on node {node}" for node, pages in sorted(trial.first_touch.items()))
        page.item("first touch", nodes, 2)
    sampler = trial.sampler
    with_pages = sum(sample.has_pages for sample in trial.samples)
    held = f" ({with_pages} of them held pages)" if with_pages < len(trial.samples) else ""
    page.item(
        "samples",
        f"{sampler.samples} in trial {trial.index}{held}, {format_seconds(sampler.interval_ns / NS_PER_S)} apart, "
        f"for {sampler.busy_share:.1%} of one CPU",
        2,
    )
    if trial.check is not None:
        wrong = f"{trial.check.wrong_bytes:,} bytes wrong" if trial.check.wrong_bytes else "all as stored"
        page.item("data at the end", f"{format_bytes(trial.check.checked_bytes)} read back, {wrong}", 2)


def _migrated(page: Page, placement: PlacementSummary, shown: TrialSummary, has_movers: bool) -> None:
    trials = placement.trials
    requested = shown.counts.requested
    page.raw("  pages migrated")
    if isinstance(requested, Missing):
        page.item("  requested", f"none: {requested.reason}", 2)
    else:
        page.item("  requested", count_text(trial.counts.requested for trial in trials), 2)
        show_outcome(page, placement)
    confirmed = count_text(trial.counts.confirmed for trial in trials)
    if placement.confirmed_bytes is not None:
        confirmed += f" = {format_bytes(placement.confirmed_bytes.median)}"
    if has_movers:
        confirmed += ", gross: counted each time that a page came to its target"
    page.item("  confirmed", confirmed, 2)
    if has_movers:
        net = count_text(trial.counts.net for trial in trials)
        page.item("", f"net {net}: on another node at the end than at READY", 2)
    if shown.counts.by_pair:
        pairs = ", ".join(f"{source}>{target} {pages:,}" for (source, target), pages in shown.counts.by_pair[:12])
        more = f" and {len(shown.counts.by_pair) - 12} more pairs" if len(shown.counts.by_pair) > 12 else ""
        page.item("", f"trial {shown.trial.index} by nodes: {pairs}{more}", 2)
    if shown.counts.unknown:
        page.item("", f"{shown.counts.unknown:,} pages were somewhere at one end only", 2)
    others = "by calls or for other reasons" if has_movers else "for other reasons"
    page.item("  kernel counted", _kernel([trial.counts.kernel for trial in trials], others), 2)


def _kernel(kernels: Sequence[KernelCount], others: str) -> str:
    def of(name: str) -> str:
        return count_text(getattr(kernel, name) for kernel in kernels)

    first = kernels[0]
    if isinstance(first.total, Missing):
        return f"not known: {first.total.reason}"
    parts = [f"{of('total')} in all", f"{of('misplaced')} after hinting faults"]
    if not isinstance(first.promoted, Missing) and any(kernel.promoted for kernel in kernels):
        parts.append(f"{of('promoted')} of these promoted")
    if not isinstance(first.demoted, Missing):
        parts.append(f"{of('demoted')} demoted")
    parts += [f"{of('other')} {others}", f"{of('failed')} failed"]
    if not isinstance(first.thp_success, Missing):
        parts.append(f"{of('thp_success')} huge pages whole, {of('thp_split')} split")
    return "; ".join(parts)


def _speed(page: Page, placement: PlacementSummary, shown: TrialSummary, is_guest: bool) -> None:
    guest = " (guest time, not comparable)" if is_guest else ""
    found = shown.throughput
    if isinstance(found, Missing):
        page.item("MB/s", f"none: {found.reason}", 2)
        return
    if placement.mb_per_s is None:
        page.item("MB/s", f"at least {found.low_mb_per_s:.4g}{guest}: it was over between two samples", 2)
        return
    page.item("MB/s", spread_text(placement.mb_per_s, lambda rate: f"{rate:.4g}") + guest, 2)
    high = "no bound" if found.high_mb_per_s is None else f"{found.high_mb_per_s:.4g}"
    page.item(
        "",
        f"trial {shown.trial.index}: 1 % to 99 % of the pages between {format_seconds(found.start_s)} and "
        f"{format_seconds(found.end_s)}; samples up to {format_seconds(found.resolution_s)} apart leave "
        f"{found.low_mb_per_s:.4g}..{high} MB/s",
        2,
    )


def _convergence(page: Page, placement: PlacementSummary) -> None:
    trials = placement.trials
    placements = [trial.cpu_placement for trial in trials]
    residencies = [trial.page_residency for trial in trials]
    kinds: tuple[tuple[str, list[Convergence | Missing]], ...] = (
        ("CPU placement", [found if isinstance(found, Missing) else found.convergence for found in placements]),
        ("page residency", [found if isinstance(found, Missing) else found.convergence for found in residencies]),
        ("hint-fault locality", [trial.locality for trial in trials]),
    )
    notes: list[str] = []
    rows = [(name, _reaches(found, notes)) for name, found in kinds]
    _convergence_rows(page, rows)
    for note in notes:
        page.text(note, indent=4)
    settled = [found for found in placements if not isinstance(found, Missing)]
    if settled:
        last = settled[-1]
        homes = ", ".join(f"{threads} on node {node}" for node, threads in last.homes)
        calm = "never settled"
        if last.settled_s is not None:
            when = _moment(last.settled_after_s, last.settled_s)
            calm = f"settled from {when} on" if last.settled_s else "settled from the start"
        page.text(f"threads of trial {trials[-1].trial.index}: {homes}; {calm}", indent=4)


_CONVERGENCE_COLUMNS = ("50 %", "90 %", "99 %", "at the end")
_CONVERGENCE_WIDTHS = (18, 18, 18, 22)
_CONVERGENCE_LABEL = 20
# A crossing is told by both samples around it where they are further apart than this share of the later one's time.
_EXACT_SHARE = 0.05


def _convergence_rows(page: Page, rows: Sequence[tuple[str, list[str]]]) -> None:
    """A table where it fits, else a paragraph a row; a row of one cell is a reason."""
    widths = _CONVERGENCE_WIDTHS
    fits = 4 + _CONVERGENCE_LABEL + sum(widths) <= page.width and all(
        len(cells) == 1 or all(len(cell) < size for cell, size in zip(cells, widths, strict=True)) for _, cells in rows
    )
    page.raw("  convergence")
    if fits:
        page.lines[-1] = f"{page.lines[-1]:<{4 + _CONVERGENCE_LABEL}}" + _padded(_CONVERGENCE_COLUMNS, widths).rstrip()
    for name, cells in rows:
        if len(cells) == 1:
            page.text(f"{name:<{_CONVERGENCE_LABEL}}{cells[0]}", indent=4, hang=_CONVERGENCE_LABEL)
        elif fits:
            page.raw(f"    {name:<{_CONVERGENCE_LABEL}}" + _padded(cells, widths))
        else:
            listed = "; ".join(f"{column} {cell}" for column, cell in zip(_CONVERGENCE_COLUMNS, cells, strict=True))
            page.text(f"{name}: {listed}", indent=4, hang=2)


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{cell:<{size}}" for cell, size in zip(cells, widths, strict=True))


def _reaches(found: Sequence[Convergence | Missing], notes: list[str]) -> list[str]:
    """The cells of one kind of convergence; one cell, with the reason, where no trial knows it."""
    known = [value for value in found if not isinstance(value, Missing)]
    if not known:
        return ["not known: " + next(value.reason for value in found if isinstance(value, Missing))]
    cells = [_reach([convergence.reaches[target] for convergence in known], notes) for target in range(3)]
    return [*cells, _final(known)]


def _reach(reaches: Sequence[Reach], notes: list[str]) -> str:
    """`1..3.1 s`, of the trial with the median time; `not in 45 s` where half the trials or more did not come there."""
    times = sorted(
        (float("inf"), 0.0) if reach.reached_s is None else (reach.reached_s, reach.after_s or 0.0) for reach in reaches
    )
    middle, after = times[len(times) // 2]
    observed = format_seconds(min(reach.observed_s for reach in reaches))
    missed = sum(reach.reached_s is None for reach in reaches)
    if missed and (note := "not in N s: not reached in that time, which is all that was observed") not in notes:
        notes.append(note)
    lost = any(reach.reached_s is not None and not reach.held for reach in reaches)
    if lost and (note := "*: it was below that again at the end") not in notes:
        notes.append(note)
    if middle == float("inf"):
        return f"not in {observed}" + (f" ({missed}/{len(times)})" if missed < len(times) else "")
    shown = _moment(after, middle)
    if ".." in shown and (note := "A..B s: it came there between the samples at A and at B") not in notes:
        notes.append(note)
    shown += "*" * lost
    if missed:
        return f"{shown} ({len(times) - missed}/{len(times)})"
    return shown


def _moment(after_s: float | None, t_s: float) -> str:
    """`3.4 s`, or `0.4..3.4 s` where it lies anywhere between two samples that are far apart."""
    if t_s == 0:
        return "at once"
    shown = format_seconds(t_s)
    if after_s is None or t_s - after_s <= _EXACT_SHARE * t_s:
        return shown
    number, _, unit = (format_seconds(after_s) if after_s else "0").partition(" ")
    return f"{number}..{shown}" if unit in {"", shown.partition(" ")[2]} else f"{number} {unit}..{shown}"


def _final(known: Sequence[Convergence]) -> str:
    """The share at the end, of the trial in the middle, with its interval where it is an estimate."""
    final = sorted((convergence.final for convergence in known), key=lambda point: point.share)[len(known) // 2]
    share = f"{100 * final.share:.1f} %"
    return share if final.low == final.high else f"{share} ({100 * final.low:.1f}..{100 * final.high:.1f})"


def _memory(page: Page, shown: TrialSummary) -> None:
    memory = shown.memory
    if isinstance(memory, Missing):
        page.item("memory per node", f"not known: {memory.reason}", 2)
        return
    page.raw(f"  memory per node over time, trial {shown.trial.index}")
    end_s = max(memory.times_s[-1], 1e-9)
    width = page.width - 36
    high = max(sum(row) for row in memory.amounts)
    show = format_bytes if memory.is_scaled else _percent
    for node in memory.nodes:
        amounts = memory.of_node(node)
        if node == ELSEWHERE and not any(amounts):
            continue
        name = "elsewhere" if node == ELSEWHERE else f"node {node}"
        rows = 2 if len(memory.nodes) <= _TALL_NODES else 1
        *above, line = sparkline(resample(memory.times_s, amounts, width, end_s), high, rows)
        page.lines += [f"    {'':<20}|{upper}|" for upper in above]
        page.raw(f"    {name:<10}{show(amounts[0]):>9} |{line}| {show(amounts[-1])}")
    duration = format_seconds(end_s)
    page.raw(f"    {'':<20} 0 s{duration:>{width - 3}}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _costs(page: Page, placement: PlacementSummary, *, with_scans: bool) -> None:
    shown = []
    for place, cost in enumerate(placement.trials[0].costs):
        known = [trial.costs[place].per_2mb for trial in placement.trials]
        found = spread(value for value in known if not isinstance(value, Missing))
        if found is not None:
            shown.append(f"{cost.name} {spread_text(found, _short)}")
    if shown:
        page.item("per 2 MB migrated", "; ".join(shown), 2)
    if not with_scans:
        return
    passes = count_text((trial.scan_passes for trial in placement.trials), lambda value: f"{value:.1f}")
    page.item("scan passes", f"{passes} (PTE updates by pages)", 2)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _scores(page: Page, summary: Summary) -> None:
    if not summary.scores or len(summary.run.placements) == 1:
        return
    page.blank()
    for entry in summary.scores:
        if isinstance(entry.score, Missing):
            page.item("score", f"{entry.placement}: none, {entry.score.reason}")
        else:
            guest = "; guest time" if summary.run.is_guest else ""
            page.item("score", f"{entry.placement}: {entry.score:.2f} (1: as hard, 0: as inverse{guest})")


_TITLES = {INVALID: "why it is not valid", BIASES: "what biases it", INFORMS: "to know"}


def _findings(page: Page, findings: Sequence[Finding]) -> None:
    for weight, title in _TITLES.items():
        own = [finding for finding in findings if finding.weight == weight]
        if own:
            page.blank()
            page.text(title, BOLD)
        for finding in own:
            where = [f"placement {finding.placement}"] if finding.placement else []
            where += [f"trial {format_ids(finding.trials)}"] if finding.trials else []
            suffix = f" ({', '.join(where)})" if where else ""
            page.text(f"{finding.code}{suffix}: {finding.cause}", indent=2, hang=2)
            if finding.remedy:
                page.text(f"-> {finding.remedy}", indent=4, hang=3)


def _verdict(page: Page, summary: Summary) -> None:
    verdict = summary.verdict
    page.blank()
    if not verdict.is_valid:
        page.text(f"verdict: not valid: {_some(verdict.codes(INVALID))}", RED)
    elif verdict.codes(BIASES):
        page.text(f"verdict: valid, but for {_some(verdict.codes(BIASES))}", YELLOW)
    else:
        page.text("verdict: valid", BOLD)


def _some(codes: Sequence[str]) -> str:
    """The first codes: the verdict is one line."""
    return ", ".join(codes[:3]) + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")
