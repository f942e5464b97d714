"""cpuset.mems moves every page of a process before the write returns; no cpuset is left, however its owner ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab

CASES = Path(__file__).parent / "inside/cpuset_cases.py"
GONE: dict[str, Any] = {"left": [], "controllers": []}


@pytest.fixture(scope="module")
def answered() -> dict[str, Any]:
    return {}


@pytest.fixture
def answers(guest_2n: Guest, answered: dict[str, Any]) -> dict[str, Any]:
    """What all cases in the guest gave, asked for once."""
    if not answered:
        answered.update(json.loads(guest_2n.run([sys.executable, str(CASES)]).check("the cpuset cases").stdout))
    return answered


def test_a_guest_lacks_nothing_that_a_cpuset_needs(answers: dict[str, Any]) -> None:
    assert answers["requirements"] == []


def test_every_page_has_moved_when_the_write_returns(answers: dict[str, Any]) -> None:
    found = answers["moved"]
    assert found["inside"]
    assert found["nodes"] == [{"1": 5000}, {"0": 5000}] * 5


def test_the_controller_is_enabled_for_as_long_as_it_is_needed(answers: dict[str, Any]) -> None:
    assert answers["moved"]["controllers"] == ["cpuset"]
    assert (answers["moved"]["left"], answers["moved"]["left_controllers"]) == ([], [])
    assert answers["enabled_by_another"] == {"left": [], "controllers": ["cpuset"]}


def test_before_6_2_a_thread_that_is_adopted_loses_its_pin(answers: dict[str, Any]) -> None:
    assert answers["moved"]["affinity"] == [0, 1]


def test_a_command_that_enters_has_its_nodes_and_cpus_from_the_first(answers: dict[str, Any]) -> None:
    assert answers["entered"] == {"Cpus_allowed_list": "0", "Mems_allowed_list": "1"}


def test_a_process_that_outlives_its_cpuset_is_in_the_owners_cgroup(answers: dict[str, Any]) -> None:
    assert answers["left_by_its_owner"] == {"cgroup": "/owners", "left": []}


def test_after_a_real_sigkill_the_next_start_removes_the_cpuset_and_spares_those_that_live(
    answers: dict[str, Any],
) -> None:
    assert answers["killed"] == {
        "left": True,
        "removed": True,
        "orphan": "/owners",
        "living": True,
        "controllers": ["cpuset"],
    }
    assert answers["after_killed"] == GONE


def test_nodes_that_the_kernel_refuses_are_told_and_nothing_is_left(answers: dict[str, Any]) -> None:
    found = dict(answers["refused"])
    texts = [text.split("TOP/numabench-cpuset-") for text in found.pop("said")]
    assert [text[0] for text in texts] == ["cannot write 9 to ", "cannot write 0,9 to "]
    assert all(text[1].endswith("/cpuset.mems: Invalid argument") for text in texts)
    assert found == GONE


def test_version_1_moves_pages_and_is_left_clean_too(answers: dict[str, Any]) -> None:
    assert answers["version_1"] == {"below": True, "nodes": [{"1": 5000}, {"0": 5000}, {"1": 5000}], "left": []}
