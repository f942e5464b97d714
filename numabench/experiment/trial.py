"""One trial: start, READY, attach, counters, GO, sample, stop, counters, check."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.errors import ObserveError, WorkloadError
from numabench.experiment.sampler import Sampler
from numabench.host import counters, knobs
from numabench.host import placement as page_placement
from numabench.host.libnuma import CallFailed
from numabench.units import format_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.experiment.plan import Plan
    from numabench.experiment.progress import Progress
    from numabench.host.root import Root
    from numabench.host.topology import Topology
    from numabench.observe.capture import Observer
    from numabench.workload.subject import Subject

STOP_PATIENCE_S = 30.0
# A check reads what was stored once; a trial may have stored it many times, or once in all its time.
CHECK_PATIENCE_S = 60.0
STATUS_PERIOD_S = 0.5


@dataclass(frozen=True)
class TrialRecord:
    """What a trial leaves: trial.json, the workload's own lines, the samples, recordings (docs/result-format.md)."""

    trial: dict[str, Any]
    events: bytes
    samples: list[dict[str, Any]]
    recordings: tuple[Path, ...] = ()


class _Trial:
    """A trial under way; `fields` grow as it gets on, so that one that fails keeps what it had."""

    def __init__(
        self, plan: Plan, subject: Subject, observer: Observer, *, topology: Topology, root: Root, progress: Progress
    ) -> None:
        self.plan, self.subject, self.observer = plan, subject, observer
        self.topology, self.root, self.progress = topology, root, progress
        self.status, self.message = "ok", ""
        self.counters: dict[str, Any] = {}
        self.pages: dict[str, Any] | None = None
        self.sampler: Sampler | None = None
        self.deadline = time.monotonic() + plan.timeout_s

    def measure(self) -> None:
        """From the start to the last counter. Raises `WorkloadError` and `ObserveError`."""
        self.subject.start()
        self.progress.status("starting: mapping memory and touching it")
        self.subject.wait_ready(self.deadline)
        self._attach()
        counters.settle(self.root)
        maps_before = self._page_maps()
        self.counters["before"] = counters.snapshot(self.root, self.plan.nodes, self.subject.pids())
        self.sampler = Sampler(
            self.subject,
            root=self.root,
            topology=self.topology,
            nodes=self.plan.nodes,
            pages=self.plan.sample_pages,
            interval_s=self.plan.interval_s,
            duration_s=self.plan.duration_s,
            seed=self.plan.seed,
        )
        self.sampler.baseline()
        self.observer.enable()
        self.subject.go()
        self.sampler.go()
        self._sample_until_stop(self.sampler)
        self.observer.disable()
        counters.settle(self.root)
        self.counters["after"] = counters.snapshot(self.root, self.plan.nodes, self.subject.pids())
        self.pages = self._compare(maps_before)
        self.observer.detach()
        self.progress.status("checking the data")
        self.subject.release(time.monotonic() + self.plan.timeout_s + CHECK_PATIENCE_S)

    def _attach(self) -> None:
        """Attach what observes; the time that it takes is not the workload's."""
        began = time.monotonic()
        self.progress.status("attaching")
        self.observer.attach()
        self.deadline += time.monotonic() - began

    def _sample_until_stop(self, sampler: Sampler) -> None:
        went = time.monotonic()
        asked = False
        while True:
            now = time.monotonic()
            if now >= self.deadline and not asked:
                self.status = "timeout"
                self.message = f"not done in {format_seconds(self.plan.timeout_s)}, asked to stop"
                self.subject.ask_stop()
                asked, self.deadline = True, now + STOP_PATIENCE_S
            elif now >= self.deadline:
                raise WorkloadError(f"{self.subject.name} did not stop when asked, and was ended")
            if self.subject.poll(min(STATUS_PERIOD_S, self.deadline - now, max(sampler.due - now, 0.0))):
                break
            if time.monotonic() >= sampler.due:
                sampler.sample()
            self.progress.status(self._where(sampler, time.monotonic() - went))
        sampler.stop()

    def _where(self, sampler: Sampler, elapsed_s: float) -> str:
        latest, first = sampler.samples[-1], sampler.samples[0]
        totals = [sum(column) for column in zip(*latest["pages"], strict=True)] or [0]
        whole = max(sum(totals), 1)
        where = " ".join(
            f"node{node} {100 * pages / whole:.0f} %" for node, pages in zip(self.plan.nodes, totals, strict=False)
        )
        moved = latest["vmstat"].get("pgmigrate_success", 0) - first["vmstat"].get("pgmigrate_success", 0)
        of_s = f" of {format_seconds(self.plan.duration_s)}" if self.plan.duration_s else ""
        return f"{format_seconds(elapsed_s)}{of_s}: {where}, {moved:,} pages migrated"

    def _page_maps(self) -> dict[int, page_placement.NodeMap]:
        """Every page's node now, by process. A foreign program has none before its start."""
        slices = self.subject.slices()
        return {
            pid: page_placement.query_nodes(pid, [(s.address, s.size_bytes) for s in slices if s.pid == pid])
            for pid in dict.fromkeys(s.pid for s in slices)
        }

    def _compare(self, before: dict[int, page_placement.NodeMap]) -> dict[str, Any] | None:
        if not before:
            return None
        after = self._page_maps()
        moved: dict[str, int] = {}
        unknown = 0
        for pid, page_map in before.items():
            pairs, lost = page_map.moved_to(after[pid])
            unknown += lost
            for (source, target), pages in pairs.items():
                key = f"{source}>{target}"
                moved[key] = moved.get(key, 0) + pages
        return {
            "before": _census(before.values()),
            "after": _census(after.values()),
            "moved": moved,
            "unknown": unknown,
        }


def _census(page_maps: Any) -> dict[str, dict[str, int]]:
    """The pages of several processes by node, and by the status of those that are nowhere."""
    nodes: dict[str, int] = {}
    status: dict[str, int] = {}
    for page_map in page_maps:
        for node, pages in page_map.nodes().items():
            nodes[str(node)] = nodes.get(str(node), 0) + pages
        for name, pages in page_map.status().items():
            status[name] = status.get(name, 0) + pages
    return {"nodes": nodes, "status": status}


def run_trial(
    plan: Plan,
    subject: Subject,
    observer: Observer,
    *,
    index: int,
    placement: str,
    role: str,
    topology: Topology,
    root: Root,
    progress: Progress,
) -> TrialRecord:
    """Run one trial to its end. A workload or an observer that fails is a record with that status, not an exception.

    Raises `CannotRun` where the workload finds that the machine lacks what it needs. Whatever happens, nothing of the
    workload and of what observes it is left running.
    """
    started_ns = time.monotonic_ns()
    trial = _Trial(plan, subject, observer, topology=topology, root=root, progress=progress)
    try:
        trial.measure()
    except (WorkloadError, CallFailed) as error:
        trial.status, trial.message = "workload-failed", str(error)
    except ObserveError as error:
        trial.status, trial.message = "observe-failed", str(error)
    finally:
        try:
            observer.close()
        finally:
            subject.close()
    sampler = trial.sampler
    return TrialRecord(
        trial={
            "index": index,
            "placement": placement,
            "role": role,
            "status": trial.status,
            "message": trial.message,
            "clock": {"started": started_ns, **subject.stamps(), "ended": time.monotonic_ns()},
            **subject.record(),
            "knobs": knobs.read_all(root),
            "counters": trial.counters,
            "pages": trial.pages,
            "observe": observer.record(),
            "sampler": sampler.cost() if sampler else {"samples": 0, "interval_ns": 0, "cpu_ns": 0, "busy": 0.0},
        },
        events=subject.output(),
        samples=sampler.samples if sampler else [],
        recordings=observer.files(),
    )
