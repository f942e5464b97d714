"""A sweep's directory and its turns: what is done is read from the units' directories alone."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import driven_sweep
import pytest
from driven_sweep import trial

from numabench import store
from numabench.errors import CannotRun, ResultError, Unfit, UsageError, WorkloadError
from numabench.experiment.sweep import MAX_CUTS, run_sweep
from numabench.record import GuestPlan, SweepAxis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.experiment.progress import Progress

AXES = (SweepAxis("batch", ("1", "8", "64")),)


class Silence:
    def say(self, text: str) -> None:
        pass

    def status(self, text: str) -> None:
        pass


class Machine:
    """Runs units as one that leaves a whole run each; `on_unit` may do otherwise."""

    def __init__(self, on_unit: Callable[[str, Path], None] | None = None) -> None:
        self.ran: list[tuple[tuple[str, ...], str]] = []
        self.on_unit = on_unit

    def __call__(self, argv: tuple[str, ...], results_dir: Path, run_id: str, progress: Progress) -> None:
        progress.say("a unit runs")
        self.ran.append((argv, run_id))
        if self.on_unit is not None:
            self.on_unit(run_id, results_dir / run_id)
        driven_sweep.write_unit(results_dir.parent, run_id, trial())


def identity() -> dict[str, Any]:
    """That of the runs of `driven_sweep`."""
    return {
        "numabench": "0.1.0",
        "where": "metal",
        "hostname": "box",
        "accelerator": "",
        "kernel": {"release": "6.1.0", "version": "#1 SMP"},
        "cpu": {"model": "Model", "count": 2},
    }


def begun(results: Path, repeats: int = 2) -> Path:
    return driven_sweep.write(results, AXES, lambda _values, _repeat: None, repeats)


def go_on(path: Path, machine: Machine) -> None:
    run_sweep(path, machine, Silence(), who=identity())


def cut(path: Path) -> None:
    """Leave what a unit that is killed in its trial leaves."""
    (path / "trials" / ".tmp-0001").mkdir(parents=True)
    (path / "run.json").write_text("{}")


def test_units_are_run_in_the_recorded_order_with_a_seed_for_each_repeat(tmp_path: Path) -> None:
    path, machine = begun(tmp_path), Machine()
    go_on(path, machine)
    plan = json.loads((path / "sweep.json").read_text())
    assert [name for _, name in machine.ran] == [unit["name"] for unit in plan["units"]]
    for (argv, _), unit in zip(machine.ran, plan["units"], strict=True):
        assert argv == (*plan["cells"][unit["cell"]]["argv"], "--seed", str(7 + unit["repeat"]))
    assert store.load_sweep(path).is_complete


def test_what_is_whole_is_not_run_again(tmp_path: Path) -> None:
    path = begun(tmp_path)
    names = [unit.name for unit in store.read_plan(path).units]
    for name in names[:2]:
        driven_sweep.write_unit(path, name, trial())
    # It was killed between its trial and its end.
    (path / "units" / names[1] / "end.json").unlink()
    machine = Machine()
    go_on(path, machine)
    assert [name for _, name in machine.ran] == names[2:]
    machine.ran.clear()
    go_on(path, machine)
    assert machine.ran == []


def test_a_unit_that_was_cut_off_is_set_aside_and_run_under_the_same_name(tmp_path: Path) -> None:
    path = begun(tmp_path)
    name = store.read_plan(path).units[0].name
    cut(path / "units" / name)
    assert store.read_plan(path).pending == 6
    machine = Machine()
    go_on(path, machine)
    assert machine.ran[0][1] == name
    assert (path / "units" / f".aside-1-{name}" / "run.json").read_text() == "{}"
    assert len(store.load(path / "units" / name).trials) == 1


def test_a_unit_that_is_cut_off_again_and_again_is_lost_and_the_others_run(tmp_path: Path) -> None:
    path = begun(tmp_path)
    first = store.read_plan(path).units[0].name
    for _ in range(MAX_CUTS):
        store.set_aside(path, first)
        cut(path / "units" / first)
    machine = Machine()
    go_on(path, machine)
    assert first not in [name for _, name in machine.ran]
    unit = store.load_sweep(path).units[0]
    assert unit.status == "lost"
    assert unit.reasons == ("it was cut off 3 times, with the process, the guest or the machine that ran it",)


def test_a_unit_that_was_interrupted_is_never_lost(tmp_path: Path) -> None:
    path = begun(tmp_path)
    first = store.read_plan(path).units[0].name
    for _ in range(MAX_CUTS + 2):
        store.set_aside(path, first)
        cut(path / "units" / first)
        (path / "units" / first / "end.json").write_text("{}")
    machine = Machine()
    go_on(path, machine)
    assert machine.ran[0][1] == first


def test_what_cannot_run_is_its_units_outcome(tmp_path: Path) -> None:
    path = begun(tmp_path)
    first = store.read_plan(path).units[0].name

    def refuse(name: str, _directory: Path) -> None:
        if name == first:
            raise CannotRun("--pages hugetlb", ("no huge page is free", "there is one node"))

    go_on(path, Machine(refuse))
    unit = store.load_sweep(path).units[0]
    assert (unit.status, unit.reasons) == ("cannot-run", ("no huge page is free", "there is one node"))
    machine = Machine()
    go_on(path, machine)
    assert machine.ran == []


def test_what_cannot_be_meant_after_all_is_its_units_outcome(tmp_path: Path) -> None:
    path = begun(tmp_path)
    first = store.read_plan(path).units[0].name

    def refuse(name: str, _directory: Path) -> None:
        if name == first:
            raise UsageError("--size 64K leaves less than a page", "ask for more memory")

    machine = Machine(refuse)
    go_on(path, machine)
    assert len(machine.ran) == 6
    sweep = store.load_sweep(path)
    assert (sweep.units[0].status, sweep.units[0].reasons) == ("cannot-run", ("--size 64K leaves less than a page",))
    assert sweep.is_complete


def test_another_failure_ends_the_sweep_and_leaves_the_unit_to_be_run(tmp_path: Path) -> None:
    path = begun(tmp_path)

    def fail(_name: str, _directory: Path) -> None:
        raise WorkloadError("the compiler is gone")

    with pytest.raises(WorkloadError):
        go_on(path, Machine(fail))
    assert store.read_plan(path).pending == 6


def test_only_one_process_runs_a_sweep(tmp_path: Path) -> None:
    path, machine = begun(tmp_path), Machine()
    with store.alone(path), pytest.raises(Unfit, match="is being run by another process"):
        go_on(path, machine)
    assert store.read_plan(path).is_running is False
    go_on(path, machine)
    assert len(machine.ran) == 6


def test_units_of_two_machines_do_not_come_into_one_sweep(tmp_path: Path) -> None:
    path = begun(tmp_path)
    driven_sweep.write_unit(path, store.read_plan(path).units[0].name, trial())
    who = identity() | {"kernel": {"release": "6.12.0", "version": "#1 SMP"}}
    with pytest.raises(Unfit, match=r"kernel was '6\.1\.0 #1 SMP' and is '6\.12\.0 #1 SMP'"):
        run_sweep(path, Machine(), Silence(), who=who)


@pytest.mark.parametrize("text", ["", '{"schema_version": 1, "ki', "[]"])
def test_a_damaged_unit_does_not_keep_a_sweep_from_being_gone_on_with(tmp_path: Path, text: str) -> None:
    path = begun(tmp_path)
    first, second = (unit.name for unit in store.read_plan(path).units[:2])
    for name in (first, second):
        driven_sweep.write_unit(path, name, trial())
    (path / "units" / first / "run.json").write_text(text)
    elsewhere = identity() | {"hostname": "another"}
    with pytest.raises(Unfit, match="hostname was 'box' and is 'another'"):
        run_sweep(path, Machine(), Silence(), who=elsewhere)
    machine = Machine()
    go_on(path, machine)
    assert len(machine.ran) == 4
    # Where all that is whole is damaged, no time of it comes into a table.
    for unit in store.read_plan(path).units:
        (path / "units" / unit.name / "run.json").write_text(text)
    shutil.rmtree(path / "units" / second)
    run_sweep(path, machine, Silence(), who=elsewhere)
    assert [name for _, name in machine.ran[4:]] == [second]


def test_what_is_damaged_is_told_with_what_to_remove(tmp_path: Path) -> None:
    path = driven_sweep.write(tmp_path, AXES, lambda _values, _repeat: trial(), 1)
    directory = path / "units" / store.read_plan(path).units[0].name
    (directory / "run.json").write_text("{")
    told = f"remove {directory} and go on with the sweep to have it run again"
    assert store.load_sweep(path).units[0].reasons[1:] == (told,)
    record = json.loads((path / "units" / store.read_plan(path).units[1].name / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps(record | {"schema_version": 99}))
    assert "remove" not in store.load_sweep(path).units[0].reasons[1], "a newer numabench can read it"
    shutil.rmtree(directory)
    go_on(path, Machine())
    assert store.load_sweep(path).units[0].status == "done"


@pytest.mark.parametrize("text", ["", '{"status": "lo', '{"status": "well", "reasons": []}'])
def test_a_damaged_outcome_is_told_with_what_to_remove(tmp_path: Path, text: str) -> None:
    path = begun(tmp_path)
    file = path / "outcomes" / f"{store.read_plan(path).units[0].name}.json"
    file.write_text(text)
    with pytest.raises(ResultError) as refused:
        store.load_sweep(path)
    assert str(file) in refused.value.message
    assert refused.value.hint == f"remove {file} and go on with the sweep to have it run again"


def test_a_sweeps_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    guest = {"nodes": 4, "kernel": "6.1", "cpus_per_node": 2, "memory_per_node_bytes": 1 << 30}
    path = driven_sweep.write(tmp_path, AXES, lambda _values, _repeat: None, 1, guest=guest, stall_budget_s=0.0001)
    sweep = store.load_sweep(path)
    assert sweep.guest == GuestPlan(4, "6.1", 2, 1 << 30)
    assert (sweep.axes, sweep.repeats, sweep.seed, sweep.stall_budget_s) == (AXES, 1, 7, 0.0001)
    assert [cell.values for cell in sweep.cells] == [("1",), ("8",), ("64",)]
    assert sorted(unit.cell for unit in sweep.units) == [0, 1, 2]
    with pytest.raises(ResultError, match="is there already"):
        begun(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("kind", "numabench-run", "was not written by numabench"),
        ("schema_version", 99, "has schema version 99"),
        ("cells", [{"values": [], "argv": []}], "a value of each axis"),
        ("units", [{"name": "../../etc", "cell": 0, "repeat": 1}], "a run's name"),
        ("units", [{"name": "0001-1", "cell": 9, "repeat": 1}], "a cell's place"),
        ("repeats", -1, "a count"),
        ("axes", "batch", "a list"),
        ("axes", [{"name": "batch", "values": []}], "a list of different values"),
        ("axes", [{"name": "batch", "values": ["many"]}], "a list of different values of batch"),
        ("axes", [{"name": "pair", "values": ["0>1", "0>1"]}], "a list of different values of pair"),
    ],
)
def test_a_plan_that_is_not_one_is_refused(tmp_path: Path, key: str, value: object, told: str) -> None:
    file = begun(tmp_path) / "sweep.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ResultError, match=told):
        store.load_sweep(file.parent)


def test_a_plan_cut_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    file = begun(tmp_path) / "sweep.json"
    whole = file.read_bytes()
    for end in range(0, len(whole) - 2, 37):
        file.write_bytes(whole[:end])
        with pytest.raises(ResultError, match=r"sweep\.json"):
            store.load_sweep(file.parent)


def test_a_unit_that_is_damaged_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    path = driven_sweep.write(tmp_path, AXES, lambda _values, _repeat: trial(), 1)
    sweep = store.load_sweep(path)
    (path / "units" / sweep.units[1].name / "trials" / "0001" / "trial.json").write_text("{")
    units = store.load_sweep(path).units
    assert [unit.status for unit in units] == ["done", "damaged", "done"]
    assert "trial.json is cut or not JSON" in units[1].reasons[0]


def test_sweeps_are_listed_and_found_beside_runs(tmp_path: Path) -> None:
    path = driven_sweep.write(tmp_path, AXES, lambda _values, _repeat: trial(), 1)
    shutil.copytree(path / "units" / store.read_plan(path).units[0].name, tmp_path / "20260101T000000Z-run")
    run, sweep = store.iterate(tmp_path)
    assert (run.is_sweep, run.trials) == (False, 1)
    assert (sweep.is_sweep, sweep.status, sweep.trials, sweep.planned_trials) == (True, "complete", 3, 3)
    assert (sweep.kernel, sweep.nodes) == ("6.1.0", (0, 1))
    # What takes a run alone does not mean a sweep by `last`.
    assert store.find(tmp_path, "last").name == "20260101T000000Z-run"
    assert store.find(tmp_path, "last", having=(store.RUN_FILE, store.SWEEP_FILE)) == path
    assert store.find(tmp_path, "last", having=(store.SWEEP_FILE,)) == path
    with pytest.raises(ResultError, match="is a sweep, a directory of runs"):
        store.load(path)
    with pytest.raises(ResultError, match="there is no sweep in"):
        store.find(tmp_path / "nowhere", "last", having=(store.SWEEP_FILE,))
