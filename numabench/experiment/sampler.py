"""Where a running workload's pages and threads are, asked rarely enough to cost at most 1 % of one CPU."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from numabench.host import counters, placement, processes
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.host.root import Root
    from numabench.host.topology import Topology
    from numabench.workload.subject import Slice, Subject

CPU_SHARE = 0.01
# A sample that costs more than the last one did must not go beyond the bound.
AIMED_SHARE = 0.8 * CPU_SHARE
ADVANCE_S = 10.0
VMSTAT_KEYS = (
    "numa_pages_migrated",
    "pgmigrate_success",
    "pgmigrate_fail",
    "numa_hint_faults",
    "numa_hint_faults_local",
    "numa_pte_updates",
)


class Sampler:
    """Samples one trial. Pages are asked for by move_pages(2) with no target, which moves nothing.

    A random sample of pages is drawn anew each time, since one drawn once would keep its error for the whole trial.
    The time to the next sample is the interval asked for, stretched so that all samples between GO and stop together
    stay below 1 % of one CPU. Of a trial with a known duration they may take what is theirs up to 10 s before its time:
    most happens early, and one dear sample does not leave seconds without any. The samples before GO and after the stop
    disturb nobody and are not charged.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        root: Root,
        topology: Topology,
        nodes: Sequence[int],
        pages: int,
        interval_s: float,
        duration_s: float | None,
        seed: int,
    ) -> None:
        self._subject, self._root = subject, root
        self._node_of_cpu = {cpu: node.id for node in topology.nodes for cpu in node.cpus}
        self._nodes, self._pages, self._seed = tuple(nodes), pages, seed
        self._interval_s = interval_s
        self._duration_s = duration_s or 0.0
        self._samplers: list[tuple[list[int], placement.PageSampler]] = []
        self._sampled: tuple[Slice, ...] = ()
        self._cpu_ns = 0
        self._last_cost_ns = 0
        self._charged = 0
        self._went_ns = self._stopped_ns = time.monotonic_ns()
        self.samples: list[dict[str, Any]] = []
        self.due = 0.0

    def baseline(self) -> None:
        """Take the sample before GO. All steps are done once before that: the first time costs more than later ones."""
        if self._subject.memory_changes:
            self._rehearse()
        self._take()
        self.samples.clear()
        self._take()

    def _rehearse(self) -> None:
        """Look at ourselves as at a program that has not started yet."""
        own = os.getpid()
        family = processes.tree(self._root, own)
        mappings = [piece for pid in family for piece in processes.private_mappings(self._root, pid) if pid == own]
        placement.PageSampler(own, mappings, self._pages, self._nodes, seed=self._seed).sample()
        placement.thread_cpus(self._root, own, processes.threads(self._root, own))

    def go(self) -> None:
        """GO is said: from here on samples are charged."""
        self._went_ns = time.monotonic_ns()
        self._set_due()

    def sample(self) -> None:
        """Take one sample now and set when the next is due."""
        due_ns = round(self.due * NS_PER_S)
        self._take()
        self.samples[-1]["due_ns"] = due_ns
        self._cpu_ns += self._last_cost_ns
        self._charged += 1
        self._set_due()

    def stop(self) -> None:
        """The work has stopped: take the last sample."""
        self._stopped_ns = time.monotonic_ns()
        self._take()

    def _set_due(self) -> None:
        """The next is due after the interval, and not before it can be afforded if it costs what the last one did."""
        needed_s = (self._cpu_ns + self._last_cost_ns) / AIMED_SHARE / NS_PER_S
        advance_s = ADVANCE_S if needed_s <= self._duration_s else 0.0
        self.due = max(time.monotonic() + self._interval_s, self._went_ns / NS_PER_S + needed_s - advance_s)

    def _take(self) -> None:
        began_ns = time.thread_time_ns()
        self._follow(self._subject.slices())
        pages: list[tuple[int, ...]] = [()] * len(self._sampled)
        status: dict[str, int] = {}
        for rows, sampler in self._samplers:
            drawn = sampler.sample()
            for row, counts in zip(rows, drawn.pages, strict=True):
                pages[row] = counts
            for name, count in drawn.status.items():
                status[name] = status.get(name, 0) + count
        sample = {
            "t_ns": time.monotonic_ns(),
            "pages": pages,
            "cpu_node": self._thread_nodes(),
            "status": status,
            "vmstat": counters.vmstat(self._root, VMSTAT_KEYS),
        }
        if self._subject.memory_changes:
            sample["slice_bytes"] = [piece.size_bytes for piece in self._sampled]
        self.samples.append(sample)
        self._last_cost_ns = time.thread_time_ns() - began_ns

    def _follow(self, slices: tuple[Slice, ...]) -> None:
        if slices == self._sampled:
            return
        self._sampled = slices
        total_bytes = sum(piece.size_bytes for piece in slices)
        self._samplers = []
        for pid in dict.fromkeys(piece.pid for piece in slices):
            rows = [row for row, piece in enumerate(slices) if piece.pid == pid]
            own = [(slices[row].address, slices[row].size_bytes) for row in rows]
            wanted = round(self._pages * sum(size_bytes for _, size_bytes in own) / total_bytes)
            sampler = placement.PageSampler(pid, own, wanted, self._nodes, seed=self._seed + pid)
            self._samplers.append((rows, sampler))

    def _thread_nodes(self) -> list[int]:
        found: list[int] = []
        threads = self._subject.threads()
        for pid in dict.fromkeys(pid for pid, _ in threads):
            tids = [tid for owner, tid in threads if owner == pid]
            found += [self._node_of_cpu.get(cpu, -1) for cpu in placement.thread_cpus(self._root, pid, tids)]
        return found

    def cost(self) -> dict[str, Any]:
        """How many samples, how far apart on average, and what share of one CPU those between GO and stop took."""
        elapsed_ns = max(self._stopped_ns - self._went_ns, 1)
        return {
            "samples": len(self.samples),
            "interval_ns": elapsed_ns // (self._charged + 1),
            "cpu_ns": self._cpu_ns,
            "busy": self._cpu_ns / elapsed_ns,
        }
