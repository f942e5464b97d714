"""The head of a run's report: where it ran, what ran, and what was set on the machine and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numabench.idset import format_ids
from numabench.report.page import BOLD, YELLOW, Page
from numabench.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from numabench.record import Run


def guest_note(run: Run) -> str:
    """What must be said of every figure that comes from a guest."""
    kind = "an emulated guest's" if _text_of(run.identity, "accelerator") != "kvm" else "a guest's"
    return f"Times are {kind} and not performance. Counts, statuses and placement are real."


def show_head(page: Page, run: Run) -> None:
    """Where a run took place, what it ran, what differs from the published workload, and which knobs it set."""
    _head(page, run)
    _machine(page, run)
    _plan(page, run)
    _knobs(page, run)


def _head(page: Page, run: Run) -> None:
    placements = ", ".join(run.placements)
    page.text(f"{run.workload} on nodes {format_ids(run.nodes)}, placement {placements}", BOLD)
    page.text(f"{run.run_id}, {run.created_utc}")
    if run.is_guest:
        page.text(guest_note(run), YELLOW)
    if not run.complete:
        page.text(f"The run did not come to its end: it is {run.ending.status}. {run.ending.message}", YELLOW)
    page.blank()


def _machine(page: Page, run: Run) -> None:
    identity = run.identity
    where = "a guest" if run.is_guest else "this hardware"
    accelerator = _text_of(identity, "accelerator")
    if run.is_guest and accelerator:
        where += " under " + {"tcg": "tcg (emulated CPUs)", "kvm": "kvm"}.get(accelerator, accelerator)
    elif _text_of(identity, "virtualization"):
        where = f"a virtual machine ({_text_of(identity, 'virtualization')})"
    host = _text_of(identity, "hostname")
    page.item("ran on", where + (f", {host}" if host else ""))
    page.item("kernel", f"Linux {_text_of(identity, 'kernel', 'release')} {_text_of(identity, 'kernel', 'version')}")
    cpu = f"{_text_of(identity, 'cpu', 'count')} x {_text_of(identity, 'cpu', 'model')}"
    pages = f"{format_bytes(run.page_bytes)} pages"
    thp = _text_of(identity, "thp_enabled")
    page.item("machine", ", ".join(filter(None, (cpu, pages, f"THP {thp}" if thp else ""))))


def _plan(page: Page, run: Run) -> None:
    plan = run.plan
    argv = plan.get("argv")
    if isinstance(argv, list) and argv:
        page.item("command", " ".join(map(str, argv)))
    page.item("workload", _workload(plan))
    measured = run.planned_trials - sum(entry[-1:] == ["warmup"] for entry in plan.get("order", []))
    repeats = f"{measured} measured trial{'s' * (measured != 1)}"
    if run.planned_trials > measured:
        repeats += f" after {run.planned_trials - measured} to warm up"
    interval = plan.get("interval_s")
    sampled = f", sampled every {format_seconds(float(interval))}" if isinstance(interval, int | float) else ""
    page.item("trials", f"{repeats}, in an order shuffled by seed {_text_of(plan, 'seed')}{sampled}")
    scaled = plan.get("scaled")
    for place, text in enumerate(scaled if isinstance(scaled, list) else []):
        page.item("not as published" if place == 0 else "", str(text))


def _workload(plan: dict[str, Any]) -> str:
    parts = []
    size, threads, loops = plan.get("size_bytes"), plan.get("threads"), plan.get("loops")
    if isinstance(size, int) and size:
        parts.append(f"{format_bytes(size)} per process")
    if isinstance(threads, int) and threads:
        parts.append(f"{threads} threads per process")
    if isinstance(loops, int) and loops:
        parts.append(f"{loops} loops per thread")
    duration = plan.get("duration_s")
    if isinstance(duration, int | float) and duration:
        parts.append(f"for {format_seconds(float(duration))}")
    start = plan.get("start_node")
    if isinstance(start, int):
        parts.append(f"first touched on node {start} (default placement)")
    return ", ".join(parts) or "a program of the user's own: all its threads are taken to use all its memory"


def _knobs(page: Page, run: Run) -> None:
    back = {entry.name: entry for entry in run.ending.restored}
    label = "set"
    for write in run.knobs:
        if write.outcome == "set":
            restored = back.get(write.name)
            end = "put back" if restored and restored.outcome == "restored" else "not known to be put back"
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


def _text_of(record: dict[str, Any], *keys: str) -> str:
    """A text below nested objects of a result, empty where there is none."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None or isinstance(value, dict | list) else str(value)
