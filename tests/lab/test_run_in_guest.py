"""The main job, end to end: `numabench run` in guests, on kernels of three eras."""

from __future__ import annotations

import json
import os
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


@pytest.fixture(scope="module")
def numa02(kernel_6_1: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """numa02 in its three placements, 256 MiB that begin on node 1."""
    words = ["--nodes", "2", "--all-placements", "--repeats", "1", "--size", "256M", "--duration", "25s"]
    return Recorded(
        tmp_path_factory.mktemp("numa02"), "numa02", *words, "--start-node", "1", "--kernel", kernel_6_1.name
    )


def test_it_runs_in_a_guest_by_itself_and_says_so(numa02: Recorded) -> None:
    if len(os.sched_getaffinity(0)) and not numa02.report["is_guest"]:
        pytest.fail("this machine has two memory nodes: the lab tests are for machines that need a guest")
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
    assert [knob["name"] for knob in numa02.report["knobs"]] == ["kernel.numa_balancing"]
    assert "kernel.numa_balancing" in numa02.ended.stderr


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
    assert trial["counts"]["kernel"]["misplaced"] == pytest.approx(moved, rel=0.05)


def test_a_program_of_the_users_own(kernel_6_1: Kernel, tmp_path: Path) -> None:
    hog = (
        "import time\nx = bytearray(64 << 20)\nend = time.monotonic() + 8\n"
        "while time.monotonic() < end: x[::4096] = x[::4096]"
    )
    recorded = Recorded(
        tmp_path, "--nodes", "2", "--repeats", "1", "--kernel", kernel_6_1.name, "--", sys.executable, "-c", hog
    )
    assert recorded.ended.exit_status == 0, recorded.ended.stderr
    assert recorded.report["plan"]["command"][0] == sys.executable
    (trial,) = recorded.report["trials"]
    assert trial["status"] == "ok"
    assert trial["counts"]["kernel"]["total"] >= 0
    assert max(sum(map(sum, sample.pages)) for sample in recorded.run.trials[0].samples) > 0
