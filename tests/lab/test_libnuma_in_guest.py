"""What each NUMA call answers on a machine with two nodes: the kernel itself is the authority."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab

CASES = Path(__file__).parent / "inside/move_pages_cases.py"
NO_SUCH_NODE = "there is no node 9, this machine has node 0-1"
OUTSIDE_CPUSET = "node 1 is outside the cpuset of this process (Mems_allowed_list 0)"
SECCOMP = "a seccomp filter forbids move_pages (Seccomp: 2 in /proc/self/status)"

_answers: dict[int, dict[str, Any]] = {}


@pytest.fixture
def answers(guest_2n: Guest) -> dict[str, Any]:
    """What tests/lab/inside/move_pages_cases.py found, run once."""
    if id(guest_2n) not in _answers:
        ended = guest_2n.run([sys.executable, str(CASES)], timeout_s=300)
        _answers[id(guest_2n)] = json.loads(ended.check("the cases").stdout)
    return _answers[id(guest_2n)]


def test_pages_move_and_stay_where_they_are_when_asked_again(answers: dict[str, Any]) -> None:
    everywhere = {"result": 0, "status": {"node 1": 16}}
    assert answers["moved"] == {"first": everywhere, "again": everywhere, "after": {"node 1": 16}, "node_at": 1}


def test_pages_on_no_node_are_told_by_their_status(answers: dict[str, Any]) -> None:
    # Before Linux 6.12 a page never touched is EFAULT and not ENOENT.
    found = answers["queried"]
    assert found.pop("written") in {"node 0", "node 1"}
    assert found == {"read": "EFAULT", "untouched": "EFAULT", "unmapped": "EFAULT"}


@pytest.mark.parametrize("target", ["offline", "negative"])
def test_a_target_that_is_no_node_is_enodev_and_touches_no_status(answers: dict[str, Any], target: str) -> None:
    found = answers["refused_targets"][target]
    assert (found["errno"], found["status"]) == ("ENODEV", {"untouched": 4})


def test_a_target_that_does_not_exist_is_named(answers: dict[str, Any]) -> None:
    assert NO_SUCH_NODE in answers["refused_targets"]["offline"]["message"]


def test_strict_is_no_flag_of_move_pages_and_no_flag_is_move(answers: dict[str, Any]) -> None:
    found = answers["refused_targets"]
    assert found["strict"]["errno"] == "EINVAL"
    assert found["no_flags"] == {"result": 0, "status": {"node 1": 4}}


def test_a_process_that_is_gone_is_a_class_of_its_own(answers: dict[str, Any]) -> None:
    found = answers["refused_targets"]["gone"]
    assert (found["errno"], found["class"]) == ("ESRCH", "ProcessGone")


def test_pages_that_a_child_maps_too_move_only_with_move_all(answers: dict[str, Any]) -> None:
    found = answers["shared_with_a_child"]
    assert found["move"] == {"result": 0, "status": {"EACCES": 8}}
    assert found["already_there"] == {"result": 0, "status": {"node 0": 8}}
    assert found["move_all"] == {"result": 0, "status": {"node 1": 8}}
    assert found["child_after"] == {"node 1": 8}


def test_mbind_strict_passes_over_shared_pages_without_a_word(answers: dict[str, Any]) -> None:
    found = answers["shared_with_a_child"]
    assert found["mbind_strict"] == {"result": None}
    assert found["after_mbind_strict"] == {"node 0": 8}


def test_move_all_without_the_capability_names_it(answers: dict[str, Any]) -> None:
    found = answers["as_nobody"]
    assert found["move"] == {"result": 0, "status": {"node 1": 2}}
    assert (found["move_all"]["errno"], "need CAP_SYS_NICE" in found["move_all"]["message"]) == ("EPERM", True)


@pytest.mark.parametrize("call", ["of_root", "migrate_root"])
def test_another_users_process_needs_the_right_to_ptrace(answers: dict[str, Any], call: str) -> None:
    found = answers["as_nobody"][call]
    assert (found["errno"], found["class"]) == ("EPERM", "CallForbidden")
    assert "the right to ptrace(2) process" in found["message"]


def test_pinned_pages_make_a_positive_return_and_leave_every_status_untouched(answers: dict[str, Any]) -> None:
    assert answers["pinned"] == {
        "move": {"result": 8, "status": {"untouched": 16}},
        "first_half": {"node 0": 8},
        "second_half": {"node 1": 8},
    }


def test_a_target_that_fills_up_fails_after_it_has_moved_pages(answers: dict[str, Any]) -> None:
    found = answers["target_full"]
    assert found["move"]["errno"] == "ENOMEM"
    assert found["move"]["status"] == {"untouched": 32768}
    assert found["after"]["node 1"] > 0
    assert found["after"]["node 0"] + found["after"]["node 1"] == 32768


def test_a_huge_page_asked_by_its_small_pages_is_busy_once_and_moved(answers: dict[str, Any]) -> None:
    assert answers["transparent_huge_page"] == {
        "move": {"result": 0, "status": {"node 1": 511, "EBUSY": 1}},
        "busy": [1],
        "after": {"node 1": 512},
    }


def test_mbind_tells_misplaced_pages_only_when_strict(answers: dict[str, Any]) -> None:
    found = answers["mbind_flags"]
    assert found["strict"]["errno"] == "EIO"
    assert (found["move"], found["after"], found["policy"]) == ({"result": None}, {"node 1": 4}, "bind")


def test_mbind_refuses_holes_unaligned_addresses_and_absent_nodes(answers: dict[str, Any]) -> None:
    found = answers["mbind_flags"]
    assert [found[case]["errno"] for case in ("hole", "unaligned", "no_such_node")] == ["EFAULT", "EINVAL", "EINVAL"]
    assert NO_SUCH_NODE in found["no_such_node"]["message"]


def test_a_home_node_needs_a_binding_and_is_then_obeyed(answers: dict[str, Any]) -> None:
    found = answers["home_node"]
    assert (found["no_policy"]["errno"], found["interleave"]["errno"]) == ("ENOENT", "ENOTSUP")
    assert (found["bind"], found["first_page_on"]) == ({"result": None}, 1)


def test_migrate_pages_moves_another_process(answers: dict[str, Any]) -> None:
    assert answers["migrated"] == {"migrate": {"result": 0}, "after": {"node 1": 64}}


def test_a_thread_bound_to_the_last_node_has_it_as_policy_and_cpus(answers: dict[str, Any]) -> None:
    assert answers["policies"] == {
        "mode": "bind",
        "nodes": [1],
        "affinity": [1],
        "kernel_affinity": [1],
        "touched_on": {"node 1": 4},
        "allowed": [0, 1],
    }


def test_a_node_outside_the_cpuset_is_told_as_such_by_every_call(answers: dict[str, Any]) -> None:
    found = answers["confined_to_a_cpuset"]
    assert found["allowed"] == [0]
    assert [found[call]["errno"] for call in ("move", "mbind", "set_mempolicy")] == ["EACCES", "EINVAL", "EINVAL"]
    assert all(OUTSIDE_CPUSET in found[call]["message"] for call in ("move", "mbind", "set_mempolicy"))


def test_a_seccomp_filter_is_named_and_other_calls_go_on(answers: dict[str, Any]) -> None:
    found = answers["forbidden_by_seccomp"]
    assert found["move"]["errno"] == "EPERM"
    for told in (found["move"]["message"], found["sample"]["message"], found["features"]["move_pages"]):
        assert SECCOMP in told
        assert "--security-opt seccomp=unconfined" in told
    assert found["mbind"] == {"result": None}
    assert found["features"]["mbind"] is None


def test_probing_finds_what_6_1_has(answers: dict[str, Any]) -> None:
    missing = {name for name, reason in answers["features"].items() if reason is not None}
    assert missing == {"weighted_interleave"}


def test_two_page_maps_tell_which_pages_went_where(answers: dict[str, Any]) -> None:
    assert answers["page_maps"] == {
        "before": {"0": 3000},
        "after": {"0": 2000, "1": 1000},
        "moved": {"0>1": 1000},
        "unknown": 0,
        "sample": [[200, 100, 0]],
    }


def test_pages_that_wait_for_their_hint_fault_are_found_though_move_pages_calls_them_absent(
    answers: dict[str, Any],
) -> None:
    found = answers["waiting_for_hint_faults"]
    assert found["move_pages"] == {"ENOENT": 2048}
    assert found["map"] == {"nodes": {"0": 2048}, "status": {}}
    assert found["sample"] == {"pages": [[100, 0, 0]], "status": {}}
    assert found["nobody"] == {"nodes": {}, "status": {"protnone": 2048}}
