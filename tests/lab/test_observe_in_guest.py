"""Passes in guests: what 2 MB cost on three kernels, call graphs of NUMA faults, and probes that leave nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.guest import Guest
    from numabench.lab.kernels import Kernel

pytestmark = pytest.mark.lab
INSIDE = Path(__file__).parent / "inside"
MIB = 64
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONPATH": str(Path(__file__).parents[2])}


def built(name: str, directory: Path) -> Path:
    """A program of tests/lab/inside."""
    argv = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    process.run([*argv, "-o", str(directory / name), str(INSIDE / f"{name}.c")]).check("gcc")
    return directory / name


@pytest.fixture(scope="module")
def move(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that moves memory from node 0 to node 1 with move_pages(2)."""
    return built("move", tmp_path_factory.mktemp("move"))


def costs(guest: Guest, results: Path, move: Path, pages: str) -> dict[str, dict[str, Any]]:
    """What a run of the program cost by its report, reduced here, by name."""
    words = ["run", "--native", "--nodes", "2", "--repeats", "1", "--balancing", "0", "--observe", "cost"]
    place = ["--results", str(results), "--run-id", f"cost-{pages}"]
    command = [sys.executable, "-m", "numabench", *words, *place, "--", str(move), pages, str(MIB)]
    guest.run(command, env=ENVIRONMENT, timeout_s=400).check("numabench run")
    told = process.run([sys.executable, "-m", "numabench", "report", str(results / f"cost-{pages}"), "--json"])
    report = json.loads(told.check("numabench report").stdout)
    assert [trial["status"] for trial in report["trials"]] == ["ok", "ok"]
    (entry,) = report["observed"]
    # The kernel's own count of the pages, and the program's, which every status confirms.
    assert entry["migrated_bytes"] == pytest.approx(MIB << 20, rel=0.01)
    return {cost["name"]: cost for cost in entry["counts"]["costs"]}


def check_small_pages(guest: Guest, results: Path, move: Path, *, is_batched: bool) -> None:
    """What is expected of move_pages(2) in 4K pages."""
    small = costs(guest, results, move, "4k")
    assert small["rmap lock acquisitions"]["per_2mb"] == pytest.approx(1024, rel=0.05)
    assert small["rmap lock acquisitions"]["in_2012"] == 1024
    unmap, remap = (entries for _, entries in small["rmap lock acquisitions"]["parts"])
    assert unmap == pytest.approx(remap, rel=0.05)
    assert small["page-table walks"]["per_2mb"] == pytest.approx(1024, rel=0.05)
    flushes = small["TLB flushes"]["per_2mb"]
    batches = dict(small["TLB flushes"]["parts"])["arch_tlbbatch_flush"] / (MIB / 2)
    if is_batched:
        # A batch flushes page by page where the other CPU does just then something else: with two CPUs, the sampler.
        assert flushes < 256
        assert 0.5 <= batches <= 1.25
    else:
        assert flushes == pytest.approx(512, rel=0.1)
        assert batches == pytest.approx(0, abs=0.1)


def check_huge_pages(guest: Guest, results: Path, move: Path) -> None:
    """What is expected in huge pages: each is locked for once to unmap and once to remap."""
    huge = costs(guest, results, move, "thp")
    assert huge["rmap lock acquisitions"]["per_2mb"] < 32
    assert huge["rmap lock acquisitions"]["total"] >= MIB


def test_2_mb_cost_1024_locks_and_512_flushes_on_6_1(guest_2n: Guest, guest_dir: Path, move: Path) -> None:
    check_small_pages(guest_2n, guest_dir, move, is_batched=False)
    check_huge_pages(guest_2n, guest_dir, move)
    assert "numabench" not in guest_2n.run(["cat", "/sys/kernel/tracing/kprobe_events"]).check("cat").stdout


def test_2_mb_cost_1024_locks_and_a_flush_or_two_on_6_12(
    shared_guest: Callable[[str, str], Guest], guest_dir: Path, move: Path
) -> None:
    running = shared_guest("debian:bookworm-backports", "2n")
    results = guest_dir / "6.12"
    check_small_pages(running, results, move, is_batched=True)
    check_huge_pages(running, results, move)


def test_2_mb_cost_1024_locks_and_a_flush_or_two_on_7_2(
    shared_guest: Callable[[str, str], Guest], guest_dir: Path, move: Path
) -> None:
    check_small_pages(shared_guest("debian:sid", "2n"), guest_dir / "7.2", move, is_batched=True)


def test_threads_that_move_pages_wait_for_each_other_in_a_phase_and_perf_counts_the_same(
    guest_2n: Guest, guest_dir: Path
) -> None:
    # A guest that runs already sees new files in what it shares for writing, and not for sure elsewhere.
    program = built("contend", guest_dir)
    words = ["run", "--native", "--nodes", "2", "--repeats", "1", "--balancing", "0", "--observe", "lock"]
    place = ["--results", str(guest_dir), "--run-id", "contended"]
    command = [sys.executable, "-m", "numabench", *words, *place, "--", str(program), "2000"]
    guest_2n.run(command, env=ENVIRONMENT, timeout_s=400).check("numabench run")
    report = [sys.executable, "-m", "numabench", "report", str(guest_dir / "contended"), "--json"]
    (entry,) = json.loads(process.run(report).check("numabench report").stdout)["observed"]
    waits = entry["waits"]
    assert waits["total"]["count"] > 20
    phases = {row["key"][0]: row["waits"]["count"] for row in waits["by_phase"]}
    assert phases.get("prepare", 0) > 0.5 * waits["total"]["count"]
    drivers = {row["key"][1] for row in waits["by_phase"] if row["key"][0] == "prepare"}
    assert "move_pages" in drivers
    recording = store.load(guest_dir / "contended").trials[1].observed
    assert recording is not None
    # By thread: by caller, perf wants the symbols of the kernel that runs here.
    told = process.run(["perf", "lock", "contention", "-t", "-i", str(recording.file)], timeout_s=120)
    rows = [line.split() for line in (told.stdout + told.stderr).splitlines()]
    counted = sum(int(row[0]) for row in rows if row and row[0].isdecimal())
    total = process.run([sys.executable, "-m", "numabench", "locks", str(recording.file)]).check("locks").stdout
    assert f"{counted:,} waits" in total


KILLED = """
import os, signal, sys, time
from numabench.host.kprobes import Kprobes
with Kprobes(["rmap_walk_anon", "flush_tlb_mm_range", "no_such_function", "migrate_pages"]) as probes:
    print(sorted(probes.events.values()), probes.refused, flush=True)
    print(open("/sys/kernel/tracing/kprobe_events").read(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
AFTERWARDS = """
for _ in $(seq 100); do
    [ -s /sys/kernel/tracing/kprobe_events ] || { echo gone; exit 0; }
    sleep 0.2
done
cat /sys/kernel/tracing/kprobe_events
"""
STALE = """
import os
from numabench.host.kprobes import Kprobes
file = os.open("/sys/kernel/tracing/kprobe_events", os.O_WRONLY | os.O_APPEND)
os.write(file, b"p:numabench_999999/migrate_pages migrate_pages\\n")
os.close(file)
with Kprobes(["rmap_walk_anon"]):
    print(open("/sys/kernel/tracing/kprobe_events").read())
print("left", repr(open("/sys/kernel/tracing/kprobe_events").read()))
"""


def test_probes_are_gone_after_sigkill_and_those_of_the_dead_at_the_next_start(guest_2n: Guest) -> None:
    killed = guest_2n.run([sys.executable, "-c", KILLED], env=ENVIRONMENT)
    assert killed.exit_status == 128 + 9
    assert "['flush_tlb_mm_range', 'migrate_pages', 'rmap_walk_anon']" in killed.stdout
    assert "no function of that name" in killed.stdout
    assert killed.stdout.count("p:numabench_") == 3
    assert guest_2n.run(["sh", "-c", AFTERWARDS]).stdout == "gone\n"
    stale = guest_2n.run([sys.executable, "-c", STALE], env=ENVIRONMENT).check("stale").stdout
    assert "999999" not in stale
    assert "rmap_walk_anon" in stale
    assert "left ''" in stale


class Observed:
    """A run with all passes, in a guest that it takes by itself."""

    def __init__(self, results: Path, *words: str) -> None:
        argv = [sys.executable, "-m", "numabench", "run", "numa02", "--nodes", "2", "--repeats", "1", "--json"]
        ended = process.run([*argv, "--results", str(results), *words], timeout_s=900)
        self.stderr = ended.stderr
        self.report: dict[str, Any] = json.loads(ended.check("numabench run").stdout)
        self.run = store.load(self.report["path"])

    def of(self, recipe: str) -> dict[str, Any]:
        (found,) = [entry for entry in self.report["observed"] if entry["recipe"] == recipe]
        return dict(found)


@pytest.fixture(scope="module")
def numa_faults(kernel_6_1: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    words = ["--size", "128M", "--thp", "never", "--duration", "5s", "--frequency", "997", "--kernel", kernel_6_1.name]
    return Observed(tmp_path_factory.mktemp("faults"), *words, "--observe", "cpu,lock,sched,cost")


def test_a_run_records_its_passes_in_the_guest_and_reduces_them_here(numa_faults: Observed) -> None:
    assert numa_faults.report["is_guest"]
    assert [trial["status"] for trial in numa_faults.report["trials"]] == ["ok"] * 5
    for recipe in ("cpu", "lock", "sched"):
        entry = numa_faults.of(recipe)
        assert entry["own_samples"] > 0
        assert entry["quality"]["lost"] == 0
        assert entry["quality"]["unsymbolised_share"] in {None, 0} or entry["quality"]["unsymbolised_share"] < 0.01
    assert list(numa_faults.run.path.glob("kallsyms-*.zst"))


def test_numa_faults_are_the_driver_and_every_sample_of_migration_has_its_phase(numa_faults: Observed) -> None:
    found = numa_faults.of("cpu")["phases"]
    drivers = {share["driver"] for share in found["shares"] if share["driver"]}
    assert "numa hint fault" in drivers
    placed = {share["phase"] for share in found["shares"]}
    assert {"copy", "unmap", "remap"} <= placed
    assert found["unplaced_weight"] < 0.1 * found["migration_weight"]


def test_numa_faults_flush_when_they_mark_and_not_when_they_unmap(numa_faults: Observed) -> None:
    cost = {row["name"]: row for row in numa_faults.of("cost")["counts"]["costs"]}
    assert cost["rmap lock acquisitions"]["per_2mb"] == pytest.approx(1024, rel=0.05)
    assert cost["calls of migrate_pages"]["per_2mb"] == pytest.approx(512, rel=0.05)
    assert cost["TLB flushes"]["per_2mb"] < 64
    assert cost["ranges marked for hint faults"]["total"] > 0


def test_locks_joins_the_sources_of_a_run(numa_faults: Observed) -> None:
    told = process.run([sys.executable, "-m", "numabench", "locks", str(numa_faults.run.path)]).check("locks").stdout
    for source in ("Waits (", "Spinning (", "Slow-path entries (", "Off the CPU ("):
        assert source in told
    assert ": not recorded" not in told
    assert ": not counted. Observe" not in told
