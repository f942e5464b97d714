"""The doctor and a run on a real kernel that was made unfit: what is wrong is told by name, and nothing is left.

On a machine of one's own: without root, in a sandbox, under a seccomp filter as a container's, in a cpuset without
node 1, with /proc read-only, with wrong knobs, and with node 1 full of page cache.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench.workload import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab

CASES = Path(__file__).parent / "inside/doctor_cases.py"
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONPATH": str(Path(__file__).parents[2])}

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def told(shared_guest: Callable[[str, str], Guest]) -> dict[str, Any]:
    """What all cases in the guest gave."""
    build.build("pingpong")
    argv = [sys.executable, str(CASES), "/run/doctor-results"]
    ended = shared_guest("debian:bookworm", "2n").run(argv, env=ENVIRONMENT, timeout_s=400).check("the doctor's cases")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture
def answers(told: dict[str, Any]) -> dict[str, Answer]:
    answers: dict[str, Answer] = told["answers"]
    return answers


def findings(answer: Answer) -> dict[str, tuple[str, str]]:
    return {finding["code"]: (finding["weight"], finding["cause"]) for finding in answer["doctor"]["findings"]}


def weights(answer: Answer, *codes: str) -> list[str | None]:
    found = findings(answer)
    return [found[code][0] if code in found else None for code in codes]


def recorded(answer: Answer) -> set[str]:
    """The codes that the case's one run has in its record."""
    (codes,) = ({finding["code"] for finding in found} for found in answer["run"]["doctor"])
    return codes


def test_a_guest_as_it_is_has_emulated_cpus_and_is_not_blocked(answers: dict[str, Answer]) -> None:
    answer = answers["as_is"]
    assert (answer["status"], answer["doctor"]["status"]) == (0, "biased")
    assert weights(answer, "emulated", "seccomp", "knobs-not-writable", "container") == ["biases", None, None, None]
    assert answer["run"]["status"] == 0
    assert "emulated" in recorded(answer)
    assert "biases: emulated: the CPUs are emulated" in answer["run"]["words"]


def test_knobs_that_are_set_wrong_are_found(answers: dict[str, Answer]) -> None:
    found = findings(answers["wrong_knobs"])
    codes = {"zone-reclaim", "ksm-running", "thp-always", "tiering-on", "no-symbols"}
    assert codes <= set(found)
    assert not codes - {"thp-always"} & set(findings(answers["as_is"]))


def test_page_cache_that_fills_node_1_is_found(answers: dict[str, Answer]) -> None:
    weight, cause = findings(answers["page_cache"])["page-cache-on-node"]
    assert weight == "biases"
    assert "of node 1 (" in cause
    assert "page-cache-on-node" not in findings(answers["as_is"])


def test_a_cpuset_without_node_1_is_told_with_the_limits_of_its_cgroup(answers: dict[str, Answer]) -> None:
    answer = answers["cpuset"]
    found = findings(answer)
    assert found["too-few-nodes"][1].endswith("node 1 is outside the cpuset")
    assert "Mems_allowed_list 0" in found["cpuset-without-nodes"][1]
    assert "memory.max is 500 MiB" in found["memory-limit"][1]
    assert "cpu.max allows 0.5 CPUs of the 2" in found["cpu-quota"][1]
    assert answer["run"]["status"] == 77
    assert "node 1 is outside the caller's cpuset" in answer["run"]["words"]


def test_a_filter_that_denies_mempolicy_calls_is_told_from_the_kernel(answers: dict[str, Answer]) -> None:
    answer = answers["seccomp"]
    assert (answer["status"], answer["doctor"]["status"]) == (4, "blocked")
    weight, cause = findings(answer)["seccomp"]
    assert weight == "blocks"
    names = "get_mempolicy, set_mempolicy, mbind, migrate_pages, move_pages"
    assert cause.startswith(f"a seccomp filter refuses {names} (EPERM)")
    assert answer["run"]["status"] == 77
    assert "a seccomp filter forbids move_pages" in answer["run"]["words"]
    assert answer["run"]["doctor"] == []


def test_a_read_only_proc_leaves_balancing_on_and_a_run_says_so(answers: dict[str, Answer]) -> None:
    answer = answers["read_only"]
    assert "mounted read-only" in findings(answer)["knobs-not-writable"][1]
    assert answer["run"]["status"] == 0
    assert "balancing-on" in recorded(answer)
    assert "Read-only file system" in answer["run"]["words"]


def test_root_of_a_sandbox_is_not_taken_for_root(answers: dict[str, Answer]) -> None:
    answer = answers["sandbox"]
    codes = ("user-namespace", "container", "no-cap-sys-nice", "no-cap-perfmon", "no-symbols", "knobs-not-writable")
    assert weights(answer, *codes) == ["informs"] * 5 + ["biases"]
    assert "CAP_SYS_ADMIN is missing" in findings(answer)["knobs-not-writable"][1]
    assert answer["run"]["status"] == 0
    # The kernel has said so, too.
    assert "cannot write /proc/sys/kernel/numa_balancing: Operation not permitted" in answer["run"]["words"]
    assert "balancing-on" in recorded(answer)


def test_without_root_what_is_missing_is_told_with_what_it_costs(answers: dict[str, Answer]) -> None:
    answer = answers["no_root"]
    assert weights(answer, "no-cap-sys-nice", "no-cap-perfmon", "no-tracefs", "no-symbols") == ["informs"] * 4
    assert findings(answer)["knobs-not-writable"] == (
        "biases",
        "user 1000 may not write /proc/sys/kernel/numa_balancing",
    )
    assert answer["run"]["status"] == 0
    assert {"balancing-on", "no-cap-sys-nice"} <= recorded(answer)


def test_nothing_is_left_altered(told: dict[str, Any]) -> None:
    assert told["altered"] == {}
