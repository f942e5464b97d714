"""Old runs and recordings go; figures, and what a verdict refers to, stay, whoever is killed meanwhile."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import lzma
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import synthetic_run
from at_line import at_line
from lab_nights import CELL, everything, publish, write_lab, write_night

from numabench import perf, process, store
from numabench.cli.index import measured
from numabench.errors import ResultError
from numabench.fleet import ledger, night_file, prune, quarantine, retention, verdict
from numabench.fleet import publish as publishing
from numabench.fleet.outcome import OK, Outcome
from numabench.fleet.plan import Retention
from numabench.store import boot_values, index

if TYPE_CHECKING:
    from numabench.analysis.history.types import NightVerdict

FIXTURES = Path(synthetic_run.__file__).parent / "fixtures/perf/perf-6.12"
FILES = frozenset({prune.__file__, boot_values.__file__})
OTHER = "memset.v6.box.5e6f7a8b"


@functools.cache
def recording() -> tuple[bytes, bytes]:
    """A recording of perf's, and its kernel's symbols."""
    data = lzma.decompress((FIXTURES / "lock.data.xz").read_bytes())
    symbols = lzma.decompress((FIXTURES / "kallsyms.xz").read_bytes())
    return data, symbols


def observed_run(results: Path, run_id: str, tmp: Path) -> Path:
    """A run with one measured trial and one that perf has recorded."""
    data, symbols = recording()
    (tmp / "lock.data").write_bytes(data)
    by_pid: dict[int, int] = {}
    for group in perf.load(tmp / "lock.data").groups:
        by_pid[int(group["pid"])] = by_pid.get(int(group["pid"]), 0) + int(group["count"])
    heaviest = max((pid for pid in by_pid if pid), key=lambda pid: by_pid[pid])
    record = synthetic_run.run_record()
    record["run_id"] = run_id
    record["plan"]["order"] = [["default", "measure"], ["default", "observe:lock"]]
    trial = {**copy.deepcopy(synthetic_run.trial_record(2)), "role": "observe:lock"}
    trial["observe"] = {
        "recipe": "lock",
        "file": "lock.data",
        "events": ["lock:contention_begin", "lock:contention_end"],
        "kallsyms": "kallsyms-01",
    }
    for thread in trial["threads"]:
        thread["pid"] = heaviest
    writer = store.create(results, run_id)
    writer.write_run(record)
    writer.write_trial(1, synthetic_run.trial_record(1), b"{}\n", synthetic_run.samples())
    made = writer.scratch(2) / "lock.data"
    made.write_bytes(data)
    writer.write_trial(2, trial, b"{}\n", synthetic_run.samples(), [made])
    writer.write_end(synthetic_run.END)
    (writer.path / "kallsyms-01").write_bytes(symbols)
    (results / ".symbols").mkdir(exist_ok=True)
    os.link(writer.path / "kallsyms-01", results / ".symbols/kallsyms-01")
    return writer.path


def finish(lab: Path) -> None:
    """End the cells of all nights as what is published of them."""
    for name in night_file.names(lab):
        night = night_file.load(night_file.path_of(lab, name))
        book = ledger.Ledger(night, lab)
        for block in night.blocks:
            for cell in book.open_cells(block):
                book.end_cell(block, cell, Outcome(OK))


def write(lab: Path, rows: list[list[float]]) -> list[str]:
    """A lab whose first night has a recorded run in place of its first boot's, and an attempt's leftovers."""
    names = write_lab(lab, rows)
    runs = lab / "nights" / names[0] / "cells" / CELL / "boot-01" / "runs"
    shutil.rmtree(runs)
    observed_run(runs, f"{names[0]}-b01-{CELL}", lab)
    (lab / "lock.data").unlink()
    attempt = lab / "nights" / names[0] / "attempts" / "b01.box.v6.a1"
    shutil.copytree(runs / f"{names[0]}-b01-{CELL}", attempt / "failed" / "failed-run")
    (attempt / publishing.ATTEMPT_FILE).write_text("{}")
    (attempt / publishing.EVENTS_FILE).write_text("")
    (attempt / publishing.LOG_FILE).write_text("x" * 10_000)
    finish(lab)
    return names


def rebuilt(lab: Path) -> list[object]:
    index.update(lab, measured, anew=True)
    return everything(lab)


def runs_of(lab: Path, night: str, cell: str = CELL) -> list[str]:
    return sorted(path.parent.name for path in (lab / "nights" / night / "cells" / cell).glob("*/runs"))


def figures(boot: Path) -> set[str]:
    return {metric.name for _, kept in boot_values.of_boot(boot, measured) for metric, _ in kept.figures}


def test_values_that_are_kept_are_those_of_the_runs(tmp_path: Path) -> None:
    (name,) = write(tmp_path, [[10.0, 12.5]])
    for boot in sorted((tmp_path / "nights" / name / "cells" / CELL).iterdir()):
        of_runs = boot_values.of_boot(boot, measured)
        boot_values.keep(boot, measured)
        assert (boot / boot_values.VALUES_FILE).exists()
        shutil.rmtree(boot / "runs")
        assert boot_values.of_boot(boot, measured) == of_runs
        assert "default/seconds_per_gib" in figures(boot)


def test_the_index_is_the_same_before_and_after(tmp_path: Path) -> None:
    names = write(tmp_path, [[10.0, 12.0], [10.5], [20.0, 21.0], [11.0]])
    before = rebuilt(tmp_path)
    boots = [tmp_path / "nights" / names[0] / "cells" / CELL / f"boot-0{number}" for number in (1, 2)]
    # The recording has figures of its own, which no other run has.
    assert figures(boots[0]) > figures(boots[1])
    first = prune.prune(tmp_path, Retention(recordings=1), measured)
    assert {removal.kind for removal in first.removals} == {prune.RECORDINGS}
    assert not list(tmp_path.glob("nights/*/**/*.data"))
    assert not [path for path in tmp_path.glob("nights/*/**/*") if path.name.startswith("kallsyms")]
    assert rebuilt(tmp_path) == before
    # What is left is a run that can be read, and says what is gone.
    run = store.load(tmp_path / "nights" / names[0] / "cells" / CELL / "boot-01/runs" / f"{names[0]}-b01-{CELL}")
    assert run.trials[1].observed is not None
    assert run.trials[1].observed.file is None
    second = prune.prune(tmp_path, Retention(nights=2, recordings=1), measured)
    assert sorted(removal.kind for removal in second.removals) == [prune.REST] * 2 + [prune.RUNS] * 3
    assert [runs_of(tmp_path, name) for name in names] == [[], [], ["boot-01", "boot-02"], ["boot-01"]]
    assert rebuilt(tmp_path) == before
    assert prune.prune(tmp_path, Retention(nights=2, recordings=1), measured).removals == ()
    assert sorted(path.name for path in (tmp_path / "nights" / names[0] / "attempts/b01.box.v6.a1").iterdir()) == [
        publishing.ATTEMPT_FILE,
        publishing.EVENTS_FILE,
    ]
    assert [ledger.cell_states(night_file.load(night_file.path_of(tmp_path, name)), tmp_path) for name in names] == [
        {CELL: (OK, "")}
    ] * 4


def disk_bytes(path: Path) -> int:
    """What find says of the files below a path, of several links to one once."""
    told = process.run(["find", str(path), "-type", "f", "-printf", "%i %b\n"]).check("find").stdout
    return sum(int(line.split()[1]) for line in set(told.splitlines())) * 512


def test_what_it_says_that_it_freed_is_free(tmp_path: Path) -> None:
    write(tmp_path, [[10.0], [11.0]])
    planned = prune.plan(tmp_path, Retention(nights=1))
    before = disk_bytes(tmp_path)
    told = sum(removal.size_bytes for removal in prune.prune(tmp_path, Retention(nights=1), measured).removals)
    assert told == sum(removal.size_bytes for removal in planned.removals)
    values = sum(path.stat().st_blocks * 512 for path in tmp_path.glob("nights/*/cells/*/*/values.json"))
    assert told == before + values - disk_bytes(tmp_path)


def test_a_disk_that_is_full_has_room_for_figures_once_something_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = write(tmp_path, [[10.0, 12.0], [11.0]])
    log = tmp_path / "nights" / names[0] / "attempts/b01.box.v6.a1" / publishing.LOG_FILE
    genuine, refused = boot_values.keep, []

    def without_room(boot: Path, metrics_of: object) -> None:
        # What needs no figures has gone before.
        assert not log.exists()
        if not refused:
            refused.append(boot)
            raise ResultError("cannot write results: No space left on device")
        genuine(boot, measured)

    monkeypatch.setattr(boot_values, "keep", without_room)
    pruned = prune.prune(tmp_path, Retention(nights=1), measured)
    assert (len(refused), pruned.problems) == (1, ())
    assert runs_of(tmp_path, names[0]) == []


def test_what_is_not_old_and_what_is_whole_stays(tmp_path: Path) -> None:
    names = write(tmp_path, [[10.0]] * 5)
    open_night = write_night(tmp_path, "2026-08-01")
    publish(open_night, 10.0)
    quarantine.add(tmp_path, quarantine.Quarantined("box", "v6", "it did not come up", "2026", names[1]))
    (tmp_path / "acknowledged.toml").write_text(
        f'[[change]]\ncell = "{OTHER}"\nmetric = "*"\nnight = "{names[0]}"\nreason = "known"\n'
    )
    kept = retention.kept(tmp_path, Retention(nights=2))
    assert kept.old_runs == ("2026-08-01", *names[:3])
    assert set(kept.nights) == {"2026-08-01", names[1]}
    assert "have not ended" in kept.nights["2026-08-01"]
    assert kept.cells == frozenset()
    prune.prune(tmp_path, Retention(nights=2), measured)
    assert [bool(runs_of(tmp_path, name)) for name in ("2026-08-01", *names)] == [True, False, True, False, True, True]


def judged(lab: Path, night: str) -> NightVerdict:
    return verdict.bring_up(lab, night, measured, print)


def test_the_runs_around_a_change_stay(tmp_path: Path) -> None:
    values = [10.0 + 0.01 * (number % 3) for number in range(25)] + [20.0 + 0.01 * (number % 3) for number in range(12)]
    names = write_lab(tmp_path, [[value] for value in values])
    finish(tmp_path)
    found = judged(tmp_path, names[-1])
    changed = {change.night for series in found.series for change in series.changes}
    assert changed == {names[25]}
    before = rebuilt(tmp_path)
    done = prune.prune(tmp_path, Retention(nights=3), measured)
    left = [name for name in names if runs_of(tmp_path, name)]
    assert left == [*names[22:28], *names[-3:]]
    assert done.kept_cells == 6
    assert rebuilt(tmp_path) == before
    (series, *_) = (one for one in found.series if one.changes)
    with index.open_index(tmp_path) as opened:
        around = verdict.around(opened, series.key, series.changes[0])
    assert len(around.before) == len(around.after) == 3
    for path in (*around.before, *around.after):
        store.load(path)
    again = judged(tmp_path, names[-1])
    assert again == found
    # The same change, known and no longer listed, keeps them by acknowledged.toml.
    (tmp_path / "nights" / names[-1] / verdict.VERDICT_FILE).unlink()
    (tmp_path / "acknowledged.toml").write_text(
        f'[[change]]\ncell = "{CELL}"\nmetric = "*"\nnight = "{names[25]}"\nreason = "known"\n'
    )
    prune.prune(tmp_path, Retention(nights=3), measured)
    assert [name for name in names if runs_of(tmp_path, name)] == left


def test_a_verdict_that_cannot_be_read_keeps_everything(tmp_path: Path) -> None:
    names = write(tmp_path, [[10.0]] * 4)
    (tmp_path / "nights" / names[-1] / verdict.VERDICT_FILE).write_text("{")
    with pytest.raises(ResultError, match=r"verdict\.json"):
        prune.prune(tmp_path, Retention(nights=1), measured)
    assert all(runs_of(tmp_path, name) for name in names)


def test_a_boot_that_cannot_be_read_keeps_its_runs(tmp_path: Path) -> None:
    names = write(tmp_path, [[10.0], [11.0, 12.0], [13.0]])
    (file,) = (tmp_path / "nights" / names[1] / "cells" / CELL / "boot-02").glob("runs/*/run.json")
    file.write_text("{")
    done = prune.prune(tmp_path, Retention(nights=1), measured)
    assert len(done.problems) == 1
    assert str(file) in done.problems[0]
    assert runs_of(tmp_path, names[1]) == ["boot-02"]


def test_no_link_is_followed_and_nothing_outside_is_touched(tmp_path: Path) -> None:
    lab, outside = tmp_path / "lab", tmp_path / "outside"
    names = write(lab, [[10.0], [11.0], [12.0], [13.0]])
    shutil.copytree(lab / "nights" / names[1], outside / "night")
    shutil.copytree(lab / "nights" / names[2] / "cells" / CELL / "boot-01", outside / "boot")
    shutil.copytree(lab / "nights" / names[0] / "cells" / CELL / "boot-01" / "runs", outside / "runs")
    (outside / "file").write_text("x")
    shutil.rmtree(lab / "nights" / names[1])
    (lab / "nights" / names[1]).symlink_to(outside / "night")
    shutil.rmtree(lab / "nights" / names[2] / "cells" / CELL / "boot-01")
    (lab / "nights" / names[2] / "cells" / CELL / "boot-01").symlink_to(outside / "boot")
    boot = lab / "nights" / names[0] / "cells" / CELL / "boot-01"
    (next((boot / "runs").iterdir()) / "elsewhere").symlink_to(outside)
    (lab / "nights" / names[0] / "attempts" / "b01.box.v6.a1" / "failed" / "linked").symlink_to(outside / "runs")
    before = sorted(str(path) for path in outside.rglob("*"))
    kept = prune.prune(lab, Retention(nights=1, recordings=1), measured)
    assert kept.kept_nights == {names[1]: "it is a symbolic link"}
    assert not runs_of(lab, names[0])
    assert sorted(str(path) for path in outside.rglob("*")) == before


def test_who_is_killed_at_any_line_leaves_each_run_whole_or_gone(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    names = write(origin, [[10.0], [11.0]])
    before = rebuilt(origin)
    for rule in (Retention(nights=1), Retention(recordings=1)):
        killed = kills_at_each_line(tmp_path, origin, names, before, rule)
        assert killed > 4


def kills_at_each_line(tmp_path: Path, origin: Path, names: list[str], before: list[object], rule: Retention) -> int:
    for killed in itertools.count():
        lab = tmp_path / "killed"
        shutil.copytree(origin, lab, copy_function=os.link)
        child = os.fork()
        if child == 0:
            try:
                sys.settrace(
                    at_line(FILES, itertools.count(83 * killed, -1), lambda: os.kill(os.getpid(), signal.SIGKILL))
                )
                prune.prune(lab, rule, measured)
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        for run in lab.glob("nights/*/cells/*/*/runs/[!.]*"):
            store.load(run)
        if killed % 2 == 0 or status == 0:
            assert [str(row).replace(str(lab), "") for row in rebuilt(lab)] == [
                str(row).replace(str(origin), "") for row in before
            ]
        prune.prune(lab, rule, measured)
        assert not list(lab.glob("nights/*/**/.trash-*"))
        assert bool(runs_of(lab, names[0])) == (rule.nights is None)
        assert not list((lab / "nights" / names[0]).glob("**/*.data"))
        shutil.rmtree(lab)
        if status == 0:
            return killed
        assert status == signal.SIGKILL
    raise AssertionError


def test_the_command_says_what_it_does(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    names = write(lab, [[10.0], [11.0]])
    plan = lab / "lab.toml"
    head = '[lab]\n{}[kernels.v6]\nrunning = true\n[machines.box]\nhere = true\n[[experiment]]\nname = "x"\n'
    head += 'program = ["true"]\n'
    command = [sys.executable, "-m", "numabench", "nightly", "prune", str(plan)]
    plan.write_text(head.replace("{}", "keep_nights = 1\n"))
    planned = process.run([*command, "--dry-run"]).check("prune").stdout
    assert runs_of(lab, names[0])
    done = process.run(command).check("prune").stdout
    assert planned.replace("would remove", "removed") == done
    assert done.startswith(f"{names[0]}: removed the runs of 1 boots: ")
    assert not runs_of(lab, names[0])
    report = process.run([sys.executable, "-m", "numabench", "nightly", "report", str(plan)], timeout_s=60)
    assert report.exit_status == 0, report.stderr
    assert json.loads((lab / "nights" / names[-1] / verdict.VERDICT_FILE).read_text())["night"] == names[-1]
