"""Runs, passes and comparisons to make pages of: the chains captured in guests, and trees of any size and any names."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import synthetic_run
from migration_stacks import captured

from numabench import store
from numabench.analysis import contention, kernel_counts, phases, share_tree
from numabench.analysis.contention import Contended, ContentionReport, Waits
from numabench.analysis.observed import Observation, Quality
from numabench.analysis.offcpu import Blocked, OffCpuReport, Reason
from numabench.comparison.change import Metric, MetricChange
from numabench.comparison.comparable import Difference
from numabench.comparison.diff import Diff
from numabench.comparison.side import Side
from numabench.comparison.treediff import Folded, NodeChange, TreeDiff
from numabench.perf.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.analysis.callchain import Stack
    from numabench.analysis.share_tree import ShareTree
    from numabench.comparison.change import Verdict
    from numabench.record import Run

MIGRATED_BYTES = 64 << 20
EXCLUSIVE, SHARED = "6.1.192-excl.movepages-fork8", "6.1.192-shared.movepages-fork8"
HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=2</script>",
    "\"'><svg onload=window.hacked=3>",
    "-->]]>{{7*7}}${window.hacked=4}",
    "abc\u202egnp.exe",
    "שלום_מגרש",
    "line\u2028break\u2029and\x00nul\x1b[31m",
    "x" * 5000,
    "&lt;b&gt;&amp;",
    "javascript:window.hacked=5",
)


def observed_trial(index: int) -> dict[str, Any]:
    """A trial that was observed, and whose recording is gone."""
    trial = {**copy.deepcopy(synthetic_run.trial_record(index)), "role": "observe:cpu"}
    trial["observe"] = {
        "recipe": "cpu",
        "file": "",
        "events": ["cpu-clock"],
        "frequency_hz": 4999,
        "perf": "6.1.187",
        "argv": ["perf", "record"],
        "enabled": 1,
        "disabled": 2,
        "kallsyms": "",
    }
    return trial


def run(results: Path, *, where: str = "guest", release: str = "6.1.0", trials: int = 3, run_id: str = "") -> Run:
    """A recorded run of measured trials and one that was observed."""
    record = synthetic_run.run_record(repeats=trials, where=where, accelerator="tcg" if where == "guest" else "")
    record["identity"]["kernel"]["release"] = release
    record["plan"]["order"].append(["default", "observe:cpu"])
    record["run_id"] = run_id or synthetic_run.RUN_ID
    told = [(synthetic_run.trial_record(index), synthetic_run.samples()) for index in range(1, trials + 1)]
    told.append((observed_trial(trials + 1), synthetic_run.samples()))
    path = synthetic_run.write(results, record, told, run_id=record["run_id"])
    return store.load(path)


def _waits(count: int, each_ns: int) -> Waits:
    return Waits(count, count * each_ns, 3 * each_ns, (0,) * 10 + (count,))


def observations(of: Run, stacks: Sequence[Stack] | None = None) -> tuple[Observation, ...]:
    """One pass that saw everything that a pass can see."""
    stacks = captured(EXCLUSIVE) if stacks is None else stacks
    unmap = ("folio_lock_anon_vma_read", "try_to_migrate", "migrate_pages")
    remap = ("rmap_walk_anon", "remove_migration_ptes", "migrate_pages")
    slept = ContentionReport(
        total=_waits(30, 2000),
        threads=4,
        unfinished=0,
        repeated_begins=0,
        stray_ends=0,
        by_class=(Contended(("rwsem:W",), _waits(30, 2000), 4),),
        by_lock=(),
        by_path=(
            Contended(("rwsem:W", "anon_vma", *unmap), _waits(20, 2000), 4),
            Contended(("rwsem:W", "anon_vma", *remap), _waits(10, 2000), 4),
        ),
        by_phase=(Contended(("unmap", "move_pages"), _waits(20, 2000), 4),),
    )
    off = OffCpuReport(
        _waits(40, 9000),
        _waits(7, 500),
        (Blocked(Reason("uninterruptible", "rwsem:W", "anon_vma", "unmap", "move_pages", unmap), _waits(40, 9000), 4),),
        (),
        (),
        0,
        0,
    )
    counts = {"rmap_walk_anon": 32_768, "folio_lock_anon_vma_read": 16_384, "flush_tlb_mm_range": 64}
    return (
        Observation(
            trial=of.trials[-1],
            recipe="cpu",
            quality=Quality(10_000, 0, 0, 0.0, is_truncated=False),
            own_samples=9000,
            slowdown=1.1,
            migrated_bytes=MIGRATED_BYTES,
            counts=kernel_counts.reduce(counts, {}, MIGRATED_BYTES),
            phases=phases.report(stacks),
            spin=contention.spin(stacks),
            waits=slept,
            off_cpu=off,
        ),
    )


def trees(of: Run, stacks: Sequence[Stack] | None = None) -> tuple[ShareTree, ...]:
    """The trees of that pass."""
    seen = observations(of)[0]
    stacks = captured(EXCLUSIVE) if stacks is None else stacks
    cpu = share_tree.of_stacks("cpu", of.trials[-1], "ns", MIGRATED_BYTES, stacks)
    return (cpu, *share_tree.of_waits(seen))


def metric(label: str, a: float, b: float, verdict: Verdict, **more: object) -> MetricChange:
    ratio = b / a if a else None
    return MetricChange(
        Metric(label.replace(" ", "_"), label, str(more.get("unit", "")), "higher", is_time=bool(more.get("is_time"))),
        "default",
        ((a,), (a,)),
        ((b,), (b,)),
        a,
        b,
        ratio,
        None if ratio is None else (ratio * 0.9, ratio * 1.15),
        approximate_ci=True,
        p=0.01,
        q=0.03 if verdict in {"grown", "shrunk"} else 0.6,
        smallest_ratio=1.2,
        bimodal=(False, verdict == "no change found"),
        verdict=verdict,
    )


def node(name: str, parent: int, depth: int, a: float, b: float, **more: object) -> NodeChange:
    """A node; shares are 0 to 1. Its verdict follows from the change alone, as no test is meant here."""
    delta = b - a
    verdict = "no change found"
    if abs(delta) > 0.01:
        verdict = "grown" if delta > 0 else "shrunk"
        if not a or not b:
            verdict = "disappeared" if not b else "appeared"
    values = {
        "self_a": 0.0,
        "self_b": 0.0,
        "ci95": (delta - 0.004, delta + 0.004),
        "p": 0.001,
        "q": 0.004 if verdict != "no change found" else 0.7,
        "per_2mb_a": a * 5e6,
        "per_2mb_b": b * 5e6,
        "phase": "",
        "verdict": verdict,
        "raw_a": (name,),
        "raw_b": (name,),
        **more,
    }
    return NodeChange(name=name, parent=parent, depth=depth, share_a=a, share_b=b, delta=delta, **values)  # type: ignore[arg-type]


def between(a: Sequence[Stack], b: Sequence[Stack]) -> tuple[tuple[NodeChange, ...], tuple[NodeChange, ...]]:
    """The nodes and the functions of two sets of stacks."""
    table = SymbolTable()
    weights: dict[tuple[str, ...], list[float]] = {(): [0.0, 0.0]}
    selfs: dict[tuple[str, ...], list[float]] = {}
    functions: dict[str, list[float]] = {}
    raw: dict[str, set[str]] = {}
    phase: dict[tuple[str, ...], set[str]] = {}
    for side, stacks in enumerate((a, b)):
        total = sum(stack.weight for stack in stacks)
        for stack in stacks:
            names = tuple(reversed(table.stack(stack.frames)))
            share = stack.weight / total
            for depth in range(len(names) + 1):
                weights.setdefault(names[:depth], [0.0, 0.0])[side] += share
                phase.setdefault(names[:depth], set()).add(phases.place(stack.kernel).phase)
            selfs.setdefault(names, [0.0, 0.0])[side] += share
            for name in set(names):
                functions.setdefault(name, [0.0, 0.0])[side] += share
            for frame in stack.frames:
                raw.setdefault(table.canonical(frame), set()).add(frame)
    order = sorted((path for path in weights if path), key=len)
    rows = {path: row for row, path in enumerate(order)}

    def raw_of(name: str) -> tuple[str, ...]:
        return tuple(sorted(raw.get(name, {name})))

    nodes = tuple(
        node(
            path[-1],
            rows.get(path[:-1], -1),
            len(path) - 1,
            *weights[path],
            self_a=selfs.get(path, [0.0, 0.0])[0],
            self_b=selfs.get(path, [0.0, 0.0])[1],
            phase=next(iter(phase[path])) if len(phase[path]) == 1 else "",
            raw_a=raw_of(path[-1]),
            raw_b=raw_of(path[-1]),
        )
        for path in order
    )
    return nodes, tuple(
        node(name, -1, 0, *shares, raw_a=raw_of(name), raw_b=raw_of(name)) for name, shares in functions.items()
    )


def tree(nodes: Sequence[NodeChange], functions: Sequence[NodeChange], runs: int = 5) -> TreeDiff:
    return TreeDiff(
        nodes=tuple(nodes),
        functions=tuple(functions),
        phases=(
            node("unmap", -1, 0, 0.41, 0.22),
            node("remap", -1, 0, 0.33, 0.31),
            node("tlb flush", -1, 0, 0.08, 0.04),
            node("copy", -1, 0, 0.05, 0.13),
            node("unmap, waiting for rwsem:W", -1, 0, 0.3, 0.0),
            node("remap, waiting for rwsem:R", -1, 0, 0.0, 0.02),
        ),
        folded=(Folded("unmap_and_move", "a", 0.31, 0.004), Folded("migrate_pages_batch", "b", 0.28, 0.001)),
        runs_a=runs,
        runs_b=runs,
        samples_a=51_000,
        samples_b=49_500,
        whole_share=(0.67, 0.88),
        kept_frames=(0.81, 0.905),
        permutation_p=0.008,
    )


def diff(results: Path, of: TreeDiff | None = None, *, forced: bool = False, where: str = "guest") -> Diff:
    """A comparison of the anon_vma lock taken exclusively and shared; `of` takes the place of its tree."""
    a = run(results, release="6.1.192-excl", run_id="20261124T000000Z-pingpong-aaaaaa", where=where)
    b = run(results, release="6.1.192-shared", run_id="20261124T000001Z-pingpong-bbbbbb", where=where)
    differences = [Difference("kernel.release", "6.1.192-excl", "6.1.192-shared")]
    if forced:
        differences.append(Difference("where", "guest", "metal", "a guest's times are no hardware's"))
    return Diff(
        a=Side("exclusive", (a,)),
        b=Side("shared", (b,)),
        differences=tuple(differences),
        is_forced=forced,
        metrics=(
            metric("migrated pages a second", 81_000, 163_000, "grown", unit="pages/s", is_time=True),
            metric("rmap lock acquisitions", 1024, 1025, "no change found", unit="per 2 MB"),
            metric("lock waits", 222, 1.2, "shrunk", unit="per 2 MB"),
            metric("time per GiB stored", 0.91, 0.9, "insufficient", unit="s", is_time=True),
        ),
        tree=tree(*between(captured(EXCLUSIVE), captured(SHARED))) if of is None else of,
        notes=("one boot a side: insufficient, descriptive only",),
    )


def big(count: int, seed: int = 1) -> TreeDiff:
    """A tree of so many nodes whose shares fall off as those of kernels do."""
    draw = random.Random(seed)  # noqa: S311  no secret
    rows: list[list[float]] = []
    nodes: list[NodeChange] = []
    open_rows: list[int] = []
    while len(nodes) < count:
        if len(nodes) < 8:
            parent, left = -1, [0.12 * draw.uniform(0.9, 1), 0.12 * draw.uniform(0.9, 1)]
        else:
            # The heavier of some: what is sampled often has many callees.
            parent = max(draw.sample(open_rows, min(9, len(open_rows))), key=lambda row: rows[row][0])
            left = rows[parent]
        part = 1.0 if parent < 0 else draw.betavariate(0.35, 1.2)
        a, b = left[0] * part * draw.uniform(0.8, 1), left[1] * part * draw.uniform(0.8, 1)
        if parent >= 0:
            rows[parent] = [left[0] - a, left[1] - b]
        name = f"kernel_function_with_a_usual_name_{draw.randrange(3000)}"
        depth = nodes[parent].depth + 1 if parent >= 0 else 0
        nodes.append(node(name, parent, depth, a, b, raw_a=(f"{name}.isra.0",), raw_b=(name,), phase="unmap"))
        rows.append([a, b])
        if depth < 60:
            open_rows.append(len(nodes) - 1)
    return tree(nodes, nodes[:3000])


def hostile(prefix: str = "") -> TreeDiff:
    """A tree in which every name means harm, one below the other and side by side."""
    nodes = [
        node(prefix + name, row - 1 if row < 3 else 2, min(row, 3), 0.08, 0.09) for row, name in enumerate(HOSTILE)
    ]
    return tree(nodes, [node(prefix + name, -1, 0, 0.08, 0.09) for name in HOSTILE])
