"""What movers, victims and families did, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.latency import known_percentile
from numabench.analysis.missing import Missing
from numabench.analysis.moves import Moves
from numabench.record import AUTONUMA, NULL
from numabench.report.spread_text import count_text, spread_text
from numabench.units import NS_PER_S, format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.summary import PlacementSummary, TrialSummary
    from numabench.record import Latency, LongAccess, Plan, Run, Trial
    from numabench.report.page import Page

PERCENTILES = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
_COLUMNS = (*(name for name, _ in PERCENTILES), "max")
_CELL = 10
_LABEL = 30
_SHOWN_ACCESSES = 5


def driver_words(run: Run) -> str:
    """The driver, its movers, and what they do, in words. Of migrate_pages only a trial knows what it moves."""
    plan, mover = run.planned, run.planned.mover
    if mover is None or plan.driver == AUTONUMA:
        return plan.driver
    flags = "" if plan.driver == NULL else " ".join(flag.upper() for flag in _flags(run))
    inside = "inside the workload" if mover.mover == "inside" else "outside, in a process of their own"
    count = f"{plan.threads} mover{'s' * (plan.threads != 1)}"
    words = [f"{plan.driver} with {flags}" if flags else plan.driver, f"{count} {inside}, on {_place(mover.mover_on)}"]
    if mover.batch is not None:
        words.append(f"{mover.batch} page{'s' * (mover.batch != 1)} a call, {mover.order}")
    words.append(mover.route)
    words.append(f"at most {mover.retries} retr{'y' if mover.retries == 1 else 'ies'} a pass")
    return ", ".join(words)


def _flags(run: Run) -> tuple[str, ...]:
    planned = () if run.planned.mover is None else run.planned.mover.flags
    return next((trial.flags for trial in run.trials if trial.flags), planned)


def _place(on: str) -> str:
    if on == "all":
        return "the CPUs of all nodes"
    return f"the CPUs of the {on} node" if on in {"source", "target"} else f"the CPUs of node {on}"


def memory_words(plan: Plan) -> str:
    """The pages that are moved, in words."""
    if plan.mover is None:
        return ""
    pages = {"4k": "base pages", "thp": "transparent huge pages", "hugetlb": "hugetlb pages"}
    kind = pages.get(plan.mover.pages, f"folios of {plan.mover.pages}")
    laid = ", ".join(f"{count} {name}" for name, count in plan.obstacles.items())
    return f"{plan.mover.sharing} memory of {kind}" + (f", behind obstacles: {laid}" if laid else "")


def victim_words(plan: Plan) -> str:
    """The victims and what they do, in words."""
    victims = plan.victims
    if victims is None or not victims.count:
        return "none"
    who = "1 thread" if victims.count == 1 else f"{victims.count} threads"
    does = f"{victims.access}s" if victims.count == 1 else victims.access
    checked = ", checking each time what was stored" if plan.verify else ""
    pattern = "in order" if victims.pattern == "sequential" else "at random"
    return f"{who} on {_place(victims.on)}, {does} {pattern}{checked}"


def show_moves(page: Page, run: Run, placement: PlacementSummary, shown: TrialSummary) -> None:
    """How fast movers of a placement were and what victims waited; nothing where the workload is not driven."""
    found = _moves(placement)
    if found:
        _rate(page, placement, found, run.is_guest)
    _latencies(page, shown, run.is_guest)
    _integrity(page, shown.trial, run)
    _family(page, shown.trial)


def _moves(placement: PlacementSummary) -> list[Moves]:
    return [trial.moves for trial in placement.trials if isinstance(trial.moves, Moves)]


def show_outcome(page: Page, placement: PlacementSummary) -> None:
    """What became of the pages that movers asked for, and of their calls; nothing where there are no movers."""
    found = _moves(placement)
    if not found:
        return

    def of(name: str) -> str:
        return count_text(getattr(moves, name).units for moves in found)

    first = found[0]
    counted = (
        f", in pages of {format_bytes(first.unit_bytes)}" if first.requested.units != first.requested.pages else ""
    )
    page.item(
        "",
        f"{of('already')} were there before, {of('retried')} were asked for again, {of('left')} were left in the end"
        f"{counted}",
        2,
    )
    is_moved = any(moves.confirmed.units for moves in found)
    unseen = "all were the target's node" if is_moved else "none: no page was seen on its target, or refused"
    page.item("  statuses", _by_name([moves.status for moves in found]) or unseen, 2)
    calls = count_text(moves.calls for moves in found) + " calls"
    errors = _by_name([moves.call_errors for moves in found])
    if errors:
        calls += f", of which failed: {errors}"
    if any(moves.positive for moves in found):
        calls += f"; {count_text(moves.positive for moves in found)} returned pages that did not move"
    if any(moves.asked_again for moves in found):
        calls += f"; statuses asked for again {count_text(moves.asked_again for moves in found)} times"
    page.item("  calls", calls, 2)


def _by_name(counts: Sequence[tuple[tuple[str, int], ...]]) -> str:
    """Each name with its count over the trials; one that a trial lacks counts as zero there."""
    names = dict.fromkeys(name for each in counts for name, _ in each)
    return ", ".join(f"{name} {count_text(dict(each).get(name, 0) for each in counts)}" for name in names)


def _rate(page: Page, placement: PlacementSummary, found: Sequence[Moves], is_guest: bool) -> None:
    guest = " (guest time, not comparable)" if is_guest else ""
    reason = next((moves.mb_per_s.reason for moves in found if isinstance(moves.mb_per_s, Missing)), "")
    if placement.mb_per_s is None:
        page.item("MB/s", f"none: {reason}", 2)
        return
    page.item("MB/s", spread_text(placement.mb_per_s, lambda rate: f"{rate:.4g}") + guest, 2)
    busy = count_text((moves.busy_share for moves in found), lambda share: f"{share:.0%}")
    pages = count_text(moves.pages_per_s for moves in found)
    page.item("", f"{pages} pages/s; {busy} of the movers' time in calls, their queries left out", 2)


def _latencies(page: Page, shown: TrialSummary, is_guest: bool) -> None:
    rows: list[tuple[str, str, Latency]] = []
    if isinstance(shown.moves, Moves):
        for step in shown.moves.steps:
            if not isinstance(step.latency, Missing):
                rate = "" if isinstance(step.mb_per_s, Missing) else f"{step.mb_per_s:.4g} MB/s in calls"
                rows.append((f"call, node {step.source} to {step.target}", rate, step.latency))
        if not isinstance(shown.moves.mixed, Missing):
            rows.append(("call, several ways at once", f"{shown.moves.mixed.count:,} calls", shown.moves.mixed))
    if not isinstance(shown.stall, Missing):
        rows.append(("access of victims", f"{shown.stall.count:,} accesses", shown.stall))
    if not rows:
        return
    guest = " (guest)" if is_guest else ""
    page.raw(f"  time of one, trial {shown.trial.index}{guest}")
    narrow = page.width < 4 + _LABEL + 4 * _CELL + 22
    if not narrow:
        page.lines[-1] = f"{page.lines[-1]:<{4 + _LABEL}}" + "".join(f"{name:>{_CELL}}" for name in _COLUMNS)
    for label, rate, latency in rows:
        cells = _cells(latency)
        if narrow:
            listed = ", ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, cells, strict=True))
            page.text(f"{label}: {listed}" + (f"; {rate}" if rate else ""), indent=4, hang=2)
        else:
            page.raw(f"    {label:<{_LABEL}}" + "".join(f"{cell:>{_CELL}}" for cell in cells) + f"  {rate}")
    _longest(page, shown.trial)


def _cells(latency: Latency) -> list[str]:
    times_ns = [*(known_percentile(latency, share) for _, share in PERCENTILES), latency.max_ns]
    return ["-" if isinstance(ns, Missing) else format_seconds(ns / NS_PER_S) for ns in times_ns]


def _longest(page: Page, trial: Trial) -> None:
    """The longest accesses, when they ended, and what moved the page then."""
    accesses = sorted((access for victim in trial.victims for access in victim.longest), key=lambda each: -each.ns)
    for place, access in enumerate(accesses[:_SHOWN_ACCESSES]):
        page.item("  longest" if place == 0 else "", _access(trial, access), 2)
    if trial.victims:
        clock_ns = max(victim.clock_ns for victim in trial.victims)
        told = f"reading the clock takes {clock_ns} ns of each access"
        counts = [victim.preempted for victim in trial.victims if victim.preempted is not None]
        if counts:
            told += f"; victims lost their CPU to another thread {sum(counts):,} time{'s' * (sum(counts) != 1)}"
        page.item("", told, 2)


def _access(trial: Trial, access: LongAccess) -> str:
    when = (
        ""
        if trial.clock.go_ns is None
        else f", {format_seconds(max(access.t_ns - trial.clock.go_ns, 0) / NS_PER_S)} after GO"
    )
    does = "written" if access.is_write else "read"
    return f"{format_seconds(access.ns / NS_PER_S)}{when}: page {access.page:,} {does}, {_meanwhile(trial, access)}"


def _meanwhile(trial: Trial, access: LongAccess) -> str:
    """Whether a call was under way. Where calls were not recorded: whether movers were still at work."""
    call = access.call
    if call is not None:
        if call.begin_ns <= access.t_ns and (not call.end_ns or access.t_ns - access.ns <= call.end_ns):
            return f"while mover {call.thread} moved it from node {call.source} to {call.target}"
        return "and no call was moving it"
    if not trial.movers or trial.clock.go_ns is None:
        return "and the kernel balanced" if not trial.movers else "when is not known"
    last_ns = trial.clock.go_ns + max(mover.elapsed_ns for mover in trial.movers)
    return "while movers were at work" if access.t_ns - access.ns <= last_ns else "after the last call"


def _integrity(page: Page, trial: Trial, run: Run) -> None:
    if not run.planned.verify:
        return
    checked, wrong = sum(victim.checked for victim in trial.victims), sum(victim.wrong for victim in trial.victims)
    if not checked and not wrong and not trial.wrong_words:
        return
    if wrong or trial.wrong_words:
        text = f"{wrong:,} of {checked:,} words checked while pages moved were not what had been stored"
    else:
        text = f"{checked:,} words checked by victims while pages moved: each held what had been stored"
    page.item("integrity", text, 2)


def _family(page: Page, trial: Trial) -> None:
    family = trial.family
    if family is None:
        return
    chain = ", ".join(map(str, family.chain))
    mapmax = "" if family.mapmax is None else f" (numa_maps: mapmax {family.mapmax})"
    page.item(
        "family",
        f"{family.processes} processes, {family.depth} generations of {family.fanout} children each; a page is mapped "
        f"by {family.vmas_per_page} VMAs{mapmax}, each with anon_vma chain entries by generation: {chain}",
        2,
    )
    did = ((family.forks, "forks"), (family.mremaps, "mremaps"), (family.splits, "splits"), (family.writes, "writes"))
    page.item("", "meanwhile " + ", ".join(f"{count:,} {name}" for count, name in did), 2)
