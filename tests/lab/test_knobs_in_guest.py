"""Knobs on a real kernel: sysctl and debugfs are set, refused, and put back, also after a real SIGKILL."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab

HOLD = Path(__file__).parent / "inside/hold_knobs.py"
SYSCTL = "/proc/sys/kernel/numa_balancing"
DEBUGFS = "/sys/kernel/debug/sched/numa_balancing"
STATE = "/run/numabench-test-state"
WANTED = {"numa_balancing": "3", "scan_delay_ms": "77", "scan_period_min_ms": "111", "scan_size_mb": "64"}


def current(guest: Guest) -> list[str]:
    names = [SYSCTL, *(f"{DEBUGFS}/{name}" for name in ("scan_delay_ms", "scan_period_min_ms", "scan_size_mb"))]
    return guest.run(["cat", *names]).check("reading the knobs").stdout.split()


def hold(guest: Guest, action: str, wanted: dict[str, str], expected_status: int = 0) -> Any:
    argv = [sys.executable, str(HOLD), action, STATE, json.dumps(wanted)]
    ended = guest.run(argv)
    assert ended.exit_status == expected_status, ended.stderr
    return json.loads(ended.stdout)


def test_knobs_of_a_real_kernel_are_set_and_put_back(guest_2n: Guest) -> None:
    before = current(guest_2n)
    found = hold(guest_2n, "hold", WANTED)
    assert {write["name"]: write["outcome"] for write in found["writes"]} == {
        "kernel.numa_balancing_scan_delay_ms": "set",
        "kernel.numa_balancing_scan_period_min_ms": "set",
        "kernel.numa_balancing_scan_size_mb": "set",
        "kernel.numa_balancing": "set",
    }
    assert [
        found["inside"][f"kernel.numa_balancing{name}"]
        for name in ("", "_scan_delay_ms", "_scan_period_min_ms", "_scan_size_mb")
    ] == ["3", "77", "111", "64"]
    assert current(guest_2n) == before


def test_after_a_real_sigkill_the_next_start_puts_knobs_back(guest_2n: Guest) -> None:
    before = current(guest_2n)
    hold(guest_2n, "die", WANTED, expected_status=128 + signal.SIGKILL)
    assert current(guest_2n) == ["3", "77", "111", "64"]
    restored = hold(guest_2n, "recover", {})
    assert [entry["outcome"] for entry in restored] == ["restored"] * 4
    assert current(guest_2n) == before
    assert hold(guest_2n, "recover", {}) == []


def test_a_value_that_the_kernel_refuses_is_denied_and_the_rest_is_set(guest_2n: Guest) -> None:
    before = current(guest_2n)
    found = hold(guest_2n, "hold", {"numa_balancing": "9", "scan_size_mb": "64"})
    outcomes = {write["name"]: (write["outcome"], write["message"]) for write in found["writes"]}
    assert outcomes["kernel.numa_balancing"] == ("denied", f"cannot write {SYSCTL}: Invalid argument")
    assert outcomes["kernel.numa_balancing_scan_size_mb"] == ("set", "")
    assert current(guest_2n) == before
