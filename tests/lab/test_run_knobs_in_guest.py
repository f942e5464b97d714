"""Knobs that `numabench run` sets for pages and obstacles, on real kernels, and puts back, however it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import store
from numabench.workload import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.guest import Guest
    from numabench.record import Run

pytestmark = pytest.mark.lab
INSIDE = Path(__file__).parent / "inside/watched_runs.py"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/root",
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "NUMABENCH_STATE_DIR": "/run/numabench-test-run-knobs",
}
MM = "/sys/kernel/mm"
KSM = f"{MM}/ksm/run"
THP = f"{MM}/transparent_hugepage/enabled"
FOLIOS = {size: f"{MM}/transparent_hugepage/hugepages-{size}kB/enabled" for size in (32, 64, 128, 2048)}
POOLS = [f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages" for node in (0, 1)]
BALANCING = "/proc/sys/kernel/numa_balancing"
SWAPPINESS, DEFRAG = "/proc/sys/vm/swappiness", f"{MM}/transparent_hugepage/defrag"

Answer = dict[str, Any]


def case(results: Path, words: str, *files: str, signal_number: int = 0, **prepared: str) -> dict[str, Any]:
    return {
        "words": ["pingpong", "--nodes", "2", "--loops", "1", *words.split()],
        "files": [BALANCING, *files],
        "prepared": {
            {"thp": THP, "ksm": KSM, "folios_2048": FOLIOS[2048]}[name]: text for name, text in prepared.items()
        },
        "signal": signal_number,
        "results": str(results),
    }


def watched(guest: Guest, *cases: dict[str, Any]) -> list[Answer]:
    """What the knobs were, case by case."""
    build.build("pingpong")
    argv = [sys.executable, str(INSIDE), json.dumps(cases)]
    ended = guest.run(argv, env=ENVIRONMENT, timeout_s=400).check("the watched runs")
    answers: list[Answer] = json.loads(ended.stdout)
    return answers


def run_of(results: Path) -> Run:
    return store.load(store.find(results, "last"))


def shown(answer: Answer, file: str) -> list[str]:
    """The values that a file had: of a list of words the one in brackets."""
    texts = [*answer["during"][file], answer["after"][file]]
    values = [text.partition("[")[2].partition("]")[0] or text for text in texts]
    return [value for place, value in enumerate(values) if place == 0 or value != values[place - 1]]


@pytest.fixture(scope="module")
def results(guest_dir: Path) -> Path:
    return guest_dir / "run-knobs"


@pytest.fixture(scope="module")
def answers(shared_guest: Callable[[str, str], Guest], results: Path) -> dict[str, Answer]:
    """Runs on 6.1: with merged pages, killed in its second trial; then with huge pages of both kinds."""
    cases = {
        "ksm": case(
            results / "ksm",
            "--size 1M --obstacles ksm:4 --repeats 50 --retries 0",
            KSM,
            signal_number=signal.SIGKILL,
            ksm="0",
        ),
        "thp": case(results / "thp", "--size 4M --pages thp --repeats 1", KSM, THP, thp="never"),
        "quiet": case(results / "quiet", "--size 1M --repeats 1 --profile quiet", SWAPPINESS, DEFRAG),
        "hugetlb": case(results / "hugetlb", "--size 8M --pages hugetlb --repeats 1", *POOLS),
    }
    guest = shared_guest("debian:bookworm", "2n")
    found = watched(guest, *cases.values())
    guest.run(["sh", "-c", f"echo madvise > {THP}"]).check("thp")
    return dict(zip(cases, found, strict=True))


def test_merging_is_on_while_a_run_has_merged_obstacles_and_a_kill_leaves_it(
    answers: dict[str, Answer], results: Path
) -> None:
    answer = answers["ksm"]
    assert answer["status"] == -signal.SIGKILL
    assert shown(answer, KSM) == ["0", "1"]
    assert shown(answer, BALANCING) == ["1", "0"]
    run = run_of(results / "ksm")
    assert (run.ending.status, run.trials[0].status) == ("killed", "ok")
    # MOVE leaves a merged page where it is (mm/migrate.c).
    assert run.trials[0].movers[0].status["EACCES"] == 4


def test_the_next_start_puts_back_what_a_kill_left(answers: dict[str, Answer]) -> None:
    answer = answers["thp"]
    assert shown(answer, KSM) == ["1", "0"]
    assert (answer["before"][BALANCING], answer["after"][BALANCING]) == ("0", "1")


def test_huge_pages_are_on_while_a_run_needs_them(answers: dict[str, Answer], results: Path) -> None:
    answer = answers["thp"]
    assert answer["status"] == 0
    assert shown(answer, THP) == ["never", "madvise", "never"]
    (trial,) = run_of(results / "thp").trials
    assert (trial.status, trial.unit_bytes, trial.units.split) == ("ok", 2 << 20, 0)
    assert trial.movers[0].confirmed == 2


def test_a_profile_is_in_force_as_long_as_the_run_lasts(answers: dict[str, Answer], results: Path) -> None:
    answer = answers["quiet"]
    assert answer["status"] == 0
    assert shown(answer, SWAPPINESS) == ["60", "0", "60"]
    assert shown(answer, DEFRAG) == ["madvise", "never", "madvise"]
    run = run_of(results / "quiet")
    assert run.plan["profile"] == "quiet"
    done = {knob.name: knob.outcome for knob in run.knobs}
    assert (done["vm.swappiness"], done["vm.drop_caches"]) == ("set", "done")


def test_untouched_pools_are_filled_on_both_nodes_and_emptied(answers: dict[str, Answer], results: Path) -> None:
    answer = answers["hugetlb"]
    assert answer["status"] == 0
    for pool in POOLS:
        # It grows, and shrinks, page by page.
        values = [int(value) for value in shown(answer, pool)]
        assert (values[0], max(values), values[-1]) == (0, 4, 0)
    run = run_of(results / "hugetlb")
    assert {knob.name: (knob.before, knob.wanted, knob.outcome) for knob in run.knobs if "hugetlb" in knob.name} == {
        "hugetlb.node0-hugepages-2048kB": ("0", "4", "set"),
        "hugetlb.node1-hugepages-2048kB": ("0", "4", "set"),
    }
    (trial,) = run.trials
    assert (trial.status, trial.unit_bytes, trial.movers[0].confirmed) == ("ok", 2 << 20, 4)


def test_folios_of_one_size_are_on_until_an_interrupt_puts_all_back(
    shared_guest: Callable[[str, str], Guest], results: Path
) -> None:
    words = "--size 1M --pages 64k --repeats 50"
    asked = case(results / "64k", words, *FOLIOS.values(), signal_number=signal.SIGINT, folios_2048="always")
    (answer,) = watched(shared_guest("debian:bookworm-backports", "2n"), asked)
    assert answer["status"] == 130
    assert {size: shown(answer, file) for size, file in FOLIOS.items()} == {
        32: ["never"],
        64: ["never", "madvise", "never"],
        128: ["never"],
        2048: ["always", "never", "always"],
    }
    assert shown(answer, BALANCING) == ["1", "0", "1"]
    run = run_of(results / "64k")
    assert run.ending.status == "interrupted"
    assert {entry.outcome for entry in run.ending.restored} == {"restored"}
    first = run.trials[0]
    assert (first.status, first.unit_bytes, first.units.split) == ("ok", 64 << 10, 0)
    assert first.movers[0].confirmed == 16
