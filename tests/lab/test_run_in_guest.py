"""The main job, end to end: `numabench run` in guests, on kernels of four eras."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process, store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.lab.kernels import Kernel
    from numabench.record import Run

pytestmark = pytest.mark.lab
MIB = 1 << 20
PAGE = 4096


def numabench(*words: str, timeout_s: float = 600.0) -> process.Completed:
    """The command, run as a user runs it."""
    return process.run([sys.executable, "-m", "numabench", *words], timeout_s=timeout_s)


def final_residency(trial: dict[str, Any]) -> float:
    """The share of sampled pages on their thread's node at the end."""
    return float(trial["page_residency"]["convergence"]["points"][-1]["share"])


class Recorded:
    """A run that took place: its report, what was said, and its directory."""

    def __init__(self, results: Path, *words: str) -> None:
        self.ended = numabench("run", "--results", str(results), "--json", *words)
        assert self.ended.stdout, self.ended.stderr
        self.report: dict[str, Any] = json.loads(self.ended.stdout)
        self.run: Run = store.load(self.report["path"])

    def trials(self, placement: str) -> list[dict[str, Any]]:
        """The report's trials of one placement."""
        return [trial for trial in self.report["trials"] if trial["placement"] == placement]

    def record(self, index: int) -> dict[str, Any]:
        """A trial.json as it was written."""
        text = (self.run.path / "trials" / f"{index:04d}" / "trial.json").read_text()
        return dict(json.loads(text))


def check_misplaced(recorded: Recorded, trial: dict[str, Any], moved: int) -> None:
    """What the kernel counted in all is what it counted of the workload, whose pages may have gone to and fro."""
    counters = recorded.record(trial["index"])["counters"]
    own = {
        when: sum(numbers["numa_pages_migrated"] for numbers in counters[when]["sched"].values())
        for when in ("before", "after")
    }
    assert trial["counts"]["kernel"]["misplaced"] == pytest.approx(own["after"] - own["before"], rel=0.05)
    assert own["after"] - own["before"] >= moved


@pytest.fixture(scope="module")
def numa02(kernel_6_1: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """numa02 in its three placements, 256 MiB that begin on node 1."""
    words = ["--nodes", "2", "--all-placements", "--repeats", "1", "--size", "256M", "--duration", "25s"]
    return Recorded(
        tmp_path_factory.mktemp("numa02"), "numa02", *words, "--start-node", "1", "--kernel", kernel_6_1.name
    )


def test_it_runs_in_a_guest_by_itself_and_says_so(numa02: Recorded) -> None:
    assert numa02.report["is_guest"], (
        "this machine has two memory nodes: these tests are for machines that need a guest"
    )
    assert numa02.ended.exit_status == 0, numa02.ended.stderr
    assert "needs 2 memory nodes, this machine has 1" in numa02.ended.stderr
    assert numa02.report["identity"]["where"] == "guest"
    assert numa02.report["identity"]["kernel"]["release"].startswith("6.1.")


def test_default_starts_on_its_start_node_and_converges_by_moving_half_of_the_pages(numa02: Recorded) -> None:
    (trial,) = numa02.trials("default")
    pages = numa02.record(trial["index"])["pages"]
    whole = 256 * MIB // PAGE
    assert pages["before"]["nodes"] == {"1": whole}
    assert pages["after"]["nodes"]["0"] == pytest.approx(whole / 2, rel=0.1)
    assert final_residency(trial) > 0.9


def test_the_report_and_the_guests_vmstat_agree_on_the_pages_moved(numa02: Recorded) -> None:
    (trial,) = numa02.trials("default")
    counters = numa02.record(trial["index"])["counters"]
    delta = counters["after"]["vmstat"]["numa_pages_migrated"] - counters["before"]["vmstat"]["numa_pages_migrated"]
    confirmed = sum(numa02.record(trial["index"])["pages"]["moved"].values())
    assert trial["counts"]["kernel"]["misplaced"] == delta
    assert trial["counts"]["confirmed"] == confirmed
    assert delta == pytest.approx(confirmed, rel=0.05)


def test_hard_moves_none(numa02: Recorded) -> None:
    (trial,) = numa02.trials("hard")
    record = numa02.record(trial["index"])
    assert record["pages"]["moved"] == {}
    assert record["pages"]["before"]["nodes"] == {"0": 128 * MIB // PAGE, "1": 128 * MIB // PAGE}
    assert final_residency(trial) == 1.0


def test_inverse_stays_remote(numa02: Recorded) -> None:
    (trial,) = numa02.trials("inverse")
    assert numa02.record(trial["index"])["pages"]["moved"] == {}
    assert final_residency(trial) == 0.0


def test_every_byte_is_where_it_was_stored(numa02: Recorded) -> None:
    for trial in numa02.report["trials"]:
        assert trial["check"]["checked_bytes"] == 256 * MIB
        assert trial["check"]["wrong_bytes"] == 0


def test_sampling_stays_within_its_share_of_a_cpu(numa02: Recorded) -> None:
    for trial in numa02.report["trials"]:
        assert trial["sampler"]["samples"] > 3
        assert trial["sampler"]["busy_share"] <= 0.01


def test_the_knobs_are_told_and_the_run_is_complete(numa02: Recorded) -> None:
    assert numa02.run.complete
    told = {knob["name"]: knob["outcome"] for knob in numa02.report["knobs"]}
    # The usual profile's, of which a fresh guest has all but one already.
    assert set(told) == {"kernel.numa_balancing", "mm.numa.demotion_enabled", "vm.numa_stat", "ksm.run"}
    assert set(told.values()) <= {"set", "kept"}
    # Every write is printed, and nothing else is told to be one.
    assert {name for name in told if name in numa02.ended.stderr} == {name for name in told if told[name] == "set"}
    (balancing,) = (knob for knob in numa02.report["knobs"] if knob["name"] == "kernel.numa_balancing")
    assert (balancing["before"], balancing["wanted"]) == ("1", "1")


def test_frames_load_and_agree_with_the_report(numa02: Recorded) -> None:
    import numabench

    frames = numabench.load(numa02.run.path)
    assert len(frames.trials) == 3
    assert set(frames.trials["placement"]) == {"default", "hard", "inverse"}
    assert len(frames.samples) > 0


def test_four_nodes(kernel_6_1: Kernel, tmp_path: Path) -> None:
    words = ["--nodes", "4", "--repeats", "1", "--size", "256M", "--duration", "30s", "--kernel", kernel_6_1.name]
    recorded = Recorded(tmp_path, "numa02", *words)
    assert recorded.ended.exit_status == 0, recorded.ended.stderr
    assert recorded.run.nodes == (0, 1, 2, 3)
    (trial,) = recorded.trials("default")
    record = recorded.record(trial["index"])
    assert record["pages"]["before"]["nodes"] == {"0": 256 * MIB // PAGE}
    assert set(record["pages"]["after"]["nodes"]) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("spec", ["debian:bookworm-backports", "debian:sid"])
def test_newer_kernels(spec: str, lab_kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    kernel = lab_kernel(spec)
    words = ["--nodes", "2", "--repeats", "1", "--size", "128M", "--duration", "20s", "--kernel", kernel.name]
    recorded = Recorded(tmp_path, "numa02", *words)
    assert recorded.ended.exit_status == 0, recorded.ended.stderr
    assert recorded.report["identity"]["kernel"]["release"] == kernel.release
    (trial,) = recorded.trials("default")
    moved = sum(recorded.record(trial["index"])["pages"]["moved"].values())
    assert moved == pytest.approx(64 * MIB // PAGE, rel=0.1)
    check_misplaced(recorded, trial, moved)


@pytest.fixture(scope="module")
def on_5_10(lab_kernel: Callable[[str], Kernel], tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run on a kernel before v5.13, whose lock waits were to be observed, too."""
    kernel = lab_kernel("debian:bullseye")
    words = ["--nodes", "2", "--repeats", "1", "--size", "64M", "--duration", "10s", "--scan-delay", "500"]
    directory = tmp_path_factory.mktemp("on_5_10")
    recorded = Recorded(directory, "numa02", *words, "--observe", "lock", "--kernel", "5.10")
    assert recorded.ended.exit_status == 0, recorded.ended.stderr
    assert recorded.report["identity"]["kernel"]["release"] == kernel.release
    return recorded


def test_kernels_before_5_19_have_sched_stand_in_for_lock(on_5_10: Recorded) -> None:
    assert "sched stands in for it" in on_5_10.ended.stderr
    assert [note.code for note in on_5_10.run.notes if note.code.startswith("observed")] == ["observed-otherwise"]
    (entry,) = on_5_10.report["observed"]
    assert entry["recipe"] == "sched"
    assert entry["off_cpu"]["voluntary"]["count"] > 0


def test_a_kernel_whose_balancing_is_set_by_sysctls(on_5_10: Recorded) -> None:
    recorded = on_5_10
    (write,) = [write for write in recorded.run.knobs if write.name == "kernel.numa_balancing_scan_delay_ms"]
    assert write.path == "/proc/sys/kernel/numa_balancing_scan_delay_ms"
    assert (write.before, write.wanted, write.outcome) == ("1000", "500", "set")
    trial = recorded.trials("default")[0]
    pages = recorded.record(trial["index"])["pages"]
    assert pages["before"]["nodes"] == {"0": 64 * MIB // PAGE}
    moved = sum(pages["moved"].values())
    assert moved == pytest.approx(32 * MIB // PAGE, rel=0.1)
    check_misplaced(recorded, trial, moved)


def test_two_processes_have_their_own_rows_in_every_sample(kernel_6_1: Kernel, tmp_path: Path) -> None:
    words = ["--nodes", "2", "--repeats", "1", "--size", "64M", "--duration", "10s", "--kernel", kernel_6_1.name]
    recorded = Recorded(tmp_path, "numa01", *words)
    assert recorded.ended.exit_status == 0, recorded.ended.stderr
    (trial,) = recorded.run.trials
    assert len({piece.pid for piece in trial.slices}) == 2
    assert [piece.size_bytes for piece in trial.slices] == [64 * MIB, 64 * MIB]
    assert {index for piece in trial.slices for index in piece.threads} == {thread.index for thread in trial.threads}
    for sample in trial.samples:
        # A column a node of the plan, and one for everywhere else; a page that just moves is nowhere (EFAULT).
        assert [len(row) for row in sample.pages] == [len(recorded.run.nodes) + 1] * len(trial.slices)
        found = sum(map(sum, sample.pages)) + sample.status.get("EFAULT", 0)
        assert found == sum(map(sum, trial.samples[0].pages))
        assert len(sample.cpu_nodes) == len(trial.threads)
    points = recorded.report["trials"][0]["page_residency"]["convergence"]["points"]
    assert len(points) > 3
    for point in points:
        assert 0 <= point["low"] <= point["share"] <= point["high"] <= 1
        assert 0 < point["size"] <= sum(map(sum, trial.samples[0].pages))
    assert trial.pages is not None
    assert sum(trial.pages.before.values()) == sum(trial.pages.after.values()) == 2 * 64 * MIB // PAGE
    to_1, to_0 = trial.pages.moved.get((0, 1), 0), trial.pages.moved.get((1, 0), 0)
    assert trial.pages.after.get(1, 0) - trial.pages.before.get(1, 0) == to_1 - to_0


# One thread that stays on node 0 and has all its memory on node 1, where its own policy had put it. When it has slept,
# in which time no page can be found misplaced, it writes to every page over and over under no policy at all.
REMOTE = """
import ctypes, mmap, os, time

SIZE, PAGE = 64 << 20, 4096
SET_MEMPOLICY, MPOL_DEFAULT, MPOL_BIND = 238, 0, 2
libc = ctypes.CDLL(None, use_errno=True)

def set_mempolicy(mode, node=None):
    mask = None if node is None else ctypes.byref(ctypes.c_ulong(1 << node))
    if libc.syscall(SET_MEMPOLICY, mode, mask, 64 if mask else 0) != 0:
        raise OSError(ctypes.get_errno(), "set_mempolicy")

with open("/sys/devices/system/node/node0/cpulist") as cpulist:
    os.sched_setaffinity(0, {int(cpulist.read().replace("-", ",").split(",")[0])})
memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
set_mempolicy(MPOL_BIND, 1)
memory[::PAGE] = b"x" * (SIZE // PAGE)
set_mempolicy(MPOL_DEFAULT)
time.sleep(25)
end = time.monotonic() + 15
while time.monotonic() < end:
    memory[::PAGE] = memory[::PAGE]
"""


@pytest.fixture(scope="module")
def remote(kernel_6_1: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A program of the user's own whose 64 MiB balancing must fetch from the other node."""
    words = ["--nodes", "2", "--repeats", "1", "--kernel", kernel_6_1.name, "--", sys.executable, "-c", REMOTE]
    return Recorded(tmp_path_factory.mktemp("remote"), *words)


def test_a_program_of_the_users_own_has_its_misplaced_pages_counted(remote: Recorded) -> None:
    assert remote.ended.exit_status == 0, remote.ended.stderr
    assert remote.report["plan"]["command"][0] == sys.executable
    (trial,) = remote.report["trials"]
    assert trial["status"] == "ok"
    assert trial["counts"]["kernel"]["misplaced"] >= 0.9 * 64 * MIB // PAGE


def test_samples_show_the_pages_of_a_program_of_the_users_own_moving(remote: Recorded) -> None:
    (trial,) = remote.run.trials
    # Slices are ordered by size, the largest first, and change as the program maps memory.
    rows = [sample.pages[0] for sample in trial.samples if sample.slice_bytes and sample.slice_bytes[0] >= 64 * MIB]
    on_node_1 = [row[1] / sum(row) for row in rows if sum(row) > 16]
    assert on_node_1[0] > 0.9
    assert on_node_1[-1] < 0.1
