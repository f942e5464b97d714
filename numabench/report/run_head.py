"""The head of a run's report: where it ran, what ran, and what was set on the machine and put back."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from numabench.idset import format_ids
from numabench.record import INFORMS, OBSERVE, WARM_UP
from numabench.report.moves_text import driver_words, memory_words, victim_words
from numabench.report.page import BOLD, YELLOW, Page
from numabench.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from numabench.record import Plan, Run


def guest_note(run: Run) -> str:
    """What must be said of every figure that comes from a guest."""
    kind = "an emulated guest's" if run.machine.accelerator != "kvm" else "a guest's"
    return f"Times are {kind} and not performance. Counts, statuses and placement are real."


def show_head(page: Page, run: Run) -> None:
    """Where a run took place, what it ran, what differs from the published workload, and which knobs it set."""
    _head(page, run)
    _machine(page, run)
    _plan(page, run)
    _knobs(page, run)
    _doctor(page, run)


def _head(page: Page, run: Run) -> None:
    placements = ", ".join(run.placements)
    driver = f" by {run.planned.driver}" if run.planned.mover else ""
    page.text(f"{run.workload}{driver} on nodes {format_ids(run.nodes)}, placement {placements}", BOLD)
    page.text(f"{run.run_id}, {run.created_utc}")
    if run.is_guest:
        page.text(guest_note(run), YELLOW)
    if run.is_running:
        page.text(f"The run is still going: {len(run.trials)} of {run.planned_trials} trials so far.", YELLOW)
    elif not run.complete:
        page.text(f"The run did not come to its end: it is {run.ending.status}. {run.ending.message}", YELLOW)
    page.blank()


def _machine(page: Page, run: Run) -> None:
    machine = run.machine
    where = "a guest" if run.is_guest else "this hardware"
    accelerator = machine.accelerator
    if run.is_guest and accelerator:
        where += " under " + {"tcg": "tcg (emulated CPUs)", "kvm": "kvm"}.get(accelerator, accelerator)
    elif machine.virtualization:
        where = f"a virtual machine ({machine.virtualization})"
    page.item("ran on", where + (f", {machine.hostname}" if machine.hostname else ""))
    page.item("kernel", f"Linux {machine.kernel_release} {machine.kernel_version}")
    cpu = f"{machine.cpu_count} x {machine.cpu_model}"
    pages = f"{format_bytes(run.page_bytes)} pages"
    thp = f"THP {machine.thp_enabled}" if machine.thp_enabled else ""
    page.item("machine", ", ".join(filter(None, (cpu, pages, thp))))


def _plan(page: Page, run: Run) -> None:
    plan = run.planned
    if plan.argv:
        page.item("command", shlex.join(plan.argv))
    page.item("workload", _workload(plan))
    if plan.mover is not None:
        page.item("driver", driver_words(run))
        page.item("memory", memory_words(plan))
        page.item("victims", victim_words(plan))
    warm_ups = sum(role == WARM_UP for _, role in plan.order)
    observed = [role.removeprefix(OBSERVE) for _, role in plan.order if role.startswith(OBSERVE)]
    measured = run.planned_trials - warm_ups - len(observed)
    repeats = f"{measured} measured trial{'s' * (measured != 1)}"
    if warm_ups:
        repeats += f" after {warm_ups} to warm up"
    if observed:
        repeats += f", then {len(observed)} to observe {', '.join(sorted(set(observed)))}"
    shuffled = "" if plan.seed is None else f", in an order shuffled by seed {plan.seed}"
    sampled = "" if plan.interval_s is None else f", sampled every {format_seconds(plan.interval_s)}"
    page.item("trials", f"{repeats}{shuffled}{sampled}")
    for place, text in enumerate(plan.scaled):
        label = "not as published" if plan.mover is None else "scaled"
        page.item(label if place == 0 else "", text)


def _threads(plan: Plan) -> str:
    if plan.mover is None:
        return f"{plan.threads} threads per process"
    return f"{plan.threads} mover{'s' * (plan.threads != 1)}"


def _workload(plan: Plan) -> str:
    parts = []
    if plan.size_bytes:
        parts.append(f"{format_bytes(plan.size_bytes)}{' per process' if plan.mover is None else ''}")
    if plan.threads:
        parts.append(_threads(plan))
    if plan.loops:
        each = "loops per thread" if plan.mover is None else "passes of each"
        parts.append(f"{plan.loops} {each}")
    if plan.duration_s:
        parts.append(f"for {format_seconds(plan.duration_s)}")
    if plan.start_node is not None:
        default = " (default placement)" if plan.mover is None else ""
        parts.append(f"first touched on node {plan.start_node}{default}")
    return ", ".join(parts) or "a program of the user's own: all its threads are taken to use all its memory"


def _knobs(page: Page, run: Run) -> None:
    back = {entry.name: entry for entry in run.ending.restored}
    label = "set"
    for write in run.knobs:
        if write.outcome == "set":
            restored = back.get(write.name)
            end = "to be put back at its end" if run.is_running else "not known to be put back"
            if restored and restored.outcome == "restored":
                end = "put back"
            if restored and restored.outcome == "foreign":
                end = f"left at {restored.value}: somebody else changed it"
            text = f"{write.name} {write.before} -> {write.wanted}, {end}"
        elif write.outcome == "kept":
            text = f"{write.name} was {write.wanted} already"
        else:
            text = f"{write.name} was not set to {write.wanted}: {write.message or write.outcome}"
        page.item(label, text)
        label = ""
    if not run.knobs:
        page.item("set", "nothing on the machine was changed")


def _doctor(page: Page, run: Run) -> None:
    """What stood against the run on the machine: a line each, and the rest by name."""
    if run.doctor is None:
        return
    told = [f"{finding.weight}: {finding.code}: {finding.cause}" for finding in run.doctor if finding.weight != INFORMS]
    known = [finding.code for finding in run.doctor if finding.weight == INFORMS]
    told += [f"to know: {', '.join(known)}"] if known else []
    for place, text in enumerate(told or ["nothing stood against a valid run"]):
        page.item("doctor" if place == 0 else "", text)
