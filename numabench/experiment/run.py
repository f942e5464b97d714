"""The run, as a lab protocol: open the result, set the knobs, run the trials, restore, close the result."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from numabench import process, store
from numabench.doctor import leftover
from numabench.doctor.context import Left, Needs
from numabench.doctor.diagnosis import Diagnosis, diagnose
from numabench.doctor.sample import RUN_SAMPLE_S
from numabench.drivers import catalog as drivers
from numabench.errors import CannotRun, NumabenchError, ResultError
from numabench.experiment import drive as driving
from numabench.experiment.plan import FOREIGN, Plan
from numabench.experiment.trial import run_trial
from numabench.host import cpuset, knobs, libnuma
from numabench.host.root import LIVE, Root
from numabench.observe import kernel_symbols
from numabench.observe.capture import Nothing, Observer
from numabench.observe.passes import Pass
from numabench.record import OBSERVE, WARM_UP
from numabench.workload import build, catalog
from numabench.workload.foreign import ForeignProgram
from numabench.workload.own import OwnWorkload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.experiment.progress import Progress
    from numabench.host.topology import Topology
    from numabench.observe.recipes import Choice, Remark
    from numabench.record import BootTurn
    from numabench.workload.subject import Subject


@dataclass(frozen=True)
class Observation:
    """What the passes of a run need: their recipes, the kernel's symbols, perf's version."""

    choice: Choice
    kallsyms: bytes
    perf_version: str


def run_plan(
    plan: Plan,
    results_dir: Path,
    run_id: str,
    *,
    topology: Topology,
    who: dict[str, Any],
    progress: Progress,
    observe: Observation | None = None,
    boot: BootTurn | None = None,
    root: Root = LIVE,
) -> Path:
    """Run every trial of a plan and return the result directory, `results_dir/run_id`.

    `who` is the machine's `host.identity.identity()`, `observe` what the plan's passes attach, `boot` the run's turn
    where it is one of several boots. The directory holds every whole trial at any moment; knobs are back to what they
    were when this returns or raises. Raises `ResultError` for a directory that cannot be written, `CannotRun` where
    something is found missing.
    """
    subjects = _subjects(plan, topology, root)
    writer = store.create(results_dir, run_id)
    progress.say(f"results: {writer.path}")
    ending = {"status": "failed", "message": "it ended before its last trial"}
    applied = knobs.apply(dict(plan.knobs), root=root, on_write=progress.say)
    try:
        # What a run that was killed left of knobs is put back when `applied` is entered, if any is to be set.
        cpuset.recover(root)
        with applied, libnuma.kept_from_balancing():
            remarks = observe.choice.remarks if observe else ()
            # A run that sets knobs holds the lock itself.
            left = Left() if plan.knobs else leftover.read(root)
            found = diagnose(_needs(plan), topology, root=root, sample_s=RUN_SAMPLE_S, left=left)
            _tell(found, progress)
            writer.write_run(
                _run_record(
                    plan,
                    run_id,
                    topology=topology,
                    who=who,
                    applied=applied,
                    remarks=remarks,
                    found=found,
                    boot=boot,
                    root=root,
                )
            )
            for index, (subject, (placement, role)) in enumerate(zip(subjects, plan.order, strict=True), 1):
                progress.say(f"trial {index}/{len(plan.order)}: {plan.name} {placement}{_role(role)}")
                observer = _observer(role, index, writer, observe)
                record = run_trial(
                    plan,
                    subject,
                    observer,
                    index=index,
                    placement=placement,
                    role=role,
                    topology=topology,
                    root=root,
                    progress=progress,
                )
                writer.write_trial(index, record.trial, record.events, record.samples, record.recordings)
                if record.trial["status"] != "ok":
                    progress.say(f"trial {index}: {record.trial['status']}: {record.trial['message']}")
        ending = {"status": "complete", "message": ""}
    except (KeyboardInterrupt, SystemExit):
        ending = {"status": "interrupted", "message": "it was interrupted; whole trials are kept"}
        raise
    except NumabenchError as error:
        ending = {"status": "failed", "message": str(error)}
        raise
    finally:
        restored = [entry.to_json() for entry in applied.restored]
        writer.write_end({**ending, "finished_utc": _now_utc(), "restored": restored})
        writer.discard()
    return writer.path


def _needs(plan: Plan) -> Needs:
    """The run that the machine is to serve now that its knobs are set."""
    processes = 1 if plan.workload == FOREIGN else catalog.find(plan.workload).processes
    return Needs(
        node_count=len(plan.nodes),
        node_ids=plan.nodes,
        workload=plan.name,
        driver=plan.driver,
        passes=plan.observe,
        memory_bytes=processes * plan.size_bytes,
        has_set_knobs=True,
    )


def _tell(found: Diagnosis, progress: Progress) -> None:
    """A line for each thing that stands against the run."""
    for finding in found.against:
        progress.say(f"{finding.weight}: {finding.code}: {finding.cause}")
    if found.against:
        progress.say("what each does, and what mends it: numabench doctor")


def _now_utc() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _role(role: str) -> str:
    if role == WARM_UP:
        return " (warm-up)"
    return f" (observing {role.removeprefix(OBSERVE)})" if role.startswith(OBSERVE) else ""


def _observer(role: str, index: int, writer: store.RunWriter, observe: Observation | None) -> Observer:
    """What a trial of this role has attached."""
    if not role.startswith(OBSERVE):
        return Nothing()
    assert observe is not None, "a plan with passes comes with their recipes"
    recipe = next(recipe for recipe in observe.choice.recipes if role == OBSERVE + recipe.name)
    try:
        symbols = kernel_symbols.save(writer.path, observe.kallsyms)
    except OSError as error:
        raise ResultError(f"cannot write the kernel's symbols to {writer.path}: {error.strerror}") from None
    return Pass(recipe, writer.scratch(index), perf_version=observe.perf_version, kallsyms=symbols)


def _run_record(
    plan: Plan,
    run_id: str,
    *,
    topology: Topology,
    who: dict[str, Any],
    applied: knobs.Applied,
    remarks: Sequence[Remark],
    found: Diagnosis,
    boot: BootTurn | None,
    root: Root,
) -> dict[str, Any]:
    return {
        "schema_version": store.SCHEMA_VERSION,
        "kind": store.KIND,
        "run_id": run_id,
        "created_utc": _now_utc(),
        "identity": {
            **who,
            "compiler": "" if plan.workload == FOREIGN else build.compiler_version(),
            "topology": topology.to_json(),
            "knobs": knobs.read_all(root),
        },
        "plan": plan.to_json(),
        "knobs": [write.to_json() for write in applied.writes],
        "notes": [{"code": "scaled", "message": text, "remedy": _scaled_remedy(plan)} for text in plan.scaled]
        + [asdict(remark) for remark in remarks],
        "doctor": [asdict(finding) for finding in found.findings],
        "boot": None if boot is None else asdict(boot),
    }


def _scaled_remedy(plan: Plan) -> str:
    if plan.drive is not None:
        return "ask for what is meant: --size, --loops, --duration"
    return "not to be compared with published numbers"


def _subjects(plan: Plan, topology: Topology, root: Root) -> list[Subject]:
    """What each trial is to start, made before anything runs: what is missing for the last is told before the first."""
    if plan.workload == FOREIGN:
        process.require_program(plan.command[0])
        return [_foreign(plan, placement, topology) for placement, _ in plan.order]
    if plan.drive is not None:
        driving.require(plan.drive, root)
    mems = plan.nodes if plan.driver == drivers.CPUSET else ()
    binary = str(build.build(plan.workload))
    return [
        OwnWorkload(plan.workload, [binary, *_workload_options(plan, placement)], plan.cpus, mems=mems)
        for placement, _ in plan.order
    ]


def _foreign(plan: Plan, placement: str, topology: Topology) -> ForeignProgram:
    """A foreign program's placements: free; all on the first node; CPUs on the first node and memory on the last."""
    if placement == "default":
        return ForeignProgram(plan.command, plan.cpus, "default", (), duration_s=plan.duration_s)
    first, last = plan.nodes[0], plan.nodes[-1]
    own_cpus = next(node.cpus for node in topology.nodes if node.id == first)
    cpus = [cpu for cpu in plan.cpus if cpu in own_cpus]
    if not cpus:
        raise CannotRun(f"placement {placement}", (f"node {first} has no CPUs that the caller may use",))
    if placement == "inverse" and first == last:
        raise CannotRun("placement inverse", ("it needs 2 nodes, the run has 1",))
    node = first if placement == "hard" else last
    return ForeignProgram(plan.command, cpus, "bind", (node,), duration_s=plan.duration_s)


def _workload_options(plan: Plan, placement: str) -> list[str]:
    """The options of docs/workload-protocol.md."""
    options: dict[str, str | int | None] = {
        "--nodes": ",".join(map(str, plan.nodes)),
        "--placement": placement,
        "--size": plan.size_bytes,
        "--threads": plan.threads or None,
        "--loops": plan.loops,
        "--duration-ms": None if plan.duration_s is None else round(plan.duration_s * 1000),
        "--start-node": plan.start_node if placement == "default" else None,
        "--thp": plan.thp if plan.drive is None else None,
        "--mapping": plan.mapping if plan.workload == "memset" or plan.drive else None,
        "--interval-ms": max(round(plan.interval_s * 1000), 1),
        "--seed": plan.seed,
        **(driving.options(plan.drive) if plan.drive else {}),
    }
    return [str(word) for option, value in options.items() if value is not None for word in (option, value)]
