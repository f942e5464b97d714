"""Every knob that a kernel has is set and put back, however the process ends: tests/bench/bench_state.py in small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import state_faults

from numabench.host.knob_table import FILE, KNOBS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def found(shared_guest: Callable[[str, str], Guest]) -> dict[str, Any]:
    return state_faults.run(shared_guest("debian:bookworm", "2n"), kills=6, faults=24, signals=1)


def test_no_key_is_left_wrong_however_a_run_ends(found: dict[str, Any]) -> None:
    wrong = {kind: entry["wrong"] for kind, entry in found["kinds"].items() if entry["wrong"]}
    assert wrong == {}
    cases = {kind: entry["cases"] for kind, entry in found["kinds"].items()}
    assert sum(count for kind, count in cases.items() if kind.endswith(" at a step")) == 24
    assert {kind.partition(":")[0] for kind in cases} >= {"a run", "keep", "a run after a killed one"}
    assert {kind: count for kind, count in cases.items() if not kind.endswith(" at a step")} == {
        "put back at the end": 3,
        "SIGTERM": 1,
        "SIGINT": 1,
        "SIGKILL": 6,
        "SIGKILL, alone": len(
            {"vm.overcommit_kbytes", "kernel.soft_watchdog", "kernel.nmi_watchdog"} & set(found["knobs"])
        ),
        "somebody else's change": 1,
        "no root": 1,
        "/proc/sys read-only": 1,
        "full disk": 1,
    }


def test_a_run_has_hundreds_of_steps_each_of_which_may_be_its_last(found: dict[str, Any]) -> None:
    assert sum(found["steps"].values()) >= 300


def test_what_was_set_is_all_that_this_kernel_has(found: dict[str, Any]) -> None:
    """Of those that can be set; a detector that needs counters takes no value in a guest without them."""
    settable = {knob.name for knob in KNOBS if knob.is_settable and knob.kind == FILE}
    assert settable & set(found["here"]) - set(found["knobs"]) <= {"kernel.nmi_watchdog"}
    assert len(found["knobs"]) >= 28


def test_somebody_elses_value_is_left_and_told(found: dict[str, Any]) -> None:
    assert found["foreign"] == {"value": "13", "outcome": ["foreign"]}


def test_without_root_each_knob_is_denied_by_name(found: dict[str, Any]) -> None:
    assert [outcome for outcome, _ in found["no_root"]["writes"]] == ["denied", "denied"]
    assert all("run as root" in message for _, message in found["no_root"]["writes"])


def test_a_read_only_proc_is_told(found: dict[str, Any]) -> None:
    ((outcome, message),) = found["read_only"]["writes"]
    assert (outcome, "Read-only file system" in message) == ("denied", True)


def test_without_room_for_the_journal_nothing_is_written(found: dict[str, Any]) -> None:
    assert "No space left on device" in found["full_disk"]["message"]
    assert "NUMABENCH_STATE_DIR" in found["full_disk"]["message"]
