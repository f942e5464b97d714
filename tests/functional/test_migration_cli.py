"""`numabench migration` as a user runs it, on a recording of two migratepages(8) made in a guest (tests/fixtures/perf).

In the run that is made of it the first of the two is the mover, and the other, which migrates as well, a victim.
"""

from __future__ import annotations

import json
import lzma
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import driven_run
import pytest
from driven_run import GO_NS, MILLISECOND_NS, PAGE, SECOND_NS

from numabench import process, store

if TYPE_CHECKING:
    from numabench.process import Completed

FIXTURES = Path(__file__).parents[1] / "fixtures/perf/perf-6.1"
MOVER, VICTIM = 200, 201
RUN_ID, METAL_ID = "20261125T010000Z-pingpong-aaaaaa", "20261125T020000Z-pingpong-bbbbbb"
THREADS = [
    {"pid": tid, "tid": tid, "thread": number, "name": "migratepages", "policy": "default", "role": role}
    for number, (tid, role) in enumerate([(MOVER, "mover"), (VICTIM, "victim")])
]
# On a CPU for 1 of 2 s: 1.5 s in calls, a quarter in queries, a quarter between both; 1 GiB.
WORK = driven_run.mover(
    0,
    pid=MOVER,
    confirmed=(1 << 30) // PAGE,
    elapsed_ns=2 * SECOND_NS,
    cpu_ns=SECOND_NS,
    query_ns=SECOND_NS // 4,
    directions=[driven_run.direction(0, 1, (1 << 30) // PAGE, 250 * MILLISECOND_NS, calls=6)],
)


def numabench(*words: str | Path) -> Completed:
    return process.run([sys.executable, "-m", "numabench", *map(str, words)], env={**os.environ, "COLUMNS": "100"})


def unpacked(name: str) -> bytes:
    return lzma.decompress((FIXTURES / f"{name}.xz").read_bytes())


def chains_of(tid: int) -> list[str]:
    """The chains of a thread's samples, as `perf script` printed them."""
    samples = unpacked("cpu-clock.script").decode().split("\n\n")
    return [sample for sample in samples if sample.split()[1:2] == [str(tid)]]


def write(results: Path, run_id: str, recipes: tuple[str, ...], **identity: Any) -> None:
    record = driven_run.run_record("migrate_pages")
    record["run_id"] = run_id
    record["identity"] |= identity
    record["plan"]["order"] = [["default", "measure"], *(["default", f"observe:{recipe}"] for recipe in recipes)]
    writer = store.create(results, run_id)
    writer.write_run(record)
    trial = {"threads": THREADS, "movers": [WORK], "victims": [driven_run.victim(1, pid=VICTIM)]}
    writer.write_trial(1, driven_run.trial_record(1, **trial), b"{}\n", [])
    (writer.path / "kallsyms-0123").write_bytes(unpacked("kallsyms"))
    for index, recipe in enumerate(recipes, start=2):
        observe = {
            "recipe": recipe,
            "file": f"{recipe}.data",
            "events": ["cpu-clock"],
            "frequency_hz": 499,
            "perf": "6.1.187",
            "argv": ["perf", "record"],
            "enabled": GO_NS - 1,
            "disabled": GO_NS + 11 * SECOND_NS,
            "kallsyms": "kallsyms-0123",
        }
        recording = writer.scratch(index) / f"{recipe}.data"
        recording.write_bytes(unpacked("cpu-clock.data"))
        seen = driven_run.trial_record(index, role=f"observe:{recipe}", observe=observe, **trial)
        writer.write_trial(index, seen, b"{}\n", [], [recording])
    writer.write_end(driven_run.synthetic_run.END)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("results")
    write(made, RUN_ID, ("cpu",), where="guest", accelerator="tcg")
    write(made, METAL_ID, ())
    return made


def test_samples_are_the_movers_as_perf_script_has_them_and_no_victims(results: Path) -> None:
    done = numabench("migration", RUN_ID, "--results", results, "--json").check("migration")
    (run,) = json.loads(done.stdout)["runs"]
    chains = chains_of(MOVER)
    in_calls = [chain for chain in chains if "sys_migrate_pages" in chain]
    assert len(in_calls) > 10
    assert any("sys_migrate_pages" in chain for chain in chains_of(VICTIM))
    assert run["cpu_samples"] == len(chains)
    seconds = {(part["where"], part["phase"]): part["seconds"] for part in run["parts"]}
    # Of 1 s on a CPU; what is left of 1.5 s in calls was off it.
    on_cpu = len(in_calls) / len(chains)
    allocating = sum("get_page_from_freelist" in chain for chain in in_calls) / len(chains)
    assert seconds["cpu", "allocate"] == pytest.approx(allocating)
    assert sum(value for (where, _), value in seconds.items() if where == "cpu") == pytest.approx(on_cpu)
    assert seconds["off", "not split"] == pytest.approx(1.5 - on_cpu)
    assert (seconds["queries", ""], seconds["between", ""]) == pytest.approx((0.25, 0.25))
    assert run["total_per_gib_s"] == pytest.approx(2.0)
    assert sum(part["share"] for part in run["parts"]) == pytest.approx(1)


def test_the_text_says_whose_times_they_are_and_what_could_not_be_joined(results: Path) -> None:
    done = numabench("migration", RUN_ID, "--results", results).check("migration")
    assert "Times are an emulated guest's and not performance" in done.stdout
    assert "A: no sched pass: what movers waited for off the CPU is not split." in done.stdout
    assert ["movers,", "GO", "to", "last", "call", "2.000", "100.0"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_guest_and_hardware_are_not_shown_together_unless_asked_for(results: Path, tmp_path: Path) -> None:
    words = ("migration", RUN_ID, METAL_ID, "--results", results, "--png", tmp_path / "png")
    done = numabench(*words)
    assert (done.exit_status, done.stdout) == (4, "")
    assert done.stderr.startswith(f"numabench: {RUN_ID} ran in a guest and the others did not")
    assert not (tmp_path / "png").exists()
    done = numabench(*words, "--anyway").check("migration")
    assert "A: times are an emulated guest's" in done.stdout
    assert (tmp_path / "png/migration-time.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_hardware_alone_has_no_note_of_a_guest(results: Path) -> None:
    assert "guest" not in numabench("migration", METAL_ID, "--results", results).check("migration").stdout


def test_a_run_that_cannot_tell_says_why(tmp_path: Path) -> None:
    driven_run.write(tmp_path, trials=[driven_run.trial_record(1, movers=[])])
    done = numabench("migration", "last", "--results", tmp_path)
    assert done.exit_status == 1
    assert "it has no movers" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_not_there_is_told_with_a_hint(tmp_path: Path) -> None:
    done = numabench("migration", "nope", "--results", tmp_path)
    assert done.exit_status == 1
    assert "`numabench list` shows what there is" in done.stderr
