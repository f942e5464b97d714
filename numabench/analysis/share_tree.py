"""Stacks as one tree from the outermost caller down: what an icicle graph is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import phases, recorded
from numabench.analysis.callchain import Stack
from numabench.analysis.observed import migrated_bytes, workload_pids
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numabench.analysis.missing import Missing
    from numabench.analysis.observed import Observation
    from numabench.perf import Kallsyms, Profile
    from numabench.record import Run, Trial

_TABLE = SymbolTable()
# Events whose periods are nanoseconds.
_CLOCKS = ("cpu-clock", "task-clock")
NS = "ns"


@dataclass(frozen=True, slots=True)
class ShareNode:
    """A function below its callers: `weight` of all that passed through it, `self_weight` of what ended in it.

    `parent` is the row of its caller, -1 for the roots; rows come parents first. `phase` is that of the stacks at and
    below it, empty where they are of several.
    """

    name: str
    parent: int
    is_kernel: bool
    weight: int
    self_weight: int
    phase: str


@dataclass(frozen=True, slots=True)
class FunctionShare:
    """A function wherever it was called from; a stack that it is in more than once counts once in `weight`."""

    name: str
    is_kernel: bool
    weight: int
    self_weight: int


@dataclass(frozen=True)
class ShareTree:
    """The tree of one pass.

    `of` is what was observed: `cpu`, `lock` (waits that slept) or `sched` (time off the CPU of its own will). `unit` is
    that of the weights (`ns`, or the event's name), `count` how many samples or waits they are of. `functions` are
    heaviest by themselves first. `migrated_bytes` is what the kernel migrated meanwhile.
    """

    of: str
    placement: str
    trial: int
    unit: str
    total: int
    count: int
    migrated_bytes: int | Missing
    nodes: tuple[ShareNode, ...]
    functions: tuple[FunctionShare, ...]


def of_cpu(
    run: Run, trial: Trial, profile: Profile, symbols: Kallsyms | None, table: SymbolTable = _TABLE
) -> ShareTree | None:
    """The CPU samples of the workload's own threads in a pass; None where it did not sample the CPU."""
    import numpy as np

    event = recorded.cpu_event(profile)
    if event is None:
        return None
    pids = workload_pids(trial)
    own = np.isin(profile.groups["pid"], pids) if pids else profile.groups["pid"] != 0
    stacks = recorded.stacks(profile, event, symbols, select=own)
    unit = NS if event.name.split(":")[0] in _CLOCKS else event.name
    return of_stacks("cpu", trial, unit, migrated_bytes(run, trial), stacks, table=table)


def of_waits(observation: Observation, table: SymbolTable = _TABLE) -> tuple[ShareTree, ...]:
    """What a pass saw waited for: below each chain stands the lock, or the state in which the thread was off the CPU.

    Chains begin above the lock's own functions.
    """
    found = []
    if observation.waits is not None and observation.waits.by_path:
        stacks = [
            _waiting(f"[{row.key[0]} {row.key[1]}".rstrip() + "]", row.key[2:], row.waits.count, row.waits.total_ns)
            for row in observation.waits.by_path
        ]
        found.append(of_stacks("lock", observation.trial, NS, observation.migrated_bytes, stacks, table=table))
    if observation.off_cpu is not None and observation.off_cpu.reasons:
        stacks = [
            _waiting(
                f"[{row.reason.lock_class or row.reason.state} {row.reason.lock}".rstrip() + "]",
                row.reason.path,
                row.waits.count,
                row.waits.total_ns,
            )
            for row in observation.off_cpu.reasons
        ]
        found.append(of_stacks("sched", observation.trial, NS, observation.migrated_bytes, stacks, table=table))
    return tuple(found)


def _waiting(what: str, path: tuple[str, ...], count: int, total_ns: int) -> Stack:
    return Stack((what, *path), count, total_ns, kernel_frames=len(path) + 1)


@dataclass(slots=True)
class _Growing:
    name: str
    parent: int
    is_kernel: bool
    weight: int = 0
    self_weight: int = 0
    phase: str | None = None

    def add(self, weight: int, phase: str) -> None:
        self.phase = phase if self.phase in {None, phase} else ""
        self.weight += weight


def of_stacks(
    of: str, trial: Trial, unit: str, migrated: int | Missing, stacks: Iterable[Stack], *, table: SymbolTable = _TABLE
) -> ShareTree:
    """The tree of some stacks: `of` what was observed in `trial`, in `unit`, while `migrated` bytes were."""
    nodes: list[_Growing] = []
    rows: dict[tuple[int, str, bool], int] = {}
    functions: dict[tuple[str, bool], list[int]] = {}
    total = count = 0
    for stack in stacks:
        total, count = total + stack.weight, count + stack.samples
        phase = phases.place(stack.kernel, table).phase
        frames = stack.frames or (stack.leaf,)
        at = -1
        for depth in range(len(frames) - 1, -1, -1):
            key = (at, frames[depth], depth < stack.kernel_frames)
            if key not in rows:
                rows[key] = len(nodes)
                nodes.append(_Growing(frames[depth], at, depth < stack.kernel_frames))
            at = rows[key]
            nodes[at].add(stack.weight, phase)
        nodes[at].self_weight += stack.weight
        for function in {(frame, depth < stack.kernel_frames) for depth, frame in enumerate(frames)}:
            functions.setdefault(function, [0, 0])[0] += stack.weight
        functions[frames[0], stack.kernel_frames > 0][1] += stack.weight
    listed = [FunctionShare(name, kernel, *weights) for (name, kernel), weights in functions.items()]
    return ShareTree(
        of=of,
        placement=trial.placement,
        trial=trial.index,
        unit=unit,
        total=total,
        count=count,
        migrated_bytes=migrated,
        nodes=tuple(
            ShareNode(one.name, one.parent, one.is_kernel, one.weight, one.self_weight, one.phase or "")
            for one in nodes
        ),
        functions=tuple(sorted(listed, key=lambda row: (-row.self_weight, -row.weight, row.name))),
    )
